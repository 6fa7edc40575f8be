//! A weight edited in the file while traffic flows takes effect with no failed request. Twin: with the canary's program
//! stopped, the same count does see failures.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::mesh::{Caller, Mesh, PATIENCE, workload};
use super::super::picture::Picture;
use super::{Claim, Found, claim};
use crate::Error;
use crate::echo::burst::Tally;

const FILE: &str = "production/payment-service.yaml";
/// Requests of one look at the share; a canary at 50 % shows at least 40 % of it.
const LOOK: u64 = 400;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("a weight is edited in the file while traffic flows");
    claim("live-edit-without-failures", found(mesh, picture).await)
}

async fn found(mesh: &mut Mesh, picture: &Picture) -> Found {
    let (edited, effective) = (Cell::new(None::<Instant>), Cell::new(None::<Duration>));
    let total = RefCell::new(Tally::default());
    let mut looks = 0;
    let (mut before, mut after) = (0.0, 0.0);
    // Three looks before the edit, as many as it takes for the effect, three after.
    let mut left = 3;
    while left > 0 {
        let tally = mesh.burst(Caller::Frontend, LOOK, None).await?;
        mesh.leaves.count(&tally);
        add(&mut total.borrow_mut(), &tally);
        picture.traffic("frontend", &total.borrow());
        looks += 1;
        match (edited.get(), effective.get()) {
            (None, _) => {
                before = tally.share("canary");
                if looks == 3 {
                    mesh.place.edit(FILE, &weights(5), &weights(50))?;
                    edited.set(Some(Instant::now()));
                }
            }
            (Some(since), None) if tally.share("canary") > 0.4 => effective.set(Some(since.elapsed())),
            (Some(since), None) if since.elapsed() > PATIENCE => return Err("the edit took no effect".into()),
            (Some(_), None) => {}
            (Some(_), Some(_)) => {
                after = tally.share("canary");
                left -= 1;
            }
        }
    }
    mesh.place.edit(FILE, &weights(50), &weights(5))?;
    until_share(mesh, 5).await?;
    let broken = without_canary(mesh).await?;
    let (failed, sent) = (total.borrow().failed, total.borrow().sent);
    let seconds = effective.get().map_or(0.0, |time| time.as_secs_f64());
    let first_failure = total.borrow().first_failure.clone();
    let measured = json!({
        "requests": sent, "failed": failed, "first_failure": first_failure, "share_before": before, "share_after": after,
        "seconds_to_effect": seconds, "twin": {"canary_stopped": true, "requests": broken.sent, "failed": broken.failed},
    });
    let said = format!("the edit took effect in {seconds:.1} s; {failed} of {sent} requests failed");
    Ok((failed == 0 && before < 0.2 && after > 0.4 && broken.failed > 0, measured, said))
}

/// Stops the canary's program, counts, and starts it again.
async fn without_canary(mesh: &mut Mesh) -> Result<Tally, Error> {
    let canary = workload("payment-canary-1");
    mesh.processes.stop(&format!("{}-program", canary.name)).await;
    let broken = mesh.burst(Caller::Frontend, 50, Some("x-canary-user:true")).await;
    mesh.start_program(canary)?;
    mesh.until("the canary answers again", async |mesh| {
        Ok(mesh.burst(Caller::Frontend, 1, Some("x-canary-user:true")).await?.failed == 0)
    })
    .await?;
    broken
}

/// Measures something with the canary's weight at `canary` %, and puts it back to 5 %.
pub(super) async fn with_weights<T>(
    mesh: &mut Mesh,
    canary: u64,
    measure: impl AsyncFnOnce(&Mesh) -> Result<T, Error>,
) -> Result<T, Error> {
    mesh.place.edit(FILE, &weights(5), &weights(canary))?;
    let changed = until_share(mesh, canary).await;
    let result = measure(mesh).await;
    mesh.place.edit(FILE, &weights(canary), &weights(5))?;
    changed?;
    until_share(mesh, 5).await?;
    result
}

/// Waits until the share of the canary is on the right side of 25 %, which tells 5 % from 50 %.
async fn until_share(mesh: &mut Mesh, canary: u64) -> Result<(), Error> {
    mesh.until("the new weights are in effect", async |mesh| {
        let share = mesh.burst(Caller::Frontend, LOOK, None).await?.share("canary");
        Ok((share > 0.25) == (canary > 25))
    })
    .await
}

/// The two lines of the example that hold the weights.
pub(super) fn weights(canary: u64) -> String {
    let stable = 100 - canary;
    format!(
        "    - {{destination: {{host: payment-service, subset: stable}}, weight: {stable}}}\n    - {{destination: {{host: payment-service, subset: canary}}, weight: {canary}}}"
    )
}

fn add(total: &mut Tally, tally: &Tally) {
    total.sent += tally.sent;
    total.failed += tally.failed;
    total.seconds += tally.seconds;
    for (version, count) in &tally.versions {
        *total.versions.entry(version.clone()).or_default() += count;
    }
    if total.first_failure.is_none() {
        total.first_failure.clone_from(&tally.first_failure);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_has_the_lines_that_the_demo_edits() {
        let example = include_str!("../../../../../examples/payments/production/payment-service.yaml");
        assert!(example.contains(&super::weights(5)));
    }
}
