//! A span that has ended, neutral to the protocol that carries it.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::context::SpanContext;

/// The longest value of a tag, in bytes: a client decides how long some are.
const LONGEST: usize = 1024;

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The called side.
    Server,
    /// The calling side.
    Client,
}

/// A name with a value.
pub type Tag = (Cow<'static, str>, String);

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its ids.
    pub context: SpanContext,
    /// Its name.
    pub name: String,
    /// Its side.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known of it; of each name one.
    pub tags: Vec<Tag>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// It failed.
    pub error: bool,
}

/// A moment of a span.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What.
    pub name: Cow<'static, str>,
    /// What is known of it.
    pub tags: Vec<Tag>,
}

impl Span {
    /// Adds a tag; the last one of a name stands.
    pub fn tag(&mut self, name: impl Into<Cow<'static, str>>, value: &[u8]) {
        let (name, value) = (name.into(), text(value));
        match self.tags.iter_mut().find(|(have, _)| *have == name) {
            Some((_, old)) => *old = value,
            None => self.tags.push((name, value)),
        }
    }

    /// Marks it as failed.
    pub fn fail(&mut self) {
        self.tag("error", b"true");
        self.error = true;
    }
}

/// At most [`LONGEST`] bytes as text.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..LONGEST).unwrap_or(value)).into_owned()
}

/// Nanoseconds since 1970.
pub fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
