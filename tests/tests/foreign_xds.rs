//! `tulle-proxy` under a control plane that is not ours: `tests/foreign`, on Envoy's Go library, over both dialects.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "foreign/mesh.rs"]
mod mesh;
#[path = "foreign/server.rs"]
mod server;
#[path = "foreign/world.rs"]
mod world;

use std::time::Instant;

use mesh::{Mesh, Traffic};
use server::Dialect;
use tests::{get, until};
use world::World;

const BOTH: [Dialect; 2] = [Dialect::StateOfTheWorld, Dialect::Delta];

/// Makes one resource of a world unusable.
type Spoil = fn(&mut World);

/// The mesh of each dialect, ready; none without Go.
fn meshes() -> Vec<Mesh> {
    let Some(program) = server::build() else { return Vec::new() };
    BOTH.into_iter().map(|dialect| Mesh::start(&program, dialect)).collect()
}

#[test]
fn first_configuration_and_updates_reach_traffic_and_no_request_fails() {
    for mut mesh in meshes() {
        mesh.until_all("A");
        let first = &mesh.server.requests()[0];
        assert_eq!((first.node.as_deref(), &first.dialect), (Some("foreign-1"), &mesh.dialect.to_string()));

        let traffic = Traffic::start(mesh.front);
        mesh.set(|world| world.weights = (0, 100));
        mesh.until_all("B");
        mesh.set(|world| world.weights = (50, 50));
        mesh.until_both();
        let moved = mesh.c;
        mesh.set(|world| {
            world.weights = (0, 100);
            world.b_at = moved;
        });
        mesh.until_all("C");
        // Another listener and cluster beside the running ones.
        mesh.set(|world| world.second = true);
        until("the new listener serves", || get(mesh.second, "/").filter(|answer| answer.ends_with('A')));
        let (answered, failures) = traffic.stop();
        assert!(failures.is_empty(), "{}: {failures:?} beside {answered} answers", mesh.dialect);
        assert!(answered > 100, "{}: only {answered} requests", mesh.dialect);
        assert_eq!(mesh.server.refusals(), Vec::<String>::new(), "{}", mesh.dialect);
    }
}

#[test]
fn what_the_server_removes_is_gone_and_comes_back() {
    for mut mesh in meshes() {
        mesh.set(|world| world.second = true);
        until("the second listener serves", || get(mesh.second, "/").filter(|answer| answer.ends_with('A')));
        mesh.until_clusters(|clusters| clusters.contains("extra::"));
        let traffic = Traffic::start(mesh.front);
        mesh.set(|world| world.second = false);
        mesh.until_second_is_closed();
        mesh.until_clusters(|clusters| !clusters.contains("extra::"));
        let (answered, failures) = traffic.stop();
        assert!(failures.is_empty(), "{}: {failures:?} beside {answered} answers", mesh.dialect);
        mesh.set(|world| world.second = true);
        until("the listener serves again", || get(mesh.second, "/").filter(|answer| answer.ends_with('A')));

        // A cluster that a route still names.
        mesh.set(|world| world.without_a = true);
        until("there is no cluster to send to", || {
            get(mesh.front, "/").filter(|answer| answer.starts_with("HTTP/1.1 503"))
        });
        mesh.set(|world| world.without_a = false);
        mesh.until_all("A");
        assert_eq!(mesh.server.refusals(), Vec::<String>::new(), "{}", mesh.dialect);
    }
}

#[test]
fn a_broken_resource_is_refused_by_name_and_the_last_good_one_serves() {
    let breaks: [(Spoil, [&str; 3]); 3] = [
        (
            |world| world.filter = Some("envoy.extensions.filters.http.cors.v3.Cors"),
            ["front: ", "http_filters[0]", "Cors"],
        ),
        (|world| world.policy = "MAGLEV", ["a: ", "lb_policy", "MAGLEV"]),
        (
            |world| world.pattern = Some("(("),
            ["front: ", "virtual_hosts[0].routes[0].match.safe_regex", "(("],
        ),
    ];
    for mut mesh in meshes() {
        mesh.until_all("A");
        let traffic = Traffic::start(mesh.front);
        for (spoil, words) in breaks {
            let good = mesh.world.clone();
            let before = mesh.server.refusals().len();
            let spoiled = Instant::now();
            mesh.set(spoil);
            let refusal =
                until("the server hears of the refusal", || mesh.server.refusals().get(before).cloned());
            assert!(
                words.iter().all(|word| refusal.contains(word)),
                "{}: {words:?} in {refusal}",
                mesh.dialect
            );
            mesh.proxy.says(&words);
            mesh.until_all("A");
            // Good again, with a change that shows that the next version is taken.
            mesh.set(|world| *world = World { weights: (0, 100), ..good.clone() });
            mesh.until_all("B");
            // This server answers a refusal with the refused version, at once.
            let told = |refusal: &&String| words.iter().all(|word| refusal.contains(word));
            let heard = mesh.server.refusals().iter().skip(before).filter(told).count();
            let most = 2 + usize::try_from(spoiled.elapsed().as_secs()).unwrap();
            assert!(heard <= most, "{}: {heard} refusals of one resource, not {most}", mesh.dialect);
            mesh.set(|world| *world = good);
            mesh.until_all("A");
        }
        let (answered, failures) = traffic.stop();
        assert!(failures.is_empty(), "{}: {failures:?} beside {answered} answers", mesh.dialect);
    }
}

#[test]
fn a_lost_server_stops_nothing_and_its_return_brings_only_changes() {
    for mut mesh in meshes() {
        mesh.set(|world| world.second = true);
        until("the second listener serves", || get(mesh.second, "/").filter(|answer| answer.ends_with('A')));
        let traffic = Traffic::start(mesh.front);
        mesh.server.kill();
        mesh.proxy.says(&["no xDS stream"]);
        mesh.until_all("A");

        // It comes back as it was: nothing changes, so that even an idle connection lives on.
        let mut idle = mesh::Connection::open(mesh.front);
        assert_eq!(idle.ask().as_deref(), Some("A"));
        let taken = mesh.taken();
        assert!(taken >= 8, "{}: only {taken} resources", mesh.dialect);
        mesh.restart_server();
        mesh.until_told_everything();
        if mesh.dialect == Dialect::Delta {
            let sent: Vec<String> = mesh.server.sent();
            assert_eq!(sent, Vec::<String>::new(), "resources that the proxy has were sent again");
        }
        assert_eq!(mesh.taken(), taken, "{}: the same configuration counts as a change", mesh.dialect);
        assert_eq!(idle.ask().as_deref(), Some("A"), "{}: the idle connection", mesh.dialect);

        // It goes and returns with a change and a removal: those act, and later ones as well.
        mesh.server.kill();
        mesh.proxy.says(&["no xDS stream"]);
        mesh.world.weights = (0, 100);
        mesh.world.second = false;
        mesh.restart_server();
        mesh.until_all("B");
        mesh.until_second_is_closed();
        if mesh.dialect == Dialect::Delta {
            assert_eq!(mesh.server.sent(), ["front"], "only the route has changed");
        }
        // A broken connection, with the server's memory intact.
        mesh.server.drop_connections();
        mesh.set(|world| world.weights = (100, 0));
        mesh.until_all("A");
        let (answered, failures) = traffic.stop();
        assert!(failures.is_empty(), "{}: {failures:?} beside {answered} answers", mesh.dialect);
        assert_eq!(mesh.server.refusals(), Vec::<String>::new(), "{}", mesh.dialect);
    }
}
