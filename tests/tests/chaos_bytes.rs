//! Large bodies through two sidecars and mutual TLS, up and down, over HTTP/1 and HTTP/2: memory stays flat.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;
use tests::chaos::bytes::{down, down_http2, up, up_http2};
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::{get, until};

/// Most that a sidecar may grow while it passes bytes on.
const ROOM: u64 = 24 << 20;

type Transfer = fn(SocketAddr, &str, u64, &mut dyn FnMut());

fn sizes(mesh: &Mesh, service: &str) -> [u64; 2] {
    let served = mesh.instances(service)[0].name();
    ["caller-9", &served].map(|name| mesh.processes[name].resident())
}

#[test]
fn bytes_flow_both_ways_with_flat_memory() {
    let mesh =
        Mesh::start(70, &[Instance::new("narrow", 31), Instance::new("wide", 41).speaking("http2")], "", "");
    for (name, service, transfer, size) in [
        ("20 GB down, HTTP/1", "narrow", down as Transfer, either(512 << 20, 20_000_000_000)),
        ("20 GB up, HTTP/1", "narrow", up, either(512 << 20, 20_000_000_000)),
        ("20 GB down, HTTP/2", "wide", down_http2, either(128 << 20, 20_000_000_000)),
        ("20 GB up, HTTP/2", "wide", up_http2, either(128 << 20, 20_000_000_000)),
    ] {
        let address = mesh.service(service);
        until("the service answers", || get(address, "/").filter(|answer| answer.contains(" 200 ")));
        // A little first, so that what is allocated once does not count.
        transfer(address, service, 16 << 20, &mut || ());
        let before = sizes(&mesh, service);
        let (mut series, started) = (vec![before], Instant::now());
        transfer(address, service, size, &mut || series.push(sizes(&mesh, service)));
        let seconds = started.elapsed().as_secs_f64();
        let peak = [0, 1].map(|side| series.iter().map(|sizes| sizes[side]).max().unwrap());
        let grown = [0, 1].map(|side| peak[side].saturating_sub(before[side]));
        let kilobytes: Vec<[u64; 2]> = series.iter().map(|sizes| sizes.map(|bytes| bytes / 1024)).collect();
        measured(
            name,
            &json!({"bytes": size, "seconds": seconds.round(), "megabytes_per_second": (size as f64 / seconds / 1e6).round(),
                "resident_before_bytes": before, "resident_peak_bytes": peak, "grown_bytes": grown,
                "resident_kB_series": kilobytes}),
        );
        assert!(grown.iter().all(|grown| *grown < ROOM), "{name}: the sidecars grew by {grown:?} bytes");
    }
}
