//! `tulle translate --for NS/WORKLOAD DIR`: the xDS that a workload would get, as Envoy's JSON, without a control plane.

use std::path::PathBuf;
use std::process::ExitCode;

use protos::json::Pool;
use serde_json::{Map, Value};
use translate::Wanted;

use crate::{Error, directory, output, workload};

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
    let proxy = workload::proxy(workload::find(&read.world, &arguments.workload)?)?;
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
    output::print(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
