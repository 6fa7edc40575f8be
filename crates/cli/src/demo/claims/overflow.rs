//! More requests at once than the pool allows: the surplus is answered at once with 503 and the flag UO, and exactly the
//! limit reaches the program. Twin: with the usual limit all of them are answered with 200.

use std::cell::Cell;

use serde_json::json;

use super::super::levers::Burst;
use super::super::mesh::{Caller, Mesh, workload};
use super::super::picture::Picture;
use super::{Claim, Found, claim};
use crate::Error;
use crate::echo::burst::Tally;

const FILE: &str = "production/payment-service.yaml";
const PROGRAM: &str = "payment-canary-1";
/// Name of the requests that are counted.
const ID: &str = "overflow";
const USUAL: &str = "http2MaxRequests: 1000";
const LIMIT: u64 = 5;
/// Requests that are sent at once.
const AT_ONCE: u64 = 30;
/// How long the program takes for an answer.
const SECONDS: f64 = 2.0;

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("more requests at once than the pool allows");
    claim("overflow-answered-at-once", found(mesh).await)
}

async fn found(mesh: &mut Mesh) -> Found {
    mesh.script(PROGRAM, &format!("delay={}ms", (SECONDS * 1000.0) as u64)).await?;
    let twin = all_at_once(mesh).await;
    let tight = format!("http2MaxRequests: {LIMIT}");
    mesh.place.edit(FILE, USUAL, &tight)?;
    let limited = limited(mesh, LIMIT).await;
    let result = all_at_once(mesh).await;
    mesh.script(PROGRAM, "").await?;
    mesh.place.edit(FILE, &tight, USUAL)?;
    limited?;
    self::limited(mesh, 1000).await?;
    let ((twin, _, _), (tally, at, executed)) = (twin?, result?);
    let count = |tally: &Tally, status| tally.statuses.get(&status).copied().unwrap_or_default();
    let (answered, refused) = (count(&tally, 200), count(&tally, 503));
    let line = mesh.processes.logged("frontend");
    let line = line.lines().find(|line| line.contains("503 UO")).map(str::to_owned);
    let ok = answered == LIMIT
        && executed == LIMIT
        && refused == AT_ONCE - LIMIT
        && at.is_some_and(|seconds| seconds < SECONDS)
        && line.is_some()
        && count(&twin, 200) == AT_ONCE;
    let measured = json!({
        "limit": LIMIT, "at_once": AT_ONCE, "answered": answered, "executed": executed, "refused": refused,
        "seconds_until_all_were_refused": at, "seconds_of_an_answer": SECONDS, "log": line,
        "twin": {"limit": 1000, "answered": count(&twin, 200)},
    });
    Ok((
        ok,
        measured,
        format!(
            "{AT_ONCE} requests at once, {LIMIT} allowed: {answered} answered, {refused} refused at once (503 UO)"
        ),
    ))
}

/// All requests at the same time: how they ended, when the last surplus one had its refusal, how many were executed.
async fn all_at_once(mesh: &Mesh) -> Result<(Tally, Option<f64>, u64), Error> {
    let before = mesh.executed(PROGRAM, ID);
    let refused_at = Cell::new(None);
    let burst = Burst {
        count: AT_ONCE,
        concurrency: AT_ONCE,
        headers: &["x-canary-user:true", "x-echo-id:overflow"],
    };
    let tally = mesh
        .watched(Caller::Frontend, burst, &mut |tally| {
            if refused_at.get().is_none() && tally.statuses.get(&503) == Some(&(AT_ONCE - LIMIT)) {
                refused_at.set(Some(tally.seconds));
            }
        })
        .await?;
    Ok((tally, refused_at.get(), mesh.executed(PROGRAM, ID) - before))
}

/// Waits until the frontend's sidecar has the limit.
async fn limited(mesh: &mut Mesh, limit: u64) -> Result<(), Error> {
    mesh.until("the limit is in effect", async |mesh| {
        let page = mesh.admin_page(workload("frontend"), "/clusters").await?;
        let end = format!("::default_priority::max_requests::{limit}");
        Ok(page.lines().any(|line| line.contains("|canary|") && line.ends_with(&end)))
    })
    .await
}
