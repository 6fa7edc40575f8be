//! The request in question, and its caller, in the eyes of `decide`.

use std::net::{IpAddr, SocketAddr};

use decide::{Canonical, PathOptions, PeerView, RequestView, canonical_path, rewrite};

use config::model::{Forward, HttpConnectionManager, RouteMatch};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Host, perhaps with port.
    pub authority: String,
    /// Path and query.
    pub target: Vec<u8>,
    /// Header lines; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// Changes host and path as a route does.
    pub fn rewrite(&mut self, forward: &Forward, matcher: &RouteMatch) {
        let host = rewrite::host(&forward.host_rewrite, self);
        if let Some(target) = rewrite::target(&forward.path_rewrite, matcher, &self.target) {
            self.target = target;
        }
        if let Some(host) = host {
            self.authority = String::from_utf8_lossy(&host).into_owned();
        }
    }

    /// Host and path in one.
    pub fn line(&self) -> String {
        format!("{}{}", self.authority, String::from_utf8_lossy(&self.target))
    }

    /// The request with the canonical path that a connection manager gives it.
    ///
    /// # Errors
    /// What the proxy answers instead: status and reason.
    pub fn canonical(&self, manager: &HttpConnectionManager) -> Result<Request, (u16, String)> {
        let options = PathOptions {
            normalize: manager.normalize_path,
            merge_slashes: manager.merge_slashes,
            escaped_slashes: manager.escaped_slashes,
        };
        match canonical_path(&self.target, options) {
            Canonical::Forward(target) => Ok(Request { target: target.into_owned(), ..self.clone() }),
            Canonical::Redirect(location) => {
                Err((307, format!("redirected to {}", String::from_utf8_lossy(&location))))
            }
            Canonical::Refused(reason) => Err((400, reason.to_owned())),
        }
    }
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    fn target(&self) -> &[u8] {
        &self.target
    }

    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_bytes())
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The SPIFFE id that mutual TLS proves; `None` over plaintext.
    pub identity: Option<String>,
    /// The caller's address.
    pub address: IpAddr,
    /// The address that is called.
    pub called: SocketAddr,
    /// SNI; empty without TLS.
    pub server_name: String,
}

impl PeerView for Caller {
    fn is_authenticated(&self) -> bool {
        self.identity.is_some()
    }

    fn uri_sans(&self) -> impl Iterator<Item = &str> {
        self.identity.as_deref().into_iter()
    }

    fn dns_sans(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    fn subject(&self) -> &str {
        ""
    }

    fn direct_remote_ip(&self) -> IpAddr {
        self.address
    }

    fn remote_ip(&self) -> IpAddr {
        self.address
    }

    fn destination(&self) -> SocketAddr {
        self.called
    }

    fn requested_server_name(&self) -> &str {
        &self.server_name
    }
}
