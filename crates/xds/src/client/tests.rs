use super::*;
use crate::order::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use crate::server::Session;
use crate::testing::{World, strings, texts, thing};
use crate::wire::{Dialect, Names, Received, Request, Response};
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::service::discovery::v3 as discovery;
use std::time::Instant;

fn client(dialect: Dialect) -> Client {
    Client::new(dialect, Node { id: "sidecar~1".to_owned(), ..Default::default() }, Limits::default())
}

/// A client and a server session that talk through the wire messages, without IO.
struct Pair {
    dialect: Dialect,
    client: Client,
    session: Session,
    world: World,
    now: Instant,
    /// Contents that the consumer refuses.
    bad: Vec<String>,
    /// Requests that the server saw, in the form `type +name -name ack|nack`.
    heard: Vec<String>,
}

impl Pair {
    fn new(dialect: Dialect) -> Self {
        let mut world = World::default();
        for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE] {
            world.set(type_url, &[]);
        }
        let session = Session::new(dialect, crate::server::Limits::default());
        let (bad, heard) = (Vec::new(), Vec::new());
        Pair { dialect, client: client(dialect), session, world, now: Instant::now(), bad, heard }
    }

    fn want(&mut self, type_url: &str, names: &[&str]) {
        self.client.subscribe(Subscribe::to(type_url, names.iter().copied()), self.now);
    }

    fn reconnect(&mut self) {
        self.session = Session::new(self.dialect, crate::server::Limits::default());
        self.client.connected();
        self.heard.clear();
    }

    fn change(&mut self, type_url: &str, pairs: &[&str]) {
        self.world.set(type_url, pairs);
        self.session.on_change();
    }

    /// Through protobuf and back.
    fn carried(&self, request: Request) -> Request {
        match self.dialect {
            Dialect::Delta => discovery::DeltaDiscoveryRequest::from(request).into(),
            Dialect::StateOfTheWorld => discovery::DiscoveryRequest::from(request).into(),
        }
    }

    fn received(&self, response: Response) -> Received {
        match self.dialect {
            Dialect::Delta => discovery::DeltaDiscoveryResponse::from(response).into(),
            Dialect::StateOfTheWorld => discovery::DiscoveryResponse::from(response).into(),
        }
    }

    /// Talks until both are silent; the updates as `+name=content` and `-name`. The consumer asks for the endpoints of
    /// every cluster that it gets.
    fn settle(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut silent = true;
            while let Some(request) = self.client.next_request() {
                silent = false;
                let request = self.carried(request);
                self.heard.push(heard(&request));
                self.session.on_request(request, self.now).unwrap();
            }
            let world = &mut self.world;
            let mut fetch =
                |type_url: &str, wanted: crate::server::Wanted<'_>| world.answer(type_url, wanted);
            if let Some(response) = self.session.next_response(&mut fetch, self.now) {
                silent = false;
                let received = self.received(response);
                if let Some(update) = self.client.receive(received, self.now) {
                    lines.push(line(&update));
                    self.consume(update);
                }
            }
            if silent {
                return lines;
            }
        }
    }

    fn consume(&mut self, update: Update) {
        let rejected: Vec<String> = update
            .added
            .iter()
            .filter(|resource| self.bad.contains(&crate::testing::text(resource)))
            .map(|resource| resource.name.clone())
            .collect();
        let verdict = match rejected.is_empty() {
            true => Verdict::Ack,
            false => Verdict::Nack { detail: format!("{}: bad", rejected.join(", ")), rejected },
        };
        if update.type_url == CLUSTER {
            let names: Vec<String> = update.added.iter().map(|resource| resource.name.clone()).collect();
            self.client.subscribe(Subscribe::to(ENDPOINT, names), self.now);
            self.client.subscribe(Subscribe::from(ENDPOINT, update.removed.clone()), self.now);
        }
        self.client.answer(update, verdict, self.now);
    }
}

fn line(update: &Update) -> String {
    let mut line = crate::order::short_name(&update.type_url).to_owned();
    for added in texts(&update.added) {
        line.push_str(&format!(" +{added}"));
    }
    for removed in &update.removed {
        line.push_str(&format!(" -{removed}"));
    }
    line
}

fn heard(request: &Request) -> String {
    let mut line = crate::order::short_name(&request.type_url).to_owned();
    let (add, remove) = match &request.names {
        Names::Change { subscribe, unsubscribe } => (subscribe.clone(), unsubscribe.clone()),
        Names::Whole(names) => (names.clone(), Vec::new()),
    };
    add.iter().for_each(|name| line.push_str(&format!(" +{name}")));
    remove.iter().for_each(|name| line.push_str(&format!(" -{name}")));
    match (request.nonce.is_empty(), &request.refusal) {
        (true, _) => {}
        (false, None) => line.push_str(" ack"),
        (false, Some(reason)) => line.push_str(&format!(" nack {reason}")),
    }
    line
}

#[test]
fn the_node_goes_once_per_stream_and_dependencies_go_before_the_answer() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.world.set(CLUSTER, &["c=1"]).set(ENDPOINT, &["c=1"]).set(LISTENER, &["l=1"]);
    pair.want(LISTENER, &["*"]);
    pair.want(CLUSTER, &["*"]);
    let first = pair.client.next_request().unwrap();
    assert!(first.node.is_some() && first.type_url == CLUSTER);
    pair.session.on_request(first, pair.now).unwrap();
    assert!(pair.client.next_request().unwrap().node.is_none());
    pair.reconnect();
    assert_eq!(pair.settle(), ["cds +c=1", "eds +c=1", "lds +l=1"]);
    assert_eq!(pair.heard, ["cds", "lds", "eds +c", "cds ack", "eds ack", "lds ack"]);
}

#[test]
fn both_dialects_follow_changes_and_removals() {
    for dialect in [Dialect::Delta, Dialect::StateOfTheWorld] {
        let mut pair = Pair::new(dialect);
        pair.world.set(CLUSTER, &["a=1", "b=1"]).set(ENDPOINT, &["a=1", "b=1"]);
        pair.want(CLUSTER, &["*"]);
        assert_eq!(pair.settle(), ["cds +a=1 +b=1", "eds +a=1 +b=1"], "{dialect:?}");
        pair.change(ENDPOINT, &["b=2"]);
        assert_eq!(pair.settle(), ["eds +b=2"], "{dialect:?}");
        pair.change(CLUSTER, &["a"]);
        assert_eq!(pair.settle(), ["cds -a"], "{dialect:?}");
        pair.change(ENDPOINT, &["a=9", "b=3"]);
        assert_eq!(pair.settle(), ["eds +b=3"], "{dialect:?}");
        assert_eq!(pair.client.known(CLUSTER).unwrap().keys().collect::<Vec<_>>(), ["b"], "{dialect:?}");
    }
}

#[test]
fn a_reconnect_brings_only_what_changed() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.world.set(CLUSTER, &["a=1", "b=1", "c=1"]).set(ENDPOINT, &["a=1", "b=1", "c=1"]);
    pair.want(CLUSTER, &["*"]);
    pair.settle();
    pair.reconnect();
    assert!(pair.settle().is_empty());
    assert_eq!(pair.heard, ["cds", "eds +a +b +c"]);
    pair.world.set(CLUSTER, &["b=2", "c"]).set(ENDPOINT, &["a=2"]);
    pair.reconnect();
    assert_eq!(pair.settle(), ["cds +b=2 -c", "eds +a=2 +b=1"]);
}

/// Another process that takes up what the first one had.
fn restarted(pair: &mut Pair, types: &[&str]) {
    let mut second = client(pair.dialect);
    for type_url in types {
        second.resume(type_url, pair.client.known(type_url).cloned().unwrap_or_default());
    }
    pair.client = second;
    pair.reconnect();
}

#[test]
fn a_new_process_that_resumes_is_sent_nothing_that_did_not_change() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.change(CLUSTER, &["a=1", "b=1"]);
    pair.change(ENDPOINT, &["a=1", "b=1"]);
    pair.want(CLUSTER, &["*"]);
    assert_eq!(pair.settle().len(), 2);

    restarted(&mut pair, &[CLUSTER, ENDPOINT]);
    pair.want(CLUSTER, &["*"]);
    pair.want(ENDPOINT, &["a", "b"]);
    let lines = pair.settle();
    assert!(lines.iter().all(|line| !line.contains('+') && !line.contains('-')), "{lines:?}");
    assert_eq!(pair.client.deadline(), None, "it waits for an answer that a server need not give");

    pair.change(CLUSTER, &["a=2", "b"]);
    restarted(&mut pair, &[CLUSTER, ENDPOINT]);
    pair.want(CLUSTER, &["*"]);
    pair.want(ENDPOINT, &["a", "b"]);
    assert_eq!(pair.settle(), ["cds +a=2 -b", "eds +a=1"], "a changed cluster warms with its endpoints");

    // The negative twin: a process that knows nothing is sent everything.
    restarted(&mut pair, &[]);
    pair.want(CLUSTER, &["*"]);
    assert_eq!(pair.settle(), ["cds +a=2", "eds +a=1"]);
}

#[test]
fn state_of_the_world_reconnects_tell_what_differs_although_all_is_sent() {
    let mut pair = Pair::new(Dialect::StateOfTheWorld);
    pair.world.set(LISTENER, &["a=1", "b=1"]);
    pair.want(LISTENER, &["*"]);
    pair.settle();
    pair.world.set(LISTENER, &["a", "b=2"]);
    pair.reconnect();
    assert_eq!(pair.settle(), ["lds +b=2 -a"]);
}

#[test]
fn a_refused_update_leaves_the_previous_version_known() {
    for dialect in [Dialect::Delta, Dialect::StateOfTheWorld] {
        let mut pair = Pair::new(dialect);
        pair.world.set(ROUTE, &["r=1", "s=1"]);
        pair.want(ROUTE, &["r", "s"]);
        pair.settle();
        let before = pair.client.known(ROUTE).unwrap().clone();
        pair.bad = strings(&["r=2"]);
        pair.change(ROUTE, &["r=2", "s=2"]);
        assert_eq!(pair.settle(), ["rds +r=2 +s=2"]);
        assert!(pair.heard.last().unwrap().ends_with("nack r: bad"), "{:?}", pair.heard);
        let after = pair.client.known(ROUTE).unwrap();
        assert_eq!(after["r"], before["r"], "{dialect:?}");
        assert_ne!(after["s"], before["s"], "{dialect:?}");
        assert_eq!(pair.session.status(ROUTE).unwrap().nack.as_ref().unwrap().text, "r: bad");
        // The next stream tries again with what the client really has.
        pair.bad.clear();
        pair.reconnect();
        assert_eq!(pair.settle(), ["rds +r=2"], "{dialect:?}");
    }
}

#[test]
fn a_wholly_refused_update_changes_nothing() {
    let mut client = client(Dialect::Delta);
    let now = Instant::now();
    client.subscribe(Subscribe::to(ROUTE, ["r"]), now);
    client.next_request().unwrap();
    let received = Received {
        type_url: ROUTE.to_owned(),
        version: "1".to_owned(),
        nonce: "1".to_owned(),
        resources: vec![Ok(thing(ROUTE, "r", "1"))],
        removed: vec![],
    };
    let update = client.receive(received, now).unwrap();
    client.answer(update, Verdict::Nack { detail: "no".to_owned(), rejected: vec![] }, now);
    assert!(client.known(ROUTE).unwrap().is_empty());
    assert_eq!(client.next_request().unwrap().refusal.as_deref(), Some("no"));
}

#[test]
fn malformed_responses_are_refused_with_the_place() {
    let mut client = client(Dialect::Delta);
    client.subscribe(Subscribe::all(CLUSTER), Instant::now());
    client.next_request().unwrap();
    let receive = |resources: Vec<discovery::Resource>| {
        discovery::DeltaDiscoveryResponse {
            type_url: CLUSTER.to_owned(),
            nonce: "9".to_owned(),
            resources,
            ..Default::default()
        }
        .into()
    };
    let wire = |type_url: &str, name: &str| discovery::Resource {
        name: name.to_owned(),
        resource: Some(thing(type_url, name, "1").any),
        ..Default::default()
    };
    assert_eq!(client.receive(receive(vec![wire(CLUSTER, "a"), wire(CLUSTER, "a")]), Instant::now()), None);
    assert_eq!(
        client.next_request().unwrap().refusal.unwrap(),
        "resource \"a\" occurs twice in one response"
    );
    assert_eq!(client.receive(receive(vec![wire(ROUTE, "a")]), Instant::now()), None);
    // The second refusal in a row waits.
    client.expired(client.deadline().unwrap());
    assert!(client.next_request().unwrap().refusal.unwrap().contains("RouteConfiguration"));
}

#[test]
fn what_the_server_never_mentions_is_missing_after_the_limit() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.world.closed = true;
    pair.want(LISTENER, &["*"]);
    pair.want(ROUTE, &["r"]);
    pair.settle();
    let deadline = pair.client.deadline().unwrap();
    assert_eq!(deadline - pair.now, Limits::default().initial_fetch);
    assert!(pair.client.expired(pair.now).is_empty());
    let missing: Vec<String> =
        pair.client.expired(deadline).into_iter().map(|missing| missing.name).collect();
    assert_eq!((missing, pair.client.deadline()), (strings(&["*", "r"]), None));
    // It still counts when it comes late.
    pair.world.closed = false;
    pair.change(ROUTE, &["r=1"]);
    assert_eq!(pair.settle(), ["lds", "rds +r=1"]);
}

#[test]
fn what_the_server_says_does_not_exist_is_removed_and_not_missing() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.want(ROUTE, &["r"]);
    assert_eq!(pair.settle(), ["rds -r"]);
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn what_a_full_set_leaves_out_is_removed_at_once_and_not_waited_for() {
    let mut pair = Pair::new(Dialect::StateOfTheWorld);
    pair.world.set(LISTENER, &["a=1"]);
    pair.want(LISTENER, &["a", "b"]);
    assert_eq!(pair.settle(), ["lds +a=1 -b"]);
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn state_of_the_world_tells_the_version_that_was_accepted_last() {
    let mut client = client(Dialect::StateOfTheWorld);
    let now = Instant::now();
    client.subscribe(Subscribe::to(ROUTE, ["r"]), now);
    assert_eq!(client.next_request().unwrap().version, "");
    for (version, verdict, told) in [
        ("7", Verdict::Ack, "7"),
        ("8", Verdict::Nack { detail: "r: bad".to_owned(), rejected: strings(&["r"]) }, "7"),
        ("9", Verdict::Ack, "9"),
    ] {
        let response = discovery::DiscoveryResponse {
            version_info: version.to_owned(),
            type_url: ROUTE.to_owned(),
            nonce: format!("nonce {version}"),
            resources: vec![thing(ROUTE, "r", version).any],
            ..Default::default()
        };
        let update = client.receive(response.into(), now).unwrap();
        client.answer(update, verdict, now);
        let request = client.next_request().unwrap();
        assert_eq!((&*request.version, request.nonce), (told, format!("nonce {version}")));
    }
}

#[test]
fn subscriptions_change_at_any_time() {
    for dialect in [Dialect::Delta, Dialect::StateOfTheWorld] {
        let mut pair = Pair::new(dialect);
        pair.world.set(ROUTE, &["a=1", "b=1", "c=1"]);
        pair.want(ROUTE, &["a", "b"]);
        assert_eq!(pair.settle(), ["rds +a=1 +b=1"]);
        pair.client.subscribe(Subscribe::from(ROUTE, ["a"]), pair.now);
        pair.want(ROUTE, &["c"]);
        assert_eq!(pair.settle(), ["rds +c=1"], "{dialect:?}");
        pair.change(ROUTE, &["a=2", "b=2"]);
        assert_eq!(pair.settle(), ["rds +b=2"], "{dialect:?}");
        // Dropped and wanted again: it is not known any more, and comes again.
        pair.want(ROUTE, &["a"]);
        assert_eq!(pair.settle(), ["rds +a=2"], "{dialect:?}");
    }
}

#[test]
fn a_type_nobody_wants_any_more_is_left_alone() {
    let mut pair = Pair::new(Dialect::Delta);
    pair.world.set(CLUSTER, &["a=1"]);
    pair.want(CLUSTER, &["*"]);
    pair.settle();
    pair.client.subscribe(Subscribe::from(CLUSTER, ["*"]), pair.now);
    pair.change(CLUSTER, &["a=2"]);
    assert!(pair.settle().is_empty());
    pair.reconnect();
    pair.settle();
    assert!(!pair.heard.iter().any(|line| line.starts_with("cds")), "{:?}", pair.heard);
}

#[test]
fn a_server_that_sends_a_refused_version_again_and_again_is_slowed_down() {
    let now = Instant::now();
    let mut client = client(Dialect::StateOfTheWorld);
    client.subscribe(Subscribe::to(ROUTE, ["r"]), now);
    client.next_request().unwrap();
    let respond = |client: &mut Client, nonce: &str, now: Instant, refuse: bool| {
        let received = Received {
            type_url: ROUTE.to_owned(),
            version: "1".to_owned(),
            nonce: nonce.to_owned(),
            resources: vec![Ok(thing(ROUTE, "r", "bad"))],
            removed: vec![],
        };
        let update = client.receive(received, now).unwrap();
        let nack = Verdict::Nack { detail: "no".to_owned(), rejected: strings(&["r"]) };
        client.answer(update, if refuse { nack } else { Verdict::Ack }, now);
    };
    respond(&mut client, "1", now, true);
    assert_eq!(client.next_request().unwrap().nonce, "1", "the first refusal goes at once");
    respond(&mut client, "2", now, true);
    assert!(!client.has_request() && client.next_request().is_none());
    let first = client.deadline().unwrap();
    assert!(first > now);
    client.expired(first);
    assert_eq!(client.next_request().unwrap().refusal.as_deref(), Some("no"));
    respond(&mut client, "3", first, true);
    let second = client.deadline().unwrap();
    assert!(second - first > first - now, "ever slower");
    // A wish does not wait, nor does an acceptance.
    client.subscribe(Subscribe::to(ROUTE, ["s"]), first);
    assert_eq!(client.next_request().unwrap().nonce, "3");
    respond(&mut client, "4", first, true);
    respond(&mut client, "5", first, false);
    assert_eq!(
        (client.next_request().unwrap().nonce, client.next_request().unwrap().nonce),
        ("4".to_owned(), "5".to_owned())
    );
    respond(&mut client, "6", first, true);
    assert!(client.has_request(), "after an acceptance a refusal is the first again");
}
