//! `tulle-proxy`: the data plane of Tulle.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: proxy::allocator::Allocator = proxy::allocator::Allocator;

fn main() -> ExitCode {
    match proxy::host::run(proxy::host::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("tulle-proxy: {reason}");
            ExitCode::FAILURE
        }
    }
}
