//! The admin server's socket and connections.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::Address;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::{TaskError, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::page::{Context, Page, render, status};
use crate::listen::bind;

/// Connections that are served at the same time.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// The bound socket of the admin server.
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// Binds the admin address.
///
/// # Errors
/// The address is taken or not ours.
pub fn bind(address: &Address) -> Result<Socket, TaskError> {
    match address {
        Address::Socket(address) => {
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "the admin server can be reached from other machines; it can stop this proxy");
            }
            let socket = bind::tcp(*address, 1, None)?.into_iter().next().ok_or("no socket")?;
            tracing::info!(address = %socket.local_addr()?, "admin server");
            Ok(Socket::Tcp(TcpListener::from_std(socket)?))
        }
        Address::Pipe { path, .. } => Ok(Socket::Unix(UnixListener::from_std(bind::unix(path)?)?)),
        Address::Name { .. } => Err("the admin address must be an IP address or a Unix socket".into()),
    }
}

/// What a server says.
pub trait Answer {
    /// The page that a request asks for.
    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Page>;
}

/// The admin pages.
pub struct AdminPages(pub Rc<Context>);

impl Answer for AdminPages {
    async fn answer(&self, request: &Request<Incoming>) -> Page {
        answer(&self.0, request.method(), request.uri(), request.headers())
    }
}

/// Serves pages for ever.
///
/// # Errors
/// The socket broke.
pub async fn serve<A: Answer + 'static>(socket: Socket, pages: Rc<A>, tasks: Tasks) -> Result<(), TaskError> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        let accepted = match &socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted {
            Ok(stream) => {
                let pages = pages.clone();
                let drain = tasks.drain();
                tasks.job_local("admin connection", async move {
                    let served = async {
                        match stream {
                            Stream::Tcp(stream) => connection(stream, &*pages).await,
                            Stream::Unix(stream) => connection(stream, &*pages).await,
                        }
                    };
                    // A client that keeps its connection open must not hold up the end of the process.
                    let over = async {
                        drain.started().await;
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    };
                    tokio::select! {
                        () = served => {}
                        () = over => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("admin server: accept failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, pages: &impl Answer) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<Page, Infallible>(pages.answer(&request).await)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("admin connection: {error}");
    }
}

fn answer(context: &Context, method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Page {
    // A web page that somebody looks at on this machine must not stop the proxy behind their back.
    if *method != Method::GET && headers.contains_key(http::header::ORIGIN) {
        return status(StatusCode::FORBIDDEN, "requests from web pages are not accepted\n");
    }
    let accept = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    render(context, method, uri.path(), uri.query().unwrap_or_default(), accept)
}

impl From<bind::BindError> for io::Error {
    fn from(error: bind::BindError) -> io::Error {
        io::Error::other(error.to_string())
    }
}
