//! One caller of the load: HTTP/1.1 on a connection that it keeps as a good client does.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use super::Plan;

/// How a request went.
pub struct Sent {
    /// Status of the answer, 0 for none.
    pub status: u16,
    /// What went wrong, or the start of the body.
    pub detail: String,
}

/// A caller with its connection.
pub struct Client<'a> {
    plan: &'a Plan,
    open: Option<BufReader<TcpStream>>,
    used: u32,
}

impl Client<'_> {
    /// No connection yet.
    pub fn new(plan: &Plan) -> Client<'_> {
        Client { plan, open: None, used: 0 }
    }

    /// Sends one request and reads its answer whole. Never repeats it.
    pub fn send(&mut self, method: &str, id: &str) -> Sent {
        if self.used >= self.plan.per_connection || self.open.as_ref().is_some_and(closed) {
            self.open = None;
        }
        let connected = match self.open.take() {
            Some(open) => Ok(open),
            None => self.connect(),
        };
        let result = connected.and_then(|mut open| {
            let answer = self.exchange(&mut open, method, id)?;
            Ok((open, answer))
        });
        match result {
            Ok((open, (status, detail, keep))) => {
                self.used += 1;
                self.open = keep.then_some(open);
                Sent { status, detail }
            }
            Err(error) => Sent { status: 0, detail: format!("{method} {id}: {error}") },
        }
    }

    fn connect(&mut self) -> std::io::Result<BufReader<TcpStream>> {
        self.used = 0;
        let stream = TcpStream::connect(self.plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.plan.patience))?;
        stream.set_write_timeout(Some(self.plan.patience))?;
        Ok(BufReader::new(stream))
    }

    fn exchange(
        &self,
        open: &mut BufReader<TcpStream>,
        method: &str,
        id: &str,
    ) -> std::io::Result<(u16, String, bool)> {
        let Plan { target, host, headers, .. } = self.plan;
        let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
        let head =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-echo-id: {id}\r\n{length}{headers}\r\n");
        open.get_mut().write_all(head.as_bytes())?;
        read_answer(open)
    }
}

/// Whether the other side has closed meanwhile.
fn closed(open: &BufReader<TcpStream>) -> bool {
    let stream = open.get_ref();
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let _ = stream.set_nonblocking(false);
    !matches!(looked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Status, start of the body, and whether the connection may be used again.
pub fn read_answer(open: &mut impl BufRead) -> std::io::Result<(u16, String, bool)> {
    let mut line = String::new();
    if open.read_line(&mut line)? == 0 {
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer"));
    }
    let status = line.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let (mut length, mut keep) = (None, true);
    loop {
        line.clear();
        if open.read_line(&mut line)? == 0 {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed within the head"));
        }
        let field = line.trim_end();
        if field.is_empty() {
            break;
        }
        match field.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("transfer-encoding", _)) => length = None,
            Some(("connection", "close")) => keep = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            open.read_exact(&mut body)?;
        }
        None => chunks(open, &mut body)?,
    }
    let detail = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    Ok((status, detail, keep))
}

fn chunks(open: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        open.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|error| {
            std::io::Error::new(ErrorKind::InvalidData, format!("chunk {line:?}: {error}"))
        })?;
        let mut piece = Vec::new();
        open.take(size + 2).read_to_end(&mut piece)?;
        if piece.len() as u64 != size + 2 {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed within a chunk"));
        }
        if size == 0 {
            return Ok(());
        }
        body.extend_from_slice(&piece[..piece.len() - 2]);
    }
}
