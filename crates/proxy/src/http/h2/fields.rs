//! Heads and trailers out of header blocks (RFC 9113, sections 8.2 and 8.3).
//!
//! An upgrade has one neutral form: a request with `upgrade`, a response with status 101. On HTTP/2 they are an extended
//! CONNECT (RFC 8441) and a 200; these functions translate both ways, so that no caller has to know.

use bytes::{Bytes, BytesMut};
use http::Method;

use super::hpack_static::Kind;
use crate::http::authority;
use crate::http::h1::Limits;
use crate::http::h1_framing::parse_length;
use crate::http::head::{BodyLength, RequestHead, ResponseHead, Scheme, Version};
use crate::http::headers::{Headers, is_token_byte};
use crate::http::hop;
use crate::http::refusal::Refusal;

/// Envoy's word for a head or trailers that break a rule of HTTP/2.
const INVALID_FIELD: &str = "http2.invalid.header.field";

const fn invalid(what: &'static str) -> Refusal {
    Refusal::Invalid { what, details: INVALID_FIELD }
}

/// What is wrong with a block that could be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Names or values that no field can have: the peer is not to be trusted with the connection.
    Fields(&'static str),
    /// A rule of HTTP/2: the message is malformed (section 8.1.1).
    Malformed(&'static str),
    /// It can be read, and be answered with what is wrong with it.
    Refused(Refusal),
}

/// A header block as it is decoded.
#[derive(Debug)]
pub(crate) struct Block {
    limits: Limits,
    /// Bytes of all regular fields, as in an HTTP/1 head.
    bytes: usize,
    count: usize,
    text: BytesMut,
    pub method: Option<Bytes>,
    pub scheme: Option<Bytes>,
    pub authority: Option<Bytes>,
    pub path: Option<Bytes>,
    pub protocol: Option<Bytes>,
    pub status: Option<Bytes>,
    pub headers: Headers,
    host: Option<Bytes>,
    hosts: usize,
    length: Option<Bytes>,
    lengths: usize,
    /// The crumbs of `cookie` behind the first one (section 8.2.3).
    crumbs: Vec<Bytes>,
    cookie: bool,
    fault: Option<Fault>,
}

impl Block {
    pub(crate) fn new(limits: Limits) -> Self {
        Block {
            limits,
            bytes: 0,
            count: 0,
            text: BytesMut::new(),
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            status: None,
            headers: Headers::new(),
            host: None,
            hosts: 0,
            length: None,
            lengths: 0,
            crumbs: Vec::new(),
            cookie: false,
            fault: None,
        }
    }

    /// Whether it has a pseudo-header.
    pub(crate) fn has_pseudo(&self) -> bool {
        self.of_request() || self.status.is_some()
    }

    fn of_request(&self) -> bool {
        let pseudo = [&self.method, &self.scheme, &self.authority, &self.path, &self.protocol];
        pseudo.iter().any(|pseudo| pseudo.is_some())
    }

    fn fault(&mut self, fault: Fault) {
        let weight = |fault: &Fault| match fault {
            Fault::Fields(_) => 2,
            Fault::Malformed(_) => 1,
            Fault::Refused(_) => 0,
        };
        if self.fault.as_ref().is_none_or(|before| weight(before) < weight(&fault)) {
            self.fault = Some(fault);
        }
    }

    /// Counts a field; whether it is to be added. Beyond the limits fields are counted and not kept.
    pub(crate) fn counts(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> bool {
        match kind {
            Kind::Method | Kind::Scheme | Kind::Authority | Kind::Path | Kind::Protocol | Kind::Status => {
                // A pseudo-header is as large as a head may be.
                if value.len() > self.limits.max_headers_bytes {
                    self.bytes = self.bytes.saturating_add(value.len());
                    return false;
                }
                return true;
            }
            Kind::UnknownPseudo => self.fault(Fault::Fields("a pseudo-header that does not exist")),
            Kind::Invalid => {
                self.fault(Fault::Fields("a field whose name or value has a byte that is not allowed"));
            }
            Kind::OfConnection => {
                self.fault(Fault::Malformed("a field that belongs to an HTTP/1 connection"));
            }
            Kind::Host | Kind::Cookie | Kind::ContentLength | Kind::TeTrailers | Kind::Regular => {}
        }
        self.count += 1;
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + 4);
        self.bytes <= self.limits.max_headers_bytes
            && self.count <= self.limits.max_headers_count
            && !matches!(kind, Kind::UnknownPseudo | Kind::Invalid | Kind::OfConnection)
    }

    /// A copy of a string, beside the others of the block.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.text.capacity() < bytes.len() {
            self.text = BytesMut::with_capacity(bytes.len().max(256));
        }
        self.text.extend_from_slice(bytes);
        self.text.split().freeze()
    }

    /// Adds a field that counts.
    pub(crate) fn add(&mut self, kind: Kind, name: Bytes, value: Bytes) {
        let slot = match kind {
            Kind::Method => &mut self.method,
            Kind::Scheme => &mut self.scheme,
            Kind::Authority => &mut self.authority,
            Kind::Path => &mut self.path,
            Kind::Protocol => &mut self.protocol,
            Kind::Status => &mut self.status,
            _ => return self.add_regular(kind, name, trimmed(value)),
        };
        let twice = slot.replace(value).is_some();
        if twice {
            self.fault(Fault::Malformed("a pseudo-header occurs twice"));
        }
        if self.count > 0 {
            self.fault(Fault::Malformed("a pseudo-header behind other fields"));
        }
    }

    fn add_regular(&mut self, kind: Kind, name: Bytes, value: Bytes) {
        match kind {
            Kind::Host => {
                self.hosts += 1;
                self.host = Some(value);
                return;
            }
            Kind::ContentLength => {
                self.lengths += 1;
                self.length = Some(value.clone());
            }
            Kind::Cookie if std::mem::replace(&mut self.cookie, true) => return self.crumbs.push(value),
            _ => {}
        }
        if self.headers.is_empty() {
            self.headers = Headers::with_capacity(16);
        }
        self.headers.push(name, value);
    }

    /// The end of the block: joins crumbs, and says what is wrong with the fields.
    fn finish(&mut self) -> Result<(), Fault> {
        if !self.crumbs.is_empty()
            && let Some(first) = self.headers.get("cookie")
        {
            let mut all = first.to_vec();
            for crumb in &self.crumbs {
                all.extend_from_slice(b"; ");
                all.extend_from_slice(crumb);
            }
            self.headers.set(Bytes::from_static(b"cookie"), all);
        }
        if let Some(fault @ (Fault::Fields(_) | Fault::Malformed(_))) = self.fault {
            return Err(fault);
        }
        let Limits { max_headers_bytes, max_headers_count } = self.limits;
        if self.bytes > max_headers_bytes {
            let refusal = Refusal::HeadTooLarge { limit: max_headers_bytes, seen: self.bytes };
            return Err(Fault::Refused(refusal));
        }
        if self.count > max_headers_count {
            let refusal = Refusal::TooManyHeaders { limit: max_headers_count, seen: self.count };
            return Err(Fault::Refused(refusal));
        }
        Ok(())
    }

    fn length(&self) -> Result<Option<u64>, Refusal> {
        if self.lengths > 1 {
            return Err(invalid("content-length occurs more than once"));
        }
        let Some(length) = &self.length else { return Ok(None) };
        parse_length(length)
            .map(Some)
            .map_err(|_| invalid("content-length is not a decimal number below 2^63"))
    }

    /// The head of a request. `ended`: END_STREAM was on it; `connect`: extended CONNECT is taken, which becomes a GET with
    /// `upgrade`. `host` must agree with `:authority`.
    pub(crate) fn into_request(mut self, ended: bool, connect: bool) -> Result<RequestHead, Fault> {
        let finished = self.finish();
        if let Err(fault @ Fault::Fields(_)) = finished {
            return Err(fault);
        }
        let method = self.method.take().map(|method| Method::from_bytes(&method));
        if let Some(Err(_)) = method {
            return Err(Fault::Fields(":method is not a method"));
        }
        finished?;
        let Some(Ok(method)) = method else { return Err(Fault::Malformed("a request without :method")) };
        self.has_its_pseudo_headers(&method, connect)?;
        self.assemble(method, ended).map_err(Fault::Refused)
    }

    /// Section 8.3.1; section 8.5 for CONNECT, RFC 8441 for its extended form.
    fn has_its_pseudo_headers(&self, method: &Method, connect: bool) -> Result<(), Fault> {
        if self.status.is_some() {
            return Err(Fault::Malformed(":status in a request"));
        }
        if self.authority.as_ref().is_some_and(Bytes::is_empty) {
            return Err(Fault::Malformed(":authority is empty"));
        }
        match (&self.protocol, *method == Method::CONNECT) {
            (None, true) if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() => {
                return Err(Fault::Malformed("a CONNECT request that does not have :authority alone"));
            }
            (None, true) => return Ok(()),
            (Some(_), false) => return Err(Fault::Malformed(":protocol in a request other than CONNECT")),
            (Some(_), true) if !connect => {
                return Err(Fault::Malformed(":protocol where extended CONNECT is not offered"));
            }
            (Some(_), true) | (None, false) => {}
        }
        if self.scheme.as_ref().is_none_or(Bytes::is_empty) {
            return Err(Fault::Malformed("a request without :scheme"));
        }
        if self.path.as_ref().is_none_or(Bytes::is_empty) {
            return Err(Fault::Malformed("a request without :path"));
        }
        Ok(())
    }

    fn assemble(mut self, mut method: Method, ended: bool) -> Result<RequestHead, Refusal> {
        let upgrade = self.protocol.take();
        let target = match self.path.take() {
            Some(path) => target(path, &method)?,
            None => Bytes::new(),
        };
        let authority = self.take_authority()?;
        let scheme = match self.scheme.as_deref() {
            Some(b"https") => Scheme::Https,
            None | Some(b"http") => Scheme::Http,
            Some(_) => {
                let details = "http.invalid_scheme";
                return Err(Refusal::Invalid { what: ":scheme is neither http nor https", details });
            }
        };
        let length = match (ended, self.length()?) {
            (_, length) if method == Method::CONNECT => {
                if length.is_some() {
                    return Err(invalid("content-length in a CONNECT request"));
                }
                BodyLength::Unknown
            }
            (true, None) => BodyLength::None,
            (true, Some(0)) => BodyLength::Known(0),
            (true, Some(_)) => return Err(invalid("content-length without a body")),
            (false, Some(length)) => BodyLength::Known(length),
            (false, None) => BodyLength::Unknown,
        };
        if method == Method::TRACE && !ended {
            return Err(invalid("TRACE with a body"));
        }
        let mut headers = self.headers;
        if let Some(upgrade) = &upgrade {
            if !upgrade.iter().all(|byte| is_token_byte(*byte) || *byte == b'/') || upgrade.is_empty() {
                return Err(invalid(":protocol is not the name of a protocol"));
            }
            headers.push(Bytes::from_static(b"upgrade"), upgrade.clone());
            method = Method::GET;
        }
        let version = Version::Http2;
        Ok(RequestHead { method, scheme, authority, target, version, headers, length, upgrade })
    }

    fn take_authority(&mut self) -> Result<Bytes, Refusal> {
        if self.hosts > 1 {
            return Err(invalid("host occurs more than once"));
        }
        let authority = match (self.authority.take(), self.host.take()) {
            (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(&authority) => {
                return Err(invalid("host and :authority name different hosts"));
            }
            (Some(authority), _) => authority,
            (None, Some(host)) => host,
            (None, None) => return Err(Refusal::NO_HOST),
        };
        if !authority::is_valid(&authority) {
            let details = "http.invalid_authority";
            return Err(Refusal::Invalid { what: ":authority is not HOST or HOST:PORT", details });
        }
        Ok(authority)
    }

    /// The head of a response, interim or final. `ended`: END_STREAM was on it. `request` is what it answers: a 2xx to an
    /// extended CONNECT becomes 101.
    pub(crate) fn into_response(mut self, ended: bool, request: &Asked) -> Result<ResponseHead, Fault> {
        if self.of_request() {
            return Err(Fault::Malformed("pseudo-headers of a request in a response"));
        }
        self.finish()?;
        let Some(status) = self.status.as_deref().and_then(status) else {
            return Err(Fault::Malformed("a response without a :status of three digits"));
        };
        if status == 101 || !(100..=599).contains(&status) {
            return Err(Fault::Refused(invalid(":status is 101, or not between 100 and 599")));
        }
        let length = self.length().map_err(Fault::Refused)?;
        let mut headers = self.headers;
        if let Some(host) = self.host {
            headers.push(Bytes::from_static(b"host"), host);
        }
        let switched = (200..300).contains(&status) && !ended;
        let version = Version::Http2;
        if switched && let Some(protocol) = &request.upgrade {
            headers.remove("content-length");
            headers.push(Bytes::from_static(b"upgrade"), protocol.clone());
            return Ok(ResponseHead { status: 101, version, headers, length: BodyLength::Unknown });
        }
        let bodiless = request.head || status < 200 || status == 204 || status == 304;
        let length = match (ended || bodiless, length) {
            (true, _) => BodyLength::None,
            (false, _) if request.connect && switched => BodyLength::Unknown,
            (false, Some(length)) => BodyLength::Known(length),
            (false, None) => BodyLength::Unknown,
        };
        Ok(ResponseHead { status, version, headers, length })
    }

    /// Trailers, without the fields that may not stand there.
    pub(crate) fn into_trailers(mut self) -> Result<Headers, Fault> {
        if self.has_pseudo() {
            return Err(Fault::Malformed("pseudo-headers in trailers"));
        }
        self.finish()?;
        let mut headers = self.headers;
        headers.retain(|name, _| hop::is_allowed_in_trailers(name));
        Ok(headers)
    }
}

/// What a response answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// HEAD.
    pub head: bool,
    /// CONNECT.
    pub connect: bool,
    /// The protocol of an extended CONNECT.
    pub upgrade: Option<Bytes>,
}

impl Asked {
    pub(crate) fn new(request: &RequestHead) -> Self {
        Asked {
            head: request.method == Method::HEAD,
            connect: request.is_connect(),
            upgrade: request.upgrade.clone(),
        }
    }
}

fn target(path: Bytes, method: &Method) -> Result<Bytes, Refusal> {
    if !path.is_ascii() || memchr::memchr(b'#', &path).is_some() {
        return Err(Refusal::NO_PATH);
    }
    match &path[..] {
        b"*" if method == Method::OPTIONS => Ok(path),
        [b'/', rest @ ..] if rest.iter().all(u8::is_ascii_graphic) => Ok(path),
        [b'/', ..] => Err(invalid(":path has a blank")),
        _ => Err(invalid(":path does not begin with a slash")),
    }
}

/// Three digits.
fn status(text: &[u8]) -> Option<u16> {
    let [a, b, c] = text else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    Some(digit(a)? * 100 + digit(b)? * 10 + digit(c)?)
}

fn trimmed(value: Bytes) -> Bytes {
    let text = value.trim_ascii();
    if text.len() == value.len() { value } else { value.slice_ref(text) }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
