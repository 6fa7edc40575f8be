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
    output::print(&script(arguments.shell)?)?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Result<String, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tulle", &mut script);
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_commands_and_their_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            for word in ["explain", "tap", "listeners", "monitoring"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }
}
