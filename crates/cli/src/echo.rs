//! `tulle echo`: a small HTTP service for trying a mesh. It answers with what it received, fails as it is asked to, and
//! records what it executed; as a caller it sends a burst of requests to another service and tells how they went.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::{Drain, Supervisor, Tasks};
use tokio::net::{TcpListener, TcpStream};

use crate::Error;

pub mod burst;
mod forward;
mod record;
mod reply;
mod script;
mod socket;
mod websocket;

pub(crate) use reply::ReplyBody;
use script::Script;
use socket::{Control, Controlled};

/// How a connection to HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI";
/// How long a connection may wait with its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(60);

/// Flags of `tulle echo`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = script::HELP)]
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
    /// Pass every request on to the service of --call, and answer with its status
    #[arg(long)]
    pub forward: bool,
    /// Forget the trace context of requests that are passed on, as programs do that do not know of traces
    #[arg(long)]
    pub without_context: bool,
    /// File to which the `x-echo-id` of every executed request is added, one a line
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// Close HTTP/1 connections that were idle for so many seconds, without a word
    #[arg(long, value_name = "SECONDS")]
    pub idle_close: Option<u64>,
    /// Seconds that requests in flight may take once a stop was asked for
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub grace: u64,
}

/// The running service.
struct Echo {
    arguments: EchoArguments,
    tasks: Tasks,
    record: Option<record::Record>,
    next: Option<forward::Next>,
    /// What requests without a script of their own do.
    script: RefCell<Script>,
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
    let grace = Duration::from_secs(arguments.grace);
    let echo = Echo {
        record: arguments.record.as_deref().map(record::Record::open).transpose()?,
        next: arguments.forward.then(|| forward::Next::of(&arguments)).transpose()?,
        script: RefCell::default(),
        tasks: supervisor.tasks(),
        arguments,
    };
    tasks.spawn_local("accept", accept(listener, Rc::new(echo)));
    supervisor.run(grace).await
}

async fn accept(listener: TcpListener, echo: Rc<Echo>) -> Result<(), Error> {
    let drain = echo.tasks.drain();
    loop {
        let (stream, _) = tokio::select! {
            () = drain.started() => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        let echo = echo.clone();
        echo.tasks.clone().job_local("connection", async move {
            // A broken connection concerns its client only.
            let _ = connection(stream, echo).await;
        });
    }
}

/// Serves one connection: HTTP/1.1, or HTTP/2 where it begins so.
async fn connection(stream: TcpStream, echo: Rc<Echo>) -> Result<(), Error> {
    let mut first = [0; PREFACE.len()];
    let seen = tokio::time::timeout(FIRST_BYTES, stream.peek(&mut first)).await??;
    let (stop, control) = (echo.tasks.drain(), Control::new());
    let idle = echo.arguments.idle_close.map(Duration::from_secs);
    let io = TokioIo::new(Controlled::new(stream, control.clone()));
    let (tasks, http2) = (echo.tasks.clone(), seen > 0 && PREFACE.starts_with(&first[..seen]));
    let (own, over) = (control.clone(), control.over(idle));
    let service = service_fn(move |request| {
        own.begin();
        answer(request, echo.clone(), own.clone())
    });
    if http2 {
        let served = http2::Builder::new(Jobs(tasks)).timer(TokioTimer::new()).serve_connection(io, service);
        tokio::pin!(served);
        tokio::select! {
            ended = served.as_mut() => return Ok(ended?),
            () = stop.started() => served.as_mut().graceful_shutdown(),
        }
        return Ok(served.await?);
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTES)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::pin!(served, over);
    tokio::select! {
        ended = served.as_mut() => return Ok(ended?),
        () = over.as_mut() => return Ok(()),
        () = stop.started() => served.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = served.as_mut() => Ok(ended?),
        () = over => Ok(()),
    }
}

/// Runs the streams of HTTP/2 connections as jobs.
#[derive(Clone)]
struct Jobs(Tasks);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Jobs {
    fn execute(&self, stream: F) {
        self.0.job_local("stream", stream);
    }
}

/// Answers a request; an error breaks its connection.
async fn answer(
    request: Request<Incoming>,
    echo: Rc<Echo>,
    control: Arc<Control>,
) -> Result<Response<ReplyBody>, Error> {
    match request.uri().path() {
        "/burst" => return Ok(burst::serve(&request, &echo.arguments, &echo.tasks)),
        "/echo/do" => return Ok(set_script(&request, &echo)),
        _ => {}
    }
    let asked = request.headers().get("x-echo-do").map(|asked| asked.to_str().map(Script::from_str));
    let script = match asked {
        None => echo.script.borrow().clone(),
        Some(Ok(Ok(script))) => script,
        Some(Ok(Err(reason))) => return Ok(text(400, format!("x-echo-do: {reason}\n"))),
        Some(Err(error)) => return Ok(text(400, format!("x-echo-do: {error}\n"))),
    };
    if websocket::is_asked_for(&request) {
        return Ok(websocket::accept(request, &echo.tasks));
    }
    let grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        echo.executed(&request)?;
        act(&script, &control).await?;
        let mut reply =
            Response::new(ReplyBody::Grpc(request.into_body(), Some(script.grpc_status.unwrap_or(0))));
        reply.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        return Ok(reply);
    }
    report(request, &echo, script, control).await
}

impl Echo {
    fn executed<B>(&self, request: &Request<B>) -> Result<(), Error> {
        match (&self.record, request.headers().get(record::ID)) {
            (Some(record), Some(id)) => record.executed(id.as_bytes()),
            _ => Ok(()),
        }
    }
}

fn set_script(request: &Request<Incoming>, echo: &Echo) -> Response<ReplyBody> {
    match request.uri().query().unwrap_or_default().parse() {
        Ok(script) => {
            *echo.script.borrow_mut() = script;
            text(200, "set\n".to_owned())
        }
        Err(reason) => text(400, format!("{reason}\n")),
    }
}

/// What a script wants before the answer.
async fn act(script: &Script, control: &Control) -> Result<(), Error> {
    tokio::time::sleep(script.delay).await;
    if script.hang {
        std::future::pending::<()>().await;
    }
    if script.close {
        control.close_after_answer();
    }
    if script.reset == Some(0) {
        control.reset();
        return Err("reset, as asked".into());
    }
    Ok(())
}

/// Tells what was received: method, target, headers, size of the body.
async fn report(
    mut request: Request<Incoming>,
    echo: &Echo,
    script: Script,
    control: Arc<Control>,
) -> Result<Response<ReplyBody>, Error> {
    let mut received = 0;
    while let Some(frame) = request.body_mut().frame().await {
        match frame {
            Ok(frame) => received += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return Ok(text(400, format!("the request body: {error}\n"))),
        }
    }
    echo.executed(&request)?;
    act(&script, &control).await?;
    let (head, _) = request.into_parts();
    let mut headers = serde_json::Map::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.insert(name.as_str().to_owned(), value.into());
    }
    let arguments = &echo.arguments;
    let body = serde_json::json!({
        "service": arguments.name, "version": arguments.version, "instance": arguments.listen.to_string(),
        "method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers, "body_bytes": received,
    });
    let (mut status, mut body) = (script.status.unwrap_or(200), format!("{body}\n"));
    if let Some(next) = &echo.next {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        match next.pass_on(head.method.as_str(), path, &head.headers, &echo.tasks).await {
            Ok(answered) => status = answered,
            Err(error) => (status, body) = (502, format!("the next service: {error}\n")),
        }
    }
    let mut reply = text(status, String::new());
    *reply.body_mut() = ReplyBody::Shaped(reply::Shaped::new(Bytes::from(body), &script, control));
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in
        [("x-echo-version", &arguments.version), ("x-echo-instance", &arguments.listen.to_string())]
    {
        if let Ok(value) = value.parse() {
            reply.headers_mut().insert(name, value);
        }
    }
    Ok(reply)
}

pub(crate) fn text(status: u16, body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::Stream(Full::new(Bytes::from(body)).boxed_unsync()));
    *reply.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    reply
}
