//! Retries and reuse, against scripted upstreams.

use std::cell::Cell;
use std::rc::Rc;

use config::model::Direction;
use http::Method;

use crate::filter::testing::*;
use crate::http::{Body, BodyLength};

/// A proxy that sends everything to one upstream.
async fn proxy_to(script: impl Fn(usize) -> Script + 'static) -> (Proxy, Upstream) {
    let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
    let upstream = Upstream::start(script).await;
    proxy.push_clusters(&[("a", &[upstream.address])]);
    proxy.push_routes(routes(vec![route("", to("a"))]));
    (proxy, upstream)
}

#[tokio::test]
async fn a_connection_closed_while_idle_fails_no_request() {
    local(async {
        // Every answer is followed by a close that the answer does not announce: the worst a server can do.
        let close = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (proxy, upstream) = proxy_to(move |_| Script::AnswerAndClose(close.to_owned())).await;
        for n in 0..200 {
            assert_eq!(proxy.get("/", &[]).await.status, 200, "request {n}");
        }
        assert_eq!(upstream.requests.borrow().len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_close_at_the_moment_of_reuse_repeats_a_get_once_and_a_post_never() {
    local(async {
        // The second request on the first connection is read and then dropped without a byte of answer.
        let (proxy, upstream) = proxy_to(|n| if n == 1 || n == 3 { Script::Close } else { ok("x") }).await;
        assert_eq!(proxy.get("/", &[]).await.status, 200);
        assert_eq!(proxy.get("/", &[]).await.status, 200, "repeated on a new connection");
        assert_eq!(upstream.requests.borrow().len(), 3);
        assert!(upstream.requests.borrow()[2].contains("x-envoy-attempt-count: 2\r\n"));

        let mut head = get("/", &[]);
        head.method = Method::POST;
        head.length = BodyLength::Known(3);
        let answer = call(&proxy.connection(None), head, Body::full("abc")).await;
        assert_eq!(answer.status, 503, "nobody knows whether the POST was done");
        assert!(answer.body.ends_with(b"reset reason: connection termination"));
        assert_eq!(upstream.requests.borrow().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_not_tried_again() {
    local(async {
        let (proxy, upstream) = proxy_to(|_| Script::Close).await;
        assert_eq!(proxy.get("/", &[]).await.status, 503);
        assert_eq!(upstream.requests.borrow().len(), 1);
        let flags = proxy.metric("istio_requests_total", &["response_flags=\"UC\""]);
        assert_eq!(flags.as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn the_connection_used_last_is_used_first_and_a_removed_host_loses_its_connections() {
    local(async {
        let (proxy, upstream) = proxy_to(|_| ok("x")).await;
        let connection = proxy.connection(None);
        let (first, second) = tokio::join!(
            call(&connection, get("/", &[]), Body::empty()),
            call(&connection, get("/", &[]), Body::empty())
        );
        assert_eq!((first.status, second.status), (200, 200));
        assert_eq!(proxy.worker.upstream.idle_connections(), 2);
        for _ in 0..10 {
            proxy.get("/", &[]).await;
        }
        assert_eq!(*upstream.connections.borrow(), 2);

        proxy.push_clusters(&[("a", &[])]);
        proxy.worker.upstream.sweep();
        assert_eq!(proxy.worker.upstream.idle_connections(), 0);
        assert_eq!(proxy.get("/", &[]).await.status, 503);
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_the_host_closes_is_swept() {
    local(async {
        let close = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (proxy, _upstream) = proxy_to(move |_| Script::AnswerAndClose(close.to_owned())).await;
        proxy.get("/", &[]).await;
        while proxy.worker.upstream.idle_connections() > 0 {
            tokio::task::yield_now().await;
            proxy.worker.upstream.sweep();
        }
        let open = proxy.metric("envoy_cluster_upstream_cx_active", &["envoy_cluster_name=\"a\""]);
        assert_eq!(open.as_deref(), Some("0"));
    })
    .await;
}

#[tokio::test]
async fn limits_of_the_cluster_retire_connections() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let upstream = Upstream::start(|_| ok("x")).await;
        let mut config = crate::upstream::testing::cluster("a");
        config.http.max_requests_per_connection = Some(2);
        let endpoints = vec![crate::upstream::testing::endpoint(&upstream.address.to_string(), 1)];
        proxy.push_cluster(config, crate::upstream::testing::assignment("a", endpoints));
        proxy.push_routes(routes(vec![route("", to("a"))]));
        for _ in 0..6 {
            assert_eq!(proxy.get("/", &[]).await.status, 200);
        }
        assert_eq!(*upstream.connections.borrow(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_request_in_flight_counts_as_active_until_its_answer_ends() {
    local(async {
        let (proxy, _upstream) = proxy_to(|_| ok("x")).await;
        let active = || proxy.shared.routing.clusters()[0].hosts().usable()[0].runtime.active_requests();
        let seen = Rc::new(Cell::new(0));
        let connection = proxy.connection(None);
        let (head, body) =
            crate::http::Handler::handle(&connection, get("/", &[]), Body::empty(), Default::default()).await;
        seen.set(active());
        assert_eq!((head.status, seen.get()), (200, 1));
        drop(body);
        assert_eq!(active(), 0);
    })
    .await;
}
