//! A backend fails, is ejected after exactly 5 gateway errors counted by the backend itself (serial requests, retries
//! off), returns, fails again and is ejected twice as long. Twin: without the rule the errors go on.
//!
//! The times are those of the demo's own copy of the rule; the example says 30 s.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::levers::Burst;
use super::super::mesh::{Caller, Mesh, PATIENCE, workload};
use super::super::picture::Picture;
use super::super::place::EJECTION_SECONDS;
use super::live_edit::weights;
use super::{Claim, Found, claim};
use crate::Error;
use crate::echo::burst::Tally;

const FILE: &str = "production/payment-service.yaml";
const FAILING: &str = "payment-stable-1";
/// Name of the requests that are counted.
const ID: &str = "ejection";
/// As the rule says.
const ERRORS: u64 = 5;
/// Requests of one look.
const LOOK: u64 = 8;
/// Requests of the twin; half of them go to the failing backend.
const TWIN_REQUESTS: u64 = 60;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("a backend fails: it is ejected after 5 errors, returns, and is ejected for twice as long");
    claim("ejected-after-exactly-5-errors", found(mesh).await)
}

async fn found(mesh: &mut Mesh) -> Found {
    // Everything to the stable ones, and no retries: each request is one try.
    let (usual, serial) = (
        format!("  - route:\n{}", weights(5)),
        format!("  - retries: {{attempts: 0}}\n    route:\n{}", weights(0)),
    );
    mesh.place.edit(FILE, &usual, &serial)?;
    let result = with_failures(mesh).await;
    mesh.script(FAILING, "").await?;
    mesh.place.edit(FILE, &serial, &usual)?;
    mesh.until("the canary has its part again", async |mesh| {
        Ok(mesh.burst(Caller::Frontend, 200, None).await?.share("canary") > 0.0)
    })
    .await?;
    result
}

async fn with_failures(mesh: &mut Mesh) -> Found {
    mesh.until("the canary gets nothing", async |mesh| {
        let tally = mesh.burst(Caller::Frontend, 200, None).await?;
        Ok(tally.failed == 0 && tally.share("canary") == 0.0)
    })
    .await?;
    let twin = twin(mesh).await?;
    mesh.script(FAILING, "status=503").await?;
    let begun = mesh.executed(FAILING, ID);
    let first = one_ejection(mesh, begun).await?;
    let second = one_ejection(mesh, begun + first.errors).await?;
    let said_in_log = mesh.processes.logged("frontend").lines().any(|line| {
        line.contains("ejected") && line.contains(&mesh.place.workload(workload(FAILING).host).to_string())
    });
    let (one, two) = (first.lasted.as_secs_f64(), second.lasted.as_secs_f64());
    let base = EJECTION_SECONDS as f64;
    // An ejection ends with the first look of the detector after its time; ours come up to 0.3 s late, at either end.
    let ok = first.errors == ERRORS
        && second.errors == ERRORS
        && one > base - 0.4
        && two > 2.0 * base - 0.4
        && two > one
        && said_in_log
        && twin.failed > ERRORS;
    let measured = json!({
        "errors_before_ejection": [first.errors, second.errors], "ejected_seconds": [one, two], "base_ejection_seconds": base,
        "served_by_others_meanwhile": first.served + second.served, "logged": said_in_log,
        "twin": {"outlier_detection": "removed", "requests": twin.sent, "errors": twin.failed},
    });
    let said = format!(
        "ejected after {} errors for {one:.1} s, then after {} more for {two:.1} s",
        first.errors, second.errors
    );
    Ok((ok, measured, said))
}

/// What was seen of one ejection.
struct Ejection {
    /// Requests that the backend executed before it.
    errors: u64,
    /// How long it lasted.
    lasted: Duration,
    /// Requests that were answered with 200 meanwhile.
    served: u64,
}

/// Sends one request after the other until the backend is ejected and has returned.
async fn one_ejection(mesh: &mut Mesh, before: u64) -> Result<Ejection, Error> {
    let started = Instant::now();
    while !is_ejected(mesh).await? {
        if started.elapsed() > PATIENCE {
            return Err(format!("{FAILING} was not ejected").into());
        }
        look(mesh).await?;
    }
    let since = Instant::now();
    let (mut errors, mut served) = (mesh.executed(FAILING, ID) - before, 0);
    loop {
        let tally = look(mesh).await?;
        let executed = mesh.executed(FAILING, ID) - before;
        if !is_ejected(mesh).await? {
            return Ok(Ejection { errors, lasted: since.elapsed(), served });
        }
        // Still ejected after the count: none of these came through the ejection.
        errors = executed;
        served += tally.statuses.get(&200).copied().unwrap_or_default();
        if since.elapsed() > PATIENCE {
            return Err(format!("{FAILING} did not return").into());
        }
    }
}

async fn look(mesh: &Mesh) -> Result<Tally, Error> {
    serial(mesh, LOOK, &["x-echo-id:ejection"]).await
}

/// The same failures without the rule.
async fn twin(mesh: &mut Mesh) -> Result<Tally, Error> {
    let text = std::fs::read_to_string(mesh.place.config().join(FILE))?;
    let rule = text.lines().find(|line| line.starts_with("    outlierDetection:"));
    let rule = format!("{}\n", rule.ok_or("the rule has no outlierDetection")?);
    mesh.place.edit(FILE, &rule, "")?;
    let waited = mesh.until("the rule is gone", async |mesh| Ok(!detects(mesh).await?)).await;
    mesh.script(FAILING, "status=503").await?;
    let tally = serial(mesh, TWIN_REQUESTS, &[]).await;
    mesh.script(FAILING, "").await?;
    mesh.place.edit(FILE, "    connectionPool:\n", &format!("{rule}    connectionPool:\n"))?;
    waited?;
    mesh.until("the rule is back", async |mesh| detects(mesh).await).await?;
    tally
}

/// One request after the other.
async fn serial(mesh: &Mesh, count: u64, headers: &[&str]) -> Result<Tally, Error> {
    mesh.watched(Caller::Frontend, Burst { count, concurrency: 1, headers }, &mut |_| {}).await
}

/// Whether the frontend holds the failing backend ejected.
async fn is_ejected(mesh: &Mesh) -> Result<bool, Error> {
    let page = mesh.admin_page(workload("frontend"), "/clusters").await?;
    let host =
        format!("::{}:{}::health_flags::", mesh.place.workload(workload(FAILING).host), mesh.place.port);
    let mut lines = page.lines().filter(|line| line.contains("|stable|") && line.contains(&host));
    Ok(lines.any(|line| line.contains("failed_outlier_check")))
}

async fn detects(mesh: &Mesh) -> Result<bool, Error> {
    let page = mesh.admin_page(workload("frontend"), "/config_dump").await?;
    Ok(page.contains("outlier_detection"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_has_the_lines_that_the_claim_edits() {
        let example = include_str!("../../../../../examples/payments/production/payment-service.yaml");
        assert!(example.contains(&format!("  - route:\n{}", super::weights(5))));
        assert!(example.contains("    connectionPool:\n"));
    }
}
