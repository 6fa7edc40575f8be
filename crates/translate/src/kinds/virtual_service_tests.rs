use crate::kinds::http_match;
use crate::testing::{MESH, apply, node, notes, route_origin, routes_of, targets, virtual_host, world};
use crate::world::World;
use protos::envoy::envoy::config::route::v3::{
    Route, header_matcher::HeaderMatchSpecifier, route::Action, route_match::PathSpecifier,
};

const PAYMENT: &str = "payment.production.svc.cluster.local";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment}
spec:
  host: payment
  subsets: [{name: stable, labels: {version: stable}}, {name: canary, labels: {version: canary}}]
";

fn with_http(http: &str) -> World {
    let route = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: payment}}\nspec:\n  hosts: [payment]\n  http:\n{http}\n"
    );
    world(&[MESH, RULE, &route])
}

const TO_PAYMENT: &str = "route: [{destination: {host: payment}}]";

fn routes(http: &str) -> Vec<Route> {
    routes_of(&with_http(http), PAYMENT)
}

#[test]
fn the_canary_of_the_example_is_routed_by_header_and_weight() {
    let routes = routes(
        "  - match: [{headers: {x-canary-user: {exact: 'true'}}}]\n    route: [{destination: {host: payment, subset: canary}, weight: 100}]\n\
         \x20 - route:\n    - {destination: {host: payment, subset: stable}, weight: 95}\n    - {destination: {host: payment, subset: canary}, weight: 5}\n",
    );
    assert_eq!(targets(&routes[0]), [(format!("outbound|8080|canary|{PAYMENT}"), 100)]);
    assert_eq!(
        targets(&routes[1]),
        [(format!("outbound|8080|stable|{PAYMENT}"), 95), (format!("outbound|8080|canary|{PAYMENT}"), 5)]
    );
    assert_eq!(route_origin(&routes[1]), "VirtualService/production/payment#http[1]");
    let header = &routes[0].r#match.as_ref().unwrap().headers[0];
    assert_eq!(header.name, "x-canary-user");
    assert!(!header.invert_match && !header.treat_missing_header_as_empty);
}

#[test]
fn a_destination_of_weight_zero_gets_nothing() {
    let routes = routes(
        "  - route:\n    - {destination: {host: payment, subset: stable}, weight: 1}\n    - {destination: {host: payment, subset: canary}, weight: 0}\n",
    );
    assert_eq!(targets(&routes[0]), [(format!("outbound|8080|stable|{PAYMENT}"), 100)]);
}

#[test]
fn every_kind_of_match_has_its_form() {
    let routes = routes(&format!(
        "  - match:\n    - {{uri: {{exact: /a}}, ignoreUriCase: true}}\n    - {{uri: {{prefix: /b}}}}\n    - {{uri: {{regex: '/c.*'}}}}\n    \
         - {{method: {{exact: GET}}, scheme: {{exact: http}}, authority: {{prefix: pay}}}}\n    \
         - {{headers: {{x-p: {{}}, x-r: {{regex: 'a+'}}}}, withoutHeaders: {{x-w: {{exact: no}}, x-v: {{}}}}}}\n    \
         - {{queryParams: {{q: {{exact: ''}}, r: {{regex: '[0-9]+'}}}}}}\n    {TO_PAYMENT}\n"
    ));
    let it = |i: usize| routes[i].r#match.clone().unwrap();
    assert_eq!(it(0).path_specifier, Some(PathSpecifier::Path("/a".to_owned())));
    assert!(!it(0).case_sensitive.unwrap().value);
    assert_eq!(it(1).path_specifier, Some(PathSpecifier::Prefix("/b".to_owned())));
    assert!(matches!(it(2).path_specifier, Some(PathSpecifier::SafeRegex(regex)) if regex.regex == "/c.*"));
    let names: Vec<String> = it(3).headers.into_iter().map(|header| header.name).collect();
    assert_eq!(names, [":method", ":scheme", ":authority"]);
    let headers = it(4).headers;
    let find = |name: &str| headers.iter().find(|header| header.name == name).unwrap();
    assert_eq!(find("x-p").header_match_specifier, Some(HeaderMatchSpecifier::PresentMatch(true)));
    assert!(find("x-w").invert_match && find("x-w").treat_missing_header_as_empty);
    assert!(find("x-v").invert_match && !find("x-v").treat_missing_header_as_empty);
    assert_eq!(it(5).query_parameters.len(), 2);
    assert_eq!(routes.len(), 6);
}

#[test]
fn nothing_after_a_catch_all_is_sent_and_it_is_said() {
    let http = format!(
        "  - match: [{{uri: {{prefix: /a}}}}]\n    {TO_PAYMENT}\n  - {TO_PAYMENT}\n  - match: [{{uri: {{prefix: /late}}}}]\n    {TO_PAYMENT}\n"
    );
    assert_eq!(routes(&http).len(), 2);
    let told = notes(&with_http(&http), "VirtualService");
    assert_eq!(told, ["spec.http[2]: the rule is never reached: spec.http[1] matches every request"]);
}

#[test]
fn a_prefix_of_a_slash_matches_everything_unless_something_narrows_it() {
    let narrowed = format!(
        "  - match: [{{uri: {{prefix: /}}, headers: {{x: {{}}}}}}]\n    {TO_PAYMENT}\n  - {TO_PAYMENT}\n"
    );
    assert_eq!(routes(&narrowed).len(), 2);
    assert!(notes(&with_http(&narrowed), "VirtualService").is_empty());
    let everything = format!("  - match: [{{uri: {{prefix: /}}}}]\n    {TO_PAYMENT}\n  - {TO_PAYMENT}\n");
    assert_eq!(routes(&everything).len(), 1);
}

#[test]
fn source_conditions_and_ports_choose_before_any_request() {
    let http = format!(
        "  - match: [{{sourceLabels: {{app: frontend}}}}]\n    name: for-frontend\n    {TO_PAYMENT}\n  \
         - match: [{{sourceNamespace: other}}]\n    name: for-other\n    {TO_PAYMENT}\n  \
         - match: [{{port: 9999}}]\n    name: other-port\n    {TO_PAYMENT}\n"
    );
    let world = with_http(&http);
    let names = |address: &str, namespace: &str| -> Vec<String> {
        let host = virtual_host(&world, &node(address, namespace), "8080", PAYMENT).unwrap();
        host.routes.into_iter().map(|route| route.name).collect()
    };
    assert_eq!(names("127.10.0.3", "production"), ["for-frontend"]);
    assert_eq!(names("127.10.0.99", "other"), ["for-other"]);
    // None of the rules can hold for this client, so the VirtualService does not claim the host.
    assert_eq!(names("127.10.0.1", "production"), ["default"]);
}

#[test]
fn unmatched_requests_of_a_routed_host_have_no_route() {
    let routes = routes(&format!("  - match: [{{uri: {{prefix: /a}}}}]\n    {TO_PAYMENT}\n"));
    assert_eq!(routes.len(), 1);
    assert!(!http_match::is_catch_all(routes[0].r#match.as_ref().unwrap()));
}

#[test]
fn redirects_answers_rewrites_and_timeouts_are_translated() {
    let routes = routes(&format!(
        "  - match: [{{uri: {{prefix: /old}}}}]\n    redirect: {{uri: /new, authority: a.example, redirectCode: 308, derivePort: FROM_REQUEST_PORT}}\n  \
         - match: [{{uri: {{prefix: /fixed}}}}]\n    directResponse: {{status: 418, body: {{string: tea}}}}\n  \
         - match: [{{uri: {{prefix: /x}}}}]\n    rewrite: {{uri: /y, authority: b.example}}\n    timeout: 2s\n    retries: {{attempts: 3, perTryTimeout: 500ms, retryOn: '5xx,429'}}\n    {TO_PAYMENT}\n"
    ));
    let Some(Action::Redirect(redirect)) = &routes[0].action else { panic!() };
    assert_eq!((redirect.port_redirect, redirect.response_code), (8080, 4));
    let Some(Action::DirectResponse(response)) = &routes[1].action else { panic!() };
    assert_eq!(response.status, 418);
    let Some(Action::Route(action)) = &routes[2].action else { panic!() };
    assert_eq!(action.prefix_rewrite, "/y");
    assert_eq!(action.timeout.unwrap().seconds, 2);
    let retries = action.retry_policy.as_ref().unwrap();
    assert_eq!(
        (retries.num_retries.unwrap().value, retries.retriable_status_codes.as_slice()),
        (3, &[429][..])
    );
    assert_eq!(retries.per_try_timeout.unwrap().nanos, 500_000_000);
}

#[test]
fn header_operations_are_translated_for_routes_and_destinations() {
    let routes = routes(
        "  - headers: {request: {set: {x-a: '1', host: c.example}, add: {x-b: '2'}, remove: [x-c]}, response: {add: {x-d: '4'}}}\n    \
         route:\n    - {destination: {host: payment, subset: stable}, weight: 1, headers: {request: {set: {x-e: '5'}}}}\n    \
         - {destination: {host: payment, subset: canary}, weight: 1}\n",
    );
    let added: Vec<(String, i32)> = routes[0]
        .request_headers_to_add
        .iter()
        .map(|it| (it.header.clone().unwrap().key, it.append_action))
        .collect();
    assert_eq!(added, [("x-a".to_owned(), 2), ("x-b".to_owned(), 0)]);
    assert_eq!(routes[0].request_headers_to_remove, ["x-c"]);
    assert_eq!(routes[0].response_headers_to_add.len(), 1);
}

#[test]
fn what_does_not_act_yet_is_said() {
    let world = with_http(&format!(
        "  - fault: {{abort: {{httpStatus: 500, percentage: {{value: 1}}}}}}\n    mirror: {{host: payment}}\n    corsPolicy: {{allowMethods: [GET]}}\n    {TO_PAYMENT}\n"
    ));
    let fields: Vec<String> = notes(&world, "VirtualService")
        .iter()
        .map(|note| note.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(fields, ["spec.http[0].corsPolicy", "spec.http[0].fault", "spec.http[0].mirror"]);
}

#[test]
fn the_second_virtual_service_of_a_host_is_told() {
    let other = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: z}\nspec:\n  hosts: [payment]\n  http: [{route: [{destination: {host: payment}}]}]\n";
    let world = with_http(&format!("  - {TO_PAYMENT}\n")).with(&apply(other));
    let told = notes(&world, "VirtualService");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("spec.hosts[0]: VirtualService production/payment comes first"), "{told:?}");
}

#[test]
fn a_host_of_another_namespace_must_be_written_in_full() {
    let other = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: z, namespace: other}\nspec:\n  hosts: [payment.production]\n  http: [{route: [{destination: {host: payment.production.svc.cluster.local}}]}]\n";
    let world = world(&[MESH, other]);
    let told = notes(&world, "VirtualService");
    assert!(told[0].contains("write payment.production.svc.cluster.local"), "{told:?}");
    assert_eq!(route_origin(&routes_of(&world, PAYMENT)[0]), "Service/production/payment");
}

#[test]
fn what_a_proxy_would_refuse_is_not_sent_and_said() {
    let http = format!(
        "  - match: [{{uri: {{exact: '/a?b'}}}}]\n    {TO_PAYMENT}\n  \
         - match: [{{uri: {{prefix: /r}}}}]\n    rewrite: {{uriRegexRewrite: {{match: '/(a)', rewrite: '/\\9'}}}}\n    {TO_PAYMENT}\n  \
         - headers: {{request: {{set: {{x-a: '%NO_SUCH%', x-b: ok}}, remove: [te]}}}}\n    {TO_PAYMENT}\n"
    );
    let routes = routes(&http);
    assert_eq!(routes.len(), 2, "the first match can never hold");
    assert!(matches!(&routes[0].action, Some(Action::DirectResponse(it)) if it.status == 500));
    assert_eq!(routes[1].request_headers_to_add.len(), 1);
    assert!(routes[1].request_headers_to_remove.is_empty());
    let fields: Vec<String> = notes(&with_http(&http), "VirtualService")
        .iter()
        .map(|note| note.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.http[0].match[0].uri",
            "spec.http[1].rewrite.uriRegexRewrite.rewrite",
            "spec.http[2].headers.request.remove[0]",
            "spec.http[2].headers.request.set.x-a",
        ]
    );
}

#[test]
fn tulle_is_told_which_retries_nobody_wrote() {
    let default_retries = |http: &str| {
        let route = routes(http).remove(0);
        let ours = &route.metadata.as_ref().unwrap().filter_metadata["tulle"];
        let marked = ours.fields.contains_key(crate::kinds::http_route::DEFAULT_RETRY_POLICY);
        let Some(Action::Route(action)) = route.action else { panic!() };
        (marked, action.retry_policy.and_then(|policy| policy.num_retries).map(|number| number.value))
    };
    assert_eq!(default_retries(&format!("  - {TO_PAYMENT}\n")), (true, Some(2)));
    assert_eq!(
        default_retries(&format!("  - retries: {{attempts: 2}}\n    {TO_PAYMENT}\n")),
        (false, Some(2))
    );
    assert_eq!(default_retries(&format!("  - retries: {{attempts: 0}}\n    {TO_PAYMENT}\n")), (false, None));
    let mut envoy = node("127.10.0.3", "production");
    envoy.flavour = crate::node::Flavour::Envoy;
    let host = virtual_host(&with_http(&format!("  - {TO_PAYMENT}\n")), &envoy, "8080", PAYMENT).unwrap();
    let ours = &host.routes[0].metadata.as_ref().unwrap().filter_metadata["tulle"];
    assert_eq!(ours.fields.len(), 1, "an Envoy runs the policy as it is: {ours:?}");
}
