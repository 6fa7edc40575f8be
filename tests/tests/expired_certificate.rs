//! A certificate that has ended: connections that are open live on, as Envoy's do; a new handshake and a resumed session
//! fail, and both sides name it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::net::SocketAddr;

use base::Reason;
use tests::chaos::{Instance, Mesh};
use tests::{exchange, get, until};

const BLOCK: u8 = 102;
const LOG: &str = "accessLogFile: /dev/stdout\naccessLogFormat: \"[LOG] id=%REQ(X-REQUEST-ID)% code=%RESPONSE_CODE% \
    flags=%RESPONSE_FLAGS% reason=%TULLE_REASON% blame=%TULLE_BLAME% hop=%TULLE_HOP% peer=%TULLE_PEER% \
    transport=%UPSTREAM_TRANSPORT_FAILURE_REASON% end\"\n";
/// All lead to the same program: one keeps its connections, one makes a new one for every request and resumes its
/// session, one was never called before.
const RULES: &str = "
apiVersion: v1
kind: Service
metadata: {name: resumed}
spec: {selector: {app: back}, clusterIP: 127.102.1.51, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: fresh}
spec: {selector: {app: back}, clusterIP: 127.102.1.52, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: resumed}
spec: {host: resumed, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}
";
/// Seconds that the called side's certificate lives.
const LIFETIME: u32 = 12;

fn ask(service: SocketAddr, id: &str) -> String {
    let request =
        format!("GET /app HTTP/1.1\r\nhost: {service}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n");
    String::from_utf8_lossy(&exchange(service, request.as_bytes()).unwrap()).into_owned()
}

fn line(mesh: &Mesh, proxy: &str, words: &[&str]) -> String {
    until(&format!("{proxy} logs {words:?}"), || {
        let log = mesh.processes[proxy].log();
        let has = |line: &&str| line.starts_with("[LOG]") && words.iter().all(|word| line.contains(word));
        log.lines().find(has).map(str::to_owned)
    })
}

#[test]
fn an_expired_certificate_names_itself_on_both_sides() {
    let mut mesh = Mesh::control(BLOCK, &[Instance::new("back", 31)], LOG, RULES);
    for service in ["caller", "back"] {
        let instance = mesh.instances(service)[0].clone();
        mesh.lifetime_seconds = (service == "back").then_some(LIFETIME);
        mesh.start_program(&instance);
        mesh.start_sidecar(&instance);
        mesh.ready(&instance);
    }
    // Nothing renews it.
    mesh.kill("tulled");
    let kept = mesh.service("back");
    let [resumed, fresh] = [51, 52].map(|host| SocketAddr::from(([127, BLOCK, 1, host], 8080)));
    // Each worker of the caller has connections of its own.
    for number in 0..24 {
        for service in [kept, resumed] {
            let answer = ask(service, &format!("before-{number}"));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    let back = mesh.admin(&mesh.instances("back")[0]);
    until("the certificate has ended", || {
        let stats = get(back, "/stats?filter=tulle_certificate_expiry_seconds")?;
        let left = stats.lines().find_map(|line| line.strip_prefix("tulle_certificate_expiry_seconds: "))?;
        // By two seconds, so that no rounding matters.
        (left.trim().parse::<i64>().unwrap() < -1).then_some(())
    });
    for (service, id) in [(fresh, "fresh"), (resumed, "resumed")] {
        let answer = ask(service, id);
        assert!(answer.starts_with("HTTP/1.1 503"), "{id}: {answer}");
        let said = line(&mesh, "caller-9", &[&format!("id={id} ")]);
        let reason = Reason::UpstreamCertificateExpired;
        let expected = format!("reason={} blame=upstream hop=shop/caller-9 ", reason.code());
        assert!(said.contains(&expected) && said.contains("flags=UF"), "{said}");
        assert!(said.contains(&format!("peer=127.{BLOCK}.0.31:8080")), "{said}");
        assert!(said.contains("expired at"), "with both clocks: {said}");
    }
    // The called side knows who did not believe it, and why.
    until("the called side names it", || {
        let log = mesh.processes["back-31"].log();
        log.lines().any(|line| line.contains(Reason::OwnCertificateExpired.code())).then_some(())
    });
    let answer = ask(kept, "kept");
    assert!(answer.starts_with("HTTP/1.1 200"), "an open connection lives on: {answer}");
}
