//! The control plane is killed; a sidecar is restarted and serves from its snapshot, while traffic goes on. Twin: a sidecar
//! without a snapshot is not ready.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::mesh::{Mesh, workload};
use super::super::picture::Picture;
use super::{Claim, Found, claim};
use crate::Error;

const RESTARTED: &str = "payment-stable-1";
const TWIN: &str = "payment-stable-1-without-snapshot";
/// Requests between two steps.
const SOME: u64 = 200;
/// How long the twin may try.
const TWIN_TRIES: Duration = Duration::from_millis(1500);

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("the control plane is killed, and a sidecar restarted");
    claim("control-plane-killed-sidecar-restarted", found(mesh).await)
}

async fn found(mesh: &mut Mesh) -> Found {
    let stable = workload(RESTARTED);
    let token = mesh.token_of(stable)?;
    let traffic = mesh.background().await?;
    mesh.more(&traffic, SOME).await?;
    mesh.processes.kill("tulled").await?;
    mesh.more(&traffic, SOME).await?;

    mesh.processes.stop(RESTARTED).await;
    mesh.start_sidecar_as(stable, TWIN, &token)?;
    let twin_ready = twin_ready(mesh).await;
    mesh.processes.stop(TWIN).await;

    let started = Instant::now();
    mesh.run_sidecar(RESTARTED)?;
    while !mesh.is_ready(stable).await {
        if started.elapsed() > super::super::mesh::PATIENCE {
            return Err(format!("{RESTARTED} is not ready without a control plane").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    let before = served(mesh).await?;
    mesh.until("the restarted sidecar serves requests", async |mesh| Ok(served(mesh).await? > before))
        .await?;
    mesh.more(&traffic, SOME).await?;
    let tally = traffic.stop()?;

    mesh.start_control().await?;
    let milliseconds = took.as_secs_f64() * 1e3;
    let measured = json!({
        "requests": tally.sent, "failed": tally.failed, "first_failure": tally.first_failure,
        "milliseconds_to_ready": milliseconds,
        "twin": {"snapshot": "none", "ready": twin_ready, "tried_seconds": TWIN_TRIES.as_secs_f64()},
    });
    let said = format!(
        "without a control plane: {} of {} requests failed; a restarted sidecar was ready after {milliseconds:.0} ms",
        tally.failed, tally.sent
    );
    Ok((tally.failed == 0 && tally.sent >= 3 * SOME && !twin_ready, measured, said))
}

/// Whether a sidecar without a snapshot becomes ready.
async fn twin_ready(mesh: &Mesh) -> bool {
    let started = Instant::now();
    while started.elapsed() < TWIN_TRIES {
        if mesh.is_ready(workload(RESTARTED)).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Requests that the restarted sidecar's metrics count.
async fn served(mesh: &Mesh) -> Result<usize, Error> {
    let metrics = mesh.metrics(workload(RESTARTED)).await?;
    let counts = metrics.lines().filter(|line| line.starts_with("istio_requests_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum())
}
