//! Programs that close idle connections without a word, just when the next requests are due: no idempotent request is
//! lost, and no POST once the limit is known.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::Plan;
use tests::load::client::{Client, read_answer};
use tests::{get, until};

/// Connections that become idle together.
const CALLERS: u64 = 6;
/// Rounds after which the limit must be known: each worker has seen a close.
const LEARNT: u64 = 3;
/// How far from the close the requests come, in milliseconds: before, at and after it.
const OFFSETS: [i64; 8] = [-40, -15, -5, -1, 0, 2, 8, 25];

struct Service {
    name: &'static str,
    host: u8,
    seconds: u64,
}

const SERVICES: [Service; 3] = [
    Service { name: "one", host: 31, seconds: 1 },
    Service { name: "five", host: 35, seconds: 5 },
    Service { name: "thirty", host: 39, seconds: 30 },
];

/// Sends in rounds; what failed, and how many were sent.
fn rounds(plan: &Plan, service: &Service, caller: u64, until: Instant) -> (u64, Vec<String>) {
    let (mut client, mut sent, mut failed) = (Client::new(plan), 0, Vec::new());
    for round in 0.. {
        // GETs teach; then every caller takes its turn with POSTs.
        let method = if round > LEARNT && (round + caller).is_multiple_of(2) { "POST" } else { "GET" };
        let id = format!("{}{}-{round}-{caller}", &method[..1], service.name);
        let answer = client.send(method, &id);
        sent += 1;
        if answer.status != 200 {
            failed.push(format!("round {round}: {method} {} {}", answer.status, answer.detail));
        }
        let offset = OFFSETS[usize::try_from(round).unwrap() % OFFSETS.len()];
        let pause = Duration::from_secs(service.seconds).saturating_add_signed(offset);
        if Instant::now() + pause > until {
            break;
        }
        std::thread::sleep(pause);
    }
    (sent, failed)
}

trait Around {
    fn saturating_add_signed(self, milliseconds: i64) -> Duration;
}

impl Around for Duration {
    fn saturating_add_signed(self, milliseconds: i64) -> Duration {
        let far = Duration::from_millis(milliseconds.unsigned_abs());
        if milliseconds < 0 { self.saturating_sub(far) } else { self + far }
    }
}

#[test]
fn programs_that_close_idle_connections_cost_no_request() {
    let wanted: &[Service] = either(&SERVICES[..1], &SERVICES);
    let instances: Vec<Instance> = wanted.iter().map(|it| Instance::new(it.name, it.host)).collect();
    let mut mesh = Mesh::control(62, &instances, "", "");
    let caller = mesh.instances("caller")[0].clone();
    mesh.start_program(&caller);
    mesh.start_sidecar(&caller);
    for (service, instance) in wanted.iter().zip(&instances) {
        mesh.echo_words = ["--idle-close".to_owned(), service.seconds.to_string()].to_vec();
        mesh.start_program(instance);
        mesh.start_sidecar(instance);
    }
    instances.iter().chain([&caller]).for_each(|instance| mesh.ready(instance));
    let plans: Vec<Plan> = wanted
        .iter()
        .map(|it| Plan { per_connection: u32::MAX, ..Plan::new(mesh.service(it.name), it.name, 1) })
        .collect();
    for plan in &plans {
        until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    }
    let end = Instant::now() + Duration::from_secs(either(15, 245));
    let results: Vec<Vec<(u64, Vec<String>)>> = std::thread::scope(|scope| {
        let start = |(service, plan)| {
            let caller = move |number| scope.spawn(move || rounds(plan, service, number, end));
            (0..CALLERS).map(caller).collect::<Vec<_>>()
        };
        let running: Vec<_> = wanted.iter().zip(&plans).map(start).collect();
        running.into_iter().map(|all| all.into_iter().map(|it| it.join().unwrap()).collect()).collect()
    });
    for (service, results) in wanted.iter().zip(&results) {
        let failed: Vec<_> = results.iter().flat_map(|(_, failed)| failed).collect();
        let sent: u64 = results.iter().map(|(sent, _)| sent).sum();
        let name = format!("idle connections closed after {} s", service.seconds);
        let rounds = sent / CALLERS;
        measured(&name, &json!({"requests": sent, "rounds": rounds, "failed": failed.len()}));
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(rounds > LEARNT + 1, "{name}: only {rounds} rounds");
    }
    // The control: the programs do close.
    let mut idle = BufReader::new(TcpStream::connect(mesh.program(&instances[0])).unwrap());
    idle.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    idle.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: one\r\n\r\n").unwrap();
    read_answer(&mut idle).unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
}
