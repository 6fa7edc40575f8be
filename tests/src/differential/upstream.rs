//! Scripted upstreams: they answer what the case says and write down what they received.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::case::{Accept, After, Answer, FullAnswer, Upstream};
use super::http2::frame::{self, PREFACE};
use super::http2::server;
use super::message::{End, Framing, Reader, request_framing, trailers_to_json};
use super::tls::Stream;
use super::{tcp, text};

/// A running upstream.
pub struct Running {
    /// Where it listens, or nobody does.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: bool,
}

/// What the connections of an upstream share.
pub struct Shared {
    /// Its name.
    pub name: String,
    /// Its settings where it is spoken to in HTTP/2.
    pub settings: Vec<u8>,
    /// What it received.
    pub records: Mutex<Vec<Value>>,
    answers: Vec<Answer>,
    accept: Accept,
    tcp: Vec<tcp::Action>,
    tls: Option<Arc<ServerConfig>>,
    next: AtomicUsize,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    /// What the next request is answered.
    pub fn answer(&self) -> FullAnswer {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let default = Answer::Text("200".to_owned());
        self.answers.get(number).or(self.answers.last()).unwrap_or(&default).full()
    }
}

/// Resets a connection instead of closing it.
pub fn reset(stream: &TcpStream) {
    // A socket that is gone already cannot be reset.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

impl Running {
    /// Starts the upstream on a free port of that address.
    pub fn start(name: &str, script: &Upstream, ip: IpAddr, tls: Option<Arc<ServerConfig>>) -> Running {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            settings: frame::settings(&script.settings).unwrap(),
            tcp: tcp::parse(&script.tcp).unwrap(),
            answers: script.answers.clone(),
            accept: script.accept,
            tls,
            next: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            records: Mutex::new(Vec::new()),
        });
        let listening = script.accept != Accept::Refuse;
        if listening {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared));
        }
        Running { address, shared, listening }
    }

    /// Ends it, when its connections have ended, and returns what it received.
    pub fn finish(self) -> Value {
        let started = Instant::now();
        while self.shared.open.load(Ordering::SeqCst) > 0 && started.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        if self.listening {
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(self.address);
        }
        let records = self.shared.records.lock().unwrap();
        json!(*records)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in listener.incoming().enumerate() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.accept == Accept::Reset {
            shared.records.lock().unwrap().push(json!({ "connection": number, "reset": true }));
            reset(&stream);
            continue;
        }
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        std::thread::spawn(move || {
            serve(stream, number, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(stream: TcpStream, connection: usize, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = Reader::new(match &shared.tls {
        None => Stream::Plain(stream),
        Some(config) => {
            let session = ServerConnection::new(config.clone()).unwrap();
            Stream::Server(Box::new(StreamOwned::new(session, stream)))
        }
    });
    if !shared.tcp.is_empty() {
        let seen = tcp::run(&mut reader, &shared.tcp);
        shared.records.lock().unwrap().push(with_connection(seen, connection, &mut reader));
        return;
    }
    if begins_http2(&mut reader) {
        return server::serve(reader, connection, shared);
    }
    while let Ok(head) = reader.head() {
        let place = {
            let mut records = shared.records.lock().unwrap();
            let mut record = json!({ "connection": connection, "head": head.to_json(), "ended": "cut" });
            if let Some(certificate) = reader.peer_has_certificate() {
                record["certificate"] = json!(certificate);
            }
            records.push(record);
            records.len() - 1
        };
        let answer = shared.answer();
        let (send, early, then) = (answer.bytes(&shared.name), answer.early, answer.then);
        if early {
            reader.send(&send);
        }
        if early && then == After::Reset {
            reset(reader.socket());
            return;
        }
        if head.get("expect").is_some() && !early && !send.starts_with(b"HTTP/1.1 1") {
            reader.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !take_body(&mut reader, request_framing(&head), shared, place) {
            return;
        }
        if let Some(delay) = answer.delay() {
            std::thread::sleep(delay);
        }
        if !early {
            reader.send(&send);
        }
        if !answer.tcp.is_empty() {
            let seen = tcp::run(&mut reader, &tcp::parse(&answer.tcp).unwrap());
            shared.records.lock().unwrap()[place]["tcp"] = seen;
            return;
        }
        match then {
            After::Keep => {}
            After::Close => return,
            After::Reset => {
                reset(reader.socket());
                return;
            }
            After::HalfClose => reader.half_close(),
            After::Silent => {
                let _ = reader.to_end();
                return;
            }
        }
    }
}

/// What a script on a connection saw, with the connection and what TLS knows of it.
fn with_connection(mut seen: Value, connection: usize, reader: &mut Reader) -> Value {
    seen["connection"] = json!(connection);
    if let Some(certificate) = reader.peer_has_certificate() {
        seen["certificate"] = json!(certificate);
        seen["alpn"] = json!(reader.alpn());
    }
    seen
}

/// Whether the peer speaks HTTP/2; its preface is taken then.
fn begins_http2(reader: &mut Reader) -> bool {
    loop {
        let known = reader.rest().len().min(PREFACE.len());
        if reader.rest()[..known] != PREFACE[..known] {
            return false;
        }
        if known == PREFACE.len() {
            reader.take(known);
            return true;
        }
        if reader.more() != End::Whole {
            return false;
        }
    }
}

fn take_body(reader: &mut Reader, framing: Framing, shared: &Shared, place: usize) -> bool {
    let (body, trailers, end) = reader.body(framing);
    let mut records = shared.records.lock().unwrap();
    let record = &mut records[place];
    record["body"] = json!(text::brief(&text::text(&body)));
    if !trailers.is_empty() {
        record["trailers"] = trailers_to_json(&trailers);
    }
    if end == End::Whole {
        record.as_object_mut().unwrap().remove("ended");
    }
    end == End::Whole
}
