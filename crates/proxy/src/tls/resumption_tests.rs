//! Which sessions are resumed, and whose clock decides: pairs of TLS ends in memory, each with a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base::Clock;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::testing::{Authority, Issued, Leaf};
use super::tests::{CLIENT, SERVER, client_options, server_options};
use super::*;

/// A clock that a test sets.
struct TestClock(AtomicU64);

impl TestClock {
    fn new() -> Arc<TestClock> {
        Arc::new(TestClock(AtomicU64::new(error::unix(SystemTime::now()))))
    }

    fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn back(&self, seconds: u64) {
        self.0.fetch_sub(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// One workload: its secrets and its clock.
struct Workload {
    secrets: Arc<Secrets>,
    clock: Arc<TestClock>,
}

impl Workload {
    fn new(issued: &Issued, roots: &[&Authority]) -> Workload {
        let clock = TestClock::new();
        let workload = Workload { secrets: Secrets::with_clock(clock.clone()), clock };
        workload.install(issued, roots);
        workload
    }

    fn install(&self, issued: &Issued, roots: &[&Authority]) {
        let key = pem::private_key("test", issued.key_pem.as_bytes()).unwrap();
        let chain = vec![issued.chain[0].clone()];
        let key = pem::certified_key(self.secrets.provider(), "test", chain, key).unwrap();
        let roots = roots.iter().map(|root| root.certificate.clone()).collect();
        self.secrets.install(key, roots, self.clock.now()).unwrap();
    }
}

struct Pair {
    ca: Authority,
    server: Workload,
    client: Workload,
    listener: ServerTls,
    caller: ClientTls,
}

impl Pair {
    fn new(client_leaf: Leaf) -> Pair {
        let ca = Authority::new("root");
        let server = Workload::new(&ca.issue(Leaf::new(&[SERVER])), &[&ca]);
        let client = Workload::new(&ca.issue(client_leaf), &[&ca]);
        let listener = ServerTls::new(&server_options(), &server.secrets).unwrap();
        let caller = ClientTls::new(&client_options(SERVER), &client.secrets).unwrap();
        Pair { ca, server, client, listener, caller }
    }

    /// One connection with a byte each way: how the server shook hands, or why each side did not.
    async fn meet(&self) -> Result<HandshakeKind, (HandshakeError, Option<HandshakeError>)> {
        meet(&self.listener, &self.caller).await
    }
}

async fn meet(
    listener: &ServerTls,
    caller: &ClientTls,
) -> Result<HandshakeKind, (HandshakeError, Option<HandshakeError>)> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let limit = Some(Duration::from_secs(10));
    let serve = async {
        let (mut stream, _) = listener.accept(far, "client", limit).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        stream.write_all(&byte).await.unwrap();
        stream.flush().await.unwrap();
        Ok(stream.get_ref().1.handshake_kind().unwrap())
    };
    let call = async {
        let (mut stream, _) = caller.connect(near, "server", limit).await?;
        let _ = stream.write_all(b"x").await;
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(_) => Ok(()),
            Err(error) => Err(HandshakeError::from_io("server", Side::Upstream, &error, None)),
        }
    };
    let (served, called): (Result<HandshakeKind, HandshakeError>, Result<(), HandshakeError>) =
        tokio::join!(serve, call);
    match (served, called) {
        (Ok(kind), Ok(())) => Ok(kind),
        (Err(server), client) => Err((server, client.err())),
        (Ok(_), Err(client)) => Err((client, None)),
    }
}

#[tokio::test]
async fn a_second_connection_resumes_and_that_is_what_the_other_tests_forbid() {
    let pair = Pair::new(Leaf::new(&[CLIENT]));
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Full);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
}

#[tokio::test]
async fn another_trust_bundle_means_a_full_handshake_that_verifies_anew() {
    let pair = Pair::new(Leaf::new(&[CLIENT]));
    let other = Authority::new("other");
    pair.meet().await.unwrap();
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    // The bundle grows: the client is still trusted, and is verified again.
    let own = pair.ca.issue(Leaf::new(&[SERVER]));
    pair.server.install(&own, &[&pair.ca, &other]);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Full);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    // The client's root leaves the bundle: the ticket that it holds is worth nothing.
    pair.server.install(&own, &[&other]);
    let (server, _) = pair.meet().await.unwrap_err();
    assert!(server.reason.contains("not signed by a root that is trusted here"), "{server}");
}

#[tokio::test]
async fn another_own_identity_or_another_context_does_not_resume() {
    let pair = Pair::new(Leaf::new(&[CLIENT]));
    pair.meet().await.unwrap();
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    let renewed = pair.ca.issue(Leaf::new(&["spiffe://cluster.local/ns/production/sa/ledger"]));
    pair.client.install(&renewed, &[&pair.ca]);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Full, "the client is somebody else now");
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    pair.server.install(&pair.ca.issue(Leaf::new(&[SERVER])), &[&pair.ca]);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Full, "the server shows another leaf");
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    let stricter = ServerTls::new(&server_options(), &pair.server.secrets).unwrap();
    assert_eq!(meet(&stricter, &pair.caller).await.unwrap(), HandshakeKind::Full, "another context");
}

#[tokio::test]
async fn a_session_ends_with_the_certificate_behind_it() {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let pair = Pair::new(Leaf::new(&[CLIENT]).valid(now - hour, now + hour));
    pair.meet().await.unwrap();
    pair.server.clock.forward(3500);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Resumed);
    pair.server.clock.forward(200);
    let (server, _) = pair.meet().await.unwrap_err();
    assert!(server.reason.starts_with("the peer's certificate expired at"), "a full handshake: {server}");
    pair.client.install(&pair.ca.issue(Leaf::new(&[CLIENT])), &[&pair.ca]);
    assert_eq!(pair.meet().await.unwrap(), HandshakeKind::Full);
}

#[tokio::test]
async fn ten_minutes_of_skew_work_and_more_names_both_clocks() {
    let now = SystemTime::now();
    let (backdate, day) = (Duration::from_secs(900), Duration::from_secs(86_400));
    let leaf = || Leaf::new(&[CLIENT]).valid(now - backdate, now + day);
    for (back, forward) in [(600, 0), (0, 600)] {
        let pair = Pair::new(leaf());
        pair.server.clock.back(back);
        pair.server.clock.forward(forward);
        pair.meet().await.unwrap();
    }
    let pair = Pair::new(leaf());
    pair.server.clock.back(1000);
    let (server, client) = pair.meet().await.unwrap_err();
    let ours = clock_text(error::unix(pair.server.clock.now()));
    let start = clock_text(error::unix(now - backdate));
    for part in ["TLS handshake with client", "valid from", &start, &ours, "correct the clock that is wrong"]
    {
        assert!(server.to_string().contains(part), "{server} does not say {part}");
    }
    assert_eq!(server.blame, base::Blame::Downstream);
    assert!(client.unwrap().reason.contains("by the peer's clock"));
}

#[tokio::test]
async fn an_expired_certificate_names_whose_on_both_sides() {
    let pair = Pair::new(Leaf::new(&[CLIENT]));
    pair.client.clock.forward(3 * 86_400);
    let (server, client) = pair.meet().await.unwrap_err();
    let ours = clock_text(error::unix(pair.server.clock.now()));
    assert!(server.reason.contains("this side's certificate is valid from"), "{server}");
    assert!(server.reason.contains(&ours), "{server}");
    let theirs = clock_text(error::unix(pair.client.clock.now()));
    let client = client.unwrap();
    assert!(client.reason.contains("the peer's certificate expired at") && client.reason.contains(&theirs));
    assert_eq!(client.blame, base::Blame::Upstream);
}

#[tokio::test]
async fn a_renewal_changes_new_handshakes_only_and_open_connections_go_on() {
    let pair = Pair::new(Leaf::new(&[CLIENT]));
    let (near, far) = tokio::io::duplex(1 << 16);
    let (accepted, connected) =
        tokio::join!(pair.listener.accept(far, "client", None), pair.caller.connect(near, "server", None));
    let ((mut served, _), (mut open, before)) = (accepted.unwrap(), connected.unwrap());
    let renewed = pair.ca.issue(Leaf::new(&[SERVER]));
    pair.server.install(&renewed, &[&pair.ca]);
    let (near, far) = tokio::io::duplex(1 << 16);
    let (accepted, connected) =
        tokio::join!(pair.listener.accept(far, "client", None), pair.caller.connect(near, "server", None));
    let ((_served, _), (_open, after)) = (accepted.unwrap(), connected.unwrap());
    let serial = |session: &Session| session.peer.as_ref().unwrap().serial.clone();
    assert_ne!(serial(&before), serial(&after), "the new connection shows the new leaf");
    assert_eq!(serial(&after), Peer::parse(&renewed.chain[0]).unwrap().serial);
    for round in 0..3_u8 {
        open.write_all(&[round]).await.unwrap();
        let mut byte = [0];
        served.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, [round], "the old connection broke");
    }
}
