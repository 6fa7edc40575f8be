//! Why a stream or a connection ends (RFC 9113, section 7).

use std::fmt;

use super::floods::Flood;

/// An error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub(crate) const NO_ERROR: Code = Code(0x0);
    pub(crate) const PROTOCOL_ERROR: Code = Code(0x1);
    pub(crate) const INTERNAL_ERROR: Code = Code(0x2);
    pub(crate) const FLOW_CONTROL_ERROR: Code = Code(0x3);
    pub(crate) const STREAM_CLOSED: Code = Code(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Code = Code(0x6);
    pub(crate) const REFUSED_STREAM: Code = Code(0x7);
    pub(crate) const CANCEL: Code = Code(0x8);
    pub(crate) const COMPRESSION_ERROR: Code = Code(0x9);
    pub(crate) const ENHANCE_YOUR_CALM: Code = Code(0xb);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// A rule that the peer broke; the connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({code})")]
pub struct Violation {
    /// What the peer is told.
    pub code: Code,
    /// The rule.
    pub what: &'static str,
    /// It was too much of something.
    pub flood: Option<Flood>,
}

impl Violation {
    pub(crate) const fn new(code: Code, what: &'static str) -> Self {
        Violation { code, what, flood: None }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Violation::new(Code::PROTOCOL_ERROR, what)
    }

    pub(crate) const fn size(what: &'static str) -> Self {
        Violation::new(Code::FRAME_SIZE_ERROR, what)
    }

    pub(crate) const fn flood(flood: Flood) -> Self {
        Violation { code: Code::ENHANCE_YOUR_CALM, what: flood.as_str(), flood: Some(flood) }
    }
}
