//! The smuggling corpus through a real Envoy: its verdict must be ours, or a laxer one that the case declares and
//! `docs/differences-from-envoy.md` explains. Runs when TULLE_ENVOY names an Envoy binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod corpus;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use corpus::{Case, Recorder};
use proxy::http::h1::server::{ServerOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Envoy says nothing when it waits for more bytes; this is how long nothing must come to count as waiting.
const QUIET: Duration = Duration::from_millis(400);

/// Stops Envoy when the test ends, also when it fails.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One route to `upstream`, and the HTTP/1 settings that Istio's proxies have.
fn bootstrap(listen: u16, upstream: u16) -> String {
    format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: corpus
          codec_type: HTTP1
          stream_idle_timeout: 0s
          generate_request_id: false
          http_protocol_options: {{accept_http_10: true}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: upstream, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"#
    )
}

fn start(binary: &Path, listen: u16, upstream: u16) -> Envoy {
    let file = std::env::temp_dir().join(format!("tulle-corpus-{}.yaml", std::process::id()));
    std::fs::write(&file, bootstrap(listen, upstream)).unwrap();
    let child = Command::new(binary)
        .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "off", "--config-path"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Envoy(child)
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Sends the bytes; says whether Envoy closed the connection, and what it answered.
async fn send(port: u16, bytes: &[u8]) -> (bool, String) {
    let (mut read, mut write) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let (mut output, mut closed) = (Vec::new(), false);
    let mut buffer = [0; 4096];
    let sending = async {
        let _ = write.write_all(bytes).await;
    };
    let receiving = async {
        while let Ok(got) = timeout(QUIET, read.read(&mut buffer)).await {
            match got {
                Ok(0) | Err(_) => {
                    closed = true;
                    break;
                }
                Ok(got) => output.extend_from_slice(&buffer[..got]),
            }
        }
    };
    tokio::join!(sending, receiving);
    (closed, String::from_utf8_lossy(&output).into_owned())
}

/// What Envoy did with a case: what reached the upstream, and whether it refused something.
fn envoy_ends(closed: bool, output: &str) -> &'static str {
    let refused = output.split("HTTP/1.").skip(1).any(|response| {
        let status = response.split(' ').nth(1).unwrap_or_default();
        status.starts_with('4') || status.starts_with('5')
    });
    match (refused, closed) {
        (true, _) => "refused",
        (false, true) if output.is_empty() => "refused",
        (false, true) => "closed",
        (false, false) if output.is_empty() => "waiting",
        (false, false) => "open",
    }
}

/// `same`, `stricter` (ours refuses more) or `looser`.
fn compare(case: &Case, seen: &[String], ends: &str) -> &'static str {
    let ours_stops = matches!(case.ends.as_str(), "refused" | "waiting");
    let theirs_stops = matches!(ends, "refused" | "waiting");
    if seen == case.reaches && ours_stops == theirs_stops {
        "same"
    } else if seen.starts_with(&case.reaches) && (ours_stops || !theirs_stops) {
        "stricter"
    } else {
        "looser"
    }
}

#[tokio::test]
async fn our_verdict_beside_envoys_is_as_declared() {
    let Some(binary) = std::env::var_os("TULLE_ENVOY").map(PathBuf::from) else {
        println!("skipped: TULLE_ENVOY does not name an Envoy binary");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().port();
    let port = free_port().await;
    let _envoy = start(&binary, port, upstream);
    let recorder = Rc::new(Recorder::default());
    let (_drain, watch) = runtime::Drain::new();
    let mut options = ServerOptions::default();
    // Envoy adds fields of its own.
    options.limits.max_headers_count += 10;
    options.limits.max_headers_bytes += 1024;
    let serving = async {
        let local = LocalSet::new();
        local
            .run_until(async {
                loop {
                    let (io, _) = listener.accept().await.unwrap();
                    let (recorder, watch, options) = (recorder.clone(), watch.clone(), options.clone());
                    tokio::task::spawn_local(async move {
                        let _ = serve(io, &*recorder, &options, &watch).await;
                    });
                }
            })
            .await
    };
    let testing = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut failures = Vec::new();
        for case in corpus::load() {
            recorder.seen.take();
            let (closed, output) = send(port, &case.bytes).await;
            let seen = recorder.seen.take();
            let ends = envoy_ends(closed, &output);
            let verdict = compare(&case, &seen, ends);
            if verdict != case.envoy {
                failures.push(format!(
                    "{}: {verdict}, declared {}; Envoy: reached {seen:?}, {ends}; ours: {:?}, {}; {:?}",
                    case.name,
                    case.envoy,
                    case.reaches,
                    case.ends,
                    output.lines().next()
                ));
            }
        }
        assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    };
    tokio::select! {
        () = testing => {}
        () = serving => {}
    }
}
