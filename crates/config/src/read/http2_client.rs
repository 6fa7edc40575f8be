//! `Http2ProtocolOptions` of a cluster.

use crate::context::{Context, Result, flag, number, refuse, report};
use crate::model::{Http2ClientOptions, Http2Keepalive};
use protos::envoy::envoy::config::core::v3 as core;

/// Largest window and stream limit (RFC 9113, section 6.9.1).
const MAX: u32 = i32::MAX as u32;
/// Smallest window that may be configured, as in Envoy.
const MIN_WINDOW: u32 = 65_535;

/// Reads how HTTP/2 is spoken to a cluster's hosts.
pub fn read_http2_client(
    cx: &mut Context,
    name: &str,
    message: &Option<core::Http2ProtocolOptions>,
) -> Result<Http2ClientOptions> {
    let default = Http2ClientOptions::default();
    let Some(message) = message else { return Ok(default) };
    cx.field(name, |cx| {
        let core::Http2ProtocolOptions {
            hpack_table_size,
            max_concurrent_streams,
            initial_stream_window_size,
            initial_connection_window_size,
            allow_connect,
            allow_metadata,
            max_outbound_frames,
            max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload,
            max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent,
            stream_error_on_invalid_http_messaging,
            override_stream_error_on_invalid_http_message,
            custom_settings_parameters,
            connection_keepalive,
            use_oghttp2_codec,
            max_metadata_size,
            enable_huffman_encoding,
            max_header_field_size_kb,
            disallow_obs_text,
            stream_reset_burst,
            stream_reset_rate,
        } = message;
        report!(cx, "the codec bounds them itself";
            max_outbound_frames, max_outbound_control_frames, max_consecutive_inbound_frames_with_empty_payload,
            max_inbound_priority_frames_per_stream, max_inbound_window_update_frames_per_data_frame_sent,
            stream_reset_burst, stream_reset_rate);
        report!(cx, "max_response_headers_kb bounds all fields together"; max_header_field_size_kb);
        report!(cx, "an invalid message resets its stream"; stream_error_on_invalid_http_messaging);
        report!(cx, "METADATA frames are ignored"; allow_metadata, max_metadata_size);
        report!(cx, "no settings beside the usual ones are sent"; custom_settings_parameters);
        report!(cx, "the codec decides"; enable_huffman_encoding);
        report!(cx, "extended CONNECT is used where the host allows it"; allow_connect);
        let on = |value| flag(value, false);
        cx.report_set("use_oghttp2_codec", &on(use_oghttp2_codec), "there is one codec");
        cx.report_set("disallow_obs_text", &on(disallow_obs_text), "the HTTP/2 codec decides");
        let override_error = on(override_stream_error_on_invalid_http_message);
        cx.report_set("override_stream_error_on_invalid_http_message", &override_error, "an invalid message resets its stream");
        let streams = number(max_concurrent_streams).unwrap_or(default.max_concurrent_streams);
        if streams == 0 || streams > MAX {
            return Err(cx.refused_field("max_concurrent_streams", format!("{streams} is not between 1 and {MAX}")));
        }
        let mut window = |field: &str, value, default| match number(value) {
            None => Ok(default),
            Some(size @ MIN_WINDOW..=MAX) => Ok(size),
            Some(size) => Err(cx.refused_field(field, format!("{size} is not between {MIN_WINDOW} and {MAX}"))),
        };
        Ok(Http2ClientOptions {
            max_concurrent_streams: streams,
            initial_stream_window_size: window(
                "initial_stream_window_size",
                initial_stream_window_size,
                default.initial_stream_window_size,
            )?,
            initial_connection_window_size: window(
                "initial_connection_window_size",
                initial_connection_window_size,
                default.initial_connection_window_size,
            )?,
            hpack_table_size: number(hpack_table_size).unwrap_or(default.hpack_table_size).min(1 << 20),
            max_response_headers_bytes: default.max_response_headers_bytes,
            keepalive: read_keepalive(cx, connection_keepalive)?,
        })
    })
}

fn read_keepalive(
    cx: &mut Context,
    message: &Option<core::KeepaliveSettings>,
) -> Result<Option<Http2Keepalive>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("connection_keepalive", |cx| {
        let core::KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } =
            message;
        refuse!(cx, "is not supported: use interval"; connection_idle_interval);
        report!(cx, "pings come at the interval"; interval_jitter);
        let timeout = cx.limit("timeout", timeout, None)?;
        let Some(timeout) = timeout else { return Err(cx.refused_field("timeout", "is missing, or 0")) };
        let interval = cx.limit("interval", interval, None)?;
        Ok(interval.map(|interval| Http2Keepalive { interval, timeout }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::{Duration, UInt32Value};

    fn read(message: core::Http2ProtocolOptions) -> Result<Http2ClientOptions> {
        Context::read(|cx| read_http2_client(cx, "http2", &Some(message))).map(|read| read.value)
    }

    #[test]
    fn limits_are_bounded() {
        let number = |value| Some(UInt32Value { value });
        let streams = |value| core::Http2ProtocolOptions {
            max_concurrent_streams: number(value),
            ..Default::default()
        };
        assert_eq!(read(streams(7)).unwrap().max_concurrent_streams, 7);
        assert_eq!(read(streams(0)).unwrap_err().path, "http2.max_concurrent_streams");
        let window = |value| core::Http2ProtocolOptions {
            initial_stream_window_size: number(value),
            ..Default::default()
        };
        assert_eq!(read(window(65_535)).unwrap().initial_stream_window_size, 65_535);
        assert!(read(window(65_534)).is_err());
    }

    #[test]
    fn pings_need_a_timeout() {
        let second = Some(Duration { seconds: 1, nanos: 0 });
        let of = |interval, timeout| {
            let connection_keepalive =
                Some(core::KeepaliveSettings { interval, timeout, ..Default::default() });
            read(core::Http2ProtocolOptions { connection_keepalive, ..Default::default() })
        };
        assert!(of(second, second).unwrap().keepalive.is_some());
        assert_eq!(of(None, second).unwrap().keepalive, None);
        assert_eq!(of(second, None).unwrap_err().path, "http2.connection_keepalive.timeout");
    }
}
