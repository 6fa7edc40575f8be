//! `tulle completion SHELL`: what makes a shell complete the commands, flags and values of `tulle`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Arguments, Error, output};

/// Flags of `tulle completion`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionArguments {
    /// bash: `source <(tulle completion bash)` in ~/.bashrc; zsh and fish alike
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output takes nothing.
pub fn run(arguments: &CompletionArguments) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tulle", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
