//! Options of the HTTP protocols, the same messages on both sides.

use crate::context::{Context, Result, flag, number, refuse, report};
use crate::model::HeadersWithUnderscores;
use protos::envoy::envoy::config::core::v3 as core;
use std::time::Duration;

/// Envoy's default of `idle_timeout`.
const IDLE: Duration = Duration::from_secs(3600);
/// Envoy's default limit of a response's headers, in KiB.
const RESPONSE_HEADERS_KB: u32 = 80;
/// Most headers that may be configured.
const MAX_HEADERS: u32 = 10_000;

/// `HttpProtocolOptions`, defaults resolved.
pub struct CommonOptions {
    /// See the model.
    pub idle_timeout: Option<Duration>,
    /// See the model.
    pub max_connection_duration: Option<Duration>,
    /// See the model.
    pub max_headers_count: usize,
    /// See the model.
    pub max_response_headers_bytes: usize,
    /// See the model.
    pub max_stream_duration: Option<Duration>,
    /// See the model.
    pub headers_with_underscores: HeadersWithUnderscores,
    /// See the model.
    pub max_requests_per_connection: Option<u32>,
}

/// Reads `HttpProtocolOptions`. What is acted on differs by side.
pub fn read_common_options(
    cx: &mut Context,
    message: &Option<core::HttpProtocolOptions>,
    upstream: bool,
) -> Result<CommonOptions> {
    use core::http_protocol_options::HeadersWithUnderscoresAction as Underscores;
    let absent = core::HttpProtocolOptions::default();
    cx.field("common_http_protocol_options", |cx| {
        let core::HttpProtocolOptions {
            idle_timeout,
            max_connection_duration,
            max_connection_duration_jitter,
            max_headers_count,
            max_response_headers_kb,
            max_stream_duration,
            headers_with_underscores_action,
            max_requests_per_connection,
        } = message.as_ref().unwrap_or(&absent);
        report!(cx, "the limit is exact"; max_connection_duration_jitter);
        let headers_with_underscores =
            match cx.enumeration("headers_with_underscores_action", *headers_with_underscores_action)? {
                Underscores::Allow => HeadersWithUnderscores::Allow,
                Underscores::RejectRequest => HeadersWithUnderscores::RejectRequest,
                Underscores::DropHeader => HeadersWithUnderscores::DropHeader,
            };
        if upstream {
            report!(cx, "acts on the downstream side only"; headers_with_underscores_action, max_stream_duration);
        } else {
            report!(cx, "acts on the upstream side only"; max_response_headers_kb);
        }
        let count = number(max_headers_count).unwrap_or(100);
        if count == 0 || count > MAX_HEADERS {
            return Err(
                cx.refused_field("max_headers_count", format!("{count} is not between 1 and {MAX_HEADERS}"))
            );
        }
        Ok(CommonOptions {
            idle_timeout: cx.limit("idle_timeout", idle_timeout, Some(IDLE))?,
            max_connection_duration: cx.limit("max_connection_duration", max_connection_duration, None)?,
            max_headers_count: count as usize,
            max_response_headers_bytes: read_kilobytes(
                cx,
                "max_response_headers_kb",
                Some(number(max_response_headers_kb).unwrap_or(RESPONSE_HEADERS_KB)),
            )?,
            max_stream_duration: cx.limit("max_stream_duration", max_stream_duration, None)?,
            headers_with_underscores,
            max_requests_per_connection: number(max_requests_per_connection).filter(|count| *count > 0),
        })
    })
}

/// A limit of headers in KiB (60 by default) as bytes.
pub fn read_kilobytes(cx: &mut Context, field: &str, value: Option<u32>) -> Result<usize> {
    let kilobytes = value.unwrap_or(60);
    if kilobytes == 0 || kilobytes > 8192 {
        return Err(cx.refused_field(field, format!("{kilobytes} is not between 1 and 8192")));
    }
    Ok(kilobytes as usize * 1024)
}

/// `Http1ProtocolOptions`, defaults resolved.
pub struct Http1 {
    /// See the model.
    pub allow_absolute_url: bool,
    /// See the model.
    pub accept_http_10: bool,
    /// See the model.
    pub default_host_for_http_10: String,
    /// See the model.
    pub enable_trailers: bool,
    /// See the model.
    pub preserve_header_case: bool,
}

/// Reads `Http1ProtocolOptions` under the field `name`.
pub fn read_http1_options(
    cx: &mut Context,
    name: &str,
    message: Option<&core::Http1ProtocolOptions>,
    upstream: bool,
) -> Result<Http1> {
    let absent = core::Http1ProtocolOptions::default();
    cx.field(name, |cx| {
        let core::Http1ProtocolOptions {
            allow_absolute_url,
            accept_http_10,
            default_host_for_http_10,
            header_key_format,
            enable_trailers,
            allow_chunked_length,
            override_stream_error_on_invalid_http_message,
            send_fully_qualified_url,
            use_balsa_parser,
            allow_custom_methods,
            ignore_http_11_upgrade,
        } = message.unwrap_or(&absent);
        report!(cx, "a message with both transfer-encoding and content-length is refused"; allow_chunked_length);
        report!(cx, "an invalid message always ends its connection"; override_stream_error_on_invalid_http_message);
        report!(cx, "there is one parser"; use_balsa_parser);
        report!(cx, "every token is a method"; allow_custom_methods);
        report!(cx, "an offer that upgrade_configs do not name is dropped"; ignore_http_11_upgrade);
        refuse!(cx, "absolute-form targets are not sent upstream"; send_fully_qualified_url);
        if upstream {
            report!(cx, "acts on the downstream side only";
                allow_absolute_url, accept_http_10, default_host_for_http_10);
        } else if !flag(allow_absolute_url, true) {
            report!(cx, "absolute-form targets are always accepted"; allow_absolute_url);
        }
        Ok(Http1 {
            allow_absolute_url: flag(allow_absolute_url, true),
            accept_http_10: *accept_http_10,
            default_host_for_http_10: super::name::name(cx, "default_host_for_http_10", default_host_for_http_10)?.as_ref().into(),
            enable_trailers: *enable_trailers,
            preserve_header_case: read_key_format(cx, header_key_format),
        })
    })
}

fn read_key_format(
    cx: &mut Context,
    message: &Option<core::http1_protocol_options::HeaderKeyFormat>,
) -> bool {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let Some(core::http1_protocol_options::HeaderKeyFormat { header_format }) = message else { return false };
    cx.field("header_key_format", |cx| match header_format {
        Some(HeaderFormat::StatefulFormatter(extension)) if extension.name.ends_with("preserve_case") => true,
        Some(_) => {
            cx.note("header names are written in lower case");
            false
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::UInt32Value;

    #[test]
    fn defaults_are_envoys() {
        let read = Context::read(|cx| read_common_options(cx, &None, false)).unwrap();
        assert_eq!((read.value.idle_timeout, read.value.max_headers_count), (Some(IDLE), 100));
        assert_eq!(read.value.max_response_headers_bytes, 80 * 1024);
        assert!(read.notes.is_empty());
        assert!(
            Context::read(|cx| read_http1_options(cx, "x", None, false)).unwrap().value.allow_absolute_url
        );
    }

    #[test]
    fn reports_and_refuses() {
        let stream =
            core::HttpProtocolOptions { max_stream_duration: Some(Default::default()), ..Default::default() };
        let read = Context::read(|cx| read_common_options(cx, &Some(stream), true)).unwrap();
        assert_eq!(read.notes[0].path, "common_http_protocol_options.max_stream_duration");
        let none = core::HttpProtocolOptions {
            max_headers_count: Some(UInt32Value { value: 0 }),
            ..Default::default()
        };
        assert!(Context::read(|cx| read_common_options(cx, &Some(none), false)).is_err());
        let full = core::Http1ProtocolOptions { send_fully_qualified_url: true, ..Default::default() };
        let refused =
            Context::read(|cx| read_http1_options(cx, "http", Some(&full), true)).map(|_| ()).unwrap_err();
        assert_eq!(refused.path, "http.send_fully_qualified_url");
    }
}
