//! Plaintext to a sidecar is refused. Twin: with PeerAuthentication PERMISSIVE the same bytes get an answer, and that
//! answer knows no caller.

use serde_json::json;

use super::super::mesh::{Mesh, Plaintext, WORKLOADS, Workload, workload};
use super::super::picture::Picture;
use super::{Claim, Found, claim};

const FILE: &str = "production/mutual-tls.yaml";

pub async fn measure(mesh: &mut Mesh, picture: &mut Picture) -> Claim {
    picture.step("plaintext straight to a sidecar, past the mesh");
    claim("plaintext-refused", found(mesh).await)
}

async fn found(mesh: &mut Mesh) -> Found {
    let mut refused = Vec::new();
    for workload in members() {
        if mesh.plaintext(workload).await? == Plaintext::Refused {
            refused.push(workload.name);
        }
    }
    let all = refused.len() == members().count();
    // The frontend has no AuthorizationPolicy, so that nothing but the mode of mutual TLS decides.
    mesh.place.edit(FILE, "STRICT", "PERMISSIVE")?;
    let frontend = workload("frontend");
    let answered = mesh.until("plaintext is answered under PERMISSIVE", async |mesh| {
        Ok(matches!(mesh.plaintext(frontend).await?, Plaintext::Answered(text) if text.starts_with("HTTP/1.1 200")))
    });
    let answered = answered.await;
    let answer = mesh.plaintext(frontend).await;
    mesh.place.edit(FILE, "PERMISSIVE", "STRICT")?;
    answered?;
    let Plaintext::Answered(answer) = answer? else {
        return Err("PERMISSIVE refused plaintext again".into());
    };
    mesh.until("plaintext is refused again", async |mesh| {
        Ok(mesh.plaintext(frontend).await? == Plaintext::Refused)
    })
    .await?;
    let status = answer.lines().next().unwrap_or_default();
    let anonymous = status.starts_with("HTTP/1.1 200") && !answer.contains("x-forwarded-client-cert");
    let measured = json!({
        "refused_without_a_byte": refused,
        "twin": {"permissive_answers": status, "answer_names_no_caller": anonymous},
    });
    Ok((
        all && anonymous,
        measured,
        format!("plaintext is refused by all {} sidecars; PERMISSIVE would let it in", refused.len()),
    ))
}

/// The workloads that have a Service, and with it an inbound listener.
fn members() -> impl Iterator<Item = &'static Workload> {
    WORKLOADS.iter().filter(|workload| workload.name != "stranger")
}
