//! `tulle explain --from NS/WORKLOAD --to HOST[:PORT] GET /path -H 'name: value'`: what the mesh does with a request,
//! decision by decision, each with the resource, file and line that made it. Uses the data plane's own readers and
//! `decide`, so that it cannot think otherwise than the proxy.

mod differences;
mod inbound;
mod live;
mod mesh;
mod offline;
mod outbound;
mod proxy;
mod report;
mod request;
mod source;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::Reason;
use translate::World;

pub use report::{Destination, Endpoint, Explanation, Outcome, RouteTaken};

use crate::control::Address;
use crate::output::{self, Form};
use crate::{Error, directory};
use live::Live;
use mesh::{Called, Mesh};
use offline::Offline;
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
    /// The directory of YAML; the current one where --control is not given either
    #[arg(long, short = 'd', value_name = "DIR")]
    directory: Option<PathBuf>,
    /// What runs: ask the proxies of the mesh through tulled's monitoring port. With --directory, too, both are compared
    #[arg(long, visible_alias = "monitoring", value_name = "ADDRESS")]
    control: Option<Address>,
    /// Namespace of files at the top of the directory that name none
    #[arg(long, default_value = "default")]
    default_namespace: String,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Prints what happens with a request. Exits with 1 where it fails, or where a file has an error: the answer is then that
/// of the mesh without what is wrong.
///
/// # Errors
/// The directory cannot be read or `tulled` cannot be asked, or there is no such workload or Service.
pub fn run(arguments: &ExplainArguments) -> Result<ExitCode, Error> {
    let question = Question {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        method: arguments.method.clone(),
        path: arguments.path.clone(),
        headers: header_lines(&arguments.headers)?,
    };
    let folder = match (&arguments.directory, arguments.control) {
        (None, None) => Some(Path::new(".")),
        (directory, _) => directory.as_deref(),
    };
    let mut failed = false;
    let of_directory = folder.map(|folder| {
        let read = directory::read(folder, &arguments.default_namespace)?;
        let mut errors = read.problems;
        errors.retain(|problem| problem.level == api::Level::Error);
        failed = directory::print_problems(&errors);
        Explainer::new(&read.world).explain(&question)
    });
    let explanation = match (arguments.control, of_directory) {
        (None, Some(explanation)) => explanation?,
        (None, None) => return Err("say where the mesh is: --directory or --control".into()),
        (Some(control), of_directory) => {
            let mut live = explain(&Live::new(control)?, &question)?;
            if let Some(written) = of_directory.transpose()? {
                live.differences = differences::between(&live, &written);
            }
            live
        }
    };
    match arguments.output {
        Form::Table => output::print(&table::render(&explanation))?,
        Form::Json => {
            output::print(&format!("{}\n", output::escaped(&serde_json::to_string_pretty(&explanation)?)))?
        }
    }
    Ok(if explanation.outcome.ok && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn header_lines(lines: &[String]) -> Result<Vec<(String, String)>, Error> {
    let split = |line: &String| {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("-H wants NAME: VALUE, got {line}"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.iter().map(split).collect()
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The caller, `namespace/workload`.
    pub from: String,
    /// The Service that is called.
    pub to: String,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header lines; `host` says what the request is for, where it is not the Service.
    pub headers: Vec<(String, String)>,
}

/// Explains requests in the mesh of one World. What was made for one request is kept for the next.
pub struct Explainer<'w>(Offline<'w>);

impl<'w> Explainer<'w> {
    /// For that World.
    pub fn new(world: &'w World) -> Self {
        Explainer(Offline::new(world))
    }

    /// What happens with a request.
    ///
    /// # Errors
    /// There is no such workload or Service, or a proxy would refuse its configuration.
    pub fn explain(&self, question: &Question) -> Result<Explanation, Error> {
        explain(&self.0, question)
    }
}

fn explain<'w>(mesh: &dyn Mesh<'w>, question: &Question) -> Result<Explanation, Error> {
    let proxy = mesh.caller(&question.from)?;
    let called = mesh.called(&question.to, &proxy)?;
    let request = read_request(question, &called)?;
    let mut explanation = Explanation {
        from: proxy.who.name(),
        to: format!("{}:{}", called.host, called.port),
        request: format!("{} {}", question.method, question.path),
        listener: String::new(),
        route: None,
        destinations: Vec::new(),
        canonical: question.path.clone(),
        outcome: failed(Reason::NoRoute, "nothing in the caller's proxy takes the call".to_owned()),
        differences: Vec::new(),
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
            let outcome = failed(Reason::BadRequest, format!("answered {status}: {reason}"));
            explanation.outcome = Outcome { status: Some(status), ..outcome };
            return Ok(explanation);
        }
    };
    explanation.canonical = String::from_utf8_lossy(&seen.target).into_owned();
    let Some(routed) = outbound::route(mesh, &proxy, manager, &seen)? else {
        let outcome = failed(Reason::NoRoute, format!("no route takes host {}", seen.authority));
        explanation.outcome = Outcome { status: Some(404), ..outcome };
        return Ok(explanation);
    };
    for (cluster, share) in &routed.clusters {
        let destination = outbound::destination(mesh, &proxy, cluster, *share, &routed.sent)?;
        explanation.destinations.push(destination);
    }
    explanation.outcome = match routed.taken.answers.as_ref().map(|answers| answers.status) {
        Some(status) if status < 400 => Outcome {
            ok: true,
            reason: None,
            status: Some(status),
            text: format!("the route answers {status} itself"),
        },
        Some(status) => {
            let outcome = failed(Reason::NoRoute, format!("the route answers {status} itself"));
            Outcome { status: Some(status), ..outcome }
        }
        None => outcome(&explanation.destinations),
    };
    explanation.route = Some(routed.taken);
    Ok(explanation)
}

fn read_request(question: &Question, called: &Called) -> Result<Request, Error> {
    if !question.path.starts_with('/') && question.path != "*" {
        return Err(format!("the path must begin with a slash: {}", question.path).into());
    }
    let mut headers = Vec::new();
    let mut authority = format!("{}:{}", called.host, called.port);
    for (name, value) in &question.headers {
        let name = name.to_ascii_lowercase();
        if name == "host" {
            authority.clone_from(value);
        } else {
            headers.push((name, value.clone()));
        }
    }
    let (method, target) = (question.method.clone(), question.path.clone().into_bytes());
    Ok(Request { method, authority, target, headers })
}

fn failed(reason: Reason, text: String) -> Outcome {
    Outcome { ok: false, reason: Some(reason.code()), status: None, text }
}

fn outcome(destinations: &[Destination]) -> Outcome {
    let empty = destinations.iter().find(|it| it.endpoints.is_empty());
    if let Some(empty) = empty {
        let text = format!("{:.2} % of requests find no endpoint: {} has none", empty.share, empty.cluster);
        let status = (destinations.len() == 1).then_some(503);
        return Outcome { status, ..failed(Reason::NoHealthyUpstream, text) };
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
        let status = (denied.len() == all().count()).then_some(403);
        return Outcome { status, ..failed(Reason::PolicyDenied, text) };
    }
    Outcome {
        ok: true,
        reason: None,
        status: Some(200),
        text: format!("{} endpoints may answer", all().count()),
    }
}

#[cfg(test)]
mod tests;
