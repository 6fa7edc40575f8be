use std::fs;
use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: ExplainArguments,
}

/// The payments example, with its files changed.
fn payments(edit: impl Fn(&str) -> String) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/payments");
    for folder in [example.clone(), example.join("production"), example.join("outside")] {
        let to = copy.path().join(folder.strip_prefix(&example).unwrap());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).filter(|it| it.is_file()) {
            let text = edit(&fs::read_to_string(&file).unwrap());
            fs::write(to.join(file.file_name().unwrap()), text).unwrap();
        }
    }
    copy
}

fn asked(directory: &Path, words: &[&str]) -> Explanation {
    let line = ["explain", "-d", directory.to_str().unwrap()].into_iter().chain(words.iter().copied());
    let arguments = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).arguments;
    let folder = arguments.directory.as_deref().unwrap();
    let read = directory::read(folder, &arguments.default_namespace).unwrap();
    let headers = header_lines(&arguments.headers).unwrap();
    let ExplainArguments { from, to, method, path, .. } = arguments;
    Explainer::new(&read.world).explain(&Question { from, to, method, path, headers }).unwrap()
}

fn shares(explanation: &Explanation) -> Vec<(String, f64)> {
    let subset = |name: &str| name.split('|').nth(2).unwrap_or_default().to_owned();
    explanation.destinations.iter().map(|it| (subset(&it.cluster), it.share)).collect()
}

const CALL: [&str; 6] = ["--from", "frontend", "--to", "payment-service", "GET", "/pay"];

#[test]
fn a_request_by_weight_with_every_source() {
    let example = payments(str::to_owned);
    let found = asked(example.path(), &CALL);
    assert_eq!(shares(&found), [("stable".to_owned(), 95.0), ("canary".to_owned(), 5.0)]);
    let route = found.route.as_ref().unwrap();
    let source = route.source.as_ref().unwrap();
    assert_eq!(source.resource, "VirtualService/production/payment-service#http[1]");
    let (file, line) = source.place.rsplit_once(':').unwrap();
    let text = fs::read_to_string(file).unwrap();
    let written = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
    assert_eq!(written.trim(), "- route:", "the place is the second entry of spec.http");
    assert!(found.outcome.ok, "{found:?}");
    let endpoint = &found.destinations[0].endpoints[0];
    assert_eq!((endpoint.transport, endpoint.mode), ("mutual TLS", "STRICT"));
    assert_eq!(
        endpoint.verdict.sources[0].resource,
        "AuthorizationPolicy/production/payment-callers#rules[0]"
    );
    assert!(
        route.retries.starts_with("up to 2 on connect-failure") && route.retries.contains("default"),
        "{route:?}"
    );
    let limits = found.destinations[0].limits.join("; ");
    assert!(limits.contains("100 connections") && limits.contains("100 pending requests"), "{limits}");
    assert!(limits.contains("ejected after 5 gateway errors in a row, for 30 s"), "{limits}");
    assert!(
        !limits.contains("local failures"),
        "they are counted apart only where the rule splits them: {limits}"
    );
    assert_eq!(found.destinations[0].rules.len(), 2, "both DestinationRules: {found:?}");
}

#[test]
fn a_header_takes_the_first_route() {
    let example = payments(str::to_owned);
    let with_header: Vec<&str> = CALL.into_iter().chain(["-H", "X-Canary-User: true"]).collect();
    let found = asked(example.path(), &with_header);
    assert_eq!(shares(&found), [("canary".to_owned(), 100.0)]);
    let other: Vec<&str> = CALL.into_iter().chain(["-H", "x-canary-user: false"]).collect();
    assert_eq!(shares(&asked(example.path(), &other)).len(), 2);
}

#[test]
fn a_denial_names_the_policies_and_ends_with_them() {
    let stranger = ["--from", "stranger", "--to", "payment-service.production", "GET", "/pay"];
    let example = payments(str::to_owned);
    let found = asked(example.path(), &stranger);
    assert_eq!(found.outcome.reason, Some("policy-denied"), "{found:?}");
    let verdict = &found.destinations[0].endpoints[0].verdict;
    assert!(verdict.reason.contains("spiffe://cluster.local/ns/outside/sa/stranger"), "{verdict:?}");
    assert_eq!(verdict.sources[0].resource, "AuthorizationPolicy/production/payment-callers");

    let opened = payments(|text| text.replace("ns/production/sa/frontend", "ns/outside/sa/stranger"));
    assert!(asked(opened.path(), &stranger).outcome.ok, "the rule decides, not the example");
}

#[test]
fn strict_mode_refuses_a_caller_without_identity() {
    let plain = |text: &str| {
        text.replace(
            "host: payment-service.production.svc.cluster.local\n  trafficPolicy:",
            "host: payment-service.production.svc.cluster.local\n  trafficPolicy:\n    tls: {mode: DISABLE}",
        )
    };
    let example = payments(plain);
    let found = asked(example.path(), &CALL);
    let endpoint = &found.destinations[0].endpoints[0];
    assert_eq!((endpoint.transport, endpoint.mode, endpoint.verdict.allowed), ("plaintext", "STRICT", false));
    assert!(endpoint.verdict.reason.contains("PeerAuthentication STRICT"), "{endpoint:?}");
}

#[test]
fn a_subset_without_endpoints_says_so() {
    let example = payments(|text| {
        text.replace("labels: {app: payment, version: canary}", "labels: {app: payment, version: gone}")
    });
    let found = asked(example.path(), &CALL);
    assert_eq!(found.outcome.reason, Some("no-healthy-upstream"));
    assert!(found.outcome.text.starts_with("5.00 %"), "{}", found.outcome.text);
}

#[test]
fn the_path_is_judged_in_its_canonical_form() {
    let example = payments(|text| text.replace("methods: [GET, POST]", "paths: [/pay]"));
    let asked_for = |path| {
        let words = ["--from", "frontend", "--to", "payment-service", "GET", path];
        asked(example.path(), &words).outcome.ok
    };
    assert!(asked_for("/pay") && asked_for("/x/../pay") && asked_for("/pay?x=/admin"));
    assert!(!asked_for("/pay/") && !asked_for("/admin?x=/pay"));
}

#[test]
fn what_is_asked_wrongly_is_answered_with_what_there_is() {
    let example = payments(str::to_owned);
    let read = directory::read(example.path(), "default").unwrap();
    let mesh = Offline::new(&read.world);
    let caller = mesh.caller("frontend").unwrap();
    let error = mesh.called("nope", &caller).unwrap_err().to_string();
    assert!(error.contains("payment-service.production.svc.cluster.local"), "{error}");
    let error = mesh.caller("nope").err().unwrap().to_string();
    assert!(error.contains("production/frontend"), "{error}");
    let error = mesh.called("payment-service:81", &caller).unwrap_err().to_string();
    assert!(error.contains("[8080]"), "{error}");
}
