//! Changes made to the headers of a request or response.

use super::format::Format;
use std::sync::Arc;

/// Removals happen first, then additions in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderOperations {
    /// Names in lower case.
    pub remove: Vec<Arc<str>>,
    /// Additions.
    pub add: Vec<HeaderAdd>,
}

impl HeaderOperations {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// One header to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderAdd {
    /// Name in lower case, never a pseudo header (the reader refuses those).
    pub name: Arc<str>,
    /// Value; may take values from the request.
    pub value: Format,
    /// What happens when the header is there already.
    pub action: HeaderAction,
    /// Written even if the value comes out empty.
    pub keep_empty: bool,
}

/// `HeaderValueOption.HeaderAppendAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderAction {
    /// A further header line beside the existing ones; added if there is none.
    AppendIfExistsOrAdd,
    /// Only if there is none.
    AddIfAbsent,
    /// Replaces all existing lines; added if there is none.
    OverwriteIfExistsOrAdd,
    /// Replaces only if there is one.
    OverwriteIfExists,
}
