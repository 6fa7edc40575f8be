//! Which values are taken from heads while a request passes, because a log, a filter or a label needs them at its end.
//! Each is taken once, however many want it.

use std::sync::Arc;

use base::expression::{Attribute, Plain};
use bytes::Bytes;
use config::model::{Expression, HeaderSource};

use super::record::{Captured, RequestRecord};
use crate::http::{Headers, RequestHead, ResponseHead};

/// What is taken.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Captures {
    request: Vec<HeaderSource>,
    response: Vec<HeaderSource>,
    trailers: Vec<HeaderSource>,
}

impl Captures {
    /// The position of a header of the request among the values.
    pub fn request(&mut self, source: &HeaderSource) -> usize {
        slot(&mut self.request, source)
    }

    /// The position of a header of the response.
    pub fn response(&mut self, source: &HeaderSource) -> usize {
        slot(&mut self.response, source)
    }

    /// The position of a trailer of the response.
    pub fn trailer(&mut self, source: &HeaderSource) -> usize {
        slot(&mut self.trailers, source)
    }

    /// The position of a header of the request that has no alternative.
    pub fn request_header(&mut self, name: &str) -> usize {
        self.request(&HeaderSource { name: name.into(), alternative: None })
    }

    /// Takes what an expression asks about.
    pub fn expression(&mut self, expression: &Expression) {
        let source = |name: &Arc<str>| HeaderSource { name: name.clone(), alternative: None };
        expression.root.attributes(&mut |attribute| match attribute {
            Attribute::Plain(plain) => {
                if let Some(name) = header_of(*plain) {
                    self.request_header(name);
                }
            }
            Attribute::RequestHeader(name) => {
                self.request(&source(name));
            }
            Attribute::ResponseHeader(name) => {
                self.response(&source(name));
            }
            Attribute::ResponseTrailer(name) => {
                self.trailer(&source(name));
            }
            _ => {}
        });
    }

    /// Takes the values from the request's head, in the form in which it goes upstream.
    pub fn capture_request(&self, head: &RequestHead, record: &mut RequestRecord) {
        if self.request.is_empty() {
            return;
        }
        capture(&self.request, &mut record.request_values, |name| request(head, name));
    }

    /// Takes the values from the response's head, in the form in which it goes downstream.
    pub fn capture_response(&self, head: &ResponseHead, record: &mut RequestRecord) {
        if !self.response.is_empty() {
            capture(&self.response, &mut record.response_values, |name| head.headers.get_bytes(name));
        }
    }

    /// Takes the values from the response's trailers.
    pub fn capture_trailers(&self, trailers: &Headers, record: &mut RequestRecord) {
        if !self.trailers.is_empty() {
            capture(&self.trailers, &mut record.trailer_values, |name| trailers.get_bytes(name));
        }
    }

    /// A header of the request that was taken.
    pub fn request_value<'a>(&self, record: &'a RequestRecord, name: &str) -> Option<&'a Bytes> {
        value(&self.request, &record.request_values, name)
    }

    /// A header of the response that was taken.
    pub fn response_value<'a>(&self, record: &'a RequestRecord, name: &str) -> Option<&'a Bytes> {
        value(&self.response, &record.response_values, name)
    }

    /// A trailer that was taken.
    pub fn trailer_value<'a>(&self, record: &'a RequestRecord, name: &str) -> Option<&'a Bytes> {
        value(&self.trailers, &record.trailer_values, name)
    }
}

/// The header in which an attribute stands.
pub fn header_of(plain: Plain) -> Option<&'static str> {
    Some(match plain {
        Plain::RequestPath | Plain::RequestUrlPath | Plain::RequestQuery => ":path",
        Plain::RequestHost => ":authority",
        Plain::RequestScheme => ":scheme",
        Plain::RequestMethod => ":method",
        Plain::RequestReferer => "referer",
        Plain::RequestUserAgent => "user-agent",
        Plain::RequestId => super::request_id::HEADER,
        _ => return None,
    })
}

fn value<'a>(sources: &[HeaderSource], values: &'a Captured, name: &str) -> Option<&'a Bytes> {
    let place = sources.iter().position(|source| source.alternative.is_none() && *source.name == *name)?;
    values.get(place)?.as_ref()
}

fn slot(sources: &mut Vec<HeaderSource>, source: &HeaderSource) -> usize {
    sources.iter().position(|there| there == source).unwrap_or_else(|| {
        sources.push(source.clone());
        sources.len() - 1
    })
}

fn capture(sources: &[HeaderSource], values: &mut Captured, find: impl Fn(&str) -> Option<Bytes>) {
    let pick =
        |source: &HeaderSource| find(&source.name).or_else(|| source.alternative.as_deref().and_then(&find));
    values.clear();
    values.extend(sources.iter().map(pick));
}

fn request(head: &RequestHead, name: &str) -> Option<Bytes> {
    match name {
        ":method" => Some(method(&head.method)),
        ":path" => Some(head.target.clone()),
        ":authority" | "host" => Some(head.authority.clone()),
        ":scheme" => Some(Bytes::from_static(head.scheme.as_str().as_bytes())),
        name => head.headers.get_bytes(name),
    }
}

/// A method's name; the common ones are copied nowhere.
fn method(method: &http::Method) -> Bytes {
    Bytes::from_static(match *method {
        http::Method::GET => b"GET",
        http::Method::POST => b"POST",
        http::Method::PUT => b"PUT",
        http::Method::DELETE => b"DELETE",
        http::Method::HEAD => b"HEAD",
        _ => return Bytes::copy_from_slice(method.as_str().as_bytes()),
    })
}
