//! What strangers send never grows the memory of a sidecar: Host headers, paths and claimed peers that are new with every
//! request are folded into one series when the budget is used up, and every request is still counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::{get, until};

const BLOCK: u8 = 91;
const CLIENTS: u64 = 8;
/// What RSS may grow by when the budget was used up before.
const ROOM: u64 = 3 << 20;
/// Series of Istio's metrics that a proxy holds at most.
const BUDGET: usize = 2_000;

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Requests that name what nobody named before, on one connection; how many were answered.
fn strangers(address: SocketAddr, seed: u64, count: u64) -> u64 {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for _ in 0..count {
        let (host, path, peer) = (numbers.next(), numbers.next(), numbers.next());
        let request = format!(
            "GET /{path:x}?{peer:x} HTTP/1.1\r\nhost: h{host:x}.example.com\r\nx-envoy-peer-metadata-id: {peer:x}\r\n\
             x-envoy-peer-metadata: {peer:x}\r\nx-request-id: {peer:x}\r\nuser-agent: {path:x}\r\n\r\n"
        );
        writer.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the connection ended");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
    }
    count
}

fn crowd(address: SocketAddr, seed: u64, count: u64) -> u64 {
    let threads: Vec<_> = (0..CLIENTS)
        .map(|client| std::thread::spawn(move || strangers(address, seed + client, count / CLIENTS)))
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

/// All requests that the sidecar counted, and in how many series.
fn counted(admin: SocketAddr) -> (u64, usize) {
    let page = get(admin, "/stats/prometheus").unwrap();
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    let value = |line: &&str| line.rsplit(' ').next().unwrap().trim().parse::<u64>().unwrap();
    (lines.iter().map(value).sum(), lines.len())
}

#[test]
fn strangers_leave_memory_flat_and_are_all_counted() {
    let mesh = Mesh::start(BLOCK, &[Instance::new("back", 31)], "", "");
    let caller = mesh.instances("caller")[0].clone();
    let (address, admin) = (mesh.service("back"), mesh.admin(&caller));
    let sidecar = &mesh.processes[&caller.name()];
    // Not measured: the budget is used up, and buffers, pools and rings have grown to their size.
    let mut sent = crowd(address, 1, 24_000);
    let before = sidecar.resident();
    sent += crowd(address, 1_000, either(48_000, 1_000_000));
    let after = sidecar.resident();
    until("every request is counted", || (counted(admin).0 >= sent).then_some(()));
    let (requests, series) = counted(admin);
    measured(
        "strangers",
        &json!({"requests": sent, "series": series, "rss": {"before": before, "after": after}}),
    );
    assert_eq!(requests, sent, "a request is lost or counted twice");
    assert_eq!(series, BUDGET + 1, "the budget, and one series for the rest");
    assert!(after < before + ROOM, "RSS grew from {before} to {after}");
    let page = get(admin, "/stats/prometheus").unwrap();
    let overflow = page.lines().find_map(|line| line.strip_prefix("tulle_metrics_series_overflow_total "));
    assert_eq!(overflow.unwrap().trim().parse::<u64>().unwrap(), sent - BUDGET as u64);
    assert!(page.contains("istio_requests_total{reporter=\"other\""));
}
