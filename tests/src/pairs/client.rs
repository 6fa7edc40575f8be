//! Sends requests, each on a connection that is kept, and reads what came of them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Answer;
use super::generate::{Request, World};

/// One caller with its connections.
#[derive(Debug, Default)]
pub struct Client {
    open: HashMap<usize, TcpStream>,
}

impl Client {
    /// What comes of a request.
    pub fn call(&mut self, world: &World, request: &Request) -> Answer {
        // A kept connection may have been closed meanwhile: once more on a new one.
        let kept = self.open.remove(&request.service);
        if let Some(answer) = kept.and_then(|stream| self.exchange(stream, request).ok()) {
            return answer;
        }
        let address: SocketAddr = format!("{}:8080", world.service_address(request.service)).parse().unwrap();
        let fresh = TcpStream::connect(address).map_err(|error| error.to_string());
        fresh.and_then(|stream| self.exchange(stream, request)).unwrap_or_else(Answer::Broken)
    }

    fn exchange(&mut self, mut stream: TcpStream, request: &Request) -> Result<Answer, String> {
        let text = |error: std::io::Error| error.to_string();
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.host);
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if matches!(request.method, "POST" | "PUT") {
            head.push_str("content-length: 0\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).map_err(text)?;
        let mut bytes = Vec::new();
        let (status, fields, end) = loop {
            if let Some(parsed) = parse(&bytes) {
                break parsed;
            }
            let mut more = [0; 4096];
            match stream.read(&mut more).map_err(text)? {
                0 => return Err(format!("closed after {} bytes", bytes.len())),
                count => bytes.extend_from_slice(&more[..count]),
            }
        };
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let bodyless = request.method == "HEAD" || status == 204 || status == 304;
        let length: usize = if bodyless { 0 } else { field("content-length").parse().unwrap_or(0) };
        while bytes.len() < end + length {
            let mut more = [0; 4096];
            match stream.read(&mut more).map_err(text)? {
                0 => return Err("closed in the body".to_owned()),
                count => bytes.extend_from_slice(&more[..count]),
            }
        }
        let reusable = field("connection") != "close" && field("transfer-encoding").is_empty();
        if reusable && bytes.len() == end + length {
            self.open.insert(request.service, stream);
        }
        match field("x-workload").parse() {
            Ok(workload) => Ok(Answer::Program { workload, host: field("x-host"), path: field("x-path") }),
            Err(_) => Ok(Answer::Proxy { status, location: field("location") }),
        }
    }
}

type Head = (u16, HashMap<String, String>, usize);

fn parse(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next()?.get(9..12)?.parse().ok()?;
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some((status, fields.collect(), end))
}
