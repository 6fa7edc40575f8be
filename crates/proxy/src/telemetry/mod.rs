//! What a request leaves behind: metrics, the access log, the request id, and who the peers were.
//!
//! A leaf: the request path calls it, it calls nobody. Workers count in cells of their own; the scraper merges.

pub mod access_log;
pub mod attempts;
pub mod attributes;
pub mod captures;
pub mod cells;
pub mod exemplar;
pub mod export;
pub mod families;
pub mod flags;
pub mod grpc_messages;
pub mod intern;
pub mod labels;
pub mod log_common;
pub mod log_filter;
pub mod log_layout;
pub mod log_output;
pub mod log_records;
pub mod log_sink;
pub mod log_text;
pub mod log_value;
pub mod metric_set;
pub mod peer_metadata;
pub mod prometheus;
pub mod raised;
pub mod random;
pub mod recent;
pub mod record;
pub mod registry;
pub mod request_cells;
pub mod request_id;
pub mod series;
pub mod shape;
pub mod start_time;
pub mod tcp_cells;
#[cfg(test)]
pub mod testing;
pub mod trace;
pub mod wall_clock;
pub mod watch;
pub mod watch_filter;

pub use flags::ResponseFlags;
pub use random::Random;
pub use record::RequestRecord;
pub use registry::{Registry, WorkerMetrics};
