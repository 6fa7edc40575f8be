//! Label values that many requests share, each with a small number that stands for it in series keys.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// The most distinct values of one kind that are kept; later ones count as `other`.
pub const MAX_VALUES: usize = 4_096;

/// A value and the number that stands for it. Two are equal when their numbers are.
#[derive(Debug)]
pub struct Interned<T: ?Sized> {
    id: u32,
    value: Arc<T>,
}

impl<T: ?Sized> Interned<T> {
    /// The number, unique per interner.
    pub fn id(&self) -> u32 {
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
#[derive(Debug)]
pub struct Interner<T: ?Sized + Hash + Eq> {
    values: Mutex<HashMap<Arc<T>, u32>>,
    unknown: Interned<T>,
    other: Interned<T>,
}

impl<T: ?Sized + Hash + Eq> Interner<T> {
    /// An interner whose missing value is `unknown` and whose value beyond the limit is `other`.
    pub fn new(unknown: Arc<T>, other: Arc<T>) -> Self {
        let values = HashMap::from([(unknown.clone(), 0), (other.clone(), 1)]);
        Self {
            values: Mutex::new(values),
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

    /// The value's number; `other` when [`MAX_VALUES`] distinct values are known already.
    pub fn intern(&self, value: Arc<T>) -> Interned<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, id)) = values.get_key_value(&value) {
            return Interned { id: *id, value: known.clone() };
        }
        if values.len() >= MAX_VALUES {
            return self.other.clone();
        }
        let id = u32::try_from(values.len()).unwrap_or(1);
        values.insert(value.clone(), id);
        Interned { id, value }
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
        for n in 0..MAX_VALUES {
            interner.intern(n.to_string().into());
        }
        assert_eq!(&*interner.intern("one more".into()), "other");
        assert_eq!(a, interner.intern("a".into()), "known values stay known when the interner is full");
    }
}
