//! Heads and trailers as header blocks.

use bytes::BytesMut;
use http::Method;

use super::hpack_encoder::{Encoder, Unwritable};
use crate::http::head::{BodyLength, RequestHead, ResponseHead, Scheme};
use crate::http::headers::Headers;
use crate::http::hop;

/// The head of a request. An upgrade becomes an extended CONNECT.
pub(crate) fn request(
    encoder: &mut Encoder,
    out: &mut BytesMut,
    head: &RequestHead,
) -> Result<(), Unwritable> {
    encoder.begin(out);
    let connect = head.is_connect() && head.upgrade.is_none();
    let method = if head.upgrade.is_some() { Method::CONNECT.as_str() } else { head.method.as_str() };
    let graphic = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    if !graphic(&head.authority) || !connect && !graphic(&head.target) {
        return Err(Unwritable);
    }
    encoder.field(out, b":method", method.as_bytes())?;
    if !connect {
        let scheme: &[u8] = match head.scheme {
            Scheme::Http => b"http",
            Scheme::Https => b"https",
        };
        encoder.field(out, b":scheme", scheme)?;
    }
    encoder.field(out, b":authority", &head.authority)?;
    if !connect {
        encoder.field(out, b":path", &head.target)?;
    }
    if let Some(protocol) = &head.upgrade {
        encoder.field(out, b":protocol", protocol)?;
    }
    let tunnel = connect || head.upgrade.is_some();
    fields(encoder, out, &head.headers, if tunnel { None } else { Some(head.length) })
}

/// The head of a response. 101 becomes 200.
pub(crate) fn response(
    encoder: &mut Encoder,
    out: &mut BytesMut,
    head: &ResponseHead,
) -> Result<(), Unwritable> {
    encoder.begin(out);
    let switched = head.status == 101;
    let status = if switched { 200 } else { head.status };
    if !(100..=999).contains(&status) {
        return Err(Unwritable);
    }
    let digit = |unit: u16| b'0' + (status / unit % 10) as u8;
    encoder.field(out, b":status", &[digit(100), digit(10), digit(1)])?;
    // 1xx and 204 have no length; HEAD and 304 keep the one that describes what is not sent.
    let bare = switched || head.status < 200 || head.status == 204;
    let length = match head.length {
        _ if bare => None,
        BodyLength::None => Some(BodyLength::Unknown),
        length => Some(length),
    };
    fields(encoder, out, &head.headers, length)?;
    if head.length == BodyLength::None
        && !bare
        && let Some(length) = head.headers.get("content-length")
    {
        encoder.field(out, b"content-length", length)?;
    }
    Ok(())
}

/// Trailers; whether there was a field.
pub(crate) fn trailers(
    encoder: &mut Encoder,
    out: &mut BytesMut,
    trailers: &Headers,
) -> Result<(), Unwritable> {
    encoder.begin(out);
    for (name, value) in trailers.iter().filter(|(name, _)| hop::is_allowed_in_trailers(name)) {
        encoder.field(out, name, value)?;
    }
    Ok(())
}

/// Whether any of the fields may be sent as trailers.
pub(crate) fn has_trailers(trailers: &Headers) -> bool {
    trailers.iter().any(|(name, _)| hop::is_allowed_in_trailers(name))
}

/// All fields but those of a connection; `length` is what `content-length` says.
fn fields(
    encoder: &mut Encoder,
    out: &mut BytesMut,
    headers: &Headers,
    length: Option<BodyLength>,
) -> Result<(), Unwritable> {
    for (name, value) in headers.iter() {
        let is = |have: &str| name.eq_ignore_ascii_case(have.as_bytes());
        let skipped = match name.len() {
            2 => is("te") && !value.eq_ignore_ascii_case(b"trailers"),
            4 => is("host"),
            14 => is("content-length") || hop::is_hop_by_hop(name),
            17 => is("transfer-encoding"),
            _ => hop::is_hop_by_hop(name),
        };
        if !skipped {
            encoder.field(out, name, value)?;
        }
    }
    if let Some(BodyLength::Known(length)) = length {
        let mut text = [0; 20];
        encoder.field(out, b"content-length", decimal(length, &mut text))?;
    }
    Ok(())
}

/// A number as text, without an allocation.
fn decimal(mut number: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[start..];
        }
    }
}
