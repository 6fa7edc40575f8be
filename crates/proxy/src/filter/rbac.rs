//! `envoy.filters.http.rbac`: authorization of a request.
use std::sync::Arc;

use config::model::RbacFilter;

use super::chain::Filter;

/// The filter.
#[derive(Debug)]
pub struct Rbac {
    #[allow(dead_code)]
    filter: Arc<RbacFilter>,
}

impl Rbac {
    /// A filter with these rules.
    pub fn new(filter: &Arc<RbacFilter>) -> Self {
        Self { filter: filter.clone() }
    }
}

impl Filter for Rbac {}
