//! `tulle explain`, the data plane and the real Envoy agree on 10,000 generated pairs of configuration and request.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use api::MeshConfig;
use cli::explain::Explainer;
use tests::differential::proxy::{Kind, Proxy};
use tests::pairs::bootstrap::{Certificates, bootstrap};
use tests::pairs::client::Client;
use tests::pairs::generate::{Random, Request, World, request, service, world};
use tests::pairs::{Answer, explained, program};
use tests::{binary, free_address};
use translate::Change;

/// Worlds of one run; the requests are shared out among them.
const WORLDS: usize = 5;
/// Callers at a time.
const CALLERS: usize = 4;
/// Requests of each world that another world is asked about, too.
const TWINS: usize = 100;
/// Pairs that are also asked of the program, not of its library.
const OF_THE_PROGRAM: usize = 4;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

fn parsed(world: &World) -> translate::World {
    let found = api::parse("world.yaml", world.yaml.as_bytes(), "shop");
    let errors: Vec<String> =
        found.problems.iter().filter(|it| it.level == api::Level::Error).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}\n{}", errors.join("\n"), world.yaml);
    let changes: Vec<Change> = found.objects.into_iter().map(Change::Apply).collect();
    translate::World::empty(MeshConfig::default()).with(&changes)
}

fn answers(
    kind: &Kind,
    file: &Path,
    admin: std::net::SocketAddr,
    world: &World,
    all: &[Request],
) -> Vec<Answer> {
    let mut proxy = Proxy::start(kind, file, admin).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    let part = all.len().div_ceil(CALLERS);
    let answers = std::thread::scope(|scope| {
        let callers: Vec<_> = all
            .chunks(part.max(1))
            .map(|mine| {
                scope.spawn(move || {
                    let mut client = Client::default();
                    mine.iter().map(|request| client.call(world, request)).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    proxy.stop().unwrap();
    answers
}

/// How many of the first requests another world would treat otherwise.
fn asked_of_another_world(
    random: &mut Random,
    own: &World,
    requests: &[Request],
    said: &[BTreeSet<Answer>],
) -> usize {
    let other = world(&mut Random::new(random.number()), own.block);
    let mesh = parsed(&other);
    let explainer = Explainer::new(&mesh);
    let differs =
        |(request, said): (&Request, &BTreeSet<Answer>)| explained(&other, &explainer, request) != *said;
    requests.iter().zip(said).take(TWINS).map(differs).filter(|differs| *differs).count()
}

/// The one deliberate difference (docs/differences-from-envoy.md): where a header comes in several lines, a policy is judged
/// by the line that is worst for the caller. We may deny then what Envoy lets through, never the other way.
fn stricter(request: &Request, ours: &Answer, envoys: &Answer) -> bool {
    let lines = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-color")).count();
    lines > 1 && matches!(ours, Answer::Proxy { status: 403, .. }) && matches!(envoys, Answer::Program { .. })
}

/// What the program prints for a request is what its library said.
fn ask_the_program(folder: &Path, world: &World, request: &Request) -> serde_json::Value {
    let mesh = folder.join("mesh/shop");
    std::fs::create_dir_all(&mesh).unwrap();
    std::fs::write(mesh.join("world.yaml"), &world.yaml).unwrap();
    let mut command = Command::new(binary("tulle"));
    command.args([
        "explain",
        "-o",
        "json",
        "-d",
        folder.join("mesh").to_str().unwrap(),
        "--from",
        "shop/caller",
    ]);
    command.args([
        "--to",
        &format!("{}.shop", service(request.service)),
        "-H",
        &format!("host: {}", request.host),
    ]);
    for (name, value) in &request.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let output = command.args([request.method, &request.path]).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn explain_the_data_plane_and_envoy_agree() {
    let seed = number("TULLE_PAIRS_SEED", 20_261_124);
    let count = usize::try_from(number("TULLE_PAIRS", 10_000)).unwrap();
    let envoy = tests::mixed::envoy();
    println!("seed {seed} (TULLE_PAIRS_SEED), {count} pairs (TULLE_PAIRS)");
    let (mut random, started, port) = (Random::new(seed), Instant::now(), program::start());
    let (mut wrong, mut kinds) = (Vec::new(), BTreeMap::<String, usize>::new());
    let (mut deliberate, mut misjudged) = (0, 0);
    for number in 0..WORLDS {
        let folder = tempfile::tempdir().unwrap();
        let world = world(&mut random, 180 + u8::try_from(number).unwrap());
        let requests: Vec<Request> = (0..count.div_ceil(WORLDS)).map(|_| request(&mut random)).collect();
        let mesh = parsed(&world);
        let certificates = Certificates::write(folder.path());
        let admin = free_address();
        let file = folder.path().join("bootstrap.json");
        std::fs::write(&file, bootstrap(&world, &mesh, &certificates, port, admin).to_string()).unwrap();
        let explainer = Explainer::new(&mesh);
        let said: Vec<_> = requests.iter().map(|request| explained(&world, &explainer, request)).collect();
        for request in requests.iter().take(OF_THE_PROGRAM) {
            let printed = ask_the_program(folder.path(), &world, request);
            let outcome = tests::pairs::explanation(&explainer, request).outcome;
            assert_eq!(printed["outcome"]["text"], outcome.text, "{request:?}");
        }
        let (explained_at, begun) = (started.elapsed(), Instant::now());
        misjudged += asked_of_another_world(&mut random, &world, &requests, &said);
        let ours = answers(&Kind::Tulle, &file, admin, &world, &requests);
        let theirs =
            envoy.as_ref().map(|path| answers(&Kind::Envoy(path.clone()), &file, admin, &world, &requests));
        println!("world {number}: explained by {explained_at:?}, asked in {:?}", begun.elapsed());
        for (at, request) in requests.iter().enumerate() {
            let kind = match &ours[at] {
                Answer::Program { .. } => "program".to_owned(),
                Answer::Proxy { status, .. } => status.to_string(),
                Answer::Broken(_) => "broken".to_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
            let envoys = theirs.as_ref().map(|all| &all[at]);
            if envoys.is_some_and(|envoys| stricter(request, &ours[at], envoys))
                && said[at].contains(&ours[at])
            {
                deliberate += 1;
            } else if !said[at].contains(&ours[at]) || envoys.is_some_and(|it| !said[at].contains(it)) {
                wrong.push(format!(
                    "world {number}: {request:?}\n  explain {:?}\n  proxy   {:?}\n  envoy   {envoys:?}\n{}",
                    said[at],
                    ours[at],
                    world.about(request.service)
                ));
            }
        }
    }
    println!("{kinds:?}, {deliberate} stricter than Envoy, in {:?}", started.elapsed());
    assert!(deliberate * 50 < count, "{deliberate} are too many to be repeated headers");
    // A generator that asks for nothing but one answer would prove nothing.
    for kind in ["program", "403", "404", "301", "502"] {
        assert!(kinds.get(kind).is_some_and(|it| *it * 200 > count), "too few answers {kind}: {kinds:?}");
    }
    // The negative twin: what is said of other configurations must not fit.
    assert!(
        misjudged * 10 > WORLDS * TWINS,
        "{misjudged} of {} explanations of another world differ",
        WORLDS * TWINS
    );
    let shown = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {count} pairs with seed {seed} differ:\n{shown}", wrong.len());
}
