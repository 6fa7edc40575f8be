//! Denied requests through the connection manager.

use std::sync::Arc;
use std::time::Duration;

use config::model::{
    Direction, HttpFilterKind, Permission, Policy, Principal, RbacAction, RbacFilter, RbacRules,
    StringMatcher,
};

use crate::filter::testing::*;
use crate::http::Body;

const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";
const STRANGER: &str = "spiffe://cluster.local/ns/production/sa/stranger";

fn rbac(action: RbacAction, permission: Permission, principal: Principal) -> HttpFilterKind {
    let policy = Policy {
        name: "ns[production]-policy[payment-callers]-rule[0]".into(),
        permissions: vec![permission],
        principals: vec![principal],
    };
    HttpFilterKind::Rbac(Arc::new(RbacFilter { rules: Some(RbacRules { action, policies: vec![policy] }) }))
}

fn only_web() -> HttpFilterKind {
    let web = Principal::Authenticated(Some(StringMatcher::exact(WEB)));
    rbac(RbacAction::Allow, Permission::Any, web)
}

async fn inbound(filters: Vec<HttpFilterKind>, log: Option<&str>) -> (Proxy, Upstream) {
    let mut config = sidecar(filters);
    config.access_log = log.map(log_to).into_iter().collect();
    let proxy = Proxy::new(config, Direction::Inbound);
    let upstream = Upstream::start(|_| ok("paid")).await;
    proxy.push_clusters(&[("inbound|8080||", &[upstream.address])]);
    proxy.push_routes(routes(vec![route("default", to("inbound|8080||"))]));
    (proxy, upstream)
}

#[tokio::test]
async fn a_denied_request_never_reaches_the_app_and_an_allowed_one_does() {
    local(async {
        let path = std::env::temp_dir().join(format!("tulle-rbac-{}.log", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (proxy, upstream) = inbound(vec![only_web()], path.to_str()).await;
        for session in [Some(mesh_session(STRANGER)), None] {
            let answer = call(&proxy.connection(session), get("/pay", &[]), Body::empty()).await;
            assert_eq!((answer.status, &answer.body[..]), (403, &b"RBAC: access denied"[..]));
            assert_eq!(answer.headers.get_str("content-type"), Some("text/plain"));
        }
        assert_eq!(upstream.requests.borrow().len(), 0);
        let labels = [
            "reporter=\"destination\"",
            "response_code=\"403\"",
            "response_flags=\"-\"",
            "source_principal=\"spiffe://cluster.local/ns/production/sa/stranger\"",
        ];
        assert_eq!(proxy.metric("istio_requests_total", &labels).as_deref(), Some("1"));
        assert_eq!(proxy.metric("envoy_http_rbac_denied", &[]).as_deref(), Some("2"));

        let answer = call(&proxy.connection(Some(mesh_session(WEB))), get("/pay", &[]), Body::empty()).await;
        assert_eq!(answer.status, 200, "the same request from whom the policy names");
        assert_eq!(upstream.requests.borrow().len(), 1);
        proxy.shared.sinks.flush(Duration::from_secs(10));
        let log = std::fs::read_to_string(&path).unwrap();
        let denied = "GET /pay 403 - rbac_access_denied_matched_policy[none] 0 19 inbound|8080|| - default ";
        assert_eq!(log.lines().next(), Some(denied));
        std::fs::remove_file(path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn without_the_rule_the_stranger_passes() {
    local(async {
        let (proxy, upstream) = inbound(vec![], None).await;
        let answer =
            call(&proxy.connection(Some(mesh_session(STRANGER))), get("/pay", &[]), Body::empty()).await;
        assert_eq!((answer.status, upstream.requests.borrow().len()), (200, 1));
    })
    .await;
}

#[tokio::test]
async fn every_form_of_a_path_gets_the_verdict_of_the_canonical_one() {
    local(async {
        let admin = Permission::Path(StringMatcher::exact("/admin"));
        let (proxy, upstream) = inbound(vec![rbac(RbacAction::Deny, admin, Principal::Any)], None).await;
        for form in
            ["/admin", "/a/../admin", "/%61dmin", "/./admin", "/a\\..\\admin", "/a/%2e%2e/admin", "/admin?x"]
        {
            let answer = proxy.get(form, &[]).await;
            assert_eq!(answer.status, 403, "{form}");
        }
        assert_eq!(proxy.get("/admin#x", &[]).await.status, 400);
        assert_eq!(upstream.requests.borrow().len(), 0);
        assert_eq!(proxy.get("/a/../public", &[]).await.status, 200);
        assert!(
            upstream.requests.borrow()[0].starts_with("GET /public HTTP/1.1\r\n"),
            "the app sees the same path"
        );
    })
    .await;
}

#[tokio::test]
async fn a_filter_that_denies_by_a_policy_names_it() {
    local(async {
        let web = Principal::Authenticated(Some(StringMatcher::exact(WEB)));
        let (proxy, upstream) = inbound(vec![rbac(RbacAction::Deny, Permission::Any, web)], None).await;
        let answer = call(&proxy.connection(Some(mesh_session(WEB))), get("/", &[]), Body::empty()).await;
        assert_eq!(answer.status, 403);
        let answer =
            call(&proxy.connection(Some(mesh_session(STRANGER))), get("/", &[]), Body::empty()).await;
        assert_eq!((answer.status, upstream.requests.borrow().len()), (200, 1));
    })
    .await;
}
