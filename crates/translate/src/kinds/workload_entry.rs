//! WorkloadEntries: labels, identity and address of one workload instance.

use std::net::IpAddr;

use api::Resource;
use api::kinds::workload_entry::WorkloadEntry;

use crate::merge::Labels;
use crate::note::{About, Note};

/// Label that says whether a workload has a proxy that speaks mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The workload's labels: those of the entry, and those of its metadata where the entry has none of that name.
pub fn labels(entry: &Resource<WorkloadEntry>) -> Labels {
    let mut labels = entry.meta.labels.clone();
    labels.extend(entry.spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

/// One of the workload's labels.
pub fn label<'a>(entry: &'a Resource<WorkloadEntry>, key: &str) -> Option<&'a str> {
    entry.spec.labels.get(key).or_else(|| entry.meta.labels.get(key)).map(String::as_str)
}

/// Whether the workload has all of these labels.
pub fn has_labels(entry: &Resource<WorkloadEntry>, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| label(entry, key) == Some(value))
}

/// The workload's IP address, if it is one.
pub fn address(entry: &WorkloadEntry) -> Option<IpAddr> {
    entry.address.parse().ok()
}

/// Whether the workload speaks mutual TLS: its label says so, or it has an identity and no such label.
pub fn speaks_mutual_tls(entry: &Resource<WorkloadEntry>) -> bool {
    match label(entry, TLS_MODE) {
        Some(mode) => mode == "istio",
        None => !entry.spec.service_account.is_empty(),
    }
}

/// The workload's service account.
pub fn service_account(entry: &Resource<WorkloadEntry>) -> Option<&str> {
    Some(entry.spec.service_account.as_str()).filter(|account| !account.is_empty())
}

/// Load-balancing weight; default 1.
pub fn weight(entry: &WorkloadEntry) -> u32 {
    entry.weight.max(1)
}

/// Labels that name a locality where the entry has none, the first that is there.
const LOCALITY: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// Locality as region, zone and sub-zone: the entry's, else that of its labels (with dots or slashes).
pub fn locality(entry: &Resource<WorkloadEntry>) -> (String, String, String) {
    let by_label = || LOCALITY.into_iter().find_map(|key| label(entry, key));
    let text = match (entry.spec.locality.as_str(), by_label()) {
        ("", Some(label)) => label.replace('.', "/"),
        (locality, _) => locality.to_owned(),
    };
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

/// Canonical name and revision, as telemetry prints them.
pub fn canonical(labels: &Labels, workload: &str) -> (String, String) {
    let first = |keys: [&str; 3], default: &str| {
        let found = keys.into_iter().find_map(|key| labels.get(key).filter(|value| !value.is_empty()));
        found.cloned().unwrap_or_else(|| default.to_owned())
    };
    let name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"], workload);
    let revision =
        first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"], "latest");
    (name, revision)
}

/// What a user must be told about a WorkloadEntry.
pub fn verdict(entry: &Resource<WorkloadEntry>, notes: &mut Vec<Note>) {
    let mut about = About::new("WorkloadEntry", &entry.meta.namespace, &entry.meta.name, notes);
    if address(&entry.spec).is_none() {
        let reason =
            format!("\"{}\" is not an IP address; names and sockets are not served yet", entry.spec.address);
        about.warning("spec.address", reason);
    }
    if label(entry, TLS_MODE) == Some("istio") && entry.spec.service_account.is_empty() {
        let reason = "the label security.istio.io/tlsMode asks for mutual TLS, and callers cannot check an identity \
                      that is not given: their calls fail";
        about.warning("spec.serviceAccount", reason);
    }
    if !entry.spec.network.is_empty() {
        about.info("spec.network", "networks are not told apart yet: the address is called directly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(labels: &[(&str, &str)], account: &str) -> Resource<WorkloadEntry> {
        let mut entry = Resource::<WorkloadEntry>::default();
        entry.spec.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        entry.spec.service_account = account.to_owned();
        entry
    }

    #[test]
    fn mutual_tls_is_spoken_with_an_identity_or_by_label() {
        assert!(speaks_mutual_tls(&entry(&[], "payment")));
        assert!(speaks_mutual_tls(&entry(&[(TLS_MODE, "istio")], "")));
        assert!(!speaks_mutual_tls(&entry(&[], "")));
        assert!(!speaks_mutual_tls(&entry(&[(TLS_MODE, "disabled")], "payment")));
    }

    #[test]
    fn localities_have_three_parts_at_most() {
        let mut it = entry(&[("istio-locality", "eu.west")], "");
        assert_eq!(locality(&it), ("eu".to_owned(), "west".to_owned(), String::new()));
        it.spec.locality = "us/east/1/x".to_owned();
        assert_eq!(locality(&it), ("us".to_owned(), "east".to_owned(), "1/x".to_owned()));
    }

    #[test]
    fn canonical_names_fall_back() {
        assert_eq!(canonical(&Labels::new(), "w"), ("w".to_owned(), "latest".to_owned()));
        let labels = entry(&[("app", "a"), ("version", "v2")], "").spec.labels;
        assert_eq!(canonical(&labels, "w"), ("a".to_owned(), "v2".to_owned()));
    }
}
