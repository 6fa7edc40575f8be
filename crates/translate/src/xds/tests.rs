//! Tests of whole resources as one proxy gets them.

use std::collections::BTreeSet;

use api::MeshConfig;
use protos::envoy::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType};
use protos::envoy::envoy::config::core::v3::{
    Metadata, address, socket_address, transport_socket::ConfigType,
};
use protos::envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier,
};
use protos::envoy::envoy::config::listener::v3::{Listener, filter};
use protos::envoy::envoy::config::route::v3::{RouteConfiguration, route::Action};
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use protos::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::node::Flavour;
use crate::testing::{self, MESH, all, frontend, node, notes, one, virtual_host, world};
use crate::world::{Change, World};
use crate::{Wanted, translate};

const PAYMENT: &str = "payment.production.svc.cluster.local";

fn mesh(world: &World, mesh: MeshConfig) -> World {
    world.with(&[Change::Mesh(mesh.into())])
}

fn names(world: &World) -> Vec<String> {
    all::<Listener>(world, &frontend()).into_iter().map(|listener| listener.name).collect()
}

fn manager(listener: &Listener, chain: usize) -> HttpConnectionManager {
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[chain].filters[0].config_type
    else {
        panic!("{listener:?}");
    };
    protos::any::open(any).unwrap()
}

fn filters(manager: &HttpConnectionManager) -> Vec<&str> {
    manager.http_filters.iter().map(|filter| filter.name.as_str()).collect()
}

#[test]
fn a_sidecar_listens_on_its_own_target_ports_and_on_service_addresses() {
    let world = world(&[MESH]);
    assert_eq!(names(&world), ["127.10.0.3_9090", "127.20.0.1_8080", "127.20.0.2_8080"]);
    let mut quiet = frontend();
    quiet.bind_vips = false;
    let listeners: Vec<Listener> = all(&world, &quiet);
    assert_eq!(listeners.len(), 1, "another sidecar of the machine has the Services' addresses");
}

#[test]
fn the_http_proxy_is_opened_on_demand() {
    let world = mesh(&world(&[MESH]), MeshConfig { proxy_http_port: 15080, ..Default::default() });
    assert!(names(&world).contains(&"127.10.0.3_15080".to_owned()));
    let host = virtual_host(&world, &frontend(), "http_proxy", &format!("{PAYMENT}:8080")).unwrap();
    assert!(!host.domains.contains(&PAYMENT.to_owned()), "the bare host means port 80");
    let clash = mesh(&world, MeshConfig { proxy_http_port: 9090, ..Default::default() });
    assert_eq!(names(&clash).iter().filter(|name| *name == "127.10.0.3_9090").count(), 1);
    let translated = translate(&clash, &frontend(), &protos::any::type_url::<Listener>(), &Wanted::All);
    assert_eq!(translated.notes[0].field, "meshConfig.proxyHttpPort");
}

#[test]
fn tcp_ports_pass_bytes_on_and_need_an_address() {
    let tcp = MESH.replace("{name: http, port: 8080}", "{name: tcp, port: 8080}");
    let world = world(&[&tcp]);
    assert_eq!(names(&world), ["127.10.0.3_9090", "127.20.0.1_8080", "127.20.0.2_8080"]);
    assert!(notes(&world, "Service").is_empty());
    let cluster: Cluster = one(&world, &frontend(), &format!("outbound|8080||{PAYMENT}")).unwrap();
    assert!(cluster.typed_extension_protocol_options.is_empty());
    let elsewhere = testing::world(&[&tcp.replace("clusterIP: 127.20.0.1", "clusterIP: 10.0.0.1")]);
    assert_eq!(names(&elsewhere), ["127.10.0.3_9090", "127.20.0.2_8080"]);
    assert!(notes(&elsewhere, "Service").iter().any(|note| note.contains("127.0.0.0/8 only")));
}

/// Names of the network filters of each chain.
fn network_filters(world: &World, node: &crate::ProxyNode, listener: &str) -> Vec<(String, Vec<String>)> {
    let listener: Listener = one(world, node, listener).unwrap();
    let names = |chain: protos::envoy::envoy::config::listener::v3::FilterChain| {
        (chain.name, chain.filters.into_iter().map(|filter| filter.name).collect())
    };
    listener.filter_chains.into_iter().map(names).collect()
}

#[test]
fn a_tcp_port_of_the_app_asks_policies_once_and_lets_the_apps_own_tls_pass() {
    let tcp = MESH.replace("{name: http, port: 8080}", "{name: tcp, port: 8080}");
    let server = node("127.10.0.1", "production");
    let rbac = "envoy.filters.network.rbac";
    let forward = "envoy.filters.network.tcp_proxy";
    let chains = network_filters(&world(&[&tcp]), &server, "127.10.0.1_8080");
    let names: Vec<&str> = chains.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["127.10.0.1_8080_tls", "127.10.0.1_8080_plain", "127.10.0.1_8080_passthrough"]);
    assert!(chains.iter().all(|(_, filters)| filters == &["istio.stats", forward]));
    let policy = |rule: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a}}\n\
             spec: {{rules: [{rule}]}}\n"
        )
    };
    for rule in ["{from: [{source: {namespaces: [production]}}]}", "{to: [{operation: {methods: [GET]}}]}"] {
        let chains = network_filters(&world(&[&tcp, &policy(rule)]), &server, "127.10.0.1_8080");
        assert!(chains.iter().all(|(_, filters)| filters == &[rbac, "istio.stats", forward]), "{rule}");
    }
    let strict = world(&[&tcp, &authentication("STRICT")]);
    assert_eq!(network_filters(&strict, &server, "127.10.0.1_8080").len(), 1);
}

fn authentication(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn inbound(mode: &str) -> Listener {
    let world = world(&[MESH, &authentication(mode)]);
    one(&world, &frontend(), "127.10.0.3_9090").unwrap()
}

fn transports(listener: &Listener) -> Vec<(String, bool)> {
    let chain = |it: &protos::envoy::envoy::config::listener::v3::FilterChain| {
        let transport = it.filter_chain_match.as_ref().map(|it| it.transport_protocol.clone());
        (transport.unwrap_or_default(), it.transport_socket.is_some())
    };
    listener.filter_chains.iter().map(chain).collect()
}

#[test]
fn strict_takes_tls_only_permissive_both_and_disable_plain_text_only() {
    assert_eq!(transports(&inbound("STRICT")), [(String::new(), true)]);
    assert!(inbound("STRICT").listener_filters.is_empty());
    assert_eq!(
        transports(&inbound("PERMISSIVE")),
        [("tls".to_owned(), true), ("raw_buffer".to_owned(), false)]
    );
    assert_eq!(inbound("PERMISSIVE").listener_filters.len(), 1);
    assert_eq!(transports(&inbound("DISABLE")), [(String::new(), false)]);
}

#[test]
fn a_server_demands_a_certificate_of_its_trust_domain() {
    let listener = inbound("STRICT");
    let Some(ConfigType::TypedConfig(any)) =
        &listener.filter_chains[0].transport_socket.as_ref().unwrap().config_type
    else {
        panic!();
    };
    let context: DownstreamTlsContext = protos::any::open(any).unwrap();
    assert!(context.require_client_certificate.unwrap().value);
    let Some(ValidationContextType::CombinedValidationContext(validation)) =
        context.common_tls_context.unwrap().validation_context_type
    else {
        panic!();
    };
    let names = validation.default_validation_context.unwrap().match_typed_subject_alt_names;
    let pattern = names[0].matcher.as_ref().unwrap().match_pattern.clone().unwrap();
    assert_eq!(pattern, MatchPattern::Prefix("spiffe://cluster.local/".to_owned()));
    assert_eq!(validation.validation_context_sds_secret_config.unwrap().name, "ROOTCA");
}

#[test]
fn envoy_gets_its_secrets_beside_it_and_tulle_proxy_has_them() {
    use protos::envoy::envoy::config::core::v3::{
        config_source::ConfigSourceSpecifier, grpc_service::TargetSpecifier,
    };
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
    let world = world(&[MESH, strict]);
    let source = |node: &crate::node::ProxyNode| {
        let listener: Listener = one(&world, node, "127.10.0.3_9090").unwrap();
        let socket = listener.filter_chains[0].transport_socket.clone().unwrap();
        let Some(ConfigType::TypedConfig(any)) = socket.config_type else { panic!() };
        let context: DownstreamTlsContext = protos::any::open(&any).unwrap();
        let secrets = context.common_tls_context.unwrap().tls_certificate_sds_secret_configs;
        secrets[0].sds_config.clone().unwrap().config_source_specifier.unwrap()
    };
    assert!(matches!(source(&frontend()), ConfigSourceSpecifier::Ads(_)));
    let mut envoy = frontend();
    envoy.flavour = Flavour::Envoy;
    let ConfigSourceSpecifier::ApiConfigSource(api) = source(&envoy) else { panic!() };
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &api.grpc_services[0].target_specifier else { panic!() };
    assert_eq!(grpc.cluster_name, "sds-grpc");
}

#[test]
fn only_tulle_gets_the_filters_that_only_it_knows() {
    let allow = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{}]}\n";
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: b}\nspec: {action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}\n";
    let world = world(&[MESH, allow, deny]);
    let listener: Listener = one(&world, &frontend(), "127.10.0.3_9090").unwrap();
    let rbac = "envoy.filters.http.rbac";
    let router = "envoy.filters.http.router";
    assert_eq!(
        filters(&manager(&listener, 0)),
        ["istio.metadata_exchange", rbac, rbac, "istio.stats", router]
    );
    let mut envoy = frontend();
    envoy.flavour = Flavour::Envoy;
    let listener: Listener = one(&world, &envoy, "127.10.0.3_9090").unwrap();
    assert_eq!(filters(&manager(&listener, 0)), [rbac, rbac, router]);
    let outbound: Listener = one(&world, &frontend(), "127.20.0.1_8080").unwrap();
    assert_eq!(filters(&manager(&outbound, 0)), ["istio.metadata_exchange", "istio.stats", router]);
    let Some(RouteSpecifier::Rds(rds)) = manager(&outbound, 0).route_specifier else { panic!() };
    assert_eq!(rds.route_config_name, "8080");
}

#[test]
fn short_names_are_those_of_the_clients_namespace() {
    let world = world(&[MESH]);
    let near = virtual_host(&world, &frontend(), "8080", PAYMENT).unwrap();
    for domain in
        ["payment", "payment:8080", "payment.production", "payment.production.svc:8080", "127.20.0.1:8080"]
    {
        assert!(near.domains.iter().any(|it| it == domain), "{domain} is missing in {:?}", near.domains);
    }
    let far = virtual_host(&world, &node("127.10.0.99", "other"), "8080", PAYMENT).unwrap();
    assert!(!far.domains.iter().any(|it| it == "payment"), "{:?}", far.domains);
    assert!(far.domains.iter().any(|it| it == "payment.production"));
}

#[test]
fn no_domain_is_claimed_twice() {
    let twin = "apiVersion: v1\nkind: Service\nmetadata: {name: payment, namespace: other}\nspec: {selector: {app: payment}, clusterIP: 127.20.0.1, ports: [{name: http, port: 8080}]}\n";
    let world = world(&[MESH, twin]);
    let routes: RouteConfiguration = one(&world, &frontend(), "8080").unwrap();
    let domains: Vec<&String> = routes.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
    let distinct: BTreeSet<&&String> = domains.iter().collect();
    assert_eq!(domains.len(), distinct.len(), "{domains:?}");
}

#[test]
fn unknown_hosts_are_refused_and_unknown_routes_do_not_exist() {
    let world = world(&[MESH]);
    let any = virtual_host(&world, &frontend(), "8080", "*").unwrap();
    assert!(matches!(&any.routes[0].action, Some(Action::DirectResponse(it)) if it.status == 502));
    for name in ["", "x", "08080", "99999", "inbound|8080||"] {
        assert_eq!(one::<RouteConfiguration>(&world, &frontend(), name), None, "{name}");
    }
}

#[test]
fn hosts_outside_the_registry_are_routed_on_port_80() {
    let route = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  hosts: [www.example.com]\n  http: [{{route: [{{destination: {{host: {PAYMENT}}}}}]}}]\n"
    );
    let world = mesh(&world(&[MESH, &route]), MeshConfig { proxy_http_port: 15080, ..Default::default() });
    for domain in ["www.example.com", "www.example.com:80"] {
        assert!(virtual_host(&world, &frontend(), "http_proxy", domain).is_some(), "{domain}");
    }
    assert!(virtual_host(&world, &frontend(), "8080", "www.example.com").is_none());
}

#[test]
fn a_route_of_all_hosts_is_for_services_and_leaves_the_refusal_of_unknown_hosts() {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  hosts: [a.example]\n  http: [{{route: [{{destination: {{host: {PAYMENT}}}}}]}}]\n"
    );
    // The api room refuses such a host; two virtual hosts for `*` would make a proxy refuse all routes.
    let mut objects = crate::testing::objects(&text);
    let api::Object::VirtualService(route) = &mut objects[0] else { panic!() };
    std::sync::Arc::make_mut(route).spec.hosts = vec!["*".to_owned()];
    let world = world(&[MESH]).with(&[Change::Apply(objects.remove(0))]);
    let world = mesh(&world, MeshConfig { proxy_http_port: 15080, ..Default::default() });
    let routes: RouteConfiguration = one(&world, &frontend(), "http_proxy").unwrap();
    let all = routes.virtual_hosts.iter().filter(|host| host.domains.iter().any(|domain| domain == "*"));
    assert_eq!(all.map(|host| host.name.as_str()).collect::<Vec<_>>(), ["block_all"]);
}

fn upstream(cluster: &Cluster) -> UpstreamTlsContext {
    let socket = match &cluster.transport_socket {
        Some(socket) => socket,
        None => cluster.transport_socket_matches[0].transport_socket.as_ref().unwrap(),
    };
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else { panic!() };
    protos::any::open(any).unwrap()
}

fn identities(cluster: &Cluster) -> Vec<MatchPattern> {
    let common = upstream(cluster).common_tls_context.unwrap();
    let Some(ValidationContextType::CombinedValidationContext(it)) = common.validation_context_type else {
        panic!()
    };
    let names = it.default_validation_context.unwrap().match_typed_subject_alt_names;
    names.into_iter().map(|name| name.matcher.unwrap().match_pattern.unwrap()).collect()
}

fn payment_cluster(world: &World) -> Cluster {
    one(world, &frontend(), &format!("outbound|8080||{PAYMENT}")).unwrap()
}

#[test]
fn mutual_tls_is_automatic_and_accepts_the_services_identities_only() {
    let cluster = payment_cluster(&world(&[MESH]));
    let names: Vec<&str> = cluster.transport_socket_matches.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["tlsMode-istio", "tlsMode-disabled"]);
    assert_eq!(upstream(&cluster).sni, format!("outbound_.8080_._.{PAYMENT}"));
    let expected = MatchPattern::Exact("spiffe://cluster.local/ns/production/sa/payment".to_owned());
    assert_eq!(identities(&cluster), [expected]);
}

#[test]
fn a_service_without_workloads_expects_identities_of_its_namespace() {
    let empty = MESH.replace("app: payment, version", "app: gone, version");
    let expected = MatchPattern::Prefix("spiffe://cluster.local/ns/production/sa/".to_owned());
    assert_eq!(identities(&payment_cluster(&world(&[&empty]))), [expected]);
}

fn with_tls(tls: &str) -> Cluster {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\nspec: {{host: payment, trafficPolicy: {{tls: {tls}}}}}\n"
    );
    payment_cluster(&world(&[MESH, &rule]))
}

#[test]
fn a_written_tls_mode_beats_the_automatic_one() {
    let disabled = with_tls("{mode: DISABLE}");
    assert!(disabled.transport_socket.is_none() && disabled.transport_socket_matches.is_empty());
    let mutual = with_tls("{mode: ISTIO_MUTUAL}");
    assert!(mutual.transport_socket_matches.is_empty() && mutual.transport_socket.is_some());
    assert_eq!(identities(&mutual).len(), 1);
    let simple = upstream(&with_tls(
        "{mode: SIMPLE, sni: a.example, caCertificates: /ca.pem, subjectAltNames: [a.example]}",
    ));
    assert_eq!((simple.sni.as_str(), simple.auto_host_sni), ("a.example", false));
}

#[test]
fn tls_that_cannot_be_spoken_is_never_replaced_by_less() {
    let name = format!("outbound|8080||{PAYMENT}");
    for (tls, field, envoy_can) in [
        ("{mode: SIMPLE, sni: a.example}", "caCertificates", true),
        ("{mode: SIMPLE, caCertificates: /ca.pem}", "sni", true),
        ("{mode: SIMPLE, sni: a.example, insecureSkipVerify: true}", "insecureSkipVerify", true),
        ("{mode: SIMPLE, sni: a.example, credentialName: secret}", "credentialName", false),
    ] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\nspec: {{host: payment, workloadSelector: {{matchLabels: {{app: frontend}}}}, trafficPolicy: {{tls: {tls}}}}}\n"
        );
        let world = world(&[MESH, &rule]);
        assert_eq!(one::<Cluster>(&world, &frontend(), &name), None, "{tls}");
        assert!(all::<Cluster>(&world, &frontend()).iter().all(|cluster| cluster.name != name), "{tls}");
        let told = notes(&world, "DestinationRule");
        assert!(told[0].starts_with(&format!("spec.trafficPolicy.tls.{field}: ")), "{told:?}");
        let mut envoy = frontend();
        envoy.flavour = Flavour::Envoy;
        assert_eq!(one::<Cluster>(&world, &envoy, &name).is_some(), envoy_can, "{tls}");
    }
}

#[test]
fn names_of_a_server_are_checked_under_roots_or_not_at_all() {
    let mut envoy = frontend();
    envoy.flavour = Flavour::Envoy;
    // Whether MeshConfig verifies; what is written; whether there are roots, and how many names.
    for (verify, written, roots, names) in [
        (true, "", true, 1),
        (false, "", false, 0),
        (false, ", subjectAltNames: [a.example, b.example]", true, 2),
        (false, ", caCrl: /crl.pem", true, 1),
    ] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\nspec: {{host: payment, trafficPolicy: {{tls: {{mode: SIMPLE, sni: a.example{written}}}}}}}\n"
        );
        let settings = MeshConfig { verify_certificate_at_client: Some(verify), ..Default::default() };
        let world = mesh(&world(&[MESH, &rule]), settings);
        let cluster: Cluster = one(&world, &envoy, &format!("outbound|8080||{PAYMENT}")).unwrap();
        let common = upstream(&cluster).common_tls_context.unwrap();
        let Some(ValidationContextType::ValidationContext(it)) = common.validation_context_type else {
            panic!()
        };
        let found = (it.system_root_certs.is_some(), it.match_typed_subject_alt_names.len());
        assert_eq!(found, (roots, names), "{verify} {written}");
    }
}

#[test]
fn clusters_carry_the_policy_of_their_rule() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: payment\n  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {connectTimeout: 2s}}}\n  subsets: [{name: v1, labels: {version: stable}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]\n";
    let world = world(&[MESH, rule]);
    let whole = payment_cluster(&world);
    let subset: Cluster = one(&world, &frontend(), &format!("outbound|8080|v1|{PAYMENT}")).unwrap();
    assert_eq!((whole.lb_policy, subset.lb_policy), (0, 3));
    assert_eq!(subset.connect_timeout.unwrap().seconds, 2);
    assert!(matches!(whole.cluster_discovery_type, Some(ClusterDiscoveryType::Type(3))));
    assert_eq!(
        subset.circuit_breakers.unwrap().thresholds[0].max_connections.unwrap().value,
        u32::MAX,
        "nobody limited them"
    );
    assert_eq!(one::<Cluster>(&world, &frontend(), &format!("outbound|8080|v2|{PAYMENT}")), None);
}

#[test]
fn asked_by_name_or_for_all_a_resource_is_the_same() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: payment, subsets: [{name: v1, labels: {version: stable}}]}\n";
    let world = mesh(&world(&[MESH, rule]), MeshConfig { proxy_http_port: 15080, ..Default::default() });
    for type_url in [
        protos::any::type_url::<Listener>(),
        protos::any::type_url::<RouteConfiguration>(),
        protos::any::type_url::<Cluster>(),
        protos::any::type_url::<ClusterLoadAssignment>(),
    ] {
        let all = translate(&world, &frontend(), &type_url, &Wanted::All).resources;
        assert!(all.len() > 1, "{type_url}");
        for named in all {
            let names = BTreeSet::from([named.name.clone()]);
            let again = translate(&world, &frontend(), &type_url, &Wanted::Names(&names)).resources;
            assert_eq!(again, [named]);
        }
    }
}

#[test]
fn translating_again_gives_the_same_bytes() {
    let policies: String = (0..12)
        .map(|i| format!("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{i}}}\nspec: {{rules: [{{}}]}}\n"))
        .collect();
    let world = world(&[MESH, policies.trim_start_matches("---\n")]);
    let everything = || -> Vec<String> {
        let types = [
            protos::any::type_url::<Listener>(),
            protos::any::type_url::<RouteConfiguration>(),
            protos::any::type_url::<Cluster>(),
            protos::any::type_url::<ClusterLoadAssignment>(),
        ];
        let translated =
            types.iter().flat_map(|it| translate(&world, &frontend(), it, &Wanted::All).resources);
        translated.map(|named| named.version).collect()
    };
    let first = everything();
    for _ in 0..10 {
        assert_eq!(everything(), first);
    }
}

fn endpoints(world: &World, cluster: &str) -> Vec<LbEndpoint> {
    let assignment: ClusterLoadAssignment = one(world, &frontend(), cluster).unwrap();
    assignment.endpoints.into_iter().flat_map(|group| group.lb_endpoints).collect()
}

fn socket(endpoint: &LbEndpoint) -> (String, u32) {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { panic!() };
    let Some(address::Address::SocketAddress(it)) = &endpoint.address.as_ref().unwrap().address else {
        panic!()
    };
    let Some(socket_address::PortSpecifier::PortValue(port)) = it.port_specifier else { panic!() };
    (it.address.clone(), port)
}

fn speaks_tls(metadata: Option<&Metadata>) -> bool {
    metadata.is_some_and(|it| it.filter_metadata.contains_key("envoy.transport_socket_match"))
}

#[test]
fn endpoints_are_the_selected_workloads_on_their_target_ports() {
    let world = world(&[MESH]);
    let payment = endpoints(&world, &format!("outbound|8080||{PAYMENT}"));
    let sockets: Vec<(String, u32)> = payment.iter().map(socket).collect();
    assert_eq!(sockets, [("127.10.0.1".to_owned(), 8080), ("127.10.0.2".to_owned(), 8080)]);
    let frontend = endpoints(&world, "outbound|8080||frontend.production.svc.cluster.local");
    assert_eq!(socket(&frontend[0]), ("127.10.0.3".to_owned(), 9090));
}

#[test]
fn an_endpoint_is_called_with_tls_if_it_has_an_identity_and_takes_tls() {
    let cluster = format!("outbound|8080||{PAYMENT}");
    let secure = |world: &World| speaks_tls(endpoints(world, &cluster)[0].metadata.as_ref());
    assert!(secure(&world(&[MESH])));
    assert!(!secure(&world(&[MESH, &authentication("DISABLE")])));
    assert!(!secure(&world(&[&MESH.replace(", serviceAccount: payment", "")])));
}

#[test]
fn a_known_cluster_without_endpoints_has_an_empty_list_and_an_unknown_one_none() {
    let empty = MESH.replace("app: payment, version", "app: gone, version");
    let world = world(&[&empty]);
    assert!(endpoints(&world, &format!("outbound|8080||{PAYMENT}")).is_empty());
    for name in [format!("outbound|9||{PAYMENT}"), format!("outbound|8080|x|{PAYMENT}"), "x".to_owned()] {
        assert_eq!(one::<ClusterLoadAssignment>(&world, &frontend(), &name), None, "{name}");
    }
}

#[test]
fn a_hidden_service_is_not_served_to_others() {
    let hidden = MESH.replacen(
        "{name: payment}",
        "{name: payment, annotations: {networking.istio.io/exportTo: '.'}}",
        1,
    );
    let world = world(&[&hidden]);
    let name = format!("outbound|8080||{PAYMENT}");
    assert!(one::<Cluster>(&world, &frontend(), &name).is_some());
    let other = node("127.10.0.99", "other");
    assert_eq!(one::<Cluster>(&world, &other, &name), None);
    assert_eq!(one::<ClusterLoadAssignment>(&world, &other, &name), None);
    assert!(virtual_host(&world, &other, "8080", PAYMENT).is_none());
}

#[test]
fn a_proxy_unknown_to_the_registry_is_known_by_its_own_labels() {
    let world = world(&[MESH]);
    let mut stranger = node("127.10.0.77", "production");
    assert!(all::<Listener>(&world, &stranger).iter().all(|it| !it.name.starts_with("127.10.0.77")));
    stranger.labels = crate::testing::labels(&[("app", "payment")]);
    assert!(all::<Listener>(&world, &stranger).iter().any(|it| it.name == "127.10.0.77_8080"));
    // The registry's labels beat the claim of a proxy that it knows.
    let mut liar = frontend();
    liar.labels = crate::testing::labels(&[("app", "payment")]);
    assert!(all::<Listener>(&world, &liar).iter().all(|it| it.name != "127.10.0.3_8080"));
}

#[test]
fn types_that_are_not_served_are_said() {
    let translated = translate(&world(&[MESH]), &frontend(), "type.googleapis.com/x.Y", &Wanted::All);
    assert!(translated.resources.is_empty());
    assert!(translated.notes[0].reason.contains("x.Y"));
}
