//! What requests and responses share: `httparse` on a complete head, and the walk over its fields.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::Header;

use super::h1_framing::FramingFields;
use super::headers::Headers;
use super::hop::{self, ConnectionFields};
use super::refusal::Refusal;

/// Fields parsed without an allocation for the table.
const ON_STACK: usize = 128;

/// Calls `parse` with a table that has room for `count` fields.
pub(crate) fn with_table<'b, T>(count: usize, parse: impl FnOnce(&mut [MaybeUninit<Header<'b>>]) -> T) -> T {
    if count <= ON_STACK {
        parse(&mut [const { MaybeUninit::uninit() }; ON_STACK])
    } else {
        let mut table: Vec<MaybeUninit<Header<'b>>> = Vec::new();
        table.resize_with(count, MaybeUninit::uninit);
        parse(&mut table)
    }
}

/// The fields of a head, sorted into those that pass and those that the codec acts on.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// All that goes on to the next hop; `content-length`, `transfer-encoding` and `host` keep their place here.
    pub headers: Headers,
    /// Length rules.
    pub framing: FramingFields,
    /// `connection`.
    pub connection: ConnectionFields,
    /// `proxy-connection`, which clients of old sent to proxies: only its `close` means something.
    pub proxy_connection: ConnectionFields,
    /// The one `host`.
    pub host: Option<Bytes>,
    /// The one `upgrade`; empty when there are several.
    pub upgrade: Option<Bytes>,
    /// Every `http2-settings`.
    pub http2_settings: Vec<Bytes>,
    /// The last `expect`.
    pub expect: Option<Bytes>,
    /// The last `keep-alive`.
    pub keep_alive: Option<Bytes>,
}

impl Fields {
    /// Walks the fields of `head`; `parsed` borrows from it.
    pub(crate) fn walk(head: &Bytes, parsed: &[Header<'_>]) -> Result<Fields, Refusal> {
        let mut fields = Fields { headers: Headers::of_head(head, parsed.len() + 4), ..Fields::default() };
        for field in parsed {
            fields.take(head, field.name.as_bytes(), field.value)?;
        }
        fields.connection.strip(&mut fields.headers)?;
        Ok(fields)
    }

    fn take_host(&mut self, value: Bytes) -> Result<(), Refusal> {
        match self.host.replace(value) {
            Some(_) => Err(Refusal::Malformed("host occurs more than once")),
            None => Ok(()),
        }
    }

    fn take(&mut self, head: &Bytes, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let kept = || if value.is_empty() { Bytes::new() } else { head.slice_ref(value) };
        let is = |have: &str| name.eq_ignore_ascii_case(have.as_bytes());
        match name.len() {
            2 if is("te") => {
                // `trailers` is the only one that a proxy which re-frames can honour.
                let trailers = |part: &[u8]| part.trim_ascii().eq_ignore_ascii_case(b"trailers");
                if value.split(|byte| *byte == b',').any(trailers) {
                    self.headers.push(head.slice_ref(name), Bytes::from_static(b"trailers"));
                }
                return Ok(());
            }
            4 if is("host") => self.take_host(kept())?,
            6 if is("expect") => {
                self.expect = Some(kept());
                return Ok(());
            }
            10 if is("keep-alive") => {
                self.keep_alive = Some(kept());
                return Ok(());
            }
            7 if is("upgrade") => {
                let several = self.upgrade.is_some();
                self.upgrade = Some(if several { Bytes::new() } else { kept() });
                return Ok(());
            }
            10 if is("connection") => {
                self.connection.push(kept());
                return Ok(());
            }
            14 if is("http2-settings") => {
                self.http2_settings.push(kept());
                return Ok(());
            }
            14 if is("content-length") => self.framing.content_length(value, between(head, name, value))?,
            17 if is("transfer-encoding") => {
                self.framing.transfer_encoding(value, between(head, name, value))?;
            }
            16 if is("proxy-connection") => {
                self.proxy_connection.push(kept());
                return Ok(());
            }
            _ if hop::is_hop_by_hop(name) => return Ok(()),
            _ => {}
        }
        self.headers.push_received(name, value);
        Ok(())
    }
}

/// Everything between the colon after `name` and the end of the line; both are slices of `head`.
fn between<'h>(head: &'h Bytes, name: &[u8], value: &[u8]) -> &'h [u8] {
    let start = (name.as_ptr() as usize).saturating_sub(head.as_ptr() as usize) + name.len() + 1;
    let rest = head.get(start..).unwrap_or_default();
    let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
    debug_assert!(end >= value.len());
    &rest[..end]
}

/// The refusal for what `httparse` found.
pub(crate) fn refusal(error: httparse::Error) -> Refusal {
    if error == httparse::Error::HeaderValue {
        let what = "a field value has a control character";
        return Refusal::Invalid { what, details: "http1.invalid_characters" };
    }
    Refusal::Malformed(match error {
        httparse::Error::HeaderName => {
            "a field name is empty, folded, or has a byte that is not allowed (also space before the colon)"
        }
        httparse::Error::HeaderValue | httparse::Error::NewLine => "a CR without LF",
        httparse::Error::Status => "the status is not three digits and a reason",
        httparse::Error::Token => "the first line has a byte that is not allowed",
        httparse::Error::TooManyHeaders => "more fields than lines",
        httparse::Error::Version => "the version is neither HTTP/1.0 nor HTTP/1.1",
    })
}
