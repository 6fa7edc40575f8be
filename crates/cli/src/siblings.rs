//! The binaries that are installed beside `tulle`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::Error;

/// Path of `tulled` or `tulle-proxy`: beside this binary, else on the `PATH`.
///
/// # Errors
/// It is in neither place; the text says where it was looked for and how to build it.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()).ok_or_else(
        || {
            format!(
                "{name} is neither beside {} nor on the PATH; build it with `cargo build --bins`",
                own.display()
            )
            .into()
        },
    )
}

/// Runs a sibling with the user's own words and passes its exit code on.
///
/// # Errors
/// The sibling is missing or cannot be started.
pub fn hand_over(name: &str, command: &str, words: &[String]) -> Result<ExitCode, Error> {
    let binary = find(name)?;
    let status = Command::new(&binary)
        .arg(command)
        .args(words)
        .status()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
