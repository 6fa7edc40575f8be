//! The data plane's configuration: a plain, immutable [`model`], and the only readers of Envoy's config protobufs.
//!
//! Every field of a message gets one of three answers: it is acted on, it is [`Refused`] with path and reason, or it is
//! accepted and reported as [`NotActing`]. Pure: no IO, no clock.

pub mod model;
