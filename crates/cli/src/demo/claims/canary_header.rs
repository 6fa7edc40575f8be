//! The header `x-canary-user: true` sends every request to the canary. Twin: another value does not.

use serde_json::json;

use super::super::mesh::{Caller, Mesh};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

const REQUESTS: u64 = 1_000;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("x-canary-user: true goes to the canary, always");
    claim("canary-header", found(mesh, picture).await)
}

async fn found(mesh: &Mesh, picture: &Picture) -> Found {
    let mut shares = Vec::new();
    for header in ["x-canary-user:true", "x-canary-user:false"] {
        let tally = mesh
            .watched_burst(Caller::Frontend, REQUESTS, Some(header), &mut |tally| {
                picture.traffic("frontend", tally)
            })
            .await?;
        mesh.leaves.count(&tally);
        shares.push((tally.share("canary"), tally.versions.values().sum::<u64>()));
    }
    let ((share, answered), (other, _)) = (shares[0], shares[1]);
    let ok = share == 1.0 && answered == REQUESTS && other < 0.2;
    let measured = json!({"requests": answered, "share": share, "twin": {"value": "false", "share": other}});
    Ok((
        ok,
        measured,
        format!(
            "with the header {:.0} % went to the canary, with another value {:.1} %",
            share * 100.0,
            other * 100.0
        ),
    ))
}
