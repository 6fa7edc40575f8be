//! Faults are injected into a mesh of real processes, and each names itself: in the access log of the caller's sidecar,
//! in that of the called one where the request came so far, with the hop that noticed it first. What goes well has no
//! reason, and the header that carries reasons never leaves the mesh.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base::Reason;
use tests::chaos::{Instance, Mesh};
use tests::{PATIENCE, Process, exchange, free_address, get, until, until_within};

const LOG: &str = "accessLogFile: /dev/stdout\naccessLogFormat: \"[LOG] id=%REQ(X-REQUEST-ID)% code=%RESPONSE_CODE% \
    flags=%RESPONSE_FLAGS% reason=%TULLE_REASON% blame=%TULLE_BLAME% hop=%TULLE_HOP% peer=%TULLE_PEER% \
    cluster=%UPSTREAM_CLUSTER% end\"\n";
const BLOCK: u8 = 97;

/// Every service but `dead` leads to the same program.
const RULES: &str = "
apiVersion: v1
kind: Service
metadata: {name: narrow}
spec: {selector: {app: back}, clusterIP: 127.97.1.51, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: sick}
spec: {selector: {app: back}, clusterIP: 127.97.1.52, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec: {selector: {app: back}, clusterIP: 127.97.1.53, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, clusterIP: 127.97.1.54, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: raw}
spec: {selector: {app: back}, clusterIP: 127.97.1.55, ports: [{name: tcp, port: 9000, targetPort: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: back}
spec:
  hosts: [back]
  http:
  - {match: [{uri: {prefix: /hang}}], timeout: 1s, route: [{destination: {host: back}}]}
  - {match: [{uri: {prefix: /app}}], retries: {attempts: 0}, route: [{destination: {host: back}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: narrow}
spec: {host: narrow, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: sick}
spec:
  host: sick
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 100}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: named}
spec:
  host: named
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://cluster.local/ns/shop/sa/somebody-else]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-requests}
spec: {selector: {matchLabels: {app: back}}, action: DENY, rules: [{to: [{operation: {paths: [/app/denied]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-connections}
spec: {selector: {matchLabels: {app: back}}, action: DENY, rules: [{to: [{operation: {ports: [\"9000\"]}}]}]}
";

struct World {
    mesh: Mesh,
}

impl World {
    fn start() -> World {
        let instances = [Instance::new("back", 31), Instance::new("dead", 32)];
        let mut mesh = Mesh::control(BLOCK, &instances, LOG, RULES);
        for service in ["caller", "back", "dead"] {
            for instance in mesh.instances(service) {
                mesh.start_program(&instance);
                mesh.start_sidecar(&instance);
            }
        }
        for service in ["caller", "back", "dead"] {
            mesh.instances(service).iter().for_each(|instance| mesh.ready(instance));
        }
        mesh.kill("dead-32-program");
        World { mesh }
    }

    fn address(&self, service: &str) -> SocketAddr {
        let at = |host| SocketAddr::from(([127, BLOCK, 1, host], 8080));
        match service {
            "narrow" => at(51),
            "sick" => at(52),
            "named" => at(53),
            "empty" => at(54),
            "raw" => SocketAddr::from(([127, BLOCK, 1, 55], 9000)),
            known => self.mesh.service(known),
        }
    }

    /// Opens a connection and sends a request with that id.
    fn send(&self, service: &str, path: &str, id: &str, script: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address(service)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(service, path, id, script).as_bytes()).unwrap();
        stream
    }

    fn ask(&self, service: &str, path: &str, id: &str, script: &str) -> String {
        let answer = exchange(self.address(service), request(service, path, id, script).as_bytes()).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The line of a proxy's access log with all of these words.
    fn line(&self, proxy: &str, words: &[&str]) -> String {
        until(&format!("{proxy} logs {words:?}"), || {
            let log = self.mesh.processes[proxy].log();
            let has = |line: &&str| line.starts_with("[LOG]") && words.iter().all(|word| line.contains(word));
            log.lines().find(has).map(str::to_owned)
        })
    }

    /// The caller's line about a request, which must give that reason at that hop.
    fn caller(&self, id: &str, reason: Reason, hop: &str) -> String {
        let line = self.line("caller-9", &[&format!("id={id} ")]);
        assert_reason(&line, reason, hop);
        line
    }

    /// The line of the called sidecar about a request, for a reason that it noticed itself.
    fn called(&self, proxy: &str, id: &str, reason: Reason) -> String {
        let line = self.line(proxy, &[&format!("id={id} ")]);
        assert_reason(&line, reason, &format!("shop/{proxy}"));
        assert!(line.contains(&format!("flags={}", reason.flag())), "{line}");
        line
    }
}

fn request(service: &str, path: &str, id: &str, script: &str) -> String {
    // Whoever asks may claim what it likes: the header is no request's.
    format!(
        "GET {path} HTTP/1.1\r\nhost: {service}:8080\r\nx-request-id: {id}\r\nx-echo-do: {script}\r\n\
         x-tulle-failure: reason=flood,hop=shop/liar\r\nconnection: close\r\n\r\n"
    )
}

fn assert_reason(line: &str, reason: Reason, hop: &str) {
    let expected = format!("reason={reason} blame={} hop={hop} ", reason.blame().as_str());
    assert!(line.contains(&expected), "expected {expected}in {line}");
}

const HERE: &str = "shop/caller-9";

/// Faults that the caller's sidecar meets before anybody else sees the request.
fn at_the_caller(world: &World) {
    let answer = world.ask("back", "/nothing", "no-route", "");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(world.caller("no-route", Reason::NoRoute, HERE).contains("flags=NR"));

    world.ask("empty", "/app", "no-endpoint", "");
    assert!(world.caller("no-endpoint", Reason::NoEndpoint, HERE).contains("flags=UH"));

    world.ask("sick", "/app", "makes-it-sick", "status=500");
    until("the only endpoint is ejected", || {
        world.ask("sick", "/app", "ejected", "").contains("no healthy upstream").then_some(())
    });
    let line = world.line("caller-9", &["id=ejected ", "reason=ejected"]);
    assert_reason(&line, Reason::Ejected, HERE);
    assert!(line.contains("flags=UH"), "{line}");

    // One has the connection, one waits for it, and the third one is too many.
    let busy = ["busy-1", "busy-2"].map(|id| world.send("narrow", "/app", id, "hang"));
    until("a request is one too many", || {
        let mut stream = world.send("narrow", "/app", "overflow", "hang");
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut answer = [0; 12];
        // One that waits got a place in the queue before the others did.
        stream.read_exact(&mut answer).ok().filter(|()| answer.ends_with(b"503"))
    });
    drop(busy);
    let line = world.line("caller-9", &["id=overflow ", "reason=upstream-overflow"]);
    assert_reason(&line, Reason::Overflow, HERE);
    assert!(line.contains("flags=UO"), "{line}");
}

/// Faults of the handshake: the called sidecar has no request, its log names the peer's refusal.
fn in_the_handshake(world: &World) {
    world.ask("named", "/app", "wrong-name", "");
    let line = world.caller("wrong-name", Reason::UpstreamTlsName, HERE);
    assert!(line.contains("flags=UF") && line.contains(&format!("peer=127.{BLOCK}.0.31:8080")), "{line}");
    until("the called sidecar names the failed handshake", || {
        world.mesh.processes["back-31"].log().contains("downstream-tls").then_some(())
    });
}

/// Faults behind the called sidecar: both name the same reason, and the hop that noticed it.
fn behind_the_called(world: &World) {
    let answer = world.ask("dead", "/app", "refused", "");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let line = world.called("dead-32", "refused", Reason::ConnectRefused);
    assert!(line.contains(&format!("peer=127.{BLOCK}.2.32:8080")), "{line}");
    let line = world.caller("refused", Reason::ConnectRefused, "shop/dead-32");
    assert!(line.contains(&format!("peer=127.{BLOCK}.2.32:8080")), "the peer of the hop that failed: {line}");

    world.ask("back", "/app", "app-reset", "reset");
    world.called("back-31", "app-reset", Reason::UpstreamReset);
    world.caller("app-reset", Reason::UpstreamReset, "shop/back-31");

    let answer = world.ask("back", "/app/denied", "denied", "");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let line = world.called("back-31", "denied", Reason::PolicyDenied);
    assert!(line.contains("peer=spiffe://cluster.local/ns/shop/sa/caller"), "{line}");
    world.caller("denied", Reason::PolicyDenied, "shop/back-31");

    // The head has gone: nothing can tell the caller's sidecar more than that the answer broke off.
    world.ask("back", "/app", "mid-body", "bytes=5000,reset=1000");
    world.called("back-31", "mid-body", Reason::UpstreamCutBody);
    assert!(world.caller("mid-body", Reason::UpstreamCutBody, HERE).contains("flags=UPE"));
}

/// Faults of those who wait.
fn of_who_waits(world: &World) {
    let answer = world.ask("back", "/hang", "timeout", "hang");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(world.caller("timeout", Reason::Timeout, HERE).contains("flags=UT"));
    world.called("back-31", "timeout", Reason::DownstreamReset);

    let client = world.send("back", "/app", "gone", "hang");
    let back = &world.mesh.record(&world.mesh.instances("back")[0]);
    let _ = until_within(PATIENCE, "the program has a request", || std::fs::read(back).ok());
    until("the request is on its way", || {
        // The line comes at the end only; the called sidecar counts what is active.
        std::thread::sleep(Duration::from_millis(300));
        Some(())
    });
    drop(client);
    assert!(world.caller("gone", Reason::DownstreamReset, HERE).contains("flags=DC"));
    world.called("back-31", "gone", Reason::DownstreamReset);
}

/// A connection that a policy denies.
fn denied_connection(world: &World) {
    let mut stream = TcpStream::connect(world.address("raw")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(b"\x01\x02 no request\n");
    let _ = stream.read_to_end(&mut Vec::new());
    let line = world.line("back-31", &["reason=connection-denied"]);
    assert_reason(&line, Reason::ConnectionDenied, "shop/back-31");
    let line = world.line("caller-9", &["cluster=outbound|9000||raw.shop.svc.cluster.local"]);
    assert_reason(&line, Reason::UpstreamReset, HERE);
}

/// Nothing is wrong, and nobody says so; the header stays inside.
fn nothing_wrong(world: &World) {
    let answer = world.ask("back", "/app", "good", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for proxy in ["caller-9", "back-31"] {
        let line = world.line(proxy, &["id=good "]);
        assert!(line.contains("code=200 flags=- reason=- blame=- hop=- peer=- "), "{line}");
    }
    for (service, path, id) in [("dead", "/app", "edge-1"), ("back", "/app/denied", "edge-2")] {
        let answer = world.ask(service, path, id, "");
        assert!(!answer.to_ascii_lowercase().contains("x-tulle-failure"), "it leaves the mesh: {answer}");
    }
}

/// A proxy of its own: no kind of the mesh leads to a name yet.
#[test]
fn a_name_without_an_address_names_itself() {
    let (folder, admin, front) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let log = "code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% reason=%TULLE_REASON% blame=%TULLE_BLAME% hop=%TULLE_HOP% ";
    let cluster = |name: &str, kind: &str, host: &str| {
        serde_json::json!({"name": name, "type": kind, "connect_timeout": "1s", "load_assignment": {"cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": 9}}}}]}]}})
    };
    let bootstrap = serde_json::json!({
        "node": {"id": "n", "cluster": "c"},
        "admin": {"address": {"socket_address": {"address": admin.ip().to_string(), "port_value": admin.port()}}},
        "static_resources": {"listeners": [{"name": "front",
            "address": {"socket_address": {"address": front.ip().to_string(), "port_value": front.port()}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
                "@type": manager,
                "stat_prefix": "front",
                "access_log": [{"name": "log", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": {"text_format_source": {"inline_string": format!("[LOG] path=%REQ(:PATH)% {log}\n")}}}}],
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/known"}, "route": {"cluster": "known"}},
                    {"match": {"prefix": "/"}, "route": {"cluster": "unknown"}}]}]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
            "clusters": [cluster("unknown", "STRICT_DNS", "nowhere.invalid"), cluster("known", "STRICT_DNS", "localhost")]}
    });
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let words = ["-c", file.to_str().unwrap(), "--concurrency", "1"];
    let mut proxy = Process::start("tulle-proxy", &words, folder.path());
    proxy.ready(admin);
    assert!(get(front, "/x").unwrap().starts_with("HTTP/1.1 503"));
    let line = proxy.says(&["[LOG] path=/x "]);
    assert!(line.contains("code=503 flags=UH reason=name-not-resolved blame=configuration"), "{line}");
    get(front, "/known").unwrap();
    let line = proxy.says(&["[LOG] path=/known "]);
    assert!(line.contains("reason=connection-refused blame=upstream"), "the twin has an address: {line}");
}

#[test]
fn every_fault_names_itself_on_both_sides() {
    let world = World::start();
    until("the service answers", || {
        world.ask("back", "/app", "first", "").starts_with("HTTP/1.1 200").then_some(())
    });
    at_the_caller(&world);
    in_the_handshake(&world);
    behind_the_called(&world);
    of_who_waits(&world);
    denied_connection(&world);
    nothing_wrong(&world);
}
