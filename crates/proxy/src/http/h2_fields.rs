//! Heads and trailers between our seam and the types of the `h2` and `http` crates (RFC 9113, sections 8.2 and 8.3).
//!
//! An upgrade has one neutral form: a request with `upgrade`, a response with status 101. On HTTP/2 they are an extended
//! CONNECT (RFC 8441) and a 200; these functions translate both ways, so that no caller has to know.

use bytes::{BufMut, Bytes, BytesMut};
use h2::ext::Protocol;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode};

use super::authority;
use super::h1::Limits;
use super::h1_framing::parse_length;
use super::head::{BodyLength, RequestHead, ResponseHead, Scheme, Version};
use super::headers::Headers;
use super::hop;
use super::refusal::Refusal;

/// Envoy's word for a head or trailers that break a rule of HTTP/2.
const INVALID_FIELD: &str = "http2.invalid.header.field";

const fn invalid(what: &'static str) -> Refusal {
    Refusal::Invalid { what, details: INVALID_FIELD }
}

/// The head of a request that came in. `ended`: END_STREAM was on it. An extended CONNECT becomes a GET with `upgrade`.
/// `host` must agree with `:authority`; crumbs of `cookie` are joined (section 8.2.3).
pub fn read_request(request: Request<()>, ended: bool, limits: &Limits) -> Result<RequestHead, Refusal> {
    let (parts, ()) = request.into_parts();
    let upgrade = parts.extensions.get::<Protocol>().map(|name| Bytes::copy_from_slice(name.as_ref()));
    let mut headers = read_fields(&parts.headers, limits)?;
    let authority = read_authority(&parts.uri, &headers)?;
    headers.remove("host");
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        None | Some("http") => Scheme::Http,
        Some(_) => {
            return Err(Refusal::Invalid {
                what: ":scheme is neither http nor https",
                details: "http.invalid_scheme",
            });
        }
    };
    let connect = parts.method == Method::CONNECT && upgrade.is_none();
    let target = if connect { Bytes::new() } else { read_target(&parts.uri, &parts.method)? };
    let length = read_length(&parts.headers)?;
    let length = match (ended, length) {
        _ if connect || upgrade.is_some() => {
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
    if parts.method == Method::TRACE && !ended {
        return Err(invalid("TRACE with a body"));
    }
    let mut method = parts.method;
    if let Some(upgrade) = &upgrade {
        if !upgrade.iter().all(|byte| super::headers::is_token_byte(*byte) || *byte == b'/')
            || upgrade.is_empty()
        {
            return Err(invalid(":protocol is not the name of a protocol"));
        }
        headers.push(Bytes::from_static(b"upgrade"), upgrade.clone());
        method = Method::GET;
    }
    Ok(RequestHead { method, scheme, authority, target, version: Version::Http2, headers, length, upgrade })
}

fn read_authority(uri: &Uri, headers: &Headers) -> Result<Bytes, Refusal> {
    let mut hosts = headers.get_all("host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(invalid("host occurs more than once"));
    }
    let authority = match (uri.authority(), host) {
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(invalid("host and :authority name different hosts"));
        }
        (Some(authority), _) => Bytes::copy_from_slice(authority.as_str().as_bytes()),
        (None, Some(host)) => Bytes::copy_from_slice(host),
        (None, None) => return Err(Refusal::NO_HOST),
    };
    if !authority::is_valid(&authority) {
        return Err(Refusal::Invalid {
            what: ":authority is not HOST or HOST:PORT",
            details: "http.invalid_authority",
        });
    }
    Ok(authority)
}

fn read_target(uri: &Uri, method: &Method) -> Result<Bytes, Refusal> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if !target.is_ascii() || target.contains('#') {
        return Err(Refusal::NO_PATH);
    }
    match target.as_bytes() {
        b"*" if method == Method::OPTIONS => Ok(Bytes::from_static(b"*")),
        [b'/', ..] => Ok(Bytes::copy_from_slice(target.as_bytes())),
        _ => Err(invalid(":path does not begin with a slash")),
    }
}

fn read_length(fields: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = fields.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("content-length occurs more than once"));
    }
    parse_length(first.as_bytes().trim_ascii())
        .map(Some)
        .map_err(|_| invalid("content-length is not a decimal number below 2^63"))
}

/// The fields in one allocation, within the limits, without crumbs.
fn read_fields(fields: &HeaderMap, limits: &Limits) -> Result<Headers, Refusal> {
    let size = |name: &HeaderName, value: &HeaderValue| name.as_str().len() + value.len();
    let bytes: usize = fields.iter().map(|(name, value)| size(name, value) + 4).sum();
    if bytes > limits.max_headers_bytes {
        return Err(Refusal::HeadTooLarge { limit: limits.max_headers_bytes, seen: bytes });
    }
    if fields.len() > limits.max_headers_count {
        return Err(Refusal::TooManyHeaders { limit: limits.max_headers_count, seen: fields.len() });
    }
    let mut text = BytesMut::with_capacity(bytes);
    let mut headers = Headers::with_capacity(fields.keys_len() + 4);
    for name in fields.keys() {
        if hop::is_hop_by_hop(name.as_str().as_bytes()) || name == http::header::TRANSFER_ENCODING {
            return Err(invalid("a field that belongs to an HTTP/1 connection"));
        }
        text.put_slice(name.as_str().as_bytes());
        let key = text.split().freeze();
        if name == http::header::COOKIE {
            for (index, crumb) in fields.get_all(name).iter().enumerate() {
                if index > 0 {
                    text.put_slice(b"; ");
                }
                text.put_slice(crumb.as_bytes().trim_ascii());
            }
            headers.push(key, text.split().freeze());
            continue;
        }
        for value in fields.get_all(name) {
            let value = value.as_bytes().trim_ascii();
            if name == http::header::TE && !value.eq_ignore_ascii_case(b"trailers") {
                return Err(invalid("te is not trailers"));
            }
            text.put_slice(value);
            headers.push(key.clone(), text.split().freeze());
        }
    }
    Ok(headers)
}

/// The head of a response that came in, interim or final. `ended`: END_STREAM was on it. `request` is what it answers: a
/// 2xx to an extended CONNECT becomes 101.
pub fn read_response(
    response: Response<()>,
    ended: bool,
    request: &RequestHead,
    limits: &Limits,
) -> Result<ResponseHead, Refusal> {
    let (parts, ()) = response.into_parts();
    let mut headers = read_fields(&parts.headers, limits)?;
    let mut status = parts.status.as_u16();
    if status == 101 || status > 599 {
        return Err(invalid(":status is 101 or above 599"));
    }
    let switched = (200..300).contains(&status) && !ended;
    if switched && let Some(protocol) = &request.upgrade {
        status = 101;
        headers.remove("content-length");
        headers.push(Bytes::from_static(b"upgrade"), protocol.clone());
        return Ok(ResponseHead { status, version: Version::Http2, headers, length: BodyLength::Unknown });
    }
    let bodiless = request.method == Method::HEAD || status < 200 || status == 204 || status == 304;
    let length = match (ended || bodiless, read_length(&parts.headers)?) {
        (true, _) => BodyLength::None,
        (false, _) if request.method == Method::CONNECT && switched => BodyLength::Unknown,
        (false, Some(length)) => BodyLength::Known(length),
        (false, None) => BodyLength::Unknown,
    };
    Ok(ResponseHead { status, version: Version::Http2, headers, length })
}

/// Trailers that came in, without the fields that may not stand there.
pub fn read_trailers(fields: &HeaderMap, limits: &Limits) -> Result<Headers, Refusal> {
    let mut headers = read_fields(fields, limits)?;
    headers.retain(|name, _| hop::is_allowed_in_trailers(name));
    Ok(headers)
}

/// The head of a request to send. An upgrade becomes an extended CONNECT.
///
/// # Errors
/// The target or a field cannot be written by the `http` crate; the client is to blame.
pub fn write_request(head: &RequestHead) -> Result<Request<()>, Refusal> {
    let mut request = Request::new(());
    *request.version_mut() = http::Version::HTTP_2;
    let mut uri = http::uri::Parts::default();
    let authority = http::uri::Authority::from_maybe_shared(head.authority.clone());
    uri.authority = Some(authority.map_err(|_| invalid("the authority cannot be sent on HTTP/2"))?);
    let connect = head.method == Method::CONNECT && head.upgrade.is_none();
    if !connect {
        uri.scheme = Some(match head.scheme {
            Scheme::Http => http::uri::Scheme::HTTP,
            Scheme::Https => http::uri::Scheme::HTTPS,
        });
        let target = PathAndQuery::from_maybe_shared(head.target.clone());
        uri.path_and_query = Some(target.map_err(|_| invalid("the target cannot be sent on HTTP/2"))?);
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| invalid("the target cannot be sent on HTTP/2"))?;
    *request.method_mut() = match &head.upgrade {
        Some(protocol) => {
            let protocol =
                std::str::from_utf8(protocol).map_err(|_| invalid("the protocol's name is not ASCII"))?;
            request.extensions_mut().insert(Protocol::from(protocol));
            Method::CONNECT
        }
        None => head.method.clone(),
    };
    let tunnel = connect || head.upgrade.is_some();
    let length = if tunnel { None } else { Some(head.length) };
    write_fields(request.headers_mut(), &head.headers, length)?;
    Ok(request)
}

/// The head of a response to send. 101 becomes 200.
///
/// # Errors
/// A field cannot be written by the `http` crate; the upstream is to blame.
pub fn write_response(head: &ResponseHead) -> Result<Response<()>, Refusal> {
    let mut response = Response::new(());
    *response.version_mut() = http::Version::HTTP_2;
    let switched = head.status == 101;
    let status = if switched { 200 } else { head.status };
    *response.status_mut() =
        StatusCode::from_u16(status).map_err(|_| invalid("the status is not between 100 and 599"))?;
    // 1xx and 204 have no length; HEAD and 304 keep the one that describes what is not sent.
    let length = match head.length {
        _ if switched || head.status < 200 || head.status == 204 => None,
        BodyLength::None => Some(BodyLength::Unknown),
        length => Some(length),
    };
    write_fields(response.headers_mut(), &head.headers, length)?;
    if head.length == BodyLength::None
        && !switched
        && head.status >= 200
        && head.status != 204
        && let Some(length) = head.headers.get("content-length")
        && let Ok(length) = HeaderValue::from_bytes(length)
    {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
    }
    Ok(response)
}

/// Trailers to send.
///
/// # Errors
/// A field cannot be written by the `http` crate.
pub fn write_trailers(trailers: &Headers) -> Result<HeaderMap, Refusal> {
    let mut fields = HeaderMap::new();
    for (name, value) in trailers.iter_to_keep().filter(|(name, _)| hop::is_allowed_in_trailers(name)) {
        append(&mut fields, name, value)?;
    }
    Ok(fields)
}

/// All fields but those of a connection; `length` is what `content-length` says.
fn write_fields(
    fields: &mut HeaderMap,
    headers: &Headers,
    length: Option<BodyLength>,
) -> Result<(), Refusal> {
    fields.reserve(headers.len());
    for (name, value) in headers.iter_to_keep() {
        let is = |have: &str| name.eq_ignore_ascii_case(have.as_bytes());
        let skipped = match name.len() {
            2 => is("te") && !value.eq_ignore_ascii_case(b"trailers"),
            4 => is("host"),
            14 => is("content-length") || hop::is_hop_by_hop(name),
            17 => is("transfer-encoding"),
            _ => hop::is_hop_by_hop(name),
        };
        if !skipped {
            append(fields, name, value)?;
        }
    }
    if let Some(BodyLength::Known(length)) = length {
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

fn append(fields: &mut HeaderMap, name: &[u8], value: Bytes) -> Result<(), Refusal> {
    let name = HeaderName::from_bytes(name).map_err(|_| invalid("a field name cannot be sent on HTTP/2"))?;
    let value = HeaderValue::from_maybe_shared(value)
        .map_err(|_| invalid("a field value has a control character"))?;
    fields.try_append(name, value).map_err(|_| invalid("too many fields for HTTP/2")).map(drop)
}

#[cfg(test)]
#[path = "h2_fields_tests.rs"]
mod tests;
