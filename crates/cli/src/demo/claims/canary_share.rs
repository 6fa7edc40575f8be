//! The canary gets its 5 %. Twin: with the weights at 50/50 the same measurement lies far outside the bounds.

use serde_json::json;

use super::super::mesh::{Caller, Mesh};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

/// 5 % of 20,000 within four standard deviations.
const BOUNDS: std::ops::RangeInclusive<f64> = 0.044..=0.056;
const TWIN_REQUESTS: u64 = 2_000;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture, requests: u64) -> Claim {
    picture.step("95 % stable, 5 % canary");
    claim("canary-share", found(mesh, picture, requests).await)
}

async fn found(mesh: &mut Mesh, picture: &Picture, requests: u64) -> Found {
    let tally = mesh
        .watched_burst(Caller::Frontend, requests, None, &mut |tally| picture.traffic("frontend", tally))
        .await?;
    mesh.leaves.count(&tally);
    let share = tally.share("canary");
    let equal = super::live_edit::with_weights(mesh, 50, async |mesh| {
        mesh.burst(Caller::Frontend, TWIN_REQUESTS, None).await
    })
    .await?;
    let ok = BOUNDS.contains(&share)
        && tally.failed == 0
        && tally.sent == requests
        && !BOUNDS.contains(&equal.share("canary"));
    let measured = json!({
        "requests": tally.sent, "failed": tally.failed, "first_failure": tally.first_failure, "canary": tally.versions.get("canary"), "share": share,
        "bounds": [BOUNDS.start(), BOUNDS.end()], "requests_per_second": tally.sent as f64 / tally.seconds.max(0.001),
        "twin": {"weights": "50/50", "requests": equal.sent, "share": equal.share("canary")},
    });
    Ok((ok, measured, format!("the canary got {:.2} % of {} requests", share * 100.0, tally.sent)))
}
