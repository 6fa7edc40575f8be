//! `Http2ProtocolOptions`.

use crate::context::{Context, Result, flag, number, report};
use crate::model::Http2Options;
use protos::envoy::envoy::config::core::v3 as core;

/// Smallest and largest window (RFC 9113, section 6.9.2); Envoy takes the same.
const WINDOW: std::ops::RangeInclusive<u32> = 65_535..=0x7fff_ffff;
/// Streams that may be asked for.
const STREAMS: std::ops::RangeInclusive<u32> = 1..=0x7fff_ffff;
/// A table of more than that is memory that every connection may hold.
const TABLE: std::ops::RangeInclusive<u32> = 0..=1024 * 1024;

/// Reads the options of the downstream side under the field `name`.
pub fn read_http2_options(
    cx: &mut Context,
    name: &str,
    message: &Option<core::Http2ProtocolOptions>,
) -> Result<Http2Options> {
    let Some(message) = message else { return Ok(Http2Options::default()) };
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
        report!(cx, "frames wait in the peer's window, not in a queue that could be full";
            max_outbound_frames, max_outbound_control_frames);
        report!(cx, "settings of one's own are not sent"; custom_settings_parameters);
        report!(cx, "a connection that is silent is ended by its idle timeout"; connection_keepalive);
        report!(cx, "METADATA is ignored"; allow_metadata, max_metadata_size);
        report!(cx, "the codec decides"; enable_huffman_encoding);
        report!(cx, "one field may be as long as all of them"; max_header_field_size_kb);
        report!(cx, "an invalid message resets its stream"; stream_error_on_invalid_http_messaging);
        cx.report_set("use_oghttp2_codec", &flag(use_oghttp2_codec, false), "there is one codec");
        cx.report_set("disallow_obs_text", &flag(disallow_obs_text, false), "the HTTP/2 codec decides");
        let override_error = flag(override_stream_error_on_invalid_http_message, false);
        cx.report_set(
            "override_stream_error_on_invalid_http_message",
            &override_error,
            "an invalid message resets its stream",
        );
        Ok(Http2Options {
            max_concurrent_streams: within(
                cx,
                "max_concurrent_streams",
                number(max_concurrent_streams),
                STREAMS,
            )?,
            initial_stream_window_size: within(
                cx,
                "initial_stream_window_size",
                number(initial_stream_window_size),
                WINDOW,
            )?,
            initial_connection_window_size: within(
                cx,
                "initial_connection_window_size",
                number(initial_connection_window_size),
                WINDOW,
            )?,
            hpack_table_size: within(cx, "hpack_table_size", number(hpack_table_size), TABLE)?,
            allow_connect: *allow_connect,
            stream_reset_burst: stream_reset_burst.as_ref().map(|count| count.value),
            stream_reset_rate: stream_reset_rate.as_ref().map(|count| count.value),
            max_empty_frames: number(max_consecutive_inbound_frames_with_empty_payload),
            max_priority_frames: number(max_inbound_priority_frames_per_stream),
            max_window_updates: number(max_inbound_window_update_frames_per_data_frame_sent),
        })
    })
}

fn within(
    cx: &mut Context,
    name: &str,
    value: Option<u32>,
    range: std::ops::RangeInclusive<u32>,
) -> Result<Option<u32>> {
    match value {
        Some(value) if !range.contains(&value) => {
            let reason = format!("{value} is not between {} and {}", range.start(), range.end());
            Err(cx.refused_field(name, reason))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::UInt32Value;

    fn read(change: impl FnOnce(&mut core::Http2ProtocolOptions)) -> Result<crate::Read<Http2Options>> {
        let mut message = core::Http2ProtocolOptions::default();
        change(&mut message);
        Context::read(|cx| read_http2_options(cx, "http2_protocol_options", &Some(message.clone())))
    }

    #[test]
    fn limits_are_read_and_what_cannot_be_is_refused() {
        let some = |value| Some(UInt32Value { value });
        let all = read(|message| {
            message.max_concurrent_streams = some(5);
            message.initial_stream_window_size = some(65_535);
            message.allow_connect = true;
        });
        let all = all.unwrap();
        assert_eq!(all.value.max_concurrent_streams, Some(5));
        assert_eq!(all.value.initial_stream_window_size, Some(65_535));
        assert!(all.value.allow_connect && all.notes.is_empty());
        let small = read(|message| message.initial_connection_window_size = some(1000)).unwrap_err();
        assert_eq!(small.path, "http2_protocol_options.initial_connection_window_size");
        assert!(read(|message| message.max_concurrent_streams = some(0)).is_err());
        assert_eq!(read(|message| message.allow_metadata = true).unwrap().notes.len(), 1);
        assert_eq!(read(|_| ()).unwrap().value, Http2Options::default());
    }
}
