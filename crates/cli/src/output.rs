//! What commands print for programs and people.

use std::io::{ErrorKind, Write};

use crate::Error;

/// Prints a text to standard output. A reader that has read enough (`| head`) is no error.
///
/// # Errors
/// Standard output takes nothing for another reason.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}").into())
        }
        _ => Ok(()),
    }
}
