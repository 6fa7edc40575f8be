//! Runs a case with one proxy and writes down everything that is compared.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::bootstrap::{Place, bootstrap};
use super::case::Case;
use super::client;
use super::proxy::{Kind, Proxy};
use super::tls::Certificates;
use super::upstream::Running;

/// A loopback address that no other case of this process uses: its free ports cannot be taken meanwhile.
fn own_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let [_, _, high, low] = number.to_be_bytes();
    let process = u8::try_from(std::process::id() % 64).unwrap_or_default();
    IpAddr::V4(Ipv4Addr::new(127, 160 + process, high, low.max(1)))
}

/// Two ports of that address on which nobody listens.
fn free(ip: IpAddr) -> (SocketAddr, SocketAddr) {
    let held = [TcpListener::bind((ip, 0)).unwrap(), TcpListener::bind((ip, 0)).unwrap()];
    (held[0].local_addr().unwrap(), held[1].local_addr().unwrap())
}

/// Runs the case. `expected_lines` is how long the access log should become.
///
/// # Errors
/// The proxy did not start, crashed or did not stop; with what it printed.
pub fn observe(case: &Case, kind: &Kind, expected_lines: Option<usize>) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    let access_log = folder.path().join("access.log");
    let ip = own_address();
    let certificates = case.speaks_tls().then(Certificates::new);
    let running: Vec<(String, Running)> = case
        .upstreams
        .iter()
        .map(|(name, script)| {
            let identity = script.identity.as_deref().zip(certificates.as_ref());
            let tls = identity.map(|(identity, certificates)| certificates.server(identity, &script.alpn));
            (name.clone(), Running::start(name, script, ip, tls))
        })
        .collect();
    let upstreams: Vec<(String, SocketAddr)> =
        running.iter().map(|(name, upstream)| (name.clone(), upstream.address)).collect();
    let (listener, admin) = free(ip);
    let place = Place {
        listener,
        admin,
        access_log: &access_log,
        certificates: certificates.as_ref(),
        folder: folder.path(),
        upstreams: &upstreams,
    };
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap(case, &place).to_string()).unwrap();
    let mut proxy = Proxy::start(kind, &file, place.admin)?;
    let mut seen = Map::new();
    seen.insert("steps".to_owned(), json!(client::play(case, &place)));
    if let Some(distribution) = &case.distribution {
        seen.insert("picks".to_owned(), client::count(distribution, place.listener));
    }
    settle(&proxy, &access_log, expected_lines);
    if !case.stats.is_empty() {
        seen.insert("stats".to_owned(), proxy.stats(&case.stats));
    }
    proxy.stop()?;
    let received: Map<String, Value> =
        running.into_iter().map(|(name, upstream)| (name, upstream.finish())).collect();
    let received = masked_forwarded_for(case, json!(received));
    if case.distribution.is_none() {
        let mut received = received;
        let mut log = lines(&access_log);
        if case.unordered {
            log.sort_by_key(Value::to_string);
            for records in received.as_object_mut().into_iter().flat_map(|upstreams| upstreams.values_mut()) {
                without_order(records);
            }
        }
        seen.insert("upstreams".to_owned(), received);
        seen.insert("log".to_owned(), json!(log));
    }
    let mut text = Value::Object(seen).to_string();
    for (name, address) in upstreams
        .iter()
        .map(|(name, address)| (name.as_str(), address))
        .chain([("listener", &place.listener)])
    {
        text = text.replace(&address.to_string(), &format!("<{name}>"));
    }
    text = text.replace(&ip.to_string(), "<address>");
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Sorts what an upstream received; which connection carried what depends on the order as well.
fn without_order(records: &mut Value) {
    let Some(records) = records.as_array_mut() else { return };
    for record in records.iter_mut() {
        record.as_object_mut().map(|record| record.remove("connection"));
    }
    records.sort_by_key(Value::to_string);
}

/// Replaces addresses in `x-forwarded-for` that the client did not write: instead of a loopback address Envoy writes one
/// of the host's others, which differs from machine to machine.
fn masked_forwarded_for(case: &Case, mut received: Value) -> Value {
    let sent: String = case.steps.iter().map(|step| super::text::text(&step.full().bytes())).collect();
    let heads = received.as_object_mut().into_iter().flat_map(|upstreams| upstreams.values_mut());
    for record in heads.filter_map(Value::as_array_mut).flatten() {
        for line in record["head"].as_array_mut().into_iter().flatten() {
            if let Some(value) = line.as_str().and_then(|line| line.strip_prefix("x-forwarded-for: ")) {
                let known = |address: &str| sent.contains(address);
                let shown = value.split(',').map(|address| if known(address) { address } else { "<client>" });
                *line = json!(format!("x-forwarded-for: {}", shown.collect::<Vec<_>>().join(",")));
            }
        }
    }
    received
}

/// Waits until nothing is in flight and the log is written.
fn settle(proxy: &Proxy, access_log: &Path, expected_lines: Option<usize>) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let idle = proxy.idle().unwrap_or(true);
        if idle && expected_lines.is_none_or(|count| lines(access_log).len() >= count) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The access log, each line as an object.
fn lines(file: &Path) -> Vec<Value> {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let line = |line: &str| {
        if let Some(object) = serde_json::from_str(line).ok().filter(Value::is_object) {
            return object;
        }
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        Value::Object(
            pairs.map(|(name, value)| (name.to_owned(), json!(super::text::brief(value)))).collect(),
        )
    };
    text.lines().map(line).collect()
}
