//! The user's commands: `demo`, `echo`, `translate`, `explain`, `why`, `tap`, `top`, `log`, `status`, `proxy`, `cert`, `token`, `ca`.
//!
//! Never imports `control` or `proxy`: it starts their binaries, talks to them over HTTP, and uses the pure rooms offline.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod bootstrap;
pub mod cert;
pub mod client;
pub mod completion;
pub mod control;
pub mod demo;
pub mod directory;
pub mod echo;
pub mod explain;
pub mod known;
pub mod log;
pub mod output;
pub mod proxy;
pub mod siblings;
pub mod status;
pub mod tap;
pub mod top;
pub mod translate;
pub mod why;
pub mod workload;

/// What every command returns when it fails: a text for the user.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Tulle, a service mesh: mutual TLS, traffic rules, policy and metrics with no change to your programs.
#[derive(Debug, Parser)]
#[command(name = "tulle", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole mesh on this machine and show what it does (no root, loopback only)
    Demo(demo::DemoArguments),
    /// A small HTTP service that tells what it received, and can call another one
    Echo(echo::EchoArguments),
    /// Print the xDS that a workload would get from a directory of YAML, without a control plane
    Translate(translate::TranslateArguments),
    /// What the mesh does with a request, decision by decision, with file and line
    Explain(explain::ExplainArguments),
    /// What became of a request: every hop, its time, the rule and the reason, by its x-request-id
    Why(why::WhyArguments),
    /// Requests as they pass, live: filtered, sampled, as a table or as JSON lines
    Tap(tap::TapArguments),
    /// Services, routes and peers with requests a second, success and durations, live
    Top(top::TopArguments),
    /// Write every request of a workload, or one request everywhere, to access logs for a time
    Log(log::LogArguments),
    /// What a running proxy has: listeners, routes, clusters, endpoints, certificates
    Proxy(proxy::ProxyArguments),
    /// What makes a shell complete the commands of tulle
    Completion(completion::CompletionArguments),
    /// How the mesh is: proxies, what of your resources does not act, and the limits in effect
    Status(status::StatusArguments),
    /// The certificates of a workload without `tulle-proxy`: files for programs, SDS for Envoy
    Cert(cert::CertArguments),
    /// Join tokens: `tulle token create --data DIR --namespace N --service-account A`
    #[command(disable_help_flag = true)]
    Token(Passed),
    /// The mesh's certificate authority: `tulle ca show --data DIR`
    #[command(disable_help_flag = true)]
    Ca(Passed),
}

/// Words handed on to `tulled`, which owns the data directory.
#[derive(Debug, clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs a command.
///
/// # Errors
/// What went wrong, in words for the user.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Echo(arguments) => echo::run(arguments),
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Tap(arguments) => tap::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Proxy(arguments) => proxy::run(&arguments),
        Command::Completion(arguments) => completion::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Cert(arguments) => cert::run(arguments),
        Command::Token(passed) => siblings::hand_over("tulled", "token", &passed.words),
        Command::Ca(passed) => siblings::hand_over("tulled", "ca", &passed.words),
    }
}
