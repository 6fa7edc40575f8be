//! The file of the mesh's settings.

use std::sync::Arc;

use crate::decode::{self, Null};
use crate::document::positions;
use crate::kinds::mesh_config::MeshConfig;
use crate::origin::Origin;
use crate::parse;
use crate::problem::{Level, Problem};
use crate::report::Report;
use crate::validate;

/// Reads a MeshConfig: one bare document (the value of key `mesh` of Istio's ConfigMap), YAML or JSON. An empty file
/// is a MeshConfig of defaults. `None` when anything is wrong: the last good settings should stay.
pub fn parse_mesh_config(file: &str, bytes: &[u8]) -> (Option<MeshConfig>, Vec<Problem>) {
    let node = match parse::text(file, bytes).and_then(|text| parse::single(file, text)) {
        Ok(Some(node)) => node,
        Ok(None) => return (Some(MeshConfig::default()), Vec::new()),
        Err(problem) => return (None, vec![*problem]),
    };
    let origin = Origin::new(Arc::from(file), node.at, positions(&node));
    let mut report = Report::new("MeshConfig", "", "", &origin);
    let config = match decode::decode::<MeshConfig>(&node, "", Null::Absent) {
        Ok(config) => config,
        Err(findings) => {
            for finding in findings {
                report.add_at(Level::Error, &finding.field, finding.at, finding.message, finding.suggestion);
            }
            return (None, report.into_problems());
        }
    };
    validate::mesh_config(&config, &mut report);
    let good = !report.has_errors();
    (good.then_some(config), report.into_problems())
}
