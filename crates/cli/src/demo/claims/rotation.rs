//! Certificates are renewed while requests flow: every sidecar's serial number changes, again and again, and no request
//! fails. Twin: the certificate that lives for as long as usual keeps its number.

use serde_json::json;

use super::super::mesh::{Caller, LEAF_SECONDS, Mesh, STEADY, WORKLOADS};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

/// Certificates that each sidecar must have had.
const LEAVES: usize = 3;
/// Requests that must have been sent meanwhile.
const REQUESTS: u64 = 10_000;
const LOOK: u64 = 400;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("certificates of some seconds: every serial number changes under load");
    claim("rotation-without-failures", found(mesh, picture).await)
}

async fn found(mesh: &mut Mesh, picture: &Picture) -> Found {
    let short = || WORKLOADS.iter().map(|workload| workload.name).filter(|name| *name != STEADY);
    // Requests were counted since the mesh came up; some more where that was not long enough.
    mesh.until("every sidecar has had three certificates", async |mesh| {
        let tally = mesh.burst(Caller::Frontend, LOOK, None).await?;
        picture.traffic("frontend", &tally);
        mesh.leaves.count(&tally);
        Ok(short().all(|name| mesh.leaves.of(name) >= LEAVES) && mesh.leaves.requests().0 >= REQUESTS)
    })
    .await?;
    let leaves: Vec<_> = short().map(|name| (name, mesh.leaves.of(name))).collect();
    let ((sent, failed), steady) = (mesh.leaves.requests(), mesh.leaves.of(STEADY));
    let least = leaves.iter().map(|(_, count)| *count).min().unwrap_or_default();
    let ok = failed == 0 && sent >= REQUESTS && least >= LEAVES && steady == 1;
    let measured = json!({
        "requests": sent, "failed": failed, "lifetime_seconds": LEAF_SECONDS,
        "certificates": leaves.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "twin": {"workload": STEADY, "lifetime": "as usual", "certificates": steady},
    });
    Ok((
        ok,
        measured,
        format!("every sidecar has had {least} certificates or more; {failed} of {sent} requests failed"),
    ))
}
