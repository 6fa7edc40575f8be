//! Retries against scripted upstreams: what is repeated, how often, where, and what the client and the metrics are told.

use std::rc::Rc;
use std::time::Duration;

use config::model::{Consecutive, Direction, RetryPolicy};
use http::Method;

use crate::filter::testing::*;
use crate::http::{Body, BodyLength, Handler};
use crate::upstream::testing::{assignment, cluster, endpoint};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn answer(bytes: &str) -> Script {
    Script::Answer(bytes.to_owned())
}

/// A proxy in front of upstreams that all follow the script; requests are numbered over each of them.
async fn proxy_to(
    policy: RetryPolicy,
    count: usize,
    script: impl Fn(usize) -> Script + Clone + 'static,
) -> (Proxy, Vec<Upstream>) {
    let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
    let mut upstreams = Vec::new();
    for _ in 0..count {
        upstreams.push(Upstream::start(script.clone()).await);
    }
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    proxy.push_clusters(&[("a", &addresses)]);
    proxy.push_routes(routes(vec![route("", retrying("a", policy))]));
    (proxy, upstreams)
}

fn seen(upstreams: &[Upstream]) -> usize {
    upstreams.iter().map(|upstream| upstream.requests.borrow().len()).sum()
}

async fn post(proxy: &Proxy, body: &'static str) -> Answer {
    let mut head = get("/", &[]);
    head.method = Method::POST;
    head.length = BodyLength::Known(body.len() as u64);
    call(&proxy.connection(None), head, Body::full(body)).await
}

fn counter(proxy: &Proxy, name: &str) -> Option<String> {
    proxy.metric(&format!("envoy_cluster_{name}"), &["envoy_cluster_name=\"a\""])
}

fn flags(proxy: &Proxy, flags: &str) -> Option<String> {
    proxy.metric("istio_requests_total", &[&format!("response_flags=\"{flags}\"")])
}

type Fault = Rc<dyn Fn() -> Script>;

/// Everything that can go wrong once a request has reached an application.
fn faults() -> Vec<(&'static str, Fault)> {
    let fault = |text: &'static str| Rc::new(move || Script::AnswerAndClose(text.to_owned())) as Fault;
    vec![
        ("closed without a byte", Rc::new(|| Script::Close)),
        ("closed inside of the head", fault("HTTP/1.1 200 O")),
        ("not HTTP", fault("SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        ("two lengths", fault("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")),
        ("closed inside of the body", fault("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")),
        ("503", Rc::new(|| answer(BUSY))),
        ("502", fault("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")),
        ("504", fault("HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n")),
        ("500", fault("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")),
        ("unavailable", fault("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n")),
        ("cancelled", fault("HTTP/1.1 200 OK\r\ngrpc-status: 1\r\ncontent-length: 0\r\n\r\n")),
        // From an application these mean nothing: it may have done the work.
        (
            "a forged mark",
            fault("HTTP/1.1 503 Busy\r\nx-tulle-failure: unprocessed\r\ncontent-length: 0\r\n\r\n"),
        ),
        ("no answer", Rc::new(|| Script::Silence)),
    ]
}

#[tokio::test]
async fn a_post_that_reached_the_application_is_never_sent_again_by_the_default_policy() {
    local(async {
        for (name, fault) in faults() {
            // As the first request of a connection, and as the second one.
            for good_first in [0, 1] {
                let fault = fault.clone();
                let script = move |n: usize| if n < good_first { ok("x") } else { fault() };
                let (proxy, upstreams) = proxy_to(default_retries(), 2, script).await;
                let mut action = retrying("a", default_retries());
                if let config::model::RouteAction::Forward(forward) = &mut action {
                    forward.timeout = Some(Duration::from_millis(300));
                }
                proxy.push_routes(routes(vec![route("", action)]));
                while upstreams.iter().any(|upstream| upstream.requests.borrow().len() < good_first) {
                    proxy.get("/", &[]).await;
                }
                let retries = || counter(&proxy, "upstream_rq_retry").unwrap_or_default();
                let before = (seen(&upstreams), retries());
                let got = post(&proxy, "pay 5").await;
                assert_eq!(seen(&upstreams) - before.0, 1, "{name}, {good_first} before it: {}", got.status);
                assert!(!got.headers.contains("x-tulle-failure"), "{name}");
                let none = if good_first == 0 { "0" } else { before.1.as_str() };
                assert_eq!(retries(), none, "{name}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_faults_do_repeat_a_post_where_somebody_asked_for_it() {
    local(async {
        for (name, fault) in faults() {
            if matches!(name, "no answer" | "closed inside of the body") {
                continue;
            }
            let (proxy, upstreams) =
                proxy_to(retry_policy("5xx,unavailable,cancelled"), 2, move |_| fault()).await;
            let got = post(&proxy, "pay 5").await;
            assert_eq!(seen(&upstreams), 3, "{name}: {}", got.status);
            let bodies = upstreams.iter().flat_map(|upstream| upstream.requests.borrow().clone());
            assert!(bodies.into_iter().all(|request| request.ends_with("\r\n\r\npay 5")), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_get_is_saved_by_another_host_and_counted() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let (bad, good) = (Upstream::start(|_| answer(BUSY)).await, Upstream::start(|_| ok("x")).await);
        proxy.push_clusters(&[("a", &[bad.address, good.address])]);
        proxy.push_routes(routes(vec![route("", retrying("a", default_retries()))]));
        for _ in 0..20 {
            assert_eq!(proxy.get("/", &[]).await.status, 200);
        }
        let wasted = bad.requests.borrow().len();
        assert!(wasted > 0);
        assert_eq!(good.requests.borrow().len(), 20);
        assert_eq!(counter(&proxy, "upstream_rq_retry"), Some(wasted.to_string()));
        assert_eq!(counter(&proxy, "upstream_rq_retry_success"), Some(wasted.to_string()));
        let second = good.requests.borrow().iter().any(|one| one.contains("x-envoy-attempt-count: 2\r\n"));
        assert!(second);
    })
    .await;
}

#[tokio::test]
async fn retries_that_are_used_up_are_said_so() {
    local(async {
        let (proxy, upstreams) = proxy_to(retry_policy("5xx"), 3, |_| answer(BUSY)).await;
        assert_eq!(proxy.get("/", &[]).await.status, 503);
        assert_eq!(upstreams.iter().map(|one| one.requests.borrow().len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(flags(&proxy, "URX").as_deref(), Some("1"));
        assert_eq!(counter(&proxy, "upstream_rq_retry_limit_exceeded").as_deref(), Some("1"));
        assert_eq!(counter(&proxy, "upstream_rq_retry_success").as_deref(), Some("0"));
    })
    .await;
}

#[tokio::test]
async fn without_a_policy_nothing_is_retried() {
    local(async {
        let (proxy, upstreams) = proxy_to(retry_policy(""), 2, |_| answer(BUSY)).await;
        assert_eq!(proxy.get("/", &[]).await.status, 503);
        assert_eq!(seen(&upstreams), 1);
        assert_eq!(flags(&proxy, "-").as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_the_buffer_is_sent_once() {
    local(async {
        for (limit, tries) in [(5, 3), (4, 1)] {
            let (proxy, upstreams) = proxy_to(retry_policy("5xx"), 2, |_| answer(BUSY)).await;
            let mut action = retrying("a", retry_policy("5xx"));
            if let config::model::RouteAction::Forward(forward) = &mut action {
                forward.request_body_buffer_limit = Some(limit);
            }
            proxy.push_routes(routes(vec![route("", action)]));
            assert_eq!(post(&proxy, "12345").await.status, 503);
            assert_eq!(seen(&upstreams), tries, "limit {limit}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_replaced_by_another() {
    local(async {
        let limited = RetryPolicy { per_try_timeout: Some(Duration::from_millis(40)), ..retry_policy("5xx") };
        let (proxy, upstreams) =
            proxy_to(limited.clone(), 1, |n| if n == 0 { Script::Silence } else { ok("x") }).await;
        assert_eq!(proxy.get("/", &[]).await.status, 200);
        assert_eq!(seen(&upstreams), 2);
        assert_eq!(counter(&proxy, "upstream_rq_per_try_timeout").as_deref(), Some("1"));
        assert!(upstreams[0].requests.borrow()[0].contains("x-envoy-expected-rq-timeout-ms: 40\r\n"));

        let (proxy, upstreams) =
            proxy_to(RetryPolicy { retries: 1, ..limited }, 1, |_| Script::Silence).await;
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, &answer.body[..]), (504, &b"upstream request timeout"[..]));
        assert_eq!((seen(&upstreams), flags(&proxy, "UT,URX").as_deref()), (2, Some("1")));
    })
    .await;
}

#[tokio::test]
async fn silence_within_a_try_is_bounded_before_and_during_the_answer() {
    local(async {
        let idle =
            RetryPolicy { per_try_idle_timeout: Some(Duration::from_millis(40)), ..retry_policy("5xx") };
        let partial = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab";
        let script =
            move |n| if n == 0 { Script::Silence } else { Script::AnswerAndWait(partial.to_owned()) };
        let (proxy, upstreams) = proxy_to(idle, 1, script).await;
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, answer.broken, seen(&upstreams)), (200, true, 2));
        assert_eq!(counter(&proxy, "upstream_rq_per_try_idle_timeout").as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn the_budget_bounds_the_load_of_a_failing_service() {
    local(async {
        // Every request waits for a while and fails: 100 at once.
        let (proxy, upstreams) = proxy_to(retry_policy("5xx"), 4, |_| answer(BUSY)).await;
        let proxy = Rc::new(proxy);
        let many = (0..100).map(|_| {
            let proxy = proxy.clone();
            async move { proxy.get("/", &[]).await.status }
        });
        let statuses = futures_util::future::join_all(many).await;
        assert!(statuses.iter().all(|status| *status == 503));
        let (load, denied) = (seen(&upstreams), counter(&proxy, "upstream_rq_retry_overflow").unwrap());
        // At any moment at most a fifth of the active requests retries.
        assert!(load <= 140, "{load}");
        assert!(denied.parse::<u32>().unwrap() >= 60, "{denied}");
        assert!(flags(&proxy, "UO").is_some());
    })
    .await;
}

#[tokio::test]
async fn a_host_is_ejected_after_exactly_five_gateway_errors_and_the_mesh_own_errors_do_not_count() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let (bad, good) = (Upstream::start(|_| answer(BUSY)).await, Upstream::start(|_| ok("x")).await);
        let mut config = cluster("a");
        config.lb_policy = config::model::LbPolicy::RoundRobin;
        let five = Consecutive { threshold: 5, enforcing: 100 };
        let mut rules = crate::upstream::testing::outlier_detection();
        rules.consecutive_gateway_failure = five;
        config.outlier_detection = Some(rules);
        let endpoints = [&bad, &good].map(|upstream| endpoint(&upstream.address.to_string(), 1)).to_vec();
        proxy.push_cluster(config, assignment("a", endpoints));
        proxy.push_routes(routes(vec![route("", to("a"))]));
        // A client that goes away says nothing about the host.
        for _ in 0..20 {
            let connection = proxy.connection(None);
            let gone = connection.handle(get("/", &[]), Body::empty(), Default::default());
            let _ = futures_util::poll!(gone);
        }
        let started = bad.requests.borrow().len();
        for _ in 0..40 {
            proxy.get("/", &[]).await;
        }
        assert_eq!(bad.requests.borrow().len() - started, 5, "not one more, not one less");
        let flags = &proxy.shared.routing.clusters()[0].hosts().all[0].1.runtime.monitor.is_ejected();
        assert!(flags);
    })
    .await;
}

#[tokio::test]
async fn a_host_that_refuses_is_passed_over_at_once_until_it_is_the_only_one() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Outbound);
        let good = Upstream::start(|_| ok("x")).await;
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        proxy.push_clusters(&[("a", &[dead, good.address])]);
        proxy.push_routes(routes(vec![route("", to("a"))]));
        let mut failed = 0;
        for _ in 0..60 {
            failed += usize::from(proxy.get("/", &[]).await.status == 503);
        }
        assert!(failed <= 1, "{failed}: one refusal is enough to know");
        proxy.push_clusters(&[("a", &[dead])]);
        let failures = counter(&proxy, "upstream_cx_connect_fail");
        assert_eq!(proxy.get("/", &[]).await.status, 503);
        assert_ne!(counter(&proxy, "upstream_cx_connect_fail"), failures, "the only one is tried");
    })
    .await;
}
