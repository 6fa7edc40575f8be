//! `tulle proxy {listeners,routes,clusters,endpoints,certs} NAMESPACE/WORKLOAD`: what a running proxy has, as tables or as
//! Envoy's own JSON. Through `tulled`, so that it works wherever the proxy is.

mod tables;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::control::{self, Address, Control, encoded};
use crate::output::{self, Form};
use crate::{Error, known};

/// Flags of `tulle proxy`.
#[derive(Debug, Clone, clap::Args)]
pub struct ProxyArguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// Where it listens, and what it does with connections
    Listeners(Of),
    /// Which hosts and paths lead where, and who wrote it
    Routes(Of),
    /// Where requests can go, and how
    Clusters(Of),
    /// The addresses behind them, with their health
    Endpoints(Of),
    /// Its certificates, and their renewal
    Certs(Of),
}

#[derive(Debug, Clone, clap::Args)]
struct Of {
    /// The workload, as NAMESPACE/NAME (the name alone where it is unique)
    workload: String,
    #[command(flatten)]
    control: Control,
    /// How the answer is printed; json: as the proxy's admin server does
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Prints a part of a proxy's configuration.
///
/// # Errors
/// `tulled` cannot be asked, or has no such proxy.
pub fn run(arguments: &ProxyArguments) -> Result<ExitCode, Error> {
    let (of, name, table): (&Of, &str, fn(&Value) -> String) = match &arguments.part {
        Part::Listeners(of) => (of, "config_dump", tables::listeners),
        Part::Routes(of) => (of, "config_dump", tables::routes),
        Part::Clusters(of) => (of, "config_dump", tables::clusters),
        Part::Endpoints(of) => (of, "clusters", tables::endpoints),
        Part::Certs(of) => (of, "certs", tables::certificates),
    };
    let workload = known::one(of.control.address, &of.workload)?;
    let mut answer = page(of.control.address, &workload, name)?;
    if let Some(kind) = arguments.part.of_dump() {
        answer = tables::part(&answer, kind);
    }
    match of.output {
        Form::Table => output::print(&table(&answer))?,
        Form::Json => output::json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Part {
    /// The part of `/config_dump` that is shown.
    fn of_dump(&self) -> Option<&'static str> {
        match self {
            Part::Listeners(_) => Some("ListenersConfigDump"),
            Part::Routes(_) => Some("RoutesConfigDump"),
            Part::Clusters(_) => Some("ClustersConfigDump"),
            Part::Endpoints(_) | Part::Certs(_) => None,
        }
    }
}

/// A page of a proxy's admin server, through `tulled`.
///
/// # Errors
/// `tulled` cannot be asked, or the proxy does not answer.
pub fn page(address: Address, workload: &str, page: &str) -> Result<Value, Error> {
    let path = format!("/debug/proxy?workload={}&page={page}", encoded(workload));
    let answer = control::fetch(address, &path)?;
    let value: Value = serde_json::from_slice(&answer.body).map_err(|_| {
        format!("tulled at {address} does not know this question: is it as new as this program?")
    })?;
    if answer.status.is_success() {
        return Ok(value);
    }
    let reason = value["error"].as_str().unwrap_or("it says no");
    Err(format!("{workload}: {}", output::printable(reason)).into())
}
