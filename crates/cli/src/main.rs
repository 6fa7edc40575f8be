//! `tulle`: the user's commands. Parses, runs, prints the error; the work is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tulle: {error}");
            ExitCode::FAILURE
        }
    }
}
