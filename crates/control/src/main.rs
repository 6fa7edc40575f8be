//! `tulled`, the control plane.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use control::options::Options;

fn main() -> ExitCode {
    match control::run::run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "tulled: {error}");
            ExitCode::FAILURE
        }
    }
}
