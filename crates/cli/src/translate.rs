//! `tulle translate --for NS/WORKLOAD DIR`: the xDS that a workload would get, as Envoy's JSON, without a control plane.

use std::path::PathBuf;
use std::process::ExitCode;

use protos::envoy::envoy::config::core::v3::Node;
use protos::json::Pool;
use serde_json::{Map, Value, json};
use translate::{ProxyNode, Wanted, World};

use crate::{Error, directory};

/// The four types, in the order in which the answer names them.
const TYPES: [(&str, &str); 4] = [
    ("listeners", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    ("routes", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"),
    ("clusters", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    ("endpoints", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"),
];

/// Flags of `tulle translate`.
#[derive(Debug, Clone, clap::Args)]
pub struct TranslateArguments {
    /// The workload, as NAMESPACE/NAME of its WorkloadEntry
    #[arg(long = "for", value_name = "NS/WORKLOAD")]
    workload: String,
    /// Namespace of files at the top of the directory that name none
    #[arg(long, default_value = "default")]
    default_namespace: String,
    /// The directory of YAML
    directory: PathBuf,
}

/// Prints `{listeners, routes, clusters, endpoints}`. Exits with 1 where a file has an error.
///
/// # Errors
/// The directory cannot be read, or has no such workload.
pub fn run(arguments: &TranslateArguments) -> Result<ExitCode, Error> {
    let read = directory::read(&arguments.directory, &arguments.default_namespace)?;
    let failed = directory::print_problems(&read.problems);
    let node = node(&read.world, &arguments.workload)?;
    let proxy = ProxyNode::from_node(&node)?;
    let pool = Pool::load()?;
    let mut answer = Map::new();
    for (name, type_url) in TYPES {
        let translated = translate::translate(&read.world, &proxy, type_url, &Wanted::All);
        for note in &translated.notes {
            eprintln!("{note}");
        }
        let resources: Result<Vec<Value>, _> =
            translated.resources.iter().map(|it| pool.any_to_json(&it.any)).collect();
        answer.insert(name.to_owned(), Value::Array(resources?));
    }
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The xDS node that the workload's `tulle-proxy` would send.
fn node(world: &World, workload: &str) -> Result<Node, Error> {
    let known = || {
        let names: Vec<String> =
            world.workload_entries().map(|it| format!("{}/{}", it.meta.namespace, it.meta.name)).collect();
        format!("no WorkloadEntry {workload}; the directory has: {}", names.join(", "))
    };
    let (namespace, name) = workload.split_once('/').ok_or("--for takes NAMESPACE/WORKLOAD")?;
    let entry = world
        .workload_entries()
        .find(|it| it.meta.namespace == namespace && it.meta.name == name)
        .ok_or_else(known)?;
    let address = entry.spec.address.as_str();
    let value = json!({
        "id": format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        "user_agent_name": "tulle-proxy",
        "metadata": {
            "NAMESPACE": namespace, "WORKLOAD_NAME": name, "SERVICE_ACCOUNT": entry.spec.service_account,
            "LABELS": entry.spec.labels, "INSTANCE_IPS": address, "INTERCEPTION_MODE": "NONE",
        },
    });
    Ok(Pool::load()?.from_json(&value.to_string())?)
}
