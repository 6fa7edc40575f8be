//! Fields that were accepted and do nothing yet: logged once each, and kept for metrics and the admin pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use config::NotActing;

/// The most fields that are kept; a stranger's configuration could name any number.
const MAX_FIELDS: usize = 1_000;

/// A kind of resource and a field of it, without list positions.
pub type Field = (&'static str, String);

/// What was noted so far. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    fields: Arc<Mutex<BTreeMap<Field, Noted>>>,
}

/// One field that does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Why.
    pub reason: String,
    /// The first resource that set it.
    pub example: String,
    /// How often it was seen.
    pub count: u64,
}

impl Notes {
    /// Takes the notes of one resource.
    pub fn add(&self, kind: &'static str, resource: &str, notes: &[NotActing]) {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes {
            let key = (kind, without_positions(&note.path));
            if let Some(noted) = fields.get_mut(&key) {
                noted.count += 1;
            } else if fields.len() < MAX_FIELDS {
                tracing::info!(
                    kind,
                    field = key.1,
                    resource,
                    "accepted, and does nothing yet: {}",
                    note.reason
                );
                let noted = Noted { reason: note.reason.clone(), example: resource.to_owned(), count: 1 };
                fields.insert(key, noted);
            }
        }
    }

    /// Fields by kind of resource, for metrics.
    pub fn fields_by_kind(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for ((kind, field), _) in self.list() {
            all.entry(kind).or_default().push(field);
        }
        all
    }

    /// Everything noted, in order.
    pub fn list(&self) -> Vec<(Field, Noted)> {
        let fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        fields.iter().map(|(field, noted)| (field.clone(), noted.clone())).collect()
    }
}

/// `filter_chains[3].filters[0].x` becomes `filter_chains[].filters[].x`.
fn without_positions(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut inside = false;
    for character in path.chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_noted_once_however_often_it_is_set() {
        let notes = Notes::default();
        for index in 0..3 {
            let path = format!("filter_chains[{index}].filters[0].tracing");
            notes.add("listener", "a", &[NotActing { path, reason: "not yet".to_owned() }]);
        }
        let list = notes.list();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].0, ("listener", "filter_chains[].filters[].tracing".to_owned()));
        assert_eq!((list[0].1.count, list[0].1.example.as_str()), (3, "a"));
    }
}
