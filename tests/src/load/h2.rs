//! Callers that share HTTP/2 connections: plain requests, and gRPC calls with messages one after the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::client::Sent;
use super::{BETWEEN_MESSAGES, Plan, Schedule, Speaks, Turn};

type Error = Box<dyn std::error::Error>;

/// Callers on one connection.
const SHARING: usize = 16;
/// Receive windows of the client, in bytes.
pub const WINDOW: u32 = 4 << 20;
/// Length of a gRPC message's prefix.
const PREFIX: usize = 5;

/// Runs all callers of a plan until the load is over.
pub fn run(plan: &Plan, schedule: &Schedule) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut callers = Vec::new();
        let mut shared = Rc::new(Shared::default());
        for number in 0..plan.callers {
            if number % SHARING == 0 {
                shared = Rc::new(Shared::default());
            }
            let (plan, schedule, shared) = (plan.clone(), schedule.clone(), shared.clone());
            callers.push(tokio::task::spawn_local(async move { keep(&plan, &schedule, &shared).await }));
        }
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

/// A connection that several callers use.
#[derive(Default)]
struct Shared {
    open: tokio::sync::Mutex<Option<SendRequest<Bytes>>>,
    used: RefCell<u32>,
}

impl Shared {
    /// A connection that takes another stream; a new one where there is none. Nothing was sent on one that is given up.
    async fn stream(&self, plan: &Plan) -> Result<SendRequest<Bytes>, Error> {
        let mut open = self.open.lock().await;
        if self.used.replace_with(|used| *used + 1) >= plan.per_connection {
            *open = None;
        }
        if let Some(sender) = open.take()
            && let Ok(sender) = sender.ready().await
        {
            *open = Some(sender.clone());
            return Ok(sender);
        }
        self.used.replace(1);
        let sender = connect(plan.address).await?.ready().await?;
        *open = Some(sender.clone());
        Ok(sender)
    }
}

/// A connection whose work is a task of the local set.
///
/// # Errors
/// Nobody listens, or it does not speak HTTP/2.
pub async fn connect(address: std::net::SocketAddr) -> Result<SendRequest<Bytes>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await?;
    tokio::task::spawn_local(async move {
        // Its streams tell how it ended.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn keep(plan: &Plan, schedule: &Schedule, shared: &Shared) {
    loop {
        let Turn { number, due } = schedule.turn(plan);
        tokio::time::sleep_until(due.into()).await;
        if schedule.is_over() {
            return;
        }
        let (method, id) = schedule.name(plan, number);
        let begun = Instant::now();
        let exchange = tokio::time::timeout(plan.patience, send(plan, shared, method, &id));
        let sent = match exchange.await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => Sent { status: 0, detail: format!("{method} {id}: {error}") },
            Err(_) => Sent { status: 0, detail: format!("{method} {id}: no answer in {:?}", plan.patience) },
        };
        schedule.ended(id, begun, sent);
    }
}

async fn send(plan: &Plan, shared: &Shared, method: &str, id: &str) -> Result<Sent, Error> {
    let mut sender = shared.stream(plan).await?;
    let uri = format!("http://{}{}", plan.host, plan.target);
    let request = Request::builder().uri(uri).header("x-echo-id", id);
    let Speaks::Grpc { messages } = plan.speaks else {
        let (answer, _) = sender.send_request(request.method(method).body(())?, true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut detail = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            detail.extend_from_slice(&piece);
        }
        let detail = String::from_utf8_lossy(&detail[..detail.len().min(300)]).into_owned();
        return Ok(Sent { status: head.status.as_u16(), detail });
    };
    let request = request.method("POST").header("content-type", "application/grpc").header("te", "trailers");
    let (answer, mut messages_out) = sender.send_request(request.body(())?, false)?;
    messages_out.send_data(message(id, 0), messages == 1)?;
    let (head, mut body) = answer.await?.into_parts();
    let (mut received, mut number) = (BytesMut::new(), 0);
    while number < messages {
        let expected = message(id, number);
        while received.len() < expected.len() {
            let Some(piece) = body.data().await else {
                let detail = format!("ended after {number} of {messages} messages: {:?}", head.headers);
                return Ok(Sent { status: 0, detail });
            };
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            received.extend_from_slice(&piece);
        }
        if received.split_to(expected.len()) != expected {
            return Err(format!("message {number} is not the one that was sent").into());
        }
        number += 1;
        if number < messages {
            tokio::time::sleep(BETWEEN_MESSAGES).await;
            messages_out.send_data(message(id, number), number + 1 == messages)?;
        }
    }
    while let Some(piece) = body.data().await {
        piece?;
    }
    Ok(outcome(head.status.as_u16(), body.trailers().await?))
}

/// A call that ended with status 0 counts as 200.
fn outcome(status: u16, trailers: Option<HeaderMap>) -> Sent {
    let trailers = trailers.unwrap_or_default();
    let grpc = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
    let ok = status == 200 && grpc == Some("0");
    Sent { status: if ok { 200 } else { 0 }, detail: format!("status {status}, trailers {trailers:?}") }
}

fn message(id: &str, number: u32) -> Bytes {
    let text = format!("{id} {number:08}");
    let mut message = BytesMut::with_capacity(PREFIX + text.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(text.len()).unwrap());
    message.put_slice(text.as_bytes());
    message.freeze()
}
