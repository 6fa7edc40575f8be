//! `tulle explain --from NS/WORKLOAD --to HOST[:PORT] GET /path -H 'name: value' DIR`: what the mesh does with a request,
//! decision by decision, each with the resource, file and line that made it. Uses the data plane's own readers and
//! `decide`, so that it cannot think otherwise than the proxy.

mod inbound;
mod outbound;
mod proxy;
mod report;
mod request;
mod source;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use base::Reason;
use clap::ValueEnum;
use translate::World;

use crate::{Error, directory, output, workload};
use proxy::Proxy;
use report::{Destination, Explanation, Outcome};
use request::Request;

/// Flags of `tulle explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArguments {
    /// The caller, as NAMESPACE/NAME of its WorkloadEntry (the name alone where it is unique)
    #[arg(long, value_name = "NS/WORKLOAD")]
    from: String,
    /// The Service that is called: NAME, NAME.NAMESPACE or its full name, with :PORT where it has several
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// Method
    method: String,
    /// Path and query
    path: String,
    /// A header line, `name: value`; may be given again
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The directory of YAML
    #[arg(long, short = 'd', value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Namespace of files at the top of the directory that name none
    #[arg(long, default_value = "default")]
    default_namespace: String,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints what happens with a request. Exits with 1 where it fails, or where a file has an error: the answer is then that
/// of the mesh without what is wrong.
///
/// # Errors
/// The directory cannot be read, or has no such workload or Service.
pub fn run(arguments: &ExplainArguments) -> Result<ExitCode, Error> {
    let read = directory::read(&arguments.directory, &arguments.default_namespace)?;
    let mut errors = read.problems;
    errors.retain(|problem| problem.level == api::Level::Error);
    let failed = directory::print_problems(&errors);
    let explanation = explain(&read.world, arguments)?;
    match arguments.output {
        Form::Text => output::print(&table::render(&explanation))?,
        Form::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&explanation)?))?,
    }
    Ok(if explanation.outcome.ok && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(world: &World, arguments: &ExplainArguments) -> Result<Explanation, Error> {
    let from = workload::find(world, &arguments.from)?;
    let proxy = Proxy::new(world, workload::proxy(from)?)?;
    let called = outbound::called(world, &arguments.to, &from.meta.namespace)?;
    let request = read_request(arguments, &called)?;
    let mut explanation = Explanation {
        from: format!("{}/{}", from.meta.namespace, from.meta.name),
        to: format!("{}:{}", called.host, called.port),
        request: format!("{} {}", arguments.method, arguments.path),
        listener: String::new(),
        route: None,
        destinations: Vec::new(),
        outcome: failed(Reason::NoRoute, "nothing in the caller's proxy takes the call".to_owned()),
    };
    let Some((listener, manager)) = outbound::listener(&proxy, &called) else {
        explanation.outcome.text = format!(
            "the caller's proxy has no listener for {}:{}: give the Service a loopback clusterIP, or set MeshConfig proxyHttpPort",
            called.host, called.port
        );
        return Ok(explanation);
    };
    explanation.listener = format!("{} ({})", listener.name, listener.address);
    let seen = match request.canonical(manager) {
        Ok(seen) => seen,
        Err((status, reason)) => {
            explanation.outcome = failed(Reason::BadRequest, format!("answered {status}: {reason}"));
            return Ok(explanation);
        }
    };
    let Some(routed) = outbound::route(world, &proxy, manager, &seen)? else {
        explanation.outcome = failed(Reason::NoRoute, format!("no route takes host {}", seen.authority));
        return Ok(explanation);
    };
    explanation.route = Some(routed.taken);
    for (cluster, share) in &routed.clusters {
        let destination = outbound::destination(world, &proxy, cluster, *share, &seen)?;
        explanation.destinations.push(destination);
    }
    explanation.outcome = match routed.answers {
        Some(status) if status < 400 => {
            Outcome { ok: true, reason: None, text: format!("the route answers {status} itself") }
        }
        Some(status) => failed(Reason::NoRoute, format!("the route answers {status} itself")),
        None => outcome(&explanation.destinations),
    };
    Ok(explanation)
}

fn read_request(arguments: &ExplainArguments, called: &outbound::Called) -> Result<Request, Error> {
    if !arguments.path.starts_with('/') && arguments.path != "*" {
        return Err(format!("the path must begin with a slash: {}", arguments.path).into());
    }
    let mut headers = Vec::new();
    let mut authority = format!("{}:{}", called.host, called.port);
    for line in &arguments.headers {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("-H wants NAME: VALUE, got {line}"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name == "host" {
            authority = value;
        } else {
            headers.push((name, value));
        }
    }
    let (method, target) = (arguments.method.clone(), arguments.path.clone().into_bytes());
    Ok(Request { method, authority, target, headers })
}

fn failed(reason: Reason, text: String) -> Outcome {
    Outcome { ok: false, reason: Some(reason.code()), text }
}

fn outcome(destinations: &[Destination]) -> Outcome {
    let empty = destinations.iter().find(|it| it.endpoints.is_empty());
    if let Some(empty) = empty {
        let text = format!("{:.2} % of requests find no endpoint: {} has none", empty.share, empty.cluster);
        return failed(Reason::NoHealthyUpstream, text);
    }
    let all = || destinations.iter().flat_map(|it| &it.endpoints);
    let denied: Vec<_> = all().filter(|it| !it.verdict.allowed).collect();
    if let Some(first) = denied.first() {
        let text = format!(
            "{} of {} endpoints deny it; {}: {}",
            denied.len(),
            all().count(),
            first.workload,
            first.verdict.reason
        );
        return failed(Reason::PolicyDenied, text);
    }
    Outcome { ok: true, reason: None, text: format!("{} endpoints may answer", all().count()) }
}

#[cfg(test)]
mod tests;
