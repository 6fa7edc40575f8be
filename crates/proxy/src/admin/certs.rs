//! `/certs`: certificates in use, never keys.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::json::time;
use super::page::{Context, Page, Query, json as json_page};
use crate::tls::Peer;

/// Envoy's `envoy.admin.v3.Certificates`.
pub fn page(context: &Context, _: &Query) -> Page {
    let current = context.readiness.secrets.current();
    let certificates: Vec<Value> = current
        .iter()
        .map(|set| {
            let roots = set.root_certificates.iter().filter_map(|root| Peer::parse(root).ok());
            let chain = set.key.cert.iter().filter_map(|certificate| Peer::parse(certificate).ok());
            json!({
                "ca_cert": roots.map(|peer| details(&peer, "ROOTCA")).collect::<Vec<_>>(),
                "cert_chain": chain.map(|peer| details(&peer, "default")).collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut body = json!({"certificates": certificates});
    let failure = context.readiness.identity.as_ref().and_then(|status| status.failure());
    if let (Some(reason), Some(fields)) = (failure, body.as_object_mut()) {
        fields.insert("last_renewal_failure".to_owned(), Value::String(reason));
    }
    json_page(&body)
}

fn details(peer: &Peer, path: &str) -> Value {
    let left = peer.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    let names = peer.uri_sans.iter().map(|uri| json!({"uri": uri}));
    let names = names.chain(peer.dns_sans.iter().map(|dns| json!({"dns": dns})));
    json!({
        "path": path,
        "serial_number": peer.serial,
        "subject_alt_names": names.collect::<Vec<_>>(),
        "days_until_expiration": (left.as_secs() / 86_400).to_string(),
        "valid_from": time(peer.not_before),
        "expiration_time": time(peer.not_after),
    })
}
