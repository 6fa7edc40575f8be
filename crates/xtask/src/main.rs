//! Chores of the workspace: `cargo xtask tidy` checks the laws of ARCHITECTURE.md; `cargo xtask mutate` shows which rules
//! no test holds; `cargo xtask soak` runs the chaos tests for long.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod mutate;
mod relay;
mod soak;
mod tidy;

/// Chores of the workspace.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Checks import rules, purity, file and function sizes, path depth and forbidden words
    Tidy,
    /// Takes one rule out at a time, in a copy of the tree, and tells which faults the tests do not find
    Mutate(mutate::Options),
    /// Writes docs/reasons.md from the table of reasons
    Reasons,
    /// Measures the proxy beside its peers, and writes docs/performance.md
    Bench(bench::Options),
    /// Copies bytes from one port to another: the floor of the bench
    #[command(hide = true)]
    Relay(relay::Options),
    /// Runs the chaos tests in their long form on release binaries, and writes docs/soak.md
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().chore {
        Chore::Tidy => tidy(),
        Chore::Mutate(options) => {
            let run = || {
                let root = tidy::root()?;
                mutate::run(&options, &root, &tidy::tracked(&root)?)
            };
            ended("mutate", run().map(|()| true))
        }
        Chore::Reasons => {
            let run = || -> Result<bool, Box<dyn std::error::Error>> {
                std::fs::write(tidy::root()?.join("docs/reasons.md"), base::reason::page())?;
                Ok(true)
            };
            ended("reasons", run())
        }
        Chore::Bench(options) => {
            let run =
                || -> Result<bool, Box<dyn std::error::Error>> { Ok(bench::run(&options, &tidy::root()?)?) };
            ended("bench", run())
        }
        Chore::Relay(options) => ended("relay", relay::run(&options)),
        Chore::Soak(options) => {
            let run = || -> Result<bool, Box<dyn std::error::Error>> {
                let root = tidy::root()?;
                Ok(soak::run(&options, &root, &tidy::tracked(&root)?)?)
            };
            ended("soak", run())
        }
    }
}

fn ended(chore: &str, result: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{chore}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> ExitCode {
    match tidy::run() {
        Ok(faults) if faults.is_empty() => {
            println!("tidy: the house is in order");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("tidy: {} faults", faults.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            ExitCode::FAILURE
        }
    }
}
