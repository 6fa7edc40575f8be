//! `--forward`: every request is passed on to the next service, whose status becomes the answer's.

use std::cell::RefCell;
use std::net::SocketAddr;

use hyper::header::HeaderValue;
use runtime::Tasks;

use super::EchoArguments;
use super::record::ID;
use crate::Error;
use crate::client::{Connection, request};

/// Idle connections that are kept.
const MAX_IDLE: usize = 64;

/// The next service and the connections to it.
pub struct Next {
    address: SocketAddr,
    authority: String,
    /// Before the path; an HTTP proxy wants the whole URL.
    prefix: String,
    idle: RefCell<Vec<Connection>>,
}

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
        Ok(Next { address, authority, prefix, idle: RefCell::default() })
    }

    /// Passes a request on, once, and returns the status of the answer.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn pass_on(
        &self,
        method: &str,
        path: &str,
        id: Option<&HeaderValue>,
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
        let id = id.and_then(|id| id.to_str().ok()).map(|id| (ID.to_owned(), id.to_owned()));
        let headers: Vec<_> = id.into_iter().collect();
        let target = format!("{}{path}", self.prefix);
        let answer = connection.exchange(request(method, &target, &self.authority, &headers)?).await?;
        let mut idle = self.idle.borrow_mut();
        if answer.header("connection") != "close" && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
        Ok(answer.status.as_u16())
    }
}
