//! Access logs of a running mesh: what is logged where nobody asked, expressions as filters and as labels, and
//! `tulle log`, which raises a log for a time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use tests::chaos::{Instance, Mesh};
use tests::{binary, exchange, get, until};

fn call(mesh: &Mesh, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: back:8080\r\n{headers}connection: close\r\n\r\n");
    String::from_utf8_lossy(&exchange(mesh.service("back"), request.as_bytes()).unwrap()).into_owned()
}

/// The lines of a sidecar's log that name one of the paths.
fn lines(mesh: &Mesh, name: &str, wanted: &str) -> Vec<String> {
    mesh.processes[name].log().lines().filter(|line| line.contains(wanted)).map(str::to_owned).collect()
}

fn tulle(mesh: &Mesh, words: &[&str]) -> (bool, String) {
    let monitoring = mesh.monitoring().to_string();
    let output =
        Command::new(binary("tulle")).args(words).args(["--monitoring", &monitoring]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

const PLAIN: &str = "defaultConfig: {proxyMetadata: {TULLE_ACCESS_LOG_SAMPLE: \"0\"}}\n";

#[test]
fn failures_are_logged_unasked_and_tulle_log_raises_the_rest() {
    let mesh = Mesh::start(95, &[Instance::new("back", 31)], PLAIN, "");
    until("the service answers", || call(&mesh, "/warm-up", "").contains(" 200 ").then_some(()));
    for _ in 0..20 {
        call(&mesh, "/fine", "");
    }
    // An echo answers with the status that its path names.
    let denied = exchange(
        mesh.service("back"),
        b"GET /lost HTTP/1.1\r\nhost: nobody.example\r\nx-request-id: lost-1\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    assert!(!denied.starts_with(b"HTTP/1.1 200"));
    until("the failure is logged", || lines(&mesh, "caller-9", "/lost").pop());
    let line = lines(&mesh, "caller-9", "/lost").pop().unwrap();
    for word in [" GET nobody.example/lost ", "reason=", "blame=", "id=lost-1", "flags="] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(!line.contains("reason=- "), "{line}");
    assert_eq!(lines(&mesh, "caller-9", "/fine"), Vec::<String>::new());

    // One workload, then one request, then nothing any more; connections and configuration stay.
    let (good, text) = tulle(&mesh, &["log", "caller-9", "--for", "300"]);
    assert!(good && text.contains("caller-9: writes to its access log until 2"), "{text}");
    call(&mesh, "/raised", "");
    until("the raised request is logged", || lines(&mesh, "caller-9", "/raised").pop());
    assert_eq!(lines(&mesh, "back-31", "/raised"), Vec::<String>::new(), "only one workload was raised");
    let (good, text) = tulle(&mesh, &["log", "--reset"]);
    assert!(good, "{text}");
    let (good, text) = tulle(&mesh, &["log", "--request-id", "wanted-7"]);
    assert!(good && text.contains("back-31: writes to"), "{text}");
    call(&mesh, "/other", "");
    call(&mesh, "/this", "x-request-id: wanted-7\r\n");
    for name in ["caller-9", "back-31"] {
        until("the request is logged by both", || lines(&mesh, name, "/this").pop());
        assert_eq!(lines(&mesh, name, "/other"), Vec::<String>::new());
    }
    let (good, text) = tulle(&mesh, &["log", "nobody"]);
    assert!(!good && text.contains("no tulle-proxy of nobody"), "{text}");
    // A page of another origin cannot do it, nor a link.
    let post = |head: &str| {
        let request =
            format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        String::from_utf8(exchange(mesh.monitoring(), request.as_bytes()).unwrap()).unwrap()
    };
    for head in ["GET /debug/log?workload=caller-9", "POST /debug/log?workload=caller-9"] {
        assert!(post(head).starts_with("HTTP/1.1 405"), "{head}");
    }
}

#[test]
fn the_sample_of_successes_is_of_the_same_requests_in_every_proxy() {
    let half = PLAIN.replace("\"0\"", "\"30\"");
    let mesh = Mesh::start(94, &[Instance::new("back", 31)], &half, "");
    until("the service answers", || call(&mesh, "/warm-up", "").contains(" 200 ").then_some(()));
    for number in 0..200 {
        call(&mesh, "/sampled", &format!("x-request-id: sample-{number}-x\r\n"));
    }
    let ids = |name: &str| {
        let mut ids: Vec<String> = lines(&mesh, name, "/sampled")
            .iter()
            .filter_map(|line| line.rsplit_once("id=").map(|(_, id)| id.trim().to_owned()))
            .collect();
        ids.sort();
        ids
    };
    until("both have logged the same", || {
        let (caller, back) = (ids("caller-9"), ids("back-31"));
        (caller == back && (30..=90).contains(&caller.len())).then_some(())
    });
}

const EXPRESSIONS: &str = "\
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all}
spec:
  accessLogging:
  - providers: [{name: envoy}]
    filter: {expression: \"request.headers['x-debug'] == 'on' || request.url_path.startsWith('/always')\"}
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        way: {value: \"request.method + ' ' + request.url_path\"}
        debug: {value: \"has(request.headers['x-debug']) ? request.headers['x-debug'] : 'none'\"}
        nothing: {value: \"request.headers['x-nobody']\"}
        node: {value: \"xds.node.metadata.LABELS.app\"}
";

#[test]
fn expressions_filter_logs_and_label_metrics() {
    let mesh = Mesh::start(93, &[Instance::new("back", 31)], "", EXPRESSIONS);
    until("the service answers", || call(&mesh, "/warm-up", "").contains(" 200 ").then_some(()));
    call(&mesh, "/quiet", "");
    call(&mesh, "/debugged?x=1", "x-debug: on\r\n");
    call(&mesh, "/off", "x-debug: off\r\n");
    call(&mesh, "/always/1", "");
    for name in ["caller-9", "back-31"] {
        until("the last request is logged", || lines(&mesh, name, "/always/1").pop());
        assert_eq!(lines(&mesh, name, "/debugged").len(), 1);
        for path in ["/quiet", "/off", "/warm-up"] {
            assert_eq!(lines(&mesh, name, &format!("GET {path} ")), Vec::<String>::new());
        }
    }
    let caller = mesh.admin(&mesh.instances("caller")[0]);
    let page = until("the request is counted", || {
        get(caller, "/stats/prometheus").filter(|page| page.contains("way=\"GET /always/1\""))
    });
    let line = page
        .lines()
        .find(|line| line.starts_with("istio_requests_total{") && line.contains("way=\"GET /debugged\""))
        .unwrap_or_else(|| panic!("{page}"));
    for label in ["debug=\"on\"", "nothing=\"unknown\"", "node=\"caller\""] {
        assert!(line.contains(label), "{label} in {line}");
    }
    let errors = page.lines().find(|line| line.starts_with("tulle_access_log_filter_errors_total"));
    let errors: f64 = errors.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(errors >= 1.0, "a header that is not there has no value: that is counted");

    // What cannot be parsed is refused with its place; what was good before stays.
    mesh.write("rules.yaml", &EXPRESSIONS.replace("== 'on'", "=="));
    let verdict = until("the edit is refused", || {
        get(mesh.monitoring(), "/debug/config").filter(|page| page.contains("a value is expected"))
    });
    assert!(verdict.contains("rules.yaml") && verdict.contains("at position"), "{verdict}");
    call(&mesh, "/always/2", "");
    until("the last good configuration is in force", || lines(&mesh, "caller-9", "/always/2").pop());
}
