//! The stranger is denied with 403, and the log names the policy. Twin: without the policy it gets its answer.

use serde_json::json;

use super::super::mesh::{Caller, Mesh};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

const FILE: &str = "production/payment-callers.yaml";
const POLICY: &str = "production/payment-callers";
const REQUESTS: u64 = 200;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("a stranger: in the mesh, with an identity, and not allowed");
    claim("stranger-denied", found(mesh, picture).await)
}

async fn found(mesh: &mut Mesh, picture: &Picture) -> Found {
    let tally = mesh
        .watched_burst(Caller::Stranger, REQUESTS, None, &mut |tally| picture.traffic("stranger", tally))
        .await?;
    let denied = tally.statuses.get(&403).copied().unwrap_or_default();
    let log = async |mesh: &Mesh| Ok(named_in_logs(mesh).is_some());
    mesh.until("a sidecar's log names the policy", log).await?;
    let named = named_in_logs(mesh);

    let policy = mesh.place.remove(FILE)?;
    let allowed = async |mesh: &Mesh| only(mesh, 200).await;
    let waited = mesh.until("the stranger is let in without the policy", allowed).await;
    let twin = mesh.burst(Caller::Stranger, REQUESTS, None).await;
    mesh.place.write(FILE, &policy)?;
    waited?;
    let let_in = twin?.statuses.get(&200).copied().unwrap_or_default();
    mesh.until("the stranger is denied again", async |mesh| only(mesh, 403).await).await?;
    let measured = json!({
        "requests": tally.sent, "denied": denied, "log": named,
        "twin": {"policy": "removed", "requests": REQUESTS, "let_in": let_in},
    });
    let ok = denied == REQUESTS && named.is_some() && let_in == REQUESTS;
    Ok((ok, measured, format!("the stranger got {denied} times 403; the log names {POLICY}")))
}

/// Whether the stranger's calls end with this status, at every one of the three workloads.
async fn only(mesh: &Mesh, status: u16) -> Result<bool, crate::Error> {
    let tally = mesh.burst(Caller::Stranger, 60, None).await?;
    Ok(tally.statuses.get(&status) == Some(&tally.sent))
}

fn named_in_logs(mesh: &Mesh) -> Option<String> {
    ["payment-stable-1", "payment-stable-2", "payment-canary-1"].iter().find_map(|name| {
        let log = mesh.processes.logged(name);
        log.lines().find(|line| line.contains(POLICY) && line.contains("sa/stranger")).map(str::to_owned)
    })
}
