//! `tulle echo`: a small HTTP service for trying a mesh. It answers with what it received; as a caller it sends a
//! burst of requests to another service and tells how they went.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::{Drain, Supervisor, Tasks};
use tokio::net::TcpListener;

use crate::Error;

pub mod burst;

pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// How long requests in flight may take once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Flags of `tulle echo`.
#[derive(Debug, Clone, clap::Args)]
pub struct EchoArguments {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Name of the service, told in every answer
    #[arg(long, default_value = "echo")]
    pub name: String,
    /// Version, told in every answer
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// Service to call on GET /burst, as a URL such as http://payment-service:8080/pay
    #[arg(long)]
    pub call: Option<burst::Url>,
    /// Where the called service's address is when no DNS knows it (a loopback VIP)
    #[arg(long)]
    pub call_address: Option<SocketAddr>,
    /// HTTP proxy for calls made with ?via=proxy (the sidecar's)
    #[arg(long, env = "http_proxy", value_parser = burst::proxy_address)]
    pub proxy: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(arguments: EchoArguments) -> Result<ExitCode, Error> {
    runtime::thread::block_on_local(serve(arguments))??;
    Ok(ExitCode::SUCCESS)
}

async fn serve(arguments: EchoArguments) -> Result<(), Error> {
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    eprintln!("{} {} listens on http://{}", arguments.name, arguments.version, listener.local_addr()?);
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    tasks.spawn_local("signals", async move {
        runtime::signals::shutdown().await?;
        drain.start();
        Ok(())
    });
    tasks.spawn_local("accept", accept(listener, Rc::new(arguments), supervisor.tasks()));
    supervisor.run(GRACE).await
}

async fn accept(listener: TcpListener, arguments: Rc<EchoArguments>, tasks: Tasks) -> Result<(), Error> {
    let drain = tasks.drain();
    loop {
        let (stream, _) = tokio::select! {
            () = drain.started() => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        let (arguments, jobs, stop) = (arguments.clone(), tasks.clone(), tasks.drain());
        tasks.job_local("connection", async move {
            let service = service_fn(move |request| answer(request, arguments.clone(), jobs.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(60))
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                // A broken connection concerns its client only.
                _ = connection.as_mut() => {}
                () = stop.started() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    arguments: Rc<EchoArguments>,
    tasks: Tasks,
) -> Result<Response<ReplyBody>, Infallible> {
    let reply = if request.uri().path() == "/burst" {
        burst::serve(&request, &arguments, &tasks)
    } else {
        echo(request, &arguments).await
    };
    Ok(reply)
}

/// Tells what was received: method, target, headers, size of the body.
async fn echo(request: Request<Incoming>, arguments: &EchoArguments) -> Response<ReplyBody> {
    let (head, body) = request.into_parts();
    let received = match http_body_util::Limited::new(body, 1 << 20).collect().await {
        Ok(body) => body.to_bytes().len(),
        Err(error) => return text(400, format!("the request body: {error}\n")),
    };
    let mut headers = serde_json::Map::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.insert(name.as_str().to_owned(), value.into());
    }
    let body = serde_json::json!({
        "service": arguments.name, "version": arguments.version, "instance": arguments.listen.to_string(),
        "method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers, "body_bytes": received,
    });
    let mut reply = text(200, format!("{body}\n"));
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    if let Ok(version) = arguments.version.parse() {
        reply.headers_mut().insert("x-echo-version", version);
    }
    reply
}

pub(crate) fn text(status: u16, body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *reply.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    reply
}
