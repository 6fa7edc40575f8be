//! What `translate` makes of every golden world for an Envoy is a configuration that the real Envoy accepts.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use api::{MeshConfig, Object};
use protos::envoy::envoy::config::core::v3::Node;
use protos::json::Pool;
use serde_json::{Value, json};
use tests::mixed::bootstrap::secret_server;
use tests::mixed::envoy;
use translate::{Change, Flavour, ProxyNode, Wanted, World, translate};

const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The first state of a golden world, without its later steps.
fn world(folder: &Path) -> World {
    let mut changes = Vec::new();
    for path in sorted(folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".yaml") || name.starts_with("then-") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if name == "mesh.yaml" {
            changes.push(Change::Mesh(api::parse_mesh_config(name, &bytes).0.unwrap().into()));
        } else {
            let objects: Vec<Object> = api::parse(name, &bytes, "production").objects;
            changes.extend(objects.into_iter().map(Change::Apply));
        }
    }
    World::empty(MeshConfig::default()).with(&changes)
}

fn nodes(folder: &Path, pool: &Pool) -> Vec<(String, ProxyNode)> {
    let text = std::fs::read_to_string(folder.join("proxies.json")).unwrap();
    let proxies: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let read = |(name, proxy): (String, Value)| {
        let node: Node = pool.from_json(&proxy["node"].to_string()).unwrap();
        (name, ProxyNode { flavour: Flavour::Envoy, ..ProxyNode::from_node(&node).unwrap() })
    };
    proxies.into_iter().map(read).collect()
}

fn resources(world: &World, node: &ProxyNode, type_url: &str, pool: &Pool) -> Vec<Value> {
    let json = |named: translate::Named| {
        let mut value: Value = pool.any_to_json(&named.any).unwrap();
        value.as_object_mut().unwrap().remove("@type");
        value
    };
    translate(world, node, type_url, &Wanted::All).resources.into_iter().map(json).collect()
}

/// A listener around a route configuration, so that a static bootstrap can hold it.
fn listener_of(route: &Value, number: usize) -> Value {
    let any = |name: &str| json!({"@type": format!("type.googleapis.com/{name}")});
    let mut manager =
        any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
    manager["stat_prefix"] = json!("routes");
    manager["route_config"] = route.clone();
    let router = any("envoy.extensions.filters.http.router.v3.Router");
    manager["http_filters"] = json!([{"name": "envoy.filters.http.router", "typed_config": router}]);
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({
        "name": format!("routes-{number}"),
        "address": {"socket_address": {"address": "127.43.255.1", "port_value": 20_000 + number}},
        "filter_chains": [{"filters": [filter]}],
    })
}

/// Everything that the node would get, as one bootstrap.
fn bootstrap(world: &World, node: &ProxyNode, pool: &Pool) -> Value {
    let mut listeners = resources(world, node, LISTENERS, pool);
    let routes = resources(world, node, ROUTES, pool);
    listeners.extend(routes.iter().enumerate().map(|(number, route)| listener_of(route, number)));
    let mut clusters = resources(world, node, CLUSTERS, pool);
    for (number, assignment) in resources(world, node, ENDPOINTS, pool).into_iter().enumerate() {
        let name = format!("endpoints-{number}");
        clusters.push(json!({"name": name, "type": "STATIC", "load_assignment": assignment}));
    }
    let socket = Path::new("/nowhere/sds");
    let mut control = secret_server(socket);
    control["name"] = json!("xds-grpc");
    clusters.extend([secret_server(socket), control]);
    json!({
        "node": {"id": node.id, "cluster": "test"},
        "dynamic_resources": {"ads_config": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
        }},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// The worlds name files of nobody; here are some that can be read.
fn with_files(value: &mut Value, below: &str, files: &Files) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), below) {
                    ("filename", "private_key") => *value = json!(files.key),
                    ("filename", "crl") => *value = json!(files.revoked),
                    ("filename", _) => *value = json!(files.certificate),
                    _ => with_files(value, name, files),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| with_files(value, below, files)),
        _ => {}
    }
}

struct Files {
    key: PathBuf,
    certificate: PathBuf,
    revoked: PathBuf,
}

impl Files {
    fn write(folder: &Path) -> Files {
        use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![CrlSign, DigitalSignature, KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let revoked = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2120, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let revoked = revoked.signed_by(&rcgen::Issuer::from_params(&params, &key)).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Files {
            key: write("key.pem", key.serialize_pem()),
            certificate: write("certificate.pem", certificate.pem()),
            revoked: write("revoked.pem", revoked.pem().unwrap()),
        }
    }
}

fn validate(envoy: &Path, bootstrap: &Value, file: &Path) -> Result<(), String> {
    std::fs::write(file, bootstrap.to_string()).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--disable-hot-restart", "-l", "error", "-c"])
        .arg(file)
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_real_envoy_accepts_every_golden_world() {
    let Some(envoy) = envoy() else { return };
    let pool = Pool::load().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("bootstrap.json");
    let files = Files::write(scratch.path());
    let (mut accepted, mut failures) = (0, Vec::new());
    let mut last = Value::Null;
    for folder in sorted(&tests::root().join("testdata/worlds")).into_iter().filter(|path| path.is_dir()) {
        let world = world(&folder);
        for (name, node) in nodes(&folder, &pool) {
            let mut bootstrap = bootstrap(&world, &node, &pool);
            with_files(&mut bootstrap, "", &files);
            match validate(&envoy, &bootstrap, &file) {
                Ok(()) => accepted += 1,
                Err(error) => failures.push(format!("{}, {name}: {error}", folder.display())),
            }
            last = bootstrap;
        }
    }
    println!("{accepted} configurations accepted");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(accepted > 10, "only {accepted} configurations");
    // The judge can say no.
    last["static_resources"]["clusters"][0]["lb_policy"] = json!("NONSENSE");
    assert!(validate(&envoy, &last, &file).is_err());
}
