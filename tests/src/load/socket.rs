//! A WebSocket session (RFC 6455) whose messages all come back.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

use super::client::Sent;
use super::{BETWEEN_MESSAGES, Plan};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// One session; 200 when every message came back and the close was answered.
pub fn session(plan: &Plan, id: &str, messages: u32) -> Sent {
    match run(plan, id, messages) {
        Ok(status) => Sent { status, detail: format!("{messages} messages") },
        Err(error) => Sent { status: 0, detail: format!("{id}: {error}") },
    }
}

fn run(plan: &Plan, id: &str, messages: u32) -> Result<u16> {
    let stream = TcpStream::connect(plan.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(plan.patience))?;
    let mut stream = BufReader::new(stream);
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-echo-id: {id}\r\n\r\n",
        plan.target, plan.host
    );
    stream.get_mut().write_all(head.as_bytes())?;
    let status = switched(&mut stream)?;
    if status != 101 {
        return Ok(status);
    }
    for number in 0..messages {
        let text = format!("{id} {number}");
        exchange(&mut stream, TEXT, text.as_bytes())?;
        std::thread::sleep(BETWEEN_MESSAGES);
    }
    exchange(&mut stream, CLOSE, b"")?;
    Ok(200)
}

fn switched(stream: &mut BufReader<TcpStream>) -> Result<u16> {
    let (mut line, mut status) = (String::new(), None);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed within the answer to the handshake"));
        }
        status = status.or_else(|| line.get(9..12)?.parse().ok());
        if line.trim_end().is_empty() {
            return Ok(status.unwrap_or_default());
        }
    }
}

/// Sends a frame (shorter than 126 bytes) and reads the same one back, unmasked.
fn exchange(stream: &mut BufReader<TcpStream>, first: u8, payload: &[u8]) -> Result<()> {
    let size = u8::try_from(payload.len()).ok().filter(|size| *size < 126).unwrap();
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let frame: Vec<u8> = [first, 0x80 | size].into_iter().chain(MASK).chain(masked).collect();
    stream.get_mut().write_all(&frame)?;
    let mut answer = vec![0; 2 + payload.len()];
    stream.read_exact(&mut answer)?;
    if answer[..2] != [first, size] || &answer[2..] != payload {
        return Err(Error::new(ErrorKind::InvalidData, "another frame came back than was sent"));
    }
    Ok(())
}
