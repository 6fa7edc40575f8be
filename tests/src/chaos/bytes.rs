//! Large bodies both ways, over HTTP/1 and HTTP/2, with somebody who looks in between.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::task::LocalSet;

use super::upstream::connect;
use crate::load::h2;

/// Patience with a single read or write.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are sent at once.
const PIECE: usize = 1 << 20;
/// How often somebody looks.
const LOOKS: u64 = 64;

/// Calls somebody now and then.
struct Watch<'a> {
    every: u64,
    moved: u64,
    looked: u64,
    look: &'a mut dyn FnMut(),
}

impl<'a> Watch<'a> {
    fn new(size: u64, look: &'a mut dyn FnMut()) -> Watch<'a> {
        Watch { every: size / LOOKS, moved: 0, looked: 0, look }
    }

    fn more(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved - self.looked > self.every {
            self.looked = self.moved;
            (self.look)();
        }
    }
}

/// Reads an answer of so many bytes over HTTP/1.
pub fn down(address: SocketAddr, host: &str, size: u64, look: &mut dyn FnMut()) {
    let mut stream = connect(address, PATIENCE);
    let head =
        format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-echo-do: bytes={size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut watch, mut buffer) = (Watch::new(size, look), vec![0; PIECE]);
    loop {
        let more = stream.read(&mut buffer).unwrap();
        if more == 0 {
            break;
        }
        watch.more(more);
    }
    assert!(watch.moved > size, "{} of {size} bytes came", watch.moved);
}

/// Sends a body of so many bytes over HTTP/1.
pub fn up(address: SocketAddr, host: &str, size: u64, look: &mut dyn FnMut()) {
    let mut stream = connect(address, PATIENCE);
    let head =
        format!("POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (piece, mut watch) = (vec![b'u'; PIECE], Watch::new(size, look));
    while watch.moved < size {
        let now = usize::try_from(size - watch.moved).unwrap().min(PIECE);
        stream.write_all(&piece[..now]).unwrap();
        watch.more(now);
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("\"body_bytes\":{size}")), "{answer}");
}

/// Reads an answer of so many bytes over HTTP/2.
pub fn down_http2(address: SocketAddr, host: &str, size: u64, look: &mut dyn FnMut()) {
    alone(async {
        let mut sender = h2::connect(address).await.unwrap().ready().await.unwrap();
        let request = Request::get(format!("http://{host}/")).header("x-echo-do", format!("bytes={size}"));
        let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        let mut watch = Watch::new(size, look);
        while let Some(piece) = tokio::time::timeout(PATIENCE, body.data()).await.unwrap() {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            watch.more(piece.len());
        }
        assert_eq!(watch.moved, size);
    });
}

/// Sends a body of so many bytes over HTTP/2.
pub fn up_http2(address: SocketAddr, host: &str, size: u64, look: &mut dyn FnMut()) {
    alone(async {
        let mut sender = h2::connect(address).await.unwrap().ready().await.unwrap();
        let request = Request::post(format!("http://{host}/")).body(()).unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        let (piece, mut watch) = (Bytes::from(vec![b'u'; PIECE]), Watch::new(size, look));
        while watch.moved < size {
            let left = usize::try_from(size - watch.moved).unwrap().min(PIECE);
            body.reserve_capacity(left);
            let granted = std::future::poll_fn(|cx| body.poll_capacity(cx));
            let granted = tokio::time::timeout(PATIENCE, granted).await.unwrap().unwrap().unwrap();
            let now = granted.min(left);
            body.send_data(piece.slice(..now), watch.moved + now as u64 == size).unwrap();
            watch.more(now);
        }
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut report = Vec::new();
        while let Some(piece) = body.data().await {
            report.extend_from_slice(&piece.unwrap());
        }
        let report = String::from_utf8_lossy(&report);
        assert!(head.status == 200 && report.contains(&format!("\"body_bytes\":{size}")), "{report}");
    });
}

fn alone(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work);
}
