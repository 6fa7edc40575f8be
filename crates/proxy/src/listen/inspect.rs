//! What the first bytes of a connection say: TLS or not and what its ClientHello asks for, HTTP or not.

use config::model::{Listener, ListenerFilter, TlsInspector};

use super::client_hello::{self, ClientHello};
use super::request_line;

/// First byte of a TLS record that holds a handshake message (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// It is TLS.
    pub tls: bool,
    /// Server name, in lower case.
    pub sni: Option<String>,
    /// Application protocols: those that a ClientHello offers, or the version of HTTP that the first line tells.
    pub alpn: Vec<String>,
}

/// Which inspectors a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspectors {
    /// Tells TLS from plaintext.
    pub tls: Option<TlsInspector>,
    /// Tells HTTP from other bytes.
    pub http: bool,
}

impl Inspectors {
    /// The inspectors of a listener. A match that needs TLS to be told from plaintext brings its own, as in Envoy.
    pub fn of(listener: &Listener) -> Inspectors {
        let configured = listener.listener_filters.iter().find_map(|filter| match filter {
            ListenerFilter::TlsInspector(options) => Some(*options),
            _ => None,
        });
        let needed = listener.filter_chains.iter().any(|chain| match &*chain.matcher.transport_protocol {
            "tls" => true,
            "" => !chain.matcher.application_protocols.is_empty() || !chain.matcher.server_names.is_empty(),
            _ => false,
        });
        Inspectors {
            tls: configured.or_else(|| needed.then(TlsInspector::default)),
            http: listener.listener_filters.contains(&ListenerFilter::HttpInspector),
        }
    }

    /// Whether the first bytes are looked at before a chain is chosen.
    pub fn any(self) -> bool {
        self.tls.is_some() || self.http
    }
}

/// Why a connection is closed by an inspector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Longer than `max_client_hello_size`.
    #[error("its ClientHello is longer than {0} bytes")]
    HelloTooLong(u32),
    /// It begins like TLS, and the configuration wants a ClientHello then.
    #[error("it begins like TLS, and not with a ClientHello")]
    NoHello,
    /// The first line does not end.
    #[error("its first line is longer than {} bytes", request_line::MAX_LINE)]
    LineTooLong,
}

/// The inspectors at work on one connection. Costs in proportion to the bytes, however they arrive.
#[derive(Debug)]
pub struct Inspection {
    tls: Option<(TlsInspector, client_hello::Reader)>,
    http: Option<request_line::Reader>,
}

impl Inspection {
    /// For a new connection.
    pub fn new(inspectors: Inspectors) -> Self {
        let reader = |options: TlsInspector| {
            let limit = usize::try_from(options.max_client_hello_size).unwrap_or(usize::MAX);
            (options, client_hello::Reader::new(limit))
        };
        Inspection {
            tls: inspectors.tls.map(reader),
            http: inspectors.http.then(request_line::Reader::default),
        }
    }

    /// Whether what was seen may be the beginning of a ClientHello.
    pub fn may_be_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Looks at all bytes that have come so far; `None`: more are needed.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Option<Seen>, Objection> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some((options, reader)) = &mut self.tls {
            match reader.read(bytes) {
                client_hello::Reading::Partial => return Ok(None),
                client_hello::Reading::Whole(ClientHello { server_name, protocols }) => {
                    return Ok(Some(Seen { tls: true, sni: server_name, alpn: protocols }));
                }
                client_hello::Reading::TooLong => {
                    return Err(Objection::HelloTooLong(options.max_client_hello_size));
                }
                client_hello::Reading::NotOne if options.close_on_parsing_errors => {
                    return Err(Objection::NoHello);
                }
                // Plaintext, from here on.
                client_hello::Reading::NotOne => self.tls = None,
            }
        }
        let Some(reader) = &mut self.http else { return Ok(Some(Seen::default())) };
        match reader.read(bytes) {
            request_line::Reading::Partial => Ok(None),
            request_line::Reading::Http(version) => {
                Ok(Some(Seen { alpn: vec![version.to_owned()], ..Seen::default() }))
            }
            request_line::Reading::Other => Ok(Some(Seen::default())),
            request_line::Reading::TooLong => Err(Objection::LineTooLong),
        }
    }
}

/// Whether a connection that begins with that byte speaks TLS.
pub fn begins_like_tls(first: u8) -> bool {
    first == HANDSHAKE
}

#[cfg(test)]
mod tests {
    use super::super::testing::hello;
    use super::*;

    const BOTH: Inspectors = Inspectors {
        tls: Some(TlsInspector { max_client_hello_size: 16_384, close_on_parsing_errors: false }),
        http: true,
    };

    fn look(inspectors: Inspectors, bytes: &[u8]) -> Result<Option<Seen>, Objection> {
        Inspection::new(inspectors).look(bytes)
    }

    #[test]
    fn a_real_client_hello_is_read() {
        let seen = look(BOTH, &hello("Payment.production")).unwrap().unwrap();
        assert_eq!((seen.tls, seen.sni.as_deref()), (true, Some("payment.production")));
        assert_eq!(seen.alpn, ["istio-http/1.1", "istio"]);
    }

    #[test]
    fn http_is_looked_for_where_it_is_asked_for() {
        let line = b"GET / HTTP/1.1\r\n";
        assert_eq!(look(BOTH, line).unwrap().unwrap().alpn, ["http/1.1"]);
        assert_eq!(look(Inspectors { http: false, ..BOTH }, line), Ok(Some(Seen::default())));
        assert_eq!(look(Inspectors { tls: None, ..BOTH }, line).unwrap().unwrap().alpn, ["http/1.1"]);
        assert_eq!(look(BOTH, b"\x00\x01"), Ok(Some(Seen::default())));
        assert_eq!(look(BOTH, b""), Ok(None));
    }

    #[test]
    fn what_only_begins_like_tls_is_plaintext_unless_it_has_to_be_a_hello() {
        let bytes = b"\x16\x03\x01\x00\x05hello";
        assert_eq!(look(BOTH, bytes), Ok(Some(Seen::default())));
        let options = TlsInspector { close_on_parsing_errors: true, ..TlsInspector::default() };
        assert_eq!(look(Inspectors { tls: Some(options), ..BOTH }, bytes), Err(Objection::NoHello));
        let short = TlsInspector { max_client_hello_size: 256, ..TlsInspector::default() };
        let endless = [&b"\x16\x03\x01\x01\x00\x01"[..], &[0; 20]].concat();
        assert_eq!(
            look(Inspectors { tls: Some(short), ..BOTH }, &endless),
            Err(Objection::HelloTooLong(256))
        );
    }
}
