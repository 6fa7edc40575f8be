//! The raw resources as they came, for `/config_dump`: the last accepted version and the last refusal of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use protos::Any;

/// The last refusal of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Version that was refused.
    pub version: String,
    /// Path and reason.
    pub detail: String,
    /// When.
    pub at: SystemTime,
}

/// What is kept of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The accepted version; empty for a static resource, or when none was accepted yet.
    pub version: String,
    /// The accepted message; `None` when none was accepted yet.
    pub any: Option<Any>,
    /// When it was accepted.
    pub updated: SystemTime,
    /// From the bootstrap, not from an xDS server.
    pub is_static: bool,
    /// The last refusal, if none was accepted since.
    pub refusal: Option<Refusal>,
}

/// Type URL, then resource name.
pub type Entries = BTreeMap<String, BTreeMap<String, Entry>>;

/// The raw resources. Cheap to clone; only the main thread uses it.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    entries: Arc<Mutex<Entries>>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version was accepted.
    pub fn accepted(&self, name: &str, version: &str, any: Any, is_static: bool, at: SystemTime) {
        let of_type = &mut *self.lock();
        let entry = Entry {
            version: version.to_owned(),
            any: Some(any.clone()),
            updated: at,
            is_static,
            refusal: None,
        };
        of_type.entry(any.type_url).or_default().insert(name.to_owned(), entry);
    }

    /// A version was refused.
    pub fn refused(&self, type_url: &str, name: &str, version: &str, detail: &str, at: SystemTime) {
        let refusal = Some(Refusal { version: version.to_owned(), detail: detail.to_owned(), at });
        self.lock()
            .entry(type_url.to_owned())
            .or_default()
            .entry(name.to_owned())
            .and_modify(|entry| entry.refusal = refusal.clone())
            .or_insert(Entry { version: String::new(), any: None, updated: at, is_static: false, refusal });
    }

    /// A resource is gone.
    pub fn removed(&self, type_url: &str, name: &str) {
        if let Some(of_type) = self.lock().get_mut(type_url) {
            of_type.remove(name);
        }
    }

    /// Everything of one type, copied.
    pub fn of_type(&self, type_url: &str) -> Vec<(String, Entry)> {
        let entries = self.lock();
        let of_type = entries.get(type_url);
        of_type
            .map(|list| list.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect())
            .unwrap_or_default()
    }
}
