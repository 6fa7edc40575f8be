//! HTTP/2 on a connection.

/// `Http2ProtocolOptions`; `None` leaves the codec's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http2Options {
    /// Streams that the peer may have open.
    pub max_concurrent_streams: Option<u32>,
    /// Bytes of one stream that the peer may have on their way.
    pub initial_stream_window_size: Option<u32>,
    /// Bytes of all streams that the peer may have on their way.
    pub initial_connection_window_size: Option<u32>,
    /// Bytes of the table that heads are compressed with.
    pub hpack_table_size: Option<u32>,
    /// Extended CONNECT is offered.
    pub allow_connect: bool,
    /// Resets by the peer in a burst.
    pub stream_reset_burst: Option<u64>,
    /// Resets by the peer in a second after the burst.
    pub stream_reset_rate: Option<u64>,
    /// Frames in a row that carry nothing. `max_consecutive_inbound_frames_with_empty_payload`.
    pub max_empty_frames: Option<u32>,
    /// PRIORITY frames for each stream. `max_inbound_priority_frames_per_stream`.
    pub max_priority_frames: Option<u32>,
    /// WINDOW_UPDATE frames for each DATA frame sent. `max_inbound_window_update_frames_per_data_frame_sent`.
    pub max_window_updates: Option<u32>,
}
