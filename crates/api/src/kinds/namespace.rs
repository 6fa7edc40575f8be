//! Core Kubernetes `Namespace` (v1): its labels and annotations are what matters.

use serde::Deserialize;

/// The spec of a Namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Kubernetes' own book-keeping.
    pub finalizers: Vec<String>,
}
