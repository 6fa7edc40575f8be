//! `--forward`: every request is passed on to the next service, whose status becomes the answer's.

use std::cell::RefCell;
use std::net::SocketAddr;

use runtime::Tasks;

use super::EchoArguments;
use super::record::ID;
use crate::Error;
use crate::client::{Connection, request};
use hyper::HeaderMap;

/// Idle connections that are kept.
const MAX_IDLE: usize = 64;

/// The next service and the connections to it.
pub struct Next {
    address: SocketAddr,
    authority: String,
    /// Before the path; an HTTP proxy wants the whole URL.
    prefix: String,
    without_context: bool,
    idle: RefCell<Vec<Connection>>,
}

/// What ties a request that is served to those that are sent for it: W3C, B3, Envoy's id.
const CONTEXT: [&str; 8] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
];

impl Next {
    /// The service of `--call`, at `--call-address` or through `--proxy`.
    ///
    /// # Errors
    /// One of these flags is missing.
    pub fn of(arguments: &EchoArguments) -> Result<Next, Error> {
        let url = arguments.call.as_ref().ok_or("--forward needs --call")?;
        let authority = url.authority.clone();
        let (address, prefix) = match (arguments.call_address, arguments.proxy) {
            (Some(address), _) => (address, String::new()),
            (None, Some(proxy)) => (proxy, format!("http://{authority}")),
            (None, None) => return Err("--forward needs --call-address or --proxy".into()),
        };
        let without_context = arguments.without_context;
        Ok(Next { address, authority, prefix, without_context, idle: RefCell::default() })
    }

    /// Passes a request on, once, and returns the status of the answer.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn pass_on(
        &self,
        method: &str,
        path: &str,
        received: &HeaderMap,
        tasks: &Tasks,
    ) -> Result<u16, Error> {
        let kept = loop {
            let last = self.idle.borrow_mut().pop();
            match last {
                Some(connection) if !connection.is_open() => {}
                other => break other,
            }
        };
        let mut connection = match kept {
            Some(open) => open,
            None => Connection::open(self.address, tasks).await?,
        };
        let context = CONTEXT.iter().filter(|_| !self.without_context);
        let passed = context.chain([&ID]).filter_map(|name| {
            let value = received.get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        });
        let headers: Vec<_> = passed.collect();
        let target = format!("{}{path}", self.prefix);
        let answer = connection.exchange(request(method, &target, &self.authority, &headers)?).await?;
        let mut idle = self.idle.borrow_mut();
        if answer.header("connection") != "close" && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
        Ok(answer.status.as_u16())
    }
}
