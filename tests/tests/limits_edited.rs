//! A circuit breaker's limit is edited while requests run: what runs counts, and nothing new passes until there is room.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tests::chaos::upstream::{answer, connect};
use tests::chaos::{Instance, Mesh};
use tests::{get, until};

const PATIENCE: Duration = Duration::from_secs(30);

fn rule(limit: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: back}}\n\
         spec: {{host: back, trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {limit}}}}}}}}}\n"
    )
}

/// The sum of a number of the service's cluster.
fn sum(admin: SocketAddr, name: &str) -> Option<u64> {
    let page = get(admin, "/clusters")?;
    let of = page.lines().filter(|line| line.starts_with("outbound|8080||back.") && line.contains(name));
    of.map(|line| line.rsplit("::").next()?.parse::<u64>().ok()).sum()
}

/// A request that runs for as long as its client owes a part of the body.
fn running(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address, PATIENCE);
    stream.write_all(b"POST / HTTP/1.1\r\nhost: back\r\ncontent-length: 100\r\n\r\nbegin").unwrap();
    stream
}

fn ask(address: SocketAddr) -> String {
    answer(connect(address, PATIENCE), b"GET / HTTP/1.1\r\nhost: back\r\nconnection: close\r\n\r\n")
}

fn is_refused(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503 ") && answer.contains("overflow")
}

#[test]
fn a_lowered_limit_counts_what_runs_already() {
    // Lowered from ten; and five where there was none.
    for (block, before) in [(65, rule(10)), (66, String::new())] {
        let mesh = Mesh::start(block, &[Instance::new("back", 31)], "", &before);
        let admin = mesh.admin(&mesh.instances("caller")[0]);
        let address = mesh.service("back");
        until("the service answers", || get(address, "/").filter(|answer| answer.contains(" 200 ")));
        let mut all: Vec<_> = (0..8).map(|_| running(address)).collect();
        until("eight run", || sum(admin, "::rq_active::").filter(|count| *count == 8));
        mesh.write("rules.yaml", &rule(5));
        until("the edit has come", || sum(admin, "default_priority::max_requests::").filter(|it| *it == 5));
        for left in [8, 6, 5] {
            all.truncate(left);
            until("the others have ended", || {
                sum(admin, "::rq_active::").filter(|count| *count == left as u64)
            });
            // Several times: it must hold on every worker.
            for _ in 0..4 {
                let answer = ask(address);
                assert!(is_refused(&answer), "{left} run, five are allowed: {answer}");
            }
        }
        all.truncate(4);
        until("one more is let in", || {
            Some(ask(address)).filter(|answer| answer.starts_with("HTTP/1.1 200 "))
        });
        all.push(running(address));
        until("five run", || sum(admin, "::rq_active::").filter(|count| *count == 5));
        assert!(is_refused(&ask(address)), "a sixth");
    }
}
