//! `/certs`: certificates in use, never keys.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::json::time;
use super::page::{Asked, Context, Page, json as json_page};
use crate::identity::Renewal;
use crate::tls::Peer;

/// Envoy's `envoy.admin.v3.Certificates`.
pub fn page(context: &Context, _: &Asked<'_>) -> Page {
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
    if let (Some(status), Some(fields)) = (&context.readiness.identity, body.as_object_mut()) {
        fields.insert("renewal".to_owned(), renewal(&status.renewal()));
    }
    json_page(&body)
}

/// State of the renewal: Envoy has nothing like it, because its certificates come from elsewhere.
pub fn renewal(renewal: &Renewal) -> Value {
    json!({
        "next_attempt": renewal.next.map(time),
        "back_off_ms": renewal.back_off.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        "issued": renewal.issued,
        "failures_in_a_row": renewal.failures,
        "failures": renewal.failures_in_total,
        "last_failure": renewal.failure,
    })
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
