//! The file that lines go to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

/// A file that lines go to. Opening a FIFO waits for its reader, so that only the sink's own thread may do it.
#[derive(Debug)]
pub enum Output {
    /// It is open.
    Open(File),
    /// It is opened when the first line is written.
    Later(Arc<str>),
}

impl Output {
    /// Opens a file; a FIFO only when something is written.
    ///
    /// # Errors
    /// It cannot be opened for appending.
    pub fn at(path: &Arc<str>) -> io::Result<Output> {
        let fifo = std::fs::metadata(&**path).is_ok_and(|it| it.file_type().is_fifo());
        if fifo { Ok(Output::Later(path.clone())) } else { Output::open(path) }
    }

    fn open(path: &str) -> io::Result<Output> {
        OpenOptions::new().append(true).create(true).open(path).map(Output::Open)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Output::Later(path) = self {
            *self = Output::open(path)?;
        }
        match self {
            Output::Open(file) => file.write(bytes),
            Output::Later(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Open(file) => file.flush(),
            Output::Later(_) => Ok(()),
        }
    }
}
