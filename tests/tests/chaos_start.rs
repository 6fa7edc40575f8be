//! How fast things begin: a killed sidecar that starts from its sealed snapshot without a control plane, and a greeting of
//! a program that speaks first.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::rounded;
use tests::{PATIENCE, get, until};

/// Milliseconds that a start and a greeting may take in the middle; the debug binaries of every change get room.
const START: [u64; 2] = [3_000, 100];
const GREETING: [u64; 2] = [200, 5];

fn bound([short, long]: [u64; 2]) -> Duration {
    Duration::from_millis(either(short, long))
}

fn shown(mut times: Vec<Duration>) -> (Duration, serde_json::Value) {
    times.sort_unstable();
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3);
    let median = times[times.len() / 2];
    let numbers = json!({
        "times": times.len(), "least_ms": ms(times[0]), "median_ms": ms(median),
        "p90_ms": ms(times[times.len() * 9 / 10]), "worst_ms": ms(times[times.len() - 1]),
    });
    (median, numbers)
}

/// The answer of an address that may not listen yet.
fn answers(address: SocketAddr) -> bool {
    get(address, "/").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What a process had of the processors and what it waited for them, over its threads.
fn processor(id: u32) -> [Duration; 2] {
    let mut sum = [0, 0];
    for task in std::fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        // A thread that has ended meanwhile counts no more.
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        let numbers = text.split(' ').filter_map(|number| number.parse::<u64>().ok());
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    sum.map(Duration::from_nanos)
}

/// Until the first request is answered, from before the process is started; what it used of the processors until then,
/// and what it waited for them.
fn start(mesh: &mut Mesh, instance: &Instance, through: SocketAddr) -> [Duration; 3] {
    mesh.kill(&instance.name());
    let started = Instant::now();
    mesh.start_sidecar(instance);
    while !answers(through) {
        assert!(started.elapsed() < PATIENCE, "{} does not serve", instance.name());
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = started.elapsed();
    let [used, waited] = processor(mesh.processes[&instance.name()].id());
    [took, used, waited]
}

#[test]
fn a_killed_sidecar_serves_from_its_snapshot_at_once() {
    let mut mesh = Mesh::start(74, &[Instance::new("back", 31)], "", "");
    let (caller, back) = (mesh.instances("caller")[0].clone(), mesh.instances("back")[0].clone());
    let service = mesh.service("back");
    until("the service answers", || answers(service).then_some(()));
    for instance in [&caller, &back] {
        let saved = mesh.state(instance).join("snapshot.sealed");
        until("the snapshot is written", || saved.exists().then_some(()));
    }
    mesh.kill("tulled");
    for (name, instance, through) in
        [("its own calls", &caller, service), ("calls to it", &back, mesh.address(&back))]
    {
        let times: Vec<_> = (0..either(3, 20)).map(|_| start(&mut mesh, instance, through)).collect();
        let [times, used, waited] = [0, 1, 2].map(|at| times.iter().map(|time| time[at]).collect::<Vec<_>>());
        let source = get(mesh.admin(instance), "/server_info").unwrap();
        assert!(source.contains("\"sealed snapshot\""), "{source}");
        let (median, numbers) = shown(times);
        let ((used, used_numbers), (_, waited_numbers)) = (shown(used), shown(waited));
        let numbers = json!({"until_the_first_answer": numbers, "processor_time": used_numbers, "waited_for_processors": waited_numbers});
        measured(&format!("start from the snapshot, without a control plane: {name}"), &numbers);
        // On a machine that others use as well it waits for them: the bound is for what it needs itself.
        assert!(median < bound(START) || used < bound(START) / 2, "{name}: {numbers}");
        until("the service answers again", || answers(service).then_some(()));
    }
    // The control: without its snapshot it does not serve.
    mesh.kill(&caller.name());
    std::fs::remove_file(mesh.state(&caller).join("snapshot.sealed")).unwrap();
    mesh.start_sidecar(&caller);
    let page = until("it says what it waits for", || {
        get(mesh.admin(&caller), "/ready?verbose").filter(|page| page.contains("INITIALIZING"))
    });
    assert!(!answers(service), "{page}");
}

/// Says hello to everybody.
fn greeter(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever has gone needs no greeting.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello\n"));
        }
    });
}

#[test]
fn a_program_that_speaks_first_is_heard_soon() {
    let mut mesh = Mesh::control(75, &[Instance::new("post", 31).speaking("tcp")], "", "");
    let post = mesh.instances("post")[0].clone();
    greeter(mesh.program(&post));
    mesh.start_sidecar(&post);
    mesh.ready(&post);
    let (address, program) = (mesh.address(&post), mesh.program(&post));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // An address that is nobody's in the mesh: the control plane has 127.0.0.1.
    let stranger: SocketAddr = "127.75.9.9:0".parse().unwrap();
    let greeting = |address: SocketAddr| {
        let socket = {
            let _inside = runtime.enter();
            tokio::net::TcpSocket::new_v4().unwrap()
        };
        socket.bind(stranger).unwrap();
        let begun = Instant::now();
        let stream = runtime.block_on(socket.connect(address)).ok()?;
        let mut stream: TcpStream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = [0; 6];
        stream.read_exact(&mut hello).ok()?;
        assert_eq!(&hello, b"hello\n");
        Some(begun.elapsed())
    };
    until("the stranger is greeted", || greeting(address));
    let many = |address| -> Vec<Duration> {
        let one = |_| {
            std::thread::sleep(Duration::from_millis(5));
            greeting(address).unwrap()
        };
        (0..either(20, 200)).map(one).collect()
    };
    let (direct, numbers) = shown(many(program));
    measured("greeting of the program itself", &numbers);
    let (median, numbers) = shown(many(address));
    measured("greeting heard by a stranger through the sidecar, PERMISSIVE", &numbers);
    assert!(median < bound(GREETING) + direct, "{numbers}");
    // The control: STRICT lets no stranger hear anything.
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
    mesh.write("rules.yaml", strict);
    until("the stranger hears nothing", || greeting(address).is_none().then_some(()));
}
