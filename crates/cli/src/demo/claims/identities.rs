//! Calls carry mutual TLS with both peers' identities. Twin: a sidecar that claims the payment service's identity with
//! the stranger's token gets none.

use serde_json::{Value, json};

use super::super::mesh::{Caller, Mesh, workload};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

const FRONTEND: &str = "spiffe://cluster.local/ns/production/sa/frontend";
const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("who is calling whom? every call carries mutual TLS with both identities");
    claim("mutual-tls-with-both-identities", found(mesh).await)
}

async fn found(mesh: &mut Mesh) -> Found {
    let mut seen = Vec::new();
    for caller in [Caller::Frontend, Caller::FrontendByProxy] {
        let answer = mesh.burst(caller, 1, None).await?.first_answer.unwrap_or_default();
        let answer: Value = serde_json::from_str(&answer)?;
        seen.push(answer["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default().to_owned());
    }
    let by_name =
        |text: &String| text.contains(&format!("URI={FRONTEND}")) && text.contains(&format!("By={PAYMENT}"));
    let in_headers = seen.iter().all(by_name);
    let mut counted = 0;
    for name in ["payment-stable-1", "payment-stable-2", "payment-canary-1"] {
        counted += mutual_tls_requests(&mesh.metrics(workload(name)).await?);
    }
    let refusal = impostor(mesh).await?;
    let ok = in_headers && counted > 0 && refusal.is_some();
    let measured = json!({
        "forwarded_client_cert": seen, "requests_counted_as_mutual_tls": counted,
        "twin": {"impostor_refused": refusal.is_some(), "said": refusal},
    });
    Ok((
        ok,
        measured,
        format!("mutual TLS: the payment service sees {FRONTEND}; an impostor gets no certificate"),
    ))
}

/// Requests that a payment sidecar has counted with both principals and `mutual_tls`.
fn mutual_tls_requests(metrics: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"))
        .filter(|line| {
            line.contains("reporter=\"destination\"")
                && line.contains("connection_security_policy=\"mutual_tls\"")
                && line.contains(&format!("source_principal=\"{FRONTEND}\""))
                && line.contains(&format!("destination_principal=\"{PAYMENT}\""))
        })
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// Starts a sidecar that says it is a payment workload but has the stranger's token. Returns what it was told.
async fn impostor(mesh: &mut Mesh) -> Result<Option<String>, crate::Error> {
    let token = mesh.token("outside", "stranger")?;
    // Its own address, so that it disturbs nobody: only the claimed identity is the payment service's.
    let mut claimed = *workload("payment-stable-1");
    claimed.host = 99;
    mesh.start_sidecar_as(&claimed, "impostor", &token)?;
    let told = |mesh: &Mesh| {
        let log = mesh.processes.logged("impostor");
        log.lines()
            .find(|line| line.contains("sa/stranger") && line.contains("sa/payment"))
            .map(str::to_owned)
    };
    let waited = mesh.until("the impostor is refused", async |mesh| Ok(told(mesh).is_some())).await;
    let refusal = told(mesh);
    mesh.processes.stop("impostor").await;
    waited.map(|()| refusal)
}
