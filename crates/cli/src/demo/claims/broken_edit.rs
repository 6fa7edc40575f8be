//! A broken edit changes nothing and is named with its line. Twin: without the typing error the same edit does change
//! the share, and nothing is named.

use serde_json::json;

use super::super::mesh::{Caller, Mesh};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

const FILE: &str = "production/payment-service.yaml";
const REQUESTS: u64 = 2_000;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("a broken edit: `wieght: 50`");
    claim("broken-edit-named-and-harmless", found(mesh, picture).await)
}

async fn found(mesh: &mut Mesh, picture: &Picture) -> Found {
    let good = super::live_edit::weights(5);
    let broken = super::live_edit::weights(50).replace("weight: 50", "wieght: 50");
    let line = mesh.place.edit(FILE, &good, &broken)?;
    let place = format!("payment-service.yaml:{line}:");
    let named = |mesh: &Mesh| {
        let log = mesh.processes.logged("tulled");
        log.lines().find(|text| text.contains(&place) && text.contains("wieght")).map(str::to_owned)
    };
    let waited = mesh.until("tulled names the line", async |mesh| Ok(named(mesh).is_some())).await;
    let said = named(mesh);
    let tally = mesh
        .watched_burst(Caller::Frontend, REQUESTS, None, &mut |tally| picture.traffic("frontend", tally))
        .await;
    mesh.place.edit(FILE, &broken, &good)?;
    waited?;
    let tally = tally?;
    let twin = super::live_edit::with_weights(mesh, 50, async |mesh| {
        mesh.burst(Caller::Frontend, REQUESTS, None).await
    })
    .await?;
    let (share, other) = (tally.share("canary"), twin.share("canary"));
    let measured = json!({
        "line": line, "said": said, "requests": tally.sent, "failed": tally.failed, "share": share,
        "twin": {"edit": "without the typing error", "share": other},
    });
    Ok((
        tally.failed == 0 && share < 0.1 && other > 0.4,
        measured,
        format!("the broken edit was named with line {line} and changed nothing"),
    ))
}
