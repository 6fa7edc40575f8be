use super::session::Violation;
use super::*;
use crate::order::{CLUSTER, ENDPOINT, LISTENER, ROUTE, short_name};
use crate::testing::{World, strings, texts};
use crate::wire::{Dialect, Names, Request, Response};
use std::collections::BTreeMap;
use std::time::Instant;

/// A session with the world behind it and a clock that stands still until told.
struct Bench {
    session: Session,
    world: World,
    now: Instant,
}

impl Bench {
    fn new(dialect: Dialect) -> Self {
        let mut world = World::default();
        for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE] {
            world.set(type_url, &[]);
        }
        Bench { session: Session::new(dialect, Limits::default()), world, now: Instant::now() }
    }

    fn ask(&mut self, type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) {
        let names = Names::Change { subscribe: strings(subscribe), unsubscribe: strings(unsubscribe) };
        self.request(Request::new(type_url, names));
    }

    fn whole(&mut self, type_url: &str, names: &[&str], nonce: &str) {
        let request = Request::new(type_url, Names::Whole(strings(names)));
        self.request(Request { nonce: nonce.to_owned(), ..request });
    }

    fn request(&mut self, request: Request) -> Reply {
        self.session.on_request(request, self.now).unwrap()
    }

    fn change(&mut self, type_url: &str, pairs: &[&str]) {
        self.world.set(type_url, pairs);
        self.session.on_change();
    }

    fn next(&mut self) -> Option<Response> {
        let world = &mut self.world;
        self.session.next_response(&mut |type_url, wanted| world.answer(type_url, wanted), self.now)
    }

    fn answer(&mut self, response: &Response, refusal: Option<&str>) -> Reply {
        let names = Names::Change { subscribe: vec![], unsubscribe: vec![] };
        self.request(Request {
            nonce: response.nonce.clone(),
            refusal: refusal.map(str::to_owned),
            ..Request::new(&response.type_url, names)
        })
    }

    /// Everything that can be sent, each acknowledged at once, as `type +added -removed`.
    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(response) = self.next() {
            lines.push(line(&response));
            self.answer(&response, None);
        }
        lines
    }
}

fn line(response: &Response) -> String {
    let mut line = short_name(&response.type_url).to_owned();
    for resource in texts(response.resources.iter().map(|resource| &**resource)) {
        line.push_str(&format!(" +{resource}"));
    }
    for name in &response.removed {
        line.push_str(&format!(" -{name}"));
    }
    line
}

#[test]
fn only_what_changed_is_pushed() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1", "b=1"]);
    bench.ask(CLUSTER, &[], &[]);
    assert_eq!(bench.drain(), ["cds +a=1 +b=1"]);
    bench.change(CLUSTER, &["b=2", "c=1", "a"]);
    assert_eq!(bench.drain(), ["cds +b=2 +c=1 -a"]);
    bench.session.on_change();
    assert!(bench.drain().is_empty());
}

#[test]
fn types_travel_in_order_whatever_the_order_of_questions() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["c=1"]).set(ENDPOINT, &["c=1"]).set(LISTENER, &["l=1"]).set(ROUTE, &["r=1"]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.ask(LISTENER, &[], &[]);
    bench.ask(ENDPOINT, &["c"], &[]);
    bench.ask(CLUSTER, &[], &[]);
    assert_eq!(bench.drain(), ["cds +c=1", "eds +c=1", "lds +l=1", "rds +r=1"]);
}

#[test]
fn while_one_response_is_in_flight_newer_states_become_one() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(ENDPOINT, &["a=1"]);
    bench.ask(ENDPOINT, &["a"], &[]);
    let first = bench.next().unwrap();
    for content in ["a=2", "a=3", "a=4"] {
        bench.change(ENDPOINT, &[content]);
        assert_eq!(bench.next(), None);
    }
    assert!(matches!(bench.answer(&first, None), Reply::Acked { .. }));
    assert_eq!(bench.drain(), ["eds +a=4"]);
}

#[test]
fn endpoints_never_wait_for_routes() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(ENDPOINT, &["a=1"]).set(ROUTE, &["r=1"]);
    bench.ask(ENDPOINT, &["a"], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.drain();
    bench.change(ROUTE, &["r=2"]);
    assert_eq!(line(&bench.next().unwrap()), "rds +r=2");
    bench.change(ENDPOINT, &["a=2"]);
    assert_eq!(line(&bench.next().unwrap()), "eds +a=2");
}

#[test]
fn routes_wait_until_new_clusters_and_their_endpoints_are_accepted() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1"]).set(ROUTE, &["r=a"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.drain();
    bench.world.set(CLUSTER, &["b=1"]).set(ENDPOINT, &["b=1"]);
    bench.change(ROUTE, &["r=b"]);
    let clusters = bench.next().unwrap();
    assert_eq!((line(&clusters).as_str(), bench.next()), ("cds +b=1", None));
    // A client asks for the endpoints of what it got before it acknowledges it.
    bench.ask(ENDPOINT, &["b"], &[]);
    let endpoints = bench.next().unwrap();
    bench.answer(&clusters, None);
    assert_eq!((line(&endpoints).as_str(), bench.next()), ("eds +b=1", None));
    bench.answer(&endpoints, None);
    assert!(!bench.session.is_settled());
    assert_eq!(bench.drain(), ["rds +r=b"]);
    assert!(bench.session.is_settled());
}

#[test]
fn routes_do_not_wait_for_ever() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1"]).set(ROUTE, &["r=a"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.next().unwrap();
    assert_eq!(bench.next(), None);
    let deadline = bench.session.deadline(bench.now).unwrap();
    assert_eq!(deadline - bench.now, Limits::default().make_before_break);
    bench.now = deadline;
    assert_eq!(line(&bench.next().unwrap()), "rds +r=a");
    assert_eq!(bench.session.deadline(bench.now), None);
}

#[test]
fn a_changed_cluster_does_not_hold_routes_back() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1"]).set(ROUTE, &["r=1"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.drain();
    bench.world.set(CLUSTER, &["a=2"]);
    bench.change(ROUTE, &["r=2"]);
    bench.next().unwrap();
    assert_eq!(line(&bench.next().unwrap()), "rds +r=2");
}

#[test]
fn clusters_go_after_the_routes_that_pointed_at_them() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1", "b=1"]).set(ROUTE, &["r=b"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    bench.drain();
    bench.world.set(ROUTE, &["r=a"]);
    bench.change(CLUSTER, &["b"]);
    let routes = bench.next().unwrap();
    assert_eq!((line(&routes).as_str(), bench.next()), ("rds +r=a", None));
    // Refused routes still point at the cluster: it stays.
    assert!(matches!(bench.answer(&routes, Some("no")), Reply::Nacked(_)));
    assert_eq!(bench.next(), None);
    bench.change(ROUTE, &["r=a2"]);
    assert_eq!(bench.drain(), ["rds +r=a2", "cds -b"]);
    // Without a change of routes it goes at once.
    bench.change(CLUSTER, &["a"]);
    assert_eq!(bench.drain(), ["cds -a"]);
}

#[test]
fn a_cluster_that_is_sent_again_brings_its_endpoints() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1", "b=1"]).set(ENDPOINT, &["a=1", "b=1"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ENDPOINT, &["a", "b"], &[]);
    bench.drain();
    bench.change(CLUSTER, &["a=2"]);
    assert_eq!(bench.drain(), ["cds +a=2", "eds +a=1"]);
}

#[test]
fn a_reconnect_brings_what_changed_and_removes_what_is_gone() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["same=1", "changed=2", "new=1"]);
    bench.world.set(ENDPOINT, &["same=1", "changed=1"]);
    let known = |type_url: &str, pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let version = |name: &str, content: &str| crate::testing::thing(type_url, name, content).version;
        pairs.iter().map(|(name, content)| ((*name).to_owned(), version(name, content))).collect()
    };
    let nothing = Names::Change { subscribe: vec![], unsubscribe: vec![] };
    let clusters = known(CLUSTER, &[("same", "1"), ("changed", "1"), ("gone", "1")]);
    bench.request(Request { known: clusters, ..Request::new(CLUSTER, nothing) });
    assert_eq!(bench.drain(), ["cds +changed=2 +new=1 -gone"]);
    // The endpoints of the cluster that came anew come too, those of the other one do not.
    let names = Names::Change { subscribe: strings(&["same", "changed"]), unsubscribe: vec![] };
    let endpoints = known(ENDPOINT, &[("same", "1"), ("changed", "1")]);
    bench.request(Request { known: endpoints, ..Request::new(ENDPOINT, names) });
    assert_eq!(bench.drain(), ["eds +changed=1"]);
}

#[test]
fn names_that_do_not_exist_are_told_once_and_again_when_they_appear() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(ROUTE, &["a=1"]);
    bench.ask(ROUTE, &["a", "b"], &[]);
    assert_eq!(bench.drain(), ["rds +a=1 -b"]);
    bench.session.on_change();
    assert!(bench.drain().is_empty());
    bench.change(ROUTE, &["b=1"]);
    assert_eq!(bench.drain(), ["rds +b=1"]);
    bench.ask(ROUTE, &["b", "c"], &[]);
    assert_eq!(bench.drain(), ["rds +b=1 -c"]);
}

#[test]
fn wildcard_and_names_together() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1", "b=1"]);
    bench.ask(CLUSTER, &["*", "b", "x"], &[]);
    assert_eq!(bench.drain(), ["cds +a=1 +b=1 -x"]);
    bench.ask(CLUSTER, &[], &["x", "b"]);
    assert_eq!(bench.drain(), ["cds +b=1 -x"]);
    bench.ask(CLUSTER, &["b"], &["*"]);
    assert_eq!(bench.drain(), ["cds +b=1"]);
    bench.change(CLUSTER, &["a=2", "b=2"]);
    assert_eq!(bench.drain(), ["cds +b=2"]);
    bench.ask(CLUSTER, &[], &["b"]);
    bench.change(CLUSTER, &["b=3"]);
    assert!(bench.drain().is_empty());
}

#[test]
fn a_nack_is_kept_and_not_answered_with_the_same() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(ROUTE, &["a=1"]);
    bench.ask(ROUTE, &["a"], &[]);
    let first = bench.next().unwrap();
    bench.answer(&first, None);
    bench.change(ROUTE, &["a=2"]);
    let second = bench.next().unwrap();
    assert!(matches!(bench.answer(&second, Some("a: bad regex")), Reply::Nacked(_)));
    assert!(bench.drain().is_empty());
    let status = bench.session.status(ROUTE).unwrap();
    let nack = status.nack.as_ref().unwrap();
    assert_eq!((nack.text.as_str(), nack.resources.as_slice()), ("a: bad regex", &["a".to_owned()][..]));
    assert_eq!((&status.acked, &status.sent), (&first.version, &second.version));
    bench.change(ROUTE, &["a=1"]);
    assert_eq!(bench.drain(), ["rds +a=1"]);
    let status = bench.session.status(ROUTE).unwrap();
    assert!(status.nack.is_none() && status.acked == first.version && status.nacks == 1);
}

#[test]
fn answers_to_old_responses_change_nothing() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(ROUTE, &["a=1"]);
    bench.ask(ROUTE, &["a"], &[]);
    let first = bench.next().unwrap();
    bench.answer(&first, None);
    bench.change(ROUTE, &["a=2"]);
    bench.next().unwrap();
    assert_eq!(bench.answer(&first, Some("late")), Reply::Stale);
    assert!(bench.session.status(ROUTE).unwrap().in_flight);
}

#[test]
fn a_source_that_is_not_ready_is_asked_again_and_never_taken_for_empty() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.drain();
    bench.world.closed = true;
    bench.change(CLUSTER, &["a", "b=1"]);
    assert_eq!(bench.next(), None);
    bench.world.closed = false;
    bench.session.on_change();
    assert_eq!(bench.drain(), ["cds +b=1 -a"]);
}

#[test]
fn an_unknown_type_gets_an_empty_answer() {
    for (dialect, names) in [
        (Dialect::Delta, Names::Change { subscribe: vec!["*".to_owned()], unsubscribe: vec![] }),
        (Dialect::StateOfTheWorld, Names::Whole(vec![])),
    ] {
        let mut bench = Bench::new(dialect);
        bench.request(Request::new("type.googleapis.com/a.B", names));
        let response = bench.next().unwrap();
        assert!(response.resources.is_empty() && response.removed.is_empty());
        assert_eq!(bench.next(), None);
    }
}

#[test]
fn state_of_the_world_clusters_are_a_full_set_and_routes_are_not() {
    let mut bench = Bench::new(Dialect::StateOfTheWorld);
    bench.world.set(CLUSTER, &["a=1", "b=1"]).set(ROUTE, &["r=1", "s=1"]);
    bench.whole(CLUSTER, &[], "");
    bench.whole(ROUTE, &["r", "s"], "");
    let clusters = bench.next().unwrap();
    bench.whole(CLUSTER, &[], &clusters.nonce);
    let routes = bench.next().unwrap();
    bench.whole(ROUTE, &["r", "s"], &routes.nonce);
    assert_eq!((line(&clusters), line(&routes)), ("cds +a=1 +b=1".into(), "rds +r=1 +s=1".into()));
    // The new set keeps what still stands in routes that are not yet replaced.
    bench.world.set(CLUSTER, &["a", "c=1"]);
    bench.change(ROUTE, &["r=2"]);
    let clusters = bench.next().unwrap();
    assert_eq!((line(&clusters).as_str(), bench.next()), ("cds +a=1 +b=1 +c=1", None));
    bench.whole(CLUSTER, &[], &clusters.nonce);
    let routes = bench.next().unwrap();
    assert_eq!((line(&routes).as_str(), bench.next()), ("rds +r=2", None));
    bench.whole(ROUTE, &["r", "s"], &routes.nonce);
    assert_eq!(line(&bench.next().unwrap()), "cds +b=1 +c=1");
    assert_ne!(clusters.version, bench.session.status(CLUSTER).unwrap().sent);
}

#[test]
fn endpoints_of_a_cluster_that_goes_stay_until_no_route_points_at_it() {
    let mut bench = Bench::new(Dialect::Delta);
    bench.world.set(CLUSTER, &["a=1", "b=1"]).set(ENDPOINT, &["a=1", "b=1"]).set(ROUTE, &["r=to-b"]);
    bench.ask(CLUSTER, &[], &[]);
    bench.ask(ENDPOINT, &["a", "b"], &[]);
    bench.ask(ROUTE, &["r"], &[]);
    assert_eq!(bench.drain(), ["cds +a=1 +b=1", "eds +a=1 +b=1", "rds +r=to-b"]);
    bench.world.set(CLUSTER, &["b"]).set(ENDPOINT, &["a=2", "b"]);
    bench.change(ROUTE, &["r=to-a"]);
    // What is new of the endpoints waits for nothing; what is gone waits for the route.
    assert_eq!(bench.drain(), ["eds +a=2", "rds +r=to-a", "cds -b", "eds -b"]);
    assert!(bench.session.is_settled());
    // The twin: while no route changes nothing is held.
    bench.change(ENDPOINT, &["a"]);
    assert_eq!(bench.drain(), ["eds -a"]);
}

#[test]
fn state_of_the_world_ignores_stale_nonces() {
    let mut bench = Bench::new(Dialect::StateOfTheWorld);
    bench.world.set(ROUTE, &["r=1", "s=1"]);
    bench.whole(ROUTE, &["r"], "");
    let first = bench.next().unwrap();
    bench.whole(ROUTE, &["r", "s"], "");
    assert!(bench.session.status(ROUTE).unwrap().in_flight);
    bench.whole(ROUTE, &["r", "s"], &first.nonce);
    assert_eq!(line(&bench.next().unwrap()), "rds +s=1");
}

#[test]
fn everything_is_bounded() {
    let limits = Limits { names: 3, types: 2, id_bytes: 100, ..Limits::default() };
    let session = || Session::new(Dialect::Delta, limits);
    let ask = |type_url: &str, names: &[&str]| {
        Request::new(type_url, Names::Change { subscribe: strings(names), unsubscribe: vec![] })
    };
    let refused = |session: &mut Session, request: Request| {
        session.on_request(request, Instant::now()).unwrap_err().to_string()
    };
    assert!(
        refused(&mut session(), ask(ROUTE, &["a", "b", "c", "d"])).contains("4 is more than the limit of 3")
    );
    let mut slow = session();
    slow.on_request(ask(ROUTE, &["a", "b"]), Instant::now()).unwrap();
    assert!(refused(&mut slow, ask(ROUTE, &["c", "d"])).contains("RouteConfiguration: 4"));
    let known: BTreeMap<String, String> = (0..4).map(|n| (n.to_string(), String::new())).collect();
    assert!(
        refused(&mut session(), Request { known, ..ask(ROUTE, &[]) }).contains("initial_resource_versions")
    );
    let mut wide = session();
    wide.on_request(ask("a", &[]), Instant::now()).unwrap();
    wide.on_request(ask("b", &[]), Instant::now()).unwrap();
    assert!(refused(&mut wide, ask("c", &[])).contains("types"));
    assert!(refused(&mut session(), ask(&"x".repeat(101), &[])).contains("101"));
    session().on_request(ask(ROUTE, &[&"x".repeat(100)]), Instant::now()).unwrap();
    let long = "x".repeat(101);
    assert!(refused(&mut session(), ask(ROUTE, &[&long])).contains("bytes of a resource name: 101"));
    let known = BTreeMap::from([("a".to_owned(), long)]);
    assert!(
        refused(&mut session(), Request { known, ..ask(ROUTE, &[]) }).contains("bytes of a version: 101")
    );
    assert_eq!(session().on_request(ask("", &[]), Instant::now()), Err(Violation::NoType));
    let mut talker = Bench::new(Dialect::Delta);
    talker.world.set(ROUTE, &["a=1"]);
    talker.ask(ROUTE, &["a"], &[]);
    let response = talker.next().unwrap();
    let Reply::Nacked(nack) = talker.answer(&response, Some(&"ä".repeat(4000))) else {
        panic!("not a nack")
    };
    assert_eq!(nack.text.len(), 4096);
}
