//! The programs of all workloads in one: every request is answered with what came, and where.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Starts it on all loopback addresses; the port.
///
/// # Panics
/// No port is free.
pub fn start() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// The length of a head that has come whole.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn serve(mut stream: TcpStream) {
    let Ok(SocketAddr::V4(at)) = stream.local_addr() else { return };
    let workload = usize::from(at.ip().octets()[3]) - 1;
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head_end(&bytes) {
                break end;
            }
            let mut more = [0; 4096];
            match stream.read(&mut more) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&more[..count]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let host = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim().to_owned())
        };
        let host = head.lines().find_map(host).unwrap_or_default();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nx-workload: {workload}\r\nx-host: {host}\r\nx-path: {path}\r\ncontent-length: 0\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
