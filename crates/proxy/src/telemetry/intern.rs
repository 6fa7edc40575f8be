//! Label values that many requests share, each with a small number that stands for it in series keys.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// The most distinct values of one kind that are kept; later ones count as `other`.
pub const MAX_VALUES: usize = 4_096;

/// A value and the number that stands for it. Two are equal when their numbers are.
#[derive(Debug)]
pub struct Interned<T: ?Sized> {
    id: u64,
    value: Arc<T>,
}

impl<T: ?Sized> Interned<T> {
    /// The number, unique per interner.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl<T: ?Sized> Clone for Interned<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, value: self.value.clone() }
    }
}

impl<T: ?Sized> std::ops::Deref for Interned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> PartialEq for Interned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<T: ?Sized> Eq for Interned<T> {}

impl<T: ?Sized> Hash for Interned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Gives equal values the same number. Asked when a connection or a configuration appears, not per request.
///
/// A value that nobody holds any more is forgotten by [`Interner::sweep`]; its number is never given out again.
#[derive(Debug)]
pub struct Interner<T: ?Sized + Hash + Eq> {
    values: Mutex<Values<T>>,
    unknown: Interned<T>,
    other: Interned<T>,
}

#[derive(Debug)]
struct Values<T: ?Sized> {
    known: HashMap<Arc<T>, u64>,
    next: u64,
    /// Values that are still refused before another sweep is worth its time.
    refuse: usize,
}

impl<T: ?Sized + Hash + Eq> Values<T> {
    /// Forgets what nobody holds.
    fn sweep(&mut self) {
        self.known.retain(|value, _| Arc::strong_count(value) > 1);
        self.known.shrink_to(self.known.len().saturating_mul(2));
        self.refuse = 0;
    }
}

impl<T: ?Sized + Hash + Eq> Interner<T> {
    /// An interner whose missing value is `unknown` and whose value beyond the limit is `other`.
    pub fn new(unknown: Arc<T>, other: Arc<T>) -> Self {
        let known = HashMap::from([(unknown.clone(), 0), (other.clone(), 1)]);
        Self {
            values: Mutex::new(Values { known, next: 2, refuse: 0 }),
            unknown: Interned { id: 0, value: unknown },
            other: Interned { id: 1, value: other },
        }
    }

    /// Stands for a value that nobody told us.
    pub fn unknown(&self) -> Interned<T> {
        self.unknown.clone()
    }

    /// The same, borrowed.
    pub fn unknown_ref(&self) -> &Interned<T> {
        &self.unknown
    }

    /// Stands for a value beyond the limit.
    pub fn other(&self) -> Interned<T> {
        self.other.clone()
    }

    /// The value's number; `other` when [`MAX_VALUES`] distinct values are in use already.
    pub fn intern(&self, value: Arc<T>) -> Interned<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, id)) = values.known.get_key_value(&value) {
            return Interned { id: *id, value: known.clone() };
        }
        if values.known.len() >= MAX_VALUES {
            if values.refuse > 0 {
                values.refuse -= 1;
                return self.other.clone();
            }
            values.sweep();
            if values.known.len() >= MAX_VALUES * 3 / 4 {
                // A sweep that frees little is not repeated for each stranger.
                values.refuse = MAX_VALUES / 4;
            }
            if values.known.len() >= MAX_VALUES {
                return self.other.clone();
            }
        }
        let id = values.next;
        values.next += 1;
        values.known.insert(value.clone(), id);
        Interned { id, value }
    }

    /// Forgets the values that nobody holds any more.
    pub fn sweep(&self) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).sweep();
    }

    /// How many values are known.
    pub fn len(&self) -> usize {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }

    /// Whether none is; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Interner<str> {
    /// An interner of texts with `unknown` and `other`.
    pub fn of_texts() -> Self {
        Self::new("unknown".into(), "other".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_number_and_the_limit_holds() {
        let interner = Interner::of_texts();
        let a = interner.intern("a".into());
        assert_eq!(a, interner.intern("a".into()));
        assert_ne!(a, interner.intern("b".into()));
        assert_eq!(interner.intern("unknown".into()), interner.unknown());
        let held: Vec<_> = (0..MAX_VALUES).map(|n| interner.intern(n.to_string().into())).collect();
        assert_eq!(&*interner.intern("one more".into()), "other");
        assert_eq!(a, interner.intern("a".into()), "known values stay known when the interner is full");
        drop(held);
        interner.sweep();
        assert_eq!(interner.len(), 3, "unknown, other, and what is held");
        assert_eq!(&*interner.intern("one more".into()), "one more");
    }

    #[test]
    fn a_million_strangers_leave_nothing_behind() {
        let interner = Interner::of_texts();
        for n in 0..1_000_000 {
            drop(interner.intern(n.to_string().into()));
        }
        assert!(interner.len() <= MAX_VALUES, "{}", interner.len());
        let again = interner.intern("7".into());
        assert_ne!(again.id(), 9, "a number is not given out twice");
    }
}
