//! Looking into a running mesh from outside: `tulle why`, `tap`, `top`, `proxy`, and that what is opened and dropped leaves
//! nothing behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::mixed::calls::calls;
use tests::mixed::{Dialect, Mesh, WORKLOADS, named};
use tests::{binary, until};

fn example(block: u8) -> Mesh {
    let mesh = Mesh::start(Path::new(""), block, Dialect::Delta, &[]);
    until("the first answer", || pay(&mesh, "", 1).then_some(()));
    // The reverse streams open after the configuration has come.
    until("every proxy can be asked", || {
        (mesh.page("/debug/world")["observe"]["streams"] == WORKLOADS.len()).then_some(())
    });
    mesh
}

fn pay(mesh: &Mesh, header: &str, count: usize) -> bool {
    calls(mesh.payment_service(), "/pay?card=1", header, count).only(200)
}

fn command(mesh: &Mesh, words: &[&str]) -> Command {
    let mut command = Command::new(binary("tulle"));
    command.args(words).arg("--monitoring").arg(mesh.monitoring().to_string());
    command
}

fn tulle(mesh: &Mesh, words: &[&str]) -> Output {
    command(mesh, words).output().unwrap()
}

fn printed(mesh: &Mesh, words: &[&str]) -> String {
    let output = tulle(mesh, words);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A `tulle tap -o json` that every proxy takes part in.
struct Tap {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tap {
    fn start(mesh: &Mesh, words: &[&str]) -> Tap {
        let mut command = command(mesh, &["tap", "-o", "json", "--for", "60"]);
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut tap = Tap { child, lines };
        loop {
            let line = json(&tap.lines.next().unwrap().unwrap());
            if line["proxies"].as_u64().unwrap() > 0 && line["watching"] == line["proxies"] {
                return tap;
            }
        }
    }

    /// The next request.
    fn next(&mut self) -> Value {
        loop {
            let line = json(&self.lines.next().expect("a line").unwrap());
            if line.get("watching").is_none() {
                return line;
            }
            assert_eq!(line["dropped"], 0, "{line}");
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn watches(mesh: &Mesh) -> u64 {
    mesh.page("/debug/world")["observe"]["watches"].as_u64().unwrap()
}

#[test]
fn a_request_is_followed_seen_live_and_counted() {
    let mut mesh = example(171);
    shows_requests_as_they_pass(&mesh);
    counts(&mesh);
    shows_what_proxies_have(&mesh);
    says_what_is_wrong(&mesh);
    explains_what_runs(&mesh);
    // The last, because it takes a program away.
    follows_a_request(&mut mesh);
}

fn follows_a_request(mesh: &mut Mesh) {
    let never = tulle(mesh, &["why", "never-there"]);
    assert!(!never.status.success());
    assert!(String::from_utf8_lossy(&never.stdout).contains("never seen by any of 5 proxies"));
    // A sample of all is kept, by id: this one is not in it.
    assert!(pay(mesh, "x-request-id: plain-request-1", 1));
    // A proxy knows a request when it has ended, which the caller may see before.
    let plain = until("both sides know the request", || {
        let said = String::from_utf8(tulle(mesh, &["why", "plain-request-1"]).stdout).unwrap();
        (said.contains("production/frontend") && said.contains("production/payment-")).then_some(said)
    });
    assert!(plain.contains("passed") && plain.contains("without a failure"), "{plain}");
    assert!(plain.contains("production/frontend") && plain.contains("production/payment-"), "{plain}");
    // The canary's program goes: its sidecar cannot connect to it.
    mesh.stop("payment-canary-1-program");
    let failed = calls(
        mesh.payment_service(),
        "/pay?card=4711",
        "x-canary-user: true\r\nx-request-id: failed-request-1",
        1,
    );
    assert!(failed.only(503), "{:?}", failed.statuses);
    let story = until("every side knows the request", || {
        let said = String::from_utf8(tulle(mesh, &["why", "failed-request-1", "-o", "json"]).stdout).unwrap();
        let story: Value = serde_json::from_str(&said).ok()?;
        let proxies = story["hops"].as_array()?.iter().map(|hop| hop["proxy"].as_str().unwrap().to_owned());
        (proxies.collect::<BTreeSet<_>>().len() == 2).then_some(story)
    });
    let hops = story["hops"].as_array().unwrap();
    let way: Vec<_> = hops
        .iter()
        .map(|hop| {
            (
                hop["proxy"].as_str().unwrap(),
                hop["direction"].as_str().unwrap(),
                hop["depth"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(way.first(), Some(&("production/frontend", "outbound", 0)), "{story:#}");
    let called = hops.iter().filter(|hop| hop["proxy"] == "production/payment-canary-1");
    assert!(called.clone().count() >= 1 && called.clone().all(|hop| hop["depth"] == 1), "{story:#}");
    assert_eq!(story["gaps"], false);
    let last = hops.last().unwrap();
    assert_eq!(last["reason"]["code"], "connection-refused", "{story:#}");
    for hop in hops {
        let times = hop["times"].as_object().unwrap();
        let parts: f64 =
            times.iter().filter(|(name, _)| *name != "total").map(|(_, part)| part.as_f64().unwrap()).sum();
        assert!((parts - times["total"].as_f64().unwrap()).abs() < 0.1, "the parts are the whole: {hop:#}");
    }
    let written = hops[0]["route"]["place"].as_str().unwrap();
    assert!(written.contains("payment-service.yaml:"), "{written}");
    assert!(!story.to_string().contains("4711"), "a query is nobody's business");
}

fn shows_requests_as_they_pass(mesh: &Mesh) {
    let words = ["frontend", "--path", "/p*", "--status", "2xx", "-H", "x-user: ann"];
    let mut tap = Tap::start(mesh, &words);
    assert_eq!(watches(mesh), 1);
    assert!(pay(mesh, "x-user: bob", 3));
    calls(mesh.payment_service(), "/other", "x-user: ann", 2);
    assert!(pay(mesh, "x-user: ann\r\nx-request-id: tapped", 1));
    let seen = tap.next();
    assert_eq!(seen["request_id"], "tapped", "the others are not wanted: {seen}");
    assert_eq!((&seen["proxy"], &seen["status"]), (&"production/frontend".into(), &200.into()));
    assert!(seen["request"].as_str().unwrap().ends_with("/pay"), "{seen}");
    drop(tap);
    until("the tap has ended with its program", || (watches(mesh) == 0).then_some(()));
}

fn counts(mesh: &Mesh) {
    let mut top = command(mesh, &["top", "--once", "--for", "6", "-o", "json", "--path", "/counted"]);
    let mut top = top.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(top.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("counting for 6 s at 5 proxies"));
    calls(mesh.payment_service(), "/counted", "", 40);
    calls(mesh.payment_service(), "/not-counted", "", 5);
    let mut printed = String::new();
    top.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(top.wait().unwrap().success());
    let counted = json(&printed);
    for (table, row) in [
        ("services", "payment-service.production"),
        ("routes", "VirtualService/production/payment-service#http[1]"),
    ] {
        let rows = counted[table].as_array().unwrap();
        let caller = rows.iter().find(|it| {
            it["direction"] == "outbound" && it["name"].as_str().is_some_and(|name| name.starts_with(row))
        });
        let caller = caller.unwrap_or_else(|| panic!("no {row} in {counted:#}"));
        assert_eq!(caller["requests"], 40, "{counted:#}");
        assert!(
            caller["p50_ms"].as_f64().unwrap() > 0.0
                && caller["p99_ms"].as_f64() >= caller["p50_ms"].as_f64()
        );
    }
    let of = |direction: &str| -> u64 {
        let rows = counted["peers"].as_array().unwrap().iter();
        let rows = rows.filter(|it| it["direction"] == direction);
        let rows = rows.filter(|it| {
            it["name"].as_str().unwrap().starts_with("production/frontend → production/payment-")
        });
        rows.map(|it| it["requests"].as_u64().unwrap()).sum()
    };
    assert_eq!((of("outbound"), of("inbound")), (40, 40), "{counted:#}");
    screen(mesh);
}

/// The screen, on a pseudo terminal.
fn screen(mesh: &Mesh) {
    let line = format!(
        "stty cols 120 rows 40; {} top --monitoring {}",
        binary("tulle").display(),
        mesh.monitoring()
    );
    let mut shell = Command::new("script");
    shell.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script of bsdutils");
    let (mut keys, mut shown) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let mut all = Vec::new();
    let started = Instant::now();
    while !String::from_utf8_lossy(&all).contains("payment-service.production") {
        assert!(started.elapsed() < Duration::from_secs(30), "{}", String::from_utf8_lossy(&all));
        pay(mesh, "", 1);
        let mut bytes = [0; 4096];
        let count = shown.read(&mut bytes).unwrap();
        all.extend_from_slice(&bytes[..count]);
    }
    keys.write_all(b"q").unwrap();
    let _ = shown.read_to_end(&mut all);
    assert!(shell.wait().unwrap().success(), "{}", String::from_utf8_lossy(&all));
    // A screen is written in pieces: blanks are jumped over.
    for part in ["top:", "SUCCESS", "CALLER"] {
        assert!(String::from_utf8_lossy(&all).contains(part), "no {part}");
    }
    until("it has ended with its screen", || (watches(mesh) == 0).then_some(()));
}

fn shows_what_proxies_have(mesh: &Mesh) {
    for (part, wanted) in [
        ("listeners", "HTTP, routes 8080"),
        ("routes", "VirtualService/production/payment-service#http[1]"),
        ("clusters", "outbound|8080|stable|payment-service.production.svc.cluster.local"),
        ("endpoints", "HEALTHY"),
        ("certs", "spiffe://cluster.local/ns/production/sa/frontend"),
    ] {
        let shown = printed(mesh, &["proxy", part, "production/frontend"]);
        assert!(shown.contains(wanted), "{part}: no {wanted} in\n{shown}");
        json(&printed(mesh, &["proxy", part, "frontend", "-o", "json"]));
    }
    let status = json(&printed(mesh, &["status", "-o", "json"]));
    let certificates = status["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), WORKLOADS.len(), "{status:#}");
    assert!(certificates.iter().all(|it| it["renewal"]["next_attempt"].is_string()), "{status:#}");
}

fn explains_what_runs(mesh: &Mesh) {
    let files = mesh.files();
    let words =
        |path| ["explain", "--from", "frontend", "--to", "payment-service", "GET", path, "-o", "json"];
    let live = json(&printed(mesh, &words("/pay")));
    let source = &live["route"]["source"]["resource"];
    assert_eq!(source, "VirtualService/production/payment-service#http[1]", "{live:#}");
    let endpoint = &live["destinations"][0]["endpoints"][0];
    assert_eq!((&endpoint["health"], &endpoint["mode"]), (&"healthy".into(), &"STRICT".into()), "{live:#}");
    let rule = &endpoint["verdict"]["sources"][0]["resource"];
    assert_eq!(rule, "AuthorizationPolicy/production/payment-callers#rules[0]", "{live:#}");
    let both = |folder: &Path| {
        let mut command = command(mesh, &words("/pay"));
        json(&String::from_utf8(command.arg("-d").arg(folder).output().unwrap().stdout).unwrap())
    };
    assert_eq!(both(&files).get("differences"), None, "what was pushed is what is written");
    let other = tempfile::tempdir().unwrap();
    copy(&files, other.path());
    let changed = other.path().join("production/payment-service.yaml");
    let text = std::fs::read_to_string(&changed).unwrap();
    assert!(text.contains("weight: 95"), "{text}");
    std::fs::write(&changed, text.replace("weight: 95", "weight: 90").replace("weight: 5", "weight: 10"))
        .unwrap();
    let differences = both(other.path())["differences"].to_string();
    assert!(differences.contains("95.00 %") && differences.contains("90.00 %"), "{differences}");
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn says_what_is_wrong(mesh: &Mesh) {
    let error = |words: &[&str]| {
        let output = tulle(mesh, words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(error(&["proxy", "routes", "frontned"]).contains("did you mean production/frontend?"));
    assert!(
        error(&["tap", "production/nobody-at-all"]).contains("no tulle-proxy of production/nobody-at-all")
    );
    let elsewhere = Command::new(binary("tulle"))
        .args(["status", "--monitoring", &mesh.admin(&named("frontend")).to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("is not tulled's monitoring port"), "{said}");
}

/// Opens a tap, waits until a proxy has it, and goes away.
fn open_and_drop(mesh: &Mesh) -> Result<(), String> {
    let mut stream = TcpStream::connect(mesh.monitoring()).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "GET /debug/tap?workload=production/frontend HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).map_err(|error| error.to_string())?;
    match &head[9..] {
        b"200" => Ok(()),
        _ => Err(String::from_utf8_lossy(&head).into_owned()),
    }
}

/// 10,000 taps with `TULLE_TAPS=10000`; fewer in a usual run.
#[test]
fn taps_that_are_dropped_leave_nothing() {
    let mesh = example(172);
    let wanted: usize = std::env::var("TULLE_TAPS").ok().and_then(|it| it.parse().ok()).unwrap_or(10_000);
    let run = |count: usize| {
        let (done, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while done.fetch_add(1, Ordering::Relaxed) < count {
                        // The number at a time is bounded: those that are dropped take a moment to end.
                        while let Err(error) = open_and_drop(&mesh) {
                            assert!(error.contains("429"), "{error}");
                            busy.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                });
            }
        });
        until("all have ended", || (watches(&mesh) == 0).then_some(()));
        busy.into_inner()
    };
    let resident = || {
        ["tulled", "frontend"]
            .map(|name| mesh.processes.iter().find(|(known, _)| known == name).unwrap().1.resident())
    };
    // What pools and tables grow to once does not count.
    run(500);
    let (before, started) = (resident(), Instant::now());
    let busy = run(wanted);
    let after = resident();
    let grown: Vec<u64> =
        before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).collect();
    println!(
        "{wanted} taps in {:?}, {busy} had to wait; grown {grown:?} bytes (tulled, proxy)",
        started.elapsed()
    );
    assert!(grown.iter().all(|bytes| *bytes < 4 << 20), "{grown:?}");
    assert_eq!(mesh.page("/debug/world")["observe"]["streams"], WORKLOADS.len());
    // The proxy has room for 64: had any of them stayed, it would refuse this one, or tell it too much.
    let mut tap = Tap::start(&mesh, &["frontend", "--path", "/pay"]);
    assert!(pay(&mesh, "x-request-id: after-all", 1));
    assert_eq!(tap.next()["request_id"], "after-all");
}
