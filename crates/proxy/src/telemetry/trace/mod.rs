//! Traces: the context that travels in headers, who decides that a request is traced, and what becomes of its spans.
//!
//! The context is sent on whether or not the request is traced; only a traced one costs more than two headers.

pub mod b3;
pub mod context;
pub mod context_watch;
pub mod opentelemetry;
pub mod sampling;
pub mod span;
pub mod tracer;
pub mod w3c;
pub mod zipkin;

pub use context::SpanContext;
pub use span::{Event, Kind, Span};
pub use tracer::{Started, Tracer, Tracers};
