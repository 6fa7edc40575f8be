//! Validation of PeerAuthentication.

use super::shared;
use crate::kinds::peer_authentication::PeerAuthentication;
use crate::object::Resource;
use crate::path;
use crate::report::Report;

/// Checks a PeerAuthentication.
pub fn peer_authentication(resource: &Resource<PeerAuthentication>, report: &mut Report<'_>) {
    const PORTS: &str = "spec.portLevelMtls";
    let policy = &resource.spec;
    shared::selector(report, "spec.selector", policy.selector.as_ref());
    let selects = policy.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    if policy.port_level_mtls.is_empty() {
        if resource.origin.position(PORTS).is_some() {
            report.error(PORTS, "it is empty: name at least one port, or remove it");
        }
    } else if !selects {
        let remedy = "add spec.selector.matchLabels; ports are those of the selected workloads";
        report.error_with(PORTS, "modes by port need a selector", remedy);
    }
    for number in policy.port_level_mtls.keys() {
        shared::port(report, &path::key(PORTS, &number.to_string()), *number);
    }
}
