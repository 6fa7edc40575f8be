//! `tulle-proxy`: the data plane of Tulle.

use std::process::ExitCode;

use clap::Parser;

// Returns memory to the system sooner than the system's allocator, and is faster at small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match proxy::host::run(proxy::host::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("tulle-proxy: {reason}");
            ExitCode::FAILURE
        }
    }
}
