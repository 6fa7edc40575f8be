//! A small HTTP/1.1 client for the CLI: one connection at a time, bounded answers, no redirects.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use tokio::net::TcpStream;

use crate::Error;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// How long one exchange may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: hyper::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty where it is missing or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One open connection.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    address: SocketAddr,
}

impl Connection {
    /// Connects. The connection's task is a job of `tasks`; the caller runs inside a `LocalSet`.
    ///
    /// # Errors
    /// The address does not take connections (it is named).
    pub async fn open(address: SocketAddr, tasks: &Tasks) -> Result<Connection, Error> {
        let stream = tokio::time::timeout(TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| format!("{address}: no connection within {} s", TIMEOUT.as_secs()))?
            .map_err(|error| format!("{address}: {error}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tasks.job_local("http client connection", async move {
            // How the exchange went is told to whoever sent the request.
            let _ = connection.await;
        });
        Ok(Connection { sender, address })
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// The connection broke, or the answer took too long.
    pub async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, Error> {
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| format!("{}: no answer within {} s", self.address, TIMEOUT.as_secs()))?;
        Ok(answer.map_err(|error| format!("{}: {error}", self.address))?)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Connection::send`]; also an answer larger than 16 MiB.
    pub async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, Error> {
        let (head, body) = self.send(request).await?.into_parts();
        let read = tokio::time::timeout(TIMEOUT, Limited::new(body, MAX_ANSWER).collect())
            .await
            .map_err(|_| format!("{}: the answer did not end within {} s", self.address, TIMEOUT.as_secs()))?
            .map_err(|error| format!("{}: {error}", self.address))?;
        Ok(Answer { status: head.status, headers: head.headers, body: read.to_bytes() })
    }

    /// Whether the connection still takes requests.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// A request without a body. `target` is a path, or an absolute URL for an HTTP proxy.
///
/// # Errors
/// A target or header that is not valid HTTP.
pub fn request(
    method: &str,
    target: &str,
    host: &str,
    headers: &[(String, String)],
) -> Result<Request<Empty<Bytes>>, Error> {
    let mut builder = Request::builder().method(method).uri(target).header("host", host);
    for (name, value) in headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    Ok(builder.body(Empty::new())?)
}

/// One GET on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::exchange`].
pub async fn get(address: SocketAddr, path: &str, tasks: &Tasks) -> Result<Answer, Error> {
    let mut connection = Connection::open(address, tasks).await?;
    connection.exchange(request("GET", path, &address.to_string(), &[])?).await
}
