//! One static bootstrap for the caller's sidecar and those of all workloads: what `translate` makes of a world, with
//! discovery replaced by what would be discovered, and secrets by files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use protos::json::Pool;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::{Value, json};
use translate::{Flavour, ProxyNode, Wanted, translate};

use super::generate::{SERVICES, World, service};

const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Certificates of the caller (`front`) and of every service's account, in a folder.
pub struct Certificates(PathBuf);

impl Certificates {
    /// Signs them with a root of their own.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn write(folder: &Path) -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join("root.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for account in (0..SERVICES).map(service).chain(["front".to_owned()]) {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            let id = format!("spiffe://cluster.local/ns/shop/sa/{account}");
            params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let key = KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.join(format!("{account}.pem")), leaf.pem()).unwrap();
            std::fs::write(folder.join(format!("{account}.key")), key.serialize_pem()).unwrap();
        }
        Certificates(folder.to_owned())
    }

    /// Replaces secrets that would be discovered by files.
    fn install(&self, value: &mut Value, account: &str) {
        let file = |name: String| json!({"filename": self.0.join(name)});
        match value {
            Value::Object(fields) => {
                if let Some(Value::Object(context)) = fields.get_mut("common_tls_context") {
                    let combined = context.remove("combined_validation_context").unwrap_or_default();
                    let mut validation = combined["default_validation_context"].clone();
                    if !validation.is_object() {
                        validation = json!({});
                    }
                    validation["trusted_ca"] = file("root.pem".to_owned());
                    context.remove("validation_context_sds_secret_config");
                    context.remove("tls_certificate_sds_secret_configs");
                    context.insert("validation_context".to_owned(), validation);
                    let own = json!([{
                        "certificate_chain": file(format!("{account}.pem")),
                        "private_key": file(format!("{account}.key")),
                    }]);
                    context.insert("tls_certificates".to_owned(), own);
                }
                fields.values_mut().for_each(|value| self.install(value, account));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.install(value, account)),
            _ => {}
        }
    }
}

fn resources(world: &translate::World, node: &ProxyNode, type_url: &str, pool: &Pool) -> Vec<Value> {
    let json = |named: translate::Named| {
        let mut value: Value = pool.any_to_json(&named.any).unwrap();
        value.as_object_mut().unwrap().remove("@type");
        value
    };
    translate(world, node, type_url, &Wanted::All).resources.into_iter().map(json).collect()
}

/// Puts routes into the connection managers that would discover them.
fn with_routes(value: &mut Value, routes: &[Value]) {
    match value {
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let found = routes.iter().find(|it| it["name"] == rds["route_config_name"]);
                fields.insert("route_config".to_owned(), found.cloned().expect("the routes are there"));
            }
            fields.values_mut().for_each(|value| with_routes(value, routes));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| with_routes(value, routes)),
        _ => {}
    }
}

/// Gives the inbound cluster of a workload a name of its own.
fn renamed(value: &mut Value, workload: usize) {
    match value {
        Value::String(text) if text == "inbound|8080||" => *text = format!("inbound|8080|w{workload}|"),
        Value::Object(fields) => fields.values_mut().for_each(|value| renamed(value, workload)),
        Value::Array(values) => values.iter_mut().for_each(|value| renamed(value, workload)),
        _ => {}
    }
}

fn node(world: &translate::World, name: &str) -> ProxyNode {
    let entry = cli::workload::find(world, name).unwrap();
    ProxyNode { flavour: Flavour::Envoy, ..cli::workload::proxy(entry).unwrap() }
}

/// The bootstrap; programs listen on 127.BLOCK.3.x:`port`.
///
/// # Panics
/// The world lacks what every generated world has.
pub fn bootstrap(
    world: &World,
    parsed: &translate::World,
    certificates: &Certificates,
    port: u16,
    admin: SocketAddr,
) -> Value {
    let pool = Pool::load().unwrap();
    let caller = node(parsed, "shop/caller");
    let routes = resources(parsed, &caller, ROUTES, &pool);
    let mut listeners: Vec<Value> = resources(parsed, &caller, LISTENERS, &pool)
        .into_iter()
        .filter(|it| {
            let address = it["address"]["socket_address"]["address"].as_str().unwrap_or_default();
            (0..SERVICES).any(|number| world.service_address(number) == address)
        })
        .collect();
    listeners.iter_mut().for_each(|listener| with_routes(listener, &routes));
    let assignments = resources(parsed, &caller, ENDPOINTS, &pool);
    let mut clusters: Vec<Value> = resources(parsed, &caller, CLUSTERS, &pool)
        .into_iter()
        .filter(|it| it["name"].as_str().is_some_and(|name| name.starts_with("outbound|")))
        .collect();
    for cluster in &mut clusters {
        let name = cluster["eds_cluster_config"]["service_name"].as_str().unwrap_or_default().to_owned();
        let name = if name.is_empty() { cluster["name"].as_str().unwrap().to_owned() } else { name };
        let assignment = assignments.iter().find(|it| it["cluster_name"] == name.as_str());
        let fields = cluster.as_object_mut().unwrap();
        fields.remove("eds_cluster_config");
        fields.insert("type".to_owned(), json!("STATIC"));
        let none = || json!({"cluster_name": name});
        fields.insert("load_assignment".to_owned(), assignment.cloned().unwrap_or_else(none));
        certificates.install(cluster, "front");
    }
    for workload in 0..SERVICES * 2 {
        let name = format!("{}-v{}", service(workload / 2), workload % 2 + 1);
        let own = node(parsed, &format!("shop/{name}"));
        let address = world.workload_address(workload);
        let mine = |it: &Value| {
            let socket = &it["address"]["socket_address"];
            socket["address"] == address.as_str() && socket["port_value"] == 8080
        };
        let mut listener =
            resources(parsed, &own, LISTENERS, &pool).into_iter().find(mine).expect("a listener");
        listener["name"] = json!(format!("w{workload}"));
        with_routes(&mut listener, &resources(parsed, &own, ROUTES, &pool));
        renamed(&mut listener, workload);
        certificates.install(&mut listener, &service(workload / 2));
        listeners.push(listener);
        let program = json!({"address": {"socket_address": {
            "address": format!("127.{}.3.{}", world.block, workload + 1), "port_value": port,
        }}});
        clusters.push(json!({
            "name": format!("inbound|8080|w{workload}|"), "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": format!("inbound|8080|w{workload}|"),
                "endpoints": [{"lb_endpoints": [{"endpoint": program}]}],
            },
        }));
    }
    let admin = json!({"socket_address": {"address": admin.ip().to_string(), "port_value": admin.port()}});
    json!({
        "node": {"id": "pairs", "cluster": "pairs"},
        "admin": {"address": admin},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}
