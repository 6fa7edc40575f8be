//! Chores of the workspace: `cargo xtask tidy` checks the laws of ARCHITECTURE.md.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

fn main() -> ExitCode {
    let Chore::Tidy = Arguments::parse().chore;
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
