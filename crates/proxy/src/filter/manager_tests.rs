//! Requests through a connection manager to scripted upstreams.

use std::sync::Arc;
use std::time::Duration;

use config::model::{
    AccessLogFormat, AccessLogLayout, AccessLogOutput, ClusterSpecifier, DirectResponse, Direction, Format,
    HeaderAction, HeaderAdd, HostRewrite, Operator, RouteAction, Token,
};

use crate::filter::testing::*;
use crate::http::{Body, BodyLength, Handler, Refusal, Version};

fn outbound() -> Proxy {
    Proxy::new(sidecar(vec![]), Direction::Outbound)
}

#[tokio::test]
async fn a_request_is_routed_forwarded_counted_and_answered() {
    local(async {
        let (proxy, upstream) = (outbound(), Upstream::start(|_| ok("paid")).await);
        let name = "outbound|8080||payment.production.svc.cluster.local";
        proxy.push_clusters(&[(name, &[upstream.address])]);
        proxy.push_routes(routes(vec![route("default", to(name))]));
        let answer = proxy.get("/pay?a=1", &[("X-Case", "kept")]).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"paid"[..]));
        assert_eq!(answer.headers.get_str("server"), Some("istio-envoy"));
        assert!(answer.headers.contains("date") && answer.headers.contains("x-envoy-upstream-service-time"));
        let requests = upstream.requests.borrow();
        assert!(requests[0].starts_with("GET /pay?a=1 HTTP/1.1\r\n"), "{}", requests[0]);
        for line in ["X-Case: kept", "x-forwarded-proto: http", "x-envoy-attempt-count: 1"] {
            assert!(requests[0].lines().any(|have| have == line), "{line} in {}", requests[0]);
        }
        let id = requests[0].lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        assert_eq!(id.len(), 36);
        let labels = [
            "reporter=\"source\"",
            "source_workload=\"frontend\"",
            "source_principal=\"unknown\"",
            "destination_workload=\"unknown\"",
            "destination_canonical_revision=\"latest\"",
            "destination_service=\"payment.production.svc.cluster.local\"",
            "destination_service_name=\"payment\"",
            "destination_service_namespace=\"production\"",
            "response_code=\"200\"",
            "response_flags=\"-\"",
            "connection_security_policy=\"unknown\"",
        ];
        assert_eq!(proxy.metric("istio_requests_total", &labels).as_deref(), Some("1"));
        let cluster = format!("envoy_cluster_name=\"{name}\"");
        assert_eq!(proxy.metric("envoy_cluster_upstream_cx_active", &[&cluster]).as_deref(), Some("1"));
        assert_eq!(
            proxy.metric("envoy_http_downstream_rq_xx", &["envoy_response_code_class=\"2\""]).as_deref(),
            Some("1")
        );
    })
    .await;
}

#[tokio::test]
async fn weights_are_kept_within_the_binomial_bound() {
    local(async {
        let proxy = outbound();
        let (stable, canary) = (Upstream::start(|_| ok("s")).await, Upstream::start(|_| ok("c")).await);
        proxy.push_clusters(&[("stable", &[stable.address]), ("canary", &[canary.address])]);
        proxy.push_routes(routes(vec![route("", split(&[("stable", 95), ("canary", 5)]))]));
        let connection = proxy.connection(None);
        for _ in 0..20_000 {
            assert_eq!(call(&connection, get("/", &[]), Body::empty()).await.status, 200);
        }
        let share = canary.requests.borrow().len();
        // 20,000 * 0.05 = 1,000; five standard deviations are 5 * sqrt(20,000 * 0.05 * 0.95) = 154.
        assert!(share.abs_diff(1_000) <= 154, "{share} of 20,000");
        assert_eq!(share + stable.requests.borrow().len(), 20_000);
        assert_eq!(*canary.connections.borrow(), 1, "one client at a time needs one connection");
    })
    .await;
}

#[tokio::test]
async fn a_weight_edited_while_traffic_flows_fails_no_request_and_keeps_connections() {
    local(async {
        let proxy = outbound();
        let (stable, canary) = (Upstream::start(|_| ok("s")).await, Upstream::start(|_| ok("c")).await);
        proxy.push_clusters(&[("stable", &[stable.address]), ("canary", &[canary.address])]);
        let connection = proxy.connection(None);
        for round in 0..200u32 {
            let weights = [("stable", 100 - round % 101), ("canary", round % 101)];
            proxy.push_routes(routes(vec![route("", split(&weights))]));
            for _ in 0..5 {
                assert_eq!(call(&connection, get("/", &[]), Body::empty()).await.status, 200);
            }
        }
        assert_eq!((*stable.connections.borrow(), *canary.connections.borrow()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_routed_is_answered_as_envoy_does() {
    local(async {
        let proxy = outbound();
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "no route configuration");
        let flag = |flag: &str| format!("response_flags=\"{flag}\"");
        assert_eq!(proxy.metric("istio_requests_total", &["\"404\"", &flag("NR")]).as_deref(), Some("1"));

        proxy.push_routes(routes(vec![route("", to("missing"))]));
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, answer.body.len()), (503, 0));
        assert_eq!(proxy.metric("istio_requests_total", &[&flag("NC")]).as_deref(), Some("1"));

        proxy.push_clusters(&[("missing", &[])]);
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, &answer.body[..]), (503, &b"no healthy upstream"[..]));
        assert_eq!(answer.headers.get_str("content-type"), Some("text/plain"));
        assert_eq!(proxy.metric("istio_requests_total", &[&flag("UH")]).as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_tried_on_another_host_for_every_method() {
    local(async {
        let (proxy, good) = (outbound(), Upstream::start(|_| ok("x")).await);
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        proxy.push_clusters(&[("only", &[dead]), ("both", &[dead, good.address])]);
        proxy.push_routes(routes(vec![route("", to("only"))]));
        let answer = proxy.get("/", &[]).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.ends_with(b"reset reason: remote connection failure"));
        assert_eq!(proxy.metric("istio_requests_total", &["response_flags=\"UF\""]).as_deref(), Some("1"));

        proxy.push_routes(routes(vec![route("", retrying("both", default_retries()))]));
        for _ in 0..20 {
            let mut head = get("/", &[]);
            head.method = http::Method::POST;
            head.length = BodyLength::Known(3);
            let answer = call(&proxy.connection(None), head, Body::full("abc")).await;
            assert_eq!(answer.status, 200);
        }
        assert_eq!(good.requests.borrow().len(), 20);
        assert!(good.requests.borrow().iter().all(|request| request.ends_with("\r\n\r\nabc")));
        let cluster = "envoy_cluster_name=\"both\"";
        let retries = proxy.metric("envoy_cluster_upstream_rq_retry", &[cluster]).unwrap();
        assert!(retries.parse::<u32>().unwrap() > 0, "the dead host was picked at least once");
    })
    .await;
}

#[tokio::test]
async fn a_timeout_of_the_route_is_a_504_and_zero_means_none() {
    local(async {
        let (proxy, upstream) = (outbound(), Upstream::start(|_| Script::Silence).await);
        proxy.push_clusters(&[("slow", &[upstream.address])]);
        let mut action = forward(ClusterSpecifier::Cluster("slow".into()));
        action.timeout = Some(Duration::from_millis(30));
        proxy.push_routes(routes(vec![route("", RouteAction::Forward(Box::new(action)))]));
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, &answer.body[..]), (504, &b"upstream request timeout"[..]));
        assert_eq!(proxy.metric("istio_requests_total", &["response_flags=\"UT\""]).as_deref(), Some("1"));
        assert!(upstream.requests.borrow()[0].contains("x-envoy-expected-rq-timeout-ms: 30\r\n"));
        let open = || proxy.metric("envoy_cluster_upstream_cx_active", &["envoy_cluster_name=\"slow\""]);
        assert_eq!(open().as_deref(), Some("0"), "the upstream's connection was closed");

        proxy.push_routes(routes(vec![route("", to("slow"))]));
        let waiting = tokio::time::timeout(Duration::from_millis(100), proxy.get("/", &[])).await;
        assert!(waiting.is_err(), "without a timeout the request waits");
        // The client went away: counted as such, and the upstream's connection is closed.
        assert_eq!(
            proxy.metric("istio_requests_total", &["\"DC\"", "response_code=\"0\""]).as_deref(),
            Some("1")
        );
        assert_eq!(open().as_deref(), Some("0"));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_as_broken() {
    local(async {
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
        let (proxy, upstream) =
            (outbound(), Upstream::start(move |_| Script::AnswerAndClose(short.to_owned())).await);
        proxy.push_clusters(&[("a", &[upstream.address])]);
        proxy.push_routes(routes(vec![route("", to("a"))]));
        let answer = proxy.get("/", &[]).await;
        assert!(answer.broken);
        assert_eq!(&answer.body[..], b"abc");
        assert_eq!(
            proxy.metric("istio_requests_total", &["\"200\"", "response_flags=\"UPE\""]).as_deref(),
            Some("1")
        );
    })
    .await;
}

#[tokio::test]
async fn what_an_outsider_says_about_itself_never_reaches_the_app() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Inbound);
        let upstream = Upstream::start(|_| {
            let head = "HTTP/1.1 200 OK\r\nx-envoy-peer-metadata: app\r\nX-Envoy-Peer-Metadata-Id: app\r\n";
            Script::Answer(format!("{head}content-length: 0\r\n\r\n"))
        })
        .await;
        proxy.push_clusters(&[("inbound|8080||", &[upstream.address])]);
        proxy.push_routes(routes(vec![route("default", to("inbound|8080||"))]));
        let forged = [
            ("X-Forwarded-Client-Cert", "By=x;URI=spiffe://cluster.local/ns/a/sa/admin"),
            ("X-Envoy-Peer-Metadata", "forged"),
            ("x-envoy-peer-metadata-id", "forged"),
            ("x-envoy-internal", "true"),
            ("x-envoy-original-path", "/admin"),
        ];
        let answer = proxy.get("/", &forged).await;
        let request = upstream.requests.borrow()[0].to_ascii_lowercase();
        for (name, _) in forged {
            assert!(!request.contains(&name.to_ascii_lowercase()), "{name} in {request}");
        }
        assert!(!answer.headers.contains("x-envoy-peer-metadata"), "a stranger is not told who we are");
        assert!(!answer.headers.contains("x-envoy-peer-metadata-id"));
        let labels = [
            "reporter=\"destination\"",
            "source_workload=\"unknown\"",
            "source_principal=\"unknown\"",
            "destination_workload=\"frontend\"",
            "destination_service=\"payment\"",
            "connection_security_policy=\"none\"",
        ];
        assert_eq!(proxy.metric("istio_requests_total", &labels).as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn a_mesh_peer_is_believed_and_told() {
    local(async {
        let proxy = Proxy::new(sidecar(vec![]), Direction::Inbound);
        let upstream = Upstream::start(|_| ok("")).await;
        proxy.push_clusters(&[("inbound|8080||", &[upstream.address])]);
        proxy.push_routes(routes(vec![route("default", to("inbound|8080||"))]));
        let caller = crate::telemetry::peer_metadata::OwnMetadata::from_node(&node("web"));
        let mut head = get("/", &[]);
        head.headers.append("x-envoy-peer-metadata", caller.header);
        head.headers.append("x-envoy-peer-metadata-id", caller.id);
        let session = mesh_session("spiffe://cluster.local/ns/production/sa/web");
        let answer = call(&proxy.connection(Some(session)), head, Body::empty()).await;
        assert_eq!(answer.headers.get("x-envoy-peer-metadata"), Some(&proxy.shared.own.header[..]));
        assert!(!upstream.requests.borrow()[0].contains("peer-metadata"));
        let labels = [
            "source_workload=\"web\"",
            "source_principal=\"spiffe://cluster.local/ns/production/sa/web\"",
            "destination_principal=\"spiffe://cluster.local/ns/production/sa/own\"",
            "connection_security_policy=\"mutual_tls\"",
        ];
        assert_eq!(proxy.metric("istio_requests_total", &labels).as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test]
async fn the_log_has_a_line_for_every_request_and_none_is_made_without_a_log() {
    local(async {
        let path = std::env::temp_dir().join(format!("tulle-manager-{}.log", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut config = sidecar(vec![]);
        config.access_log = vec![log_to(path.to_str().unwrap())];
        let (proxy, upstream) =
            (Proxy::new(config, Direction::Outbound), Upstream::start(|_| ok("paid")).await);
        proxy.push_clusters(&[("pay", &[upstream.address])]);
        proxy.push_routes(routes(vec![route("default", to("pay"))]));
        proxy.get("/a\"b", &[]).await;
        proxy.push_routes(routes(vec![route("other", to("missing"))]));
        proxy.get("/", &[]).await;
        proxy.shared.sinks.flush(Duration::from_secs(10));
        let host = upstream.address;
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!(
                "GET /a\\x22b 200 - via_upstream 0 4 pay {host} default \n\
                 GET / 503 NC cluster_not_found 0 0 - - other \n"
            )
        );
        std::fs::remove_file(path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_log_knows_what_a_grpc_call_came_to() {
    local(async {
        let path = std::env::temp_dir().join(format!("tulle-grpc-{}.log", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut log = log_to(path.to_str().unwrap());
        let status = Operator::GrpcStatus(config::model::GrpcStatusForm::Camel);
        let tokens = vec![
            Token::Operator { operator: status, max_length: None },
            Token::Literal("\n".into()),
        ];
        log.output = match log.output {
            AccessLogOutput::Lines { sink, format } => AccessLogOutput::Lines {
                sink,
                format: AccessLogFormat { layout: AccessLogLayout::Text(Format { tokens }), ..format },
            },
            other => other,
        };
        let mut config = sidecar(vec![]);
        config.access_log = vec![log];
        let answer = |nth: usize| {
            Script::Answer(match nth {
                0 => "HTTP/1.1 200 OK\r\ngrpc-status: 7\r\ncontent-length: 0\r\n\r\n".to_owned(),
                1 => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\ngrpc-status: 5\r\n\r\n"
                    .to_owned(),
                _ => "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
            })
        };
        let (proxy, upstream) =
            (Proxy::new(config, Direction::Outbound), Upstream::start(answer).await);
        proxy.push_clusters(&[("app", &[upstream.address])]);
        proxy.push_routes(routes(vec![route("", to("app"))]));
        for kind in ["application/grpc", "application/grpc", "application/grpc", "text/plain"] {
            proxy.get("/", &[("content-type", kind)]).await;
        }
        proxy.shared.sinks.flush(Duration::from_secs(10));
        let logged = std::fs::read_to_string(&path).unwrap();
        assert_eq!(logged, "PermissionDenied\nNotFound\nUnavailable\n-\n");
        std::fs::remove_file(path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_direct_response_needs_no_cluster() {
    local(async {
        let proxy = outbound();
        let direct = DirectResponse { status: 502, body: Arc::from(&b"blocked"[..]) };
        proxy.push_routes(routes(vec![route("block_all", RouteAction::DirectResponse(direct))]));
        let answer = proxy.get("/", &[]).await;
        assert_eq!((answer.status, &answer.body[..]), (502, &b"blocked"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_wants_http2_gets_no_http1() {
    local(async {
        let (proxy, upstream) = (outbound(), Upstream::start(|_| ok("x")).await);
        let mut config = crate::upstream::testing::cluster("grpc");
        config.http.protocol = config::model::HttpProtocol::Http2;
        let endpoints = vec![crate::upstream::testing::endpoint(&upstream.address.to_string(), 1)];
        proxy.push_cluster(config, crate::upstream::testing::assignment("grpc", endpoints));
        proxy.push_routes(routes(vec![route("", to("grpc"))]));
        let answer = proxy.get("/", &[]).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.ends_with(b"reset reason: remote connection failure"), "{:?}", answer.body);
        // The host answered the greeting of HTTP/2 in HTTP/1: no request was sent to it.
        assert!(upstream.requests.borrow().iter().all(|seen| !seen.contains("payment:8080")));
    })
    .await;
}

#[tokio::test]
async fn a_header_sends_a_request_to_the_canary_and_only_that_one() {
    local(async {
        let proxy = outbound();
        let (stable, canary) = (Upstream::start(|_| ok("s")).await, Upstream::start(|_| ok("c")).await);
        proxy.push_clusters(&[("stable", &[stable.address]), ("canary", &[canary.address])]);
        let mut first = route("canary", to("canary"));
        first.matcher.headers = vec![config::model::HeaderMatcher {
            name: "x-canary-user".into(),
            condition: config::model::HeaderMatch::Value(config::model::StringMatcher::exact("true")),
            invert: false,
            treat_missing_as_empty: false,
        }];
        proxy.push_routes(routes(vec![first, route("default", to("stable"))]));
        for _ in 0..50 {
            assert_eq!(&proxy.get("/", &[("X-Canary-User", "true")]).await.body[..], b"c");
            assert_eq!(&proxy.get("/", &[("X-Canary-User", "false")]).await.body[..], b"s");
            assert_eq!(&proxy.get("/", &[]).await.body[..], b"s");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_head_is_answered_logged_and_counted() {
    local(async {
        let path = std::env::temp_dir().join(format!("tulle-refusal-{}.log", std::process::id()));
        let mut config = sidecar(vec![]);
        config.access_log = vec![log_to(path.to_str().unwrap())];
        let proxy = Proxy::new(config, Direction::Outbound);
        let connection = proxy.connection(None);
        let late = Refusal::HeadTimeout { limit: Duration::from_secs(1), seen: 7 };
        for (refusal, status) in
            [(Refusal::Malformed("x"), 400), (Refusal::OldVersion, 426), (Refusal::NO_HOST, 400), (late, 408)]
        {
            let (head, mut body) = connection.refuse(&refusal, Version::Http11);
            assert_eq!((head.status, head.headers.get_str("server")), (status, Some("istio-envoy")));
            assert!(head.headers.contains("date"));
            while body.frame().await.is_some() {}
        }
        proxy.shared.sinks.flush(Duration::from_secs(10));
        let log = std::fs::read_to_string(&path).unwrap();
        let begins: Vec<_> = log.lines().map(|line| line.split(" 0 ").next().unwrap()).collect();
        assert_eq!(
            begins,
            [
                "- - 400 DPE http1.codec_error",
                "- - 426 DPE low_version",
                "- - 400 - missing_host_header",
                "- - 408 - request_header_timeout"
            ]
        );
        let labels = ["\"400\"", "response_flags=\"DPE\"", "destination_service=\"unknown\""];
        assert_eq!(proxy.metric("istio_requests_total", &labels).as_deref(), Some("1"));
        std::fs::remove_file(path).unwrap();
    })
    .await;
}

fn add(name: &str, token: Token) -> HeaderAdd {
    let (value, action) = (Format { tokens: vec![token] }, HeaderAction::AppendIfExistsOrAdd);
    HeaderAdd { name: name.into(), value, action, keep_empty: false }
}

#[tokio::test]
async fn the_routes_response_headers_act_on_its_own_answers_and_can_name_the_status() {
    local(async {
        let (proxy, upstream) = (outbound(), Upstream::start(|_| ok("x")).await);
        proxy.push_clusters(&[("app", &[upstream.address])]);
        let status = || Token::Operator { operator: Operator::ResponseCode, max_length: None };
        let direct = DirectResponse { status: 201, body: Arc::from(&b""[..]) };
        for (action, code) in [(RouteAction::DirectResponse(direct), "201"), (to("app"), "200")] {
            let mut route = route("", action);
            route.response_headers.add =
                vec![add("x-code", status()), add("x-why", Token::Literal("y".into()))];
            proxy.push_routes(routes(vec![route]));
            let answer = proxy.get("/made?x=1", &[]).await;
            assert_eq!(answer.headers.get_str("x-code"), Some(code));
            assert_eq!(answer.headers.get_str("x-why"), Some("y"));
            let location = answer.headers.get_str("location");
            assert_eq!(location, (code == "201").then_some("http://payment:8080/made?x=1"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_rewritten_host_is_told_and_an_empty_request_id_is_replaced() {
    local(async {
        let (proxy, upstream) = (outbound(), Upstream::start(|_| ok("x")).await);
        proxy.push_clusters(&[("app", &[upstream.address])]);
        let mut action = forward(ClusterSpecifier::Cluster("app".into()));
        action.host_rewrite = HostRewrite::Literal("new.example".into());
        proxy.push_routes(routes(vec![route("", RouteAction::Forward(Box::new(action)))]));
        proxy.get("/", &[("x-request-id", ""), ("x-envoy-original-host", "forged")]).await;
        let request = upstream.requests.borrow()[0].clone();
        let values = |name: &str| -> Vec<&str> {
            request.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
        };
        assert_eq!(
            (values("host"), values("x-envoy-original-host")),
            (vec!["new.example"], vec!["payment:8080"])
        );
        assert!(matches!(&values("x-request-id")[..], [id] if id.len() == 36), "{request}");
    })
    .await;
}

#[tokio::test]
async fn a_cluster_header_that_is_missing_names_no_cluster() {
    local(async {
        let proxy = outbound();
        let mut action = forward(ClusterSpecifier::Header("x-cluster".into()));
        action.cluster_not_found_status = 500;
        proxy.push_routes(routes(vec![route("", RouteAction::Forward(Box::new(action)))]));
        assert_eq!(proxy.get("/", &[]).await.status, 500);
        assert_eq!(proxy.metric("istio_requests_total", &["response_flags=\"NC\""]).as_deref(), Some("1"));
    })
    .await;
}
