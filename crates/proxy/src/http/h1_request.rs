//! Reads the head of a request (RFC 9112, sections 2 and 3).

use bytes::Bytes;
use http::Method;

use super::authority;
use super::h1_fields::{Fields, refusal, with_table};
use super::h1_scan::HeadEnd;
use super::h2c;
use super::head::{BodyLength, RequestHead, Scheme, Version};
use super::headers::{Headers, is_token_byte};
use super::refusal::Refusal;

/// What happens with field names that have an underscore, which some applications read as a hyphen. Envoy's
/// `headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// They pass.
    #[default]
    Allow,
    /// The request is refused.
    Reject,
    /// The field is left out.
    Drop,
}

/// What the connection adds to what the bytes say.
#[derive(Debug, Clone)]
pub struct RequestRules {
    /// The scheme of targets in origin form.
    pub scheme: Scheme,
    /// Take methods that are not registered. Envoy's `allow_custom_methods`.
    pub allow_custom_methods: bool,
    /// The authority of HTTP/1.0 requests without `host`; without it they are refused. Envoy's
    /// `default_host_for_http_10`.
    pub default_host_for_http_10: Option<Bytes>,
    /// HTTP/1.0 is spoken. Envoy's `accept_http_10`.
    pub accept_http_10: bool,
    /// Field names with an underscore.
    pub underscores: Underscores,
    /// Offers to upgrade, and CONNECT, are the handler's to accept; else they are dropped (RFC 9110, section 7.8), and
    /// CONNECT is refused.
    pub upgrades: bool,
    /// The connection may go on in HTTP/2 after `upgrade: h2c`.
    pub h2c: bool,
}

impl Default for RequestRules {
    fn default() -> Self {
        RequestRules {
            scheme: Scheme::Http,
            allow_custom_methods: false,
            default_host_for_http_10: None,
            accept_http_10: true,
            underscores: Underscores::Allow,
            upgrades: false,
            h2c: false,
        }
    }
}

/// Envoy's word for targets of the wrong form.
const INVALID_URL: &str = "http1.invalid_url";

/// A request head, and what it says about its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParsedRequest {
    /// The head, without fields that concern one hop.
    pub head: RequestHead,
    /// Whether the client wants to go on with the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The client offers to go on in HTTP/2: its settings.
    pub h2c: Option<Bytes>,
}

/// Reads a complete head, as long as the scanner found it.
pub(crate) fn parse(bytes: Bytes, end: HeadEnd, rules: &RequestRules) -> Result<ParsedRequest, Refusal> {
    let count = end.lines.saturating_sub(1);
    with_table(count, |table| {
        let mut request = httparse::Request::new(&mut []);
        let status = request.parse_with_uninit_headers(&bytes, table).map_err(|error| {
            if !rules.accept_http_10 && is_without_version(&bytes) {
                Refusal::OldVersion
            } else {
                refusal(error)
            }
        })?;
        if status != httparse::Status::Complete(bytes.len()) {
            return Err(Refusal::Malformed("an empty line inside the head"));
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Refusal::Malformed("the request line is not complete"));
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        if version == Version::Http10 && !rules.accept_http_10 {
            return Err(Refusal::OldVersion);
        }
        let mut fields = Fields::walk(&bytes, request.headers)?;
        apply_underscores(&mut fields.headers, rules.underscores)?;
        let method = read_method(method, rules)?;
        let (scheme, authority, target) = read_target(&bytes, &method, target, version, &fields, rules)?;
        assemble(method, scheme, authority, target, version, fields, rules)
    })
}

/// `GET /path`, the only form of HTTP/0.9.
fn is_without_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    !method.is_empty()
        && method.iter().all(u8::is_ascii_uppercase)
        && target.starts_with(b"/")
        && parts.next().is_none()
}

/// Acts on the names of a head or of trailers.
pub(crate) fn apply_underscores(headers: &mut Headers, action: Underscores) -> Result<(), Refusal> {
    let has_one = |name: &[u8]| memchr::memchr(b'_', name).is_some();
    match action {
        Underscores::Allow => {}
        Underscores::Drop => headers.retain(|name, _| !has_one(name)),
        Underscores::Reject if headers.iter().any(|(name, _)| has_one(name)) => {
            return Err(Refusal::Invalid {
                what: "a field name with an underscore (headers_with_underscores_action)",
                details: "http1.unexpected_underscore",
            });
        }
        Underscores::Reject => {}
    }
    Ok(())
}

fn assemble(
    method: Method,
    scheme: Scheme,
    authority: Bytes,
    target: Bytes,
    version: Version,
    fields: Fields,
    rules: &RequestRules,
) -> Result<ParsedRequest, Refusal> {
    let connect = method == Method::CONNECT;
    let mut length = fields.framing.length(version)?.unwrap_or(BodyLength::None);
    if connect {
        length = connect_length(length)?;
    }
    if method == Method::TRACE && length != BodyLength::None {
        return Err(Refusal::Malformed("TRACE with a body"));
    }
    let keep_alive = match version {
        Version::Http10 => fields.connection.has("keep-alive"),
        _ => true,
    };
    let keep_alive = keep_alive && !fields.connection.has("close") && !fields.proxy_connection.has("close");
    let mut headers = fields.headers;
    let mut expects_continue = false;
    if let Some(expect) = fields.expect {
        // Other expectations are for the origin; this one is answered by each hop that holds the body back.
        if expect.eq_ignore_ascii_case(b"100-continue") {
            let body = !matches!(length, BodyLength::None | BodyLength::Known(0));
            expects_continue = version == Version::Http11 && body;
        } else {
            headers.push(Bytes::from_static(b"expect"), expect);
        }
    }
    // An offer beside a body is ignored (RFC 9110, section 7.8): the body is HTTP, what comes after it could be either.
    let bodyless = !connect && matches!(length, BodyLength::None | BodyLength::Known(0));
    let h2c = (rules.h2c && version == Version::Http11 && bodyless)
        .then(|| h2c::settings(&fields.connection, fields.upgrade.as_ref(), &fields.http2_settings))
        .flatten();
    let offered =
        rules.upgrades && version == Version::Http11 && bodyless && fields.connection.has("upgrade");
    let upgrade = fields.upgrade.filter(|name| offered && is_protocol(name));
    if let Some(name) = &upgrade {
        headers.push(Bytes::from_static(b"upgrade"), name.clone());
        length = BodyLength::Unknown;
    }
    let head = RequestHead { method, scheme, authority, target, version, headers, length, upgrade };
    Ok(ParsedRequest { head, keep_alive, expects_continue, h2c })
}

/// What follows the head of a CONNECT is no body (RFC 9110, section 9.3.6): a length that says otherwise is refused.
fn connect_length(declared: BodyLength) -> Result<BodyLength, Refusal> {
    let what = "CONNECT with a body";
    match declared {
        BodyLength::None | BodyLength::Known(0) => Ok(BodyLength::Unknown),
        BodyLength::Known(_) => Err(Refusal::Invalid { what, details: "http1.body_disallowed" }),
        BodyLength::Unknown => Err(Refusal::Invalid { what, details: "http1.transfer_encoding_not_allowed" }),
    }
}

/// The name of one protocol, perhaps with a version. HTTP/2 is not one that goes on to an upstream: see `h2c`.
fn is_protocol(name: &[u8]) -> bool {
    let legal = |byte: &u8| is_token_byte(*byte) || *byte == b'/';
    !name.is_empty() && name.iter().all(legal) && !name.eq_ignore_ascii_case(b"h2c")
}

fn read_method(method: &str, rules: &RequestRules) -> Result<Method, Refusal> {
    if !rules.allow_custom_methods && !is_registered(method) {
        return Err(Refusal::Malformed("the method is not registered (allow_custom_methods takes any)"));
    }
    Method::from_bytes(method.as_bytes())
        .map_err(|_| Refusal::Malformed("the method has a byte that is not allowed"))
}

/// The methods that Envoy takes by default.
fn is_registered(method: &str) -> bool {
    const METHODS: [&str; 34] = [
        "GET",
        "POST",
        "PUT",
        "HEAD",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "CONNECT",
        "TRACE",
        "ACL",
        "BIND",
        "CHECKOUT",
        "COPY",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "M-SEARCH",
        "MOVE",
        "NOTIFY",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    METHODS.contains(&method)
}

/// Scheme, authority and path of the target (RFC 9112, section 3.2). An absolute target wins over `host`.
fn read_target(
    bytes: &Bytes,
    method: &Method,
    target: &str,
    version: Version,
    fields: &Fields,
    rules: &RequestRules,
) -> Result<(Scheme, Bytes, Bytes), Refusal> {
    if !target.is_ascii() || target.contains('#') {
        return Err(Refusal::NO_PATH);
    }
    let host = match &fields.host {
        Some(host) if authority::is_valid(host) => Some(host.clone()),
        Some(_) => {
            let details = "http.invalid_authority";
            return Err(Refusal::Invalid { what: "host is not HOST or HOST:PORT", details });
        }
        None if version == Version::Http10 => rules.default_host_for_http_10.clone(),
        None => return Err(Refusal::NO_HOST),
    };
    if *method == Method::CONNECT {
        if !authority::is_valid(target.as_bytes()) || !authority::has_port(target.as_bytes()) {
            let what = "the target of CONNECT is not HOST:PORT";
            return Err(Refusal::Invalid { what, details: INVALID_URL });
        }
        if !rules.upgrades {
            return Err(Refusal::Tunnel);
        }
        return Ok((rules.scheme, bytes.slice_ref(target.as_bytes()), Bytes::new()));
    }
    if target.starts_with('/') {
        return Ok((rules.scheme, host.ok_or(Refusal::NO_HOST)?, bytes.slice_ref(target.as_bytes())));
    }
    if target == "*" {
        if *method != Method::OPTIONS {
            let what = "the target * is for OPTIONS only";
            return Err(Refusal::Invalid { what, details: INVALID_URL });
        }
        return Ok((rules.scheme, host.ok_or(Refusal::NO_HOST)?, Bytes::from_static(b"*")));
    }
    let (scheme, rest) = split_scheme(target)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !authority::is_valid(authority.as_bytes()) {
        let what = "the authority of the target is not HOST or HOST:PORT";
        return Err(Refusal::Invalid { what, details: INVALID_URL });
    }
    let path = match path.as_bytes() {
        [] if *method == Method::OPTIONS => Bytes::from_static(b"*"),
        [] => Bytes::from_static(b"/"),
        [b'?', ..] => Bytes::from(format!("/{path}")),
        slashed => bytes.slice_ref(slashed),
    };
    Ok((scheme, bytes.slice_ref(authority.as_bytes()), path))
}

fn split_scheme(target: &str) -> Result<(Scheme, &str), Refusal> {
    for (prefix, scheme) in [("http://", Scheme::Http), ("https://", Scheme::Https)] {
        if let Some((start, rest)) = target.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
        {
            return Ok((scheme, rest));
        }
    }
    let what = "the target is neither a path nor an absolute http or https address";
    if target.contains("://") {
        return Err(Refusal::Invalid { what, details: "http1.invalid_scheme" });
    }
    Err(Refusal::Malformed(what))
}

#[cfg(test)]
#[path = "h1_request_tests.rs"]
mod tests;
