use super::*;
use crate::node::{Flavour, ProxyNode};
use crate::testing::{self, MESH, all, one, world};
use crate::{World, translate};
use protos::envoy::envoy::config::route::v3::route::Action;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;

fn grpc(address: &str) -> ProxyNode {
    ProxyNode { flavour: Flavour::Grpc, ..testing::node(address, "production") }
}

fn client() -> ProxyNode {
    grpc("127.10.0.3")
}

fn told(world: &World, node: &ProxyNode, type_url: &str) -> Vec<String> {
    let all = translate(world, node, type_url, &Wanted::All);
    all.notes.iter().map(|note| format!("{}: {}", note.field, note.reason)).collect()
}

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\n\
         spec: {{host: payment, trafficPolicy: {policy}}}\n"
    )
}

const CLUSTER: &str = "outbound|8080||payment.production.svc.cluster.local";

#[test]
fn a_target_is_a_service_and_its_port_however_short_it_is_written() {
    let world = world(&[MESH]);
    for name in ["payment:8080", "payment.production:8080", "payment.production.svc:8080"] {
        let listener: Listener = one(&world, &client(), name).unwrap();
        let api = listener.api_listener.unwrap().api_listener.unwrap();
        let manager: HttpConnectionManager = protos::any::open(&api).unwrap();
        assert!(format!("{:?}", manager.route_specifier).contains(CLUSTER), "{name}");
    }
    for name in ["payment", "payment:80", "nobody:8080", "payment.other:8080", ":8080", "payment:x"] {
        assert_eq!(one::<Listener>(&world, &client(), name), None, "{name}");
    }
}

#[test]
fn the_transport_is_that_of_the_endpoints_and_those_that_do_not_speak_it_are_left_out() {
    let plain = MESH.replace("version: canary}, serviceAccount: payment}", "version: canary}}");
    let world = world(&[&plain]);
    let cluster: Cluster = one(&world, &client(), CLUSTER).unwrap();
    assert!(cluster.transport_socket.is_some() && cluster.transport_socket_matches.is_empty());
    let endpoints: ClusterLoadAssignment = one(&world, &client(), CLUSTER).unwrap();
    let group = &endpoints.endpoints[0];
    assert!(group.lb_endpoints.len() == 1 && group.locality.is_some(), "{group:?}");
    let nobody = testing::world(&[&plain.replace("serviceAccount: payment", "weight: 1")]);
    assert_eq!(one::<Cluster>(&nobody, &client(), CLUSTER).unwrap().transport_socket, None);
    let endpoints: ClusterLoadAssignment = one(&nobody, &client(), CLUSTER).unwrap();
    assert_eq!(endpoints.endpoints[0].lb_endpoints.len(), 2);
}

#[test]
#[allow(deprecated)]
fn the_server_must_have_the_identity_of_the_service() {
    use protos::envoy::envoy::config::core::v3::transport_socket::ConfigType;
    use protos::envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
    let cluster: Cluster = one(&world(&[MESH]), &client(), CLUSTER).unwrap();
    let Some(ConfigType::TypedConfig(any)) = cluster.transport_socket.unwrap().config_type else { panic!() };
    let context: UpstreamTlsContext = protos::any::open(&any).unwrap();
    let common = context.common_tls_context.unwrap();
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type else {
        panic!()
    };
    let identity = crate::values::exact("spiffe://cluster.local/ns/production/sa/payment");
    assert_eq!(validation.match_subject_alt_names, [identity]);
}

#[test]
fn tls_that_grpc_cannot_speak_is_never_replaced_by_less() {
    let world = world(&[MESH, &rule("{tls: {mode: SIMPLE, sni: a.example, caCertificates: /ca.pem}}")]);
    assert_eq!(one::<Cluster>(&world, &client(), CLUSTER), None);
    assert_eq!(
        one::<ClusterLoadAssignment>(&world, &client(), CLUSTER).map(|it| it.endpoints.len()),
        Some(1)
    );
    let notes = told(&world, &client(), &protos::any::type_url::<Cluster>());
    assert!(notes.iter().any(|note| note.contains("tls.mode SIMPLE")), "{notes:?}");
}

#[test]
fn what_grpc_does_not_know_of_a_policy_is_said() {
    let policy = "{loadBalancer: {simple: RANDOM}, outlierDetection: {interval: 1s}, \
                  connectionPool: {tcp: {maxConnections: 1}, http: {http2MaxRequests: 7}}}";
    let world = world(&[MESH, &rule(policy)]);
    let cluster: Cluster = one(&world, &client(), CLUSTER).unwrap();
    assert_eq!(cluster.circuit_breakers.unwrap().thresholds[0].max_requests.unwrap().value, 7);
    assert_eq!(cluster.outlier_detection, None);
    let notes = told(&world, &client(), &protos::any::type_url::<Cluster>());
    for part in ["loadBalancer", "outlierDetection", "connectionPool"] {
        assert!(notes.iter().any(|note| note.contains(part)), "{part}: {notes:?}");
    }
    let only = testing::world(&[MESH, &rule("{connectionPool: {http: {http2MaxRequests: 7}}}")]);
    assert!(told(&only, &client(), &protos::any::type_url::<Cluster>()).is_empty());
}

fn routes(http: &str) -> (Vec<protos::envoy::envoy::config::route::v3::Route>, Vec<String>) {
    let virtual_service = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\n\
         spec:\n  hosts: [payment]\n  http:\n{http}"
    );
    let world = world(&[MESH, &virtual_service]);
    let routes: RouteConfiguration = one(&world, &client(), CLUSTER).unwrap();
    let notes = told(&world, &client(), &protos::any::type_url::<RouteConfiguration>());
    (routes.virtual_hosts.into_iter().next().unwrap().routes, notes)
}

const TO_PAYMENT: &str = "route: [{destination: {host: payment}}]";

#[test]
fn a_timeout_is_the_longest_life_of_a_stream_and_only_written_retries_are_sent() {
    let action = |http: &str| match routes(http).0.remove(0).action {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    };
    let limited = action(&format!("  - timeout: 3s\n    {TO_PAYMENT}\n"));
    assert_eq!(limited.timeout, None);
    assert_eq!(limited.max_stream_duration.unwrap().max_stream_duration.unwrap().seconds, 3);
    assert_eq!(limited.retry_policy, None, "gRPC repeats by itself what did not reach the server");
    let retries = |on: &str| {
        action(&format!("  - retries: {{attempts: 3, retryOn: '{on}'}}\n    {TO_PAYMENT}\n")).retry_policy
    };
    assert_eq!(retries("unavailable,5xx").unwrap().retry_on, "unavailable");
    assert_eq!(retries("5xx,503"), None);
}

#[test]
fn what_grpc_does_not_know_of_a_rule_is_said() {
    let (found, notes) = routes(&format!(
        "  - match: [{{queryParams: {{a: {{exact: b}}}}}}]\n    {TO_PAYMENT}\n  \
         - name: x\n    headers: {{request: {{set: {{a: b}}}}}}\n    {TO_PAYMENT}\n"
    ));
    assert_eq!((found.len(), found[0].name.as_str()), (1, "x"));
    assert!(found[0].request_headers_to_add.is_empty());
    assert!(notes.iter().any(|note| note.contains("neither headers")), "{notes:?}");
    let (_, notes) = routes(&format!("  - {TO_PAYMENT}\n"));
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_server_takes_what_the_policy_of_its_workload_says() {
    let server = grpc("127.10.0.1");
    let mode = |mode: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    for (written, mutual) in [("STRICT", true), ("PERMISSIVE", true), ("DISABLE", false)] {
        let world = world(&[MESH, &mode(written)]);
        for name in ["127.10.0.1:8080", "0.0.0.0:8080", "[::]:8080"] {
            let listener: Listener = one(&world, &server, &format!("{}{name}", listener::SERVER)).unwrap();
            assert_eq!(listener.filter_chains.len(), 1);
            assert_eq!(listener.filter_chains[0].transport_socket.is_some(), mutual, "{written}");
        }
    }
    let world = world(&[MESH]);
    for name in ["127.10.0.1:9999", "127.10.0.2:8080", "here", ""] {
        assert_eq!(one::<Listener>(&world, &server, &format!("{}{name}", listener::SERVER)), None, "{name}");
    }
    assert_eq!(all::<Listener>(&world, &server).len(), 3, "two to call and one to serve");
}
