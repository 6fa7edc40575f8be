//! A WebSocket (RFC 6455) that sends every message back.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ReplyBody, text};
use crate::Error;

/// The largest frame that is taken.
const MAX_FRAME: u64 = 1 << 20;
/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Whether a request asks for a WebSocket.
pub fn is_asked_for(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Answers the handshake; the messages are a job of `tasks`.
pub fn accept(request: Request<Incoming>, tasks: &Tasks) -> Response<ReplyBody> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return text(400, "a WebSocket handshake needs sec-websocket-key\n".to_owned());
    };
    let proof = [key.as_bytes(), GUID.as_bytes()].concat();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &proof));
    tasks.job_local("websocket", async move {
        // A broken connection concerns its client only.
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = echo(&mut TokioIo::new(upgraded)).await;
        }
    });
    let mut reply = text(101, String::new());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

/// Sends every frame back until one of them closes.
async fn echo(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Error> {
    loop {
        let (first, payload) = read(io).await?;
        let opcode = first & 0x0f;
        let answer = match opcode {
            PING => first & 0xf0 | PONG,
            PONG => continue,
            _ => first,
        };
        io.write_all(&frame(answer, &payload)).await?;
        io.flush().await?;
        if opcode == CLOSE {
            return Ok(io.shutdown().await?);
        }
    }
}

/// The first byte of a frame and its payload, unmasked.
async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Bytes), Error> {
    let (first, second) = (io.read_u8().await?, io.read_u8().await?);
    let size = match second & 0x7f {
        126 => u64::from(io.read_u16().await?),
        127 => io.read_u64().await?,
        small => u64::from(small),
    };
    if size > MAX_FRAME {
        return Err(format!("a frame of {size} bytes; at most {MAX_FRAME} are taken").into());
    }
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        io.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::try_from(size)?];
    io.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload.into()))
}

/// A frame of a server: without a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        size @ 0..126 => frame.push(size as u8),
        size @ 126..65536 => {
            frame.push(126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            frame.push(127);
            frame.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_back_unmasked_pings_are_answered_and_a_close_ends_it() {
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> =
            b"hello".iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        for first in [0x81, 0x80 | PING, 0x80 | CLOSE] {
            client.write_all(&[&[first, 0x85][..], &mask, &masked].concat()).await.unwrap();
        }
        echo(&mut server).await.unwrap();
        drop(server);
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        assert_eq!(answers, [frame(0x81, b"hello"), frame(0x8a, b"hello"), frame(0x88, b"hello")].concat());
        assert_eq!(frame(0x82, &[0; 300])[..4], [0x82, 126, 1, 44]);
    }
}
