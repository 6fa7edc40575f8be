//! The place in a message that a reader stands at, and what it reports there.

use protos::envoy::google::protobuf as pb;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Most notes kept of one resource; further ones are counted in a last note.
const MAX_NOTES: usize = 200;
/// Longest duration accepted: ten years, so that no sum with a clock overflows.
const MAX_SECONDS: i64 = 315_576_000;

/// A resource that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// The model.
    pub value: T,
    /// Fields that were set and are not acted on.
    pub notes: Vec<NotActing>,
}

/// A field that is set, accepted and not acted on: ignoring it changes neither who may do what nor where traffic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotActing {
    /// The field, `filter_chains[0].filters[0].typed_config.tracing`.
    pub path: String,
    /// Why it does nothing.
    pub reason: String,
}

/// Why a resource is not taken; the last good version of it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The field, `filter_chains[0].filters[0].typed_config.http_filters[1].typed_config.rules`.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for Refused {}

/// Result of a reader.
pub(crate) type Result<T> = std::result::Result<T, Refused>;

/// Where a reader stands, and its notes.
#[derive(Debug, Default)]
pub(crate) struct Context {
    path: String,
    notes: Vec<NotActing>,
    further: usize,
}

impl Context {
    /// Runs a reader from the root of a message.
    pub fn read<T>(reader: impl FnOnce(&mut Context) -> Result<T>) -> Result<Read<T>> {
        let mut context = Context::default();
        let value = reader(&mut context)?;
        let mut notes = context.notes;
        if context.further > 0 {
            let reason = format!("{} further fields are not acted on", context.further);
            notes.push(NotActing { path: String::new(), reason });
        }
        Ok(Read { value, notes })
    }

    fn within<T>(&mut self, segment: &str, dot: bool, run: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if dot && !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(segment);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    /// Steps into a field.
    pub fn field<T>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        self.within(name, true, run)
    }

    /// Steps into an entry of a map.
    pub fn entry<T>(&mut self, name: &str, key: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        let key: String = key.chars().take(128).collect();
        self.within(&format!("{name}[{key:?}]"), true, run)
    }

    /// Steps into an item of the field that the reader stands at.
    pub fn index<T>(&mut self, index: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        self.within(&format!("[{index}]"), false, run)
    }

    /// Reads a list of at most `limit` items.
    pub fn list<T, U>(
        &mut self,
        name: &str,
        items: &[T],
        limit: usize,
        mut read: impl FnMut(&mut Self, &T) -> Result<U>,
    ) -> Result<Vec<U>> {
        self.field(name, |cx| {
            if items.len() > limit {
                return Err(cx.refused(format!("{} items, the limit is {limit}", items.len())));
            }
            items.iter().enumerate().map(|(index, item)| cx.index(index, |cx| read(cx, item))).collect()
        })
    }

    /// A refusal of what the reader stands at.
    pub fn refused(&self, reason: impl Into<String>) -> Refused {
        Refused { path: self.path.clone(), reason: reason.into() }
    }

    /// A refusal of a field.
    pub fn refused_field(&mut self, name: &str, reason: impl Into<String>) -> Refused {
        self.field(name, |cx| cx.refused(reason))
    }

    /// Reports what the reader stands at as accepted and not acted on.
    pub fn note(&mut self, reason: impl Into<String>) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(NotActing { path: self.path.clone(), reason: reason.into() });
        } else {
            self.further += 1;
        }
    }

    /// Refuses a field that is set.
    pub fn refuse_set(&mut self, name: &str, value: &(impl Set + ?Sized), reason: &str) -> Result<()> {
        if value.is_set() { Err(self.refused_field(name, reason)) } else { Ok(()) }
    }

    /// Reports a field that is set.
    pub fn report_set(&mut self, name: &str, value: &(impl Set + ?Sized), reason: &str) {
        if value.is_set() {
            self.field(name, |cx| cx.note(reason));
        }
    }

    /// A message that must be there.
    pub fn required<'a, T>(&mut self, name: &str, value: &'a Option<T>) -> Result<&'a T> {
        value.as_ref().ok_or_else(|| self.refused_field(name, "is missing"))
    }

    /// A duration; negative and absurd ones are refused.
    pub fn duration(&mut self, name: &str, value: &Option<pb::Duration>) -> Result<Option<Duration>> {
        let Some(pb::Duration { seconds, nanos }) = *value else { return Ok(None) };
        let valid = (0..=MAX_SECONDS).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(seconds), Ok(nanos)) if valid => Ok(Some(Duration::new(seconds, nanos))),
            _ => Err(self.refused_field(
                name,
                format!("{seconds} s {nanos} ns is not between 0 s and {MAX_SECONDS} s"),
            )),
        }
    }

    /// A limit in time: absent takes the default, 0 means none.
    pub fn limit(
        &mut self,
        name: &str,
        value: &Option<pb::Duration>,
        default: Option<Duration>,
    ) -> Result<Option<Duration>> {
        Ok(match self.duration(name, value)? {
            None => default,
            Some(Duration::ZERO) => None,
            some => some,
        })
    }

    /// A value of an enumeration.
    pub fn enumeration<E: TryFrom<i32>>(&mut self, name: &str, value: i32) -> Result<E> {
        E::try_from(value)
            .map_err(|_| self.refused_field(name, format!("{value} is not a value that is known")))
    }

    /// Opens an `Any` that must hold an `M`.
    pub fn open<M: protos::Message + prost::Name + Default>(&mut self, any: &protos::Any) -> Result<M> {
        protos::any::open(any).map_err(|error| self.refused(error.to_string()))
    }
}

/// Whether a field has a value other than its default.
pub(crate) trait Set {
    /// True if so.
    fn is_set(&self) -> bool;
}

impl Set for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

impl Set for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

macro_rules! number_set {
    ($($number:ty),+) => { $(impl Set for $number {
        fn is_set(&self) -> bool {
            *self != 0
        }
    })+ };
}
number_set!(i32, i64, u32, u64);

impl<T> Set for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> Set for HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<T> Set for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

/// Refuses the named fields (local variables of a destructured message) if they are set.
macro_rules! refuse {
    ($cx:expr, $reason:expr; $($field:ident),+ $(,)?) => {
        $( $cx.refuse_set(stringify!($field), $field, $reason)?; )+
    };
}

/// Refuses the named wrapped booleans if they are true.
macro_rules! refuse_true {
    ($cx:expr, $reason:expr; $($field:ident),+ $(,)?) => {
        $( $cx.refuse_set(stringify!($field), &$crate::context::flag($field, false), $reason)?; )+
    };
}

/// Reports the named wrapped booleans if they are true.
macro_rules! report_true {
    ($cx:expr, $reason:expr; $($field:ident),+ $(,)?) => {
        $( $cx.report_set(stringify!($field), &$crate::context::flag($field, false), $reason); )+
    };
}

/// Reports the named fields as accepted and not acted on if they are set.
macro_rules! report {
    ($cx:expr, $reason:expr; $($field:ident),+ $(,)?) => {
        $( $cx.report_set(stringify!($field), $field, $reason); )+
    };
}

/// Destructures a message completely and answers for each of its fields: those under `act` become local variables that
/// the caller reads, those under `refuse` and `report` with a reason are refused or reported if they are set. A field
/// that stands nowhere does not compile. Those under `elsewhere` are read by another function.
macro_rules! answers {
    ($cx:expr, $message:expr => $($kind:ident)::+ {
        elsewhere { $($elsewhere:ident),* $(,)? }
        $( $verb:ident $reason:literal { $($field:ident),+ $(,)? } )*
    }) => {
        let $($kind)::+ { $($elsewhere: _,)* $($($field,)+)* } = $message;
        $( $verb!($cx, $reason; $($field),+); )*
    };
    ($cx:expr, $message:expr => $($kind:ident)::+ {
        act { $($act:ident),* $(,)? }
        $( $verb:ident $reason:literal { $($field:ident),+ $(,)? } )*
    }) => {
        let $($kind)::+ { $($act,)* $($($field,)+)* } = $message;
        $( $verb!($cx, $reason; $($field),+); )*
    };
}

pub(crate) use {answers, refuse, refuse_true, report, report_true};

/// A wrapped boolean.
pub(crate) fn flag(value: &Option<pb::BoolValue>, default: bool) -> bool {
    value.as_ref().map_or(default, |wrapper| wrapper.value)
}

/// A wrapped number.
pub(crate) fn number(value: &Option<pb::UInt32Value>) -> Option<u32> {
    value.as_ref().map(|wrapper| wrapper.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_place() {
        let read = Context::read(|cx| {
            cx.list("filters", &[1, 2], 5, |cx, item| {
                cx.field("name", |cx| {
                    cx.note("one");
                    if *item == 2 { Err(cx.refused("two")) } else { Ok(()) }
                })
            })
        });
        let refused = read.unwrap_err();
        assert_eq!((refused.path.as_str(), refused.reason.as_str()), ("filters[1].name", "two"));
        let long = Context::read(|cx| cx.list("x", &[0; 3], 2, |_, _| Ok(())));
        assert_eq!(long.unwrap_err().reason, "3 items, the limit is 2");
    }

    #[test]
    fn durations_are_bounded() {
        let read = |seconds, nanos| {
            Context::read(|cx| cx.limit("timeout", &Some(pb::Duration { seconds, nanos }), None))
                .map(|read| read.value)
        };
        assert_eq!(read(1, 500_000_000).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(read(0, 0).unwrap(), None);
        assert_eq!(read(-1, 0).unwrap_err().path, "timeout");
        assert!(read(0, -1).is_err());
        assert!(read(0, 1_000_000_000).is_err());
        assert!(read(i64::MAX, 0).is_err());
    }

    #[test]
    fn notes_are_bounded() {
        let read = Context::read(|cx| {
            (0..MAX_NOTES + 3).for_each(|_| cx.note("x"));
            Ok(())
        });
        let notes = read.unwrap().notes;
        assert_eq!(notes.len(), MAX_NOTES + 1);
        assert_eq!(notes[MAX_NOTES].reason, "3 further fields are not acted on");
    }
}
