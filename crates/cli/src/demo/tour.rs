//! The guided tour: one claim after the other, in plain words.

use comfy_table::Table;

use super::claims::{self, Claim};
use super::mesh::{Mesh, WORKLOADS};
use super::picture::Picture;
use crate::bootstrap::ADMIN_PORT;

/// Measures every claim. A claim that could not be measured does not hold.
pub async fn walk(mesh: &mut Mesh, picture: &mut Picture, requests: u64) -> Vec<Claim> {
    let mut found = Vec::new();
    found.push(claims::identities::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::plaintext::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::canary_share::measure(mesh, picture, requests).await);
    tell(picture, &found);
    found.push(claims::canary_header::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::stranger::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::live_edit::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::broken_edit::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::overflow::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::ejection::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::rotation::measure(mesh, picture).await);
    tell(picture, &found);
    found.push(claims::without_control::measure(mesh, picture).await);
    tell(picture, &found);
    found
}

fn tell(picture: &Picture, found: &[Claim]) {
    if let Some(claim) = found.last() {
        picture.verdict(claim.ok, &claim.said);
    }
}

/// What stays on the screen while the mesh stays up.
pub fn farewell(mesh: &Mesh, claims: &[Claim]) {
    let held = claims.iter().filter(|claim| claim.ok).count();
    println!("\n{held} of {} claims hold. The mesh stays up until Ctrl-C.\n", claims.len());
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["workload", "metrics", "admin"]);
    for workload in WORKLOADS {
        let admin = format!("http://{}:{ADMIN_PORT}", mesh.place.workload(workload.host));
        table.add_row([
            workload.name.to_owned(),
            format!("{admin}/stats/prometheus"),
            format!("{admin}/config_dump"),
        ]);
    }
    let control = format!("http://{}", mesh.monitoring);
    table.add_row(["tulled".to_owned(), format!("{control}/metrics"), format!("{control}/debug/config")]);
    println!("{table}\n");
    println!("Edit the mesh in   {}", mesh.place.config().display());
    println!("Read the logs in   {}", mesh.place.logs().display());
    let (frontend, port) = (mesh.place.workload(WORKLOADS[0].host), mesh.place.port);
    println!("Call it yourself   curl -x http://{frontend}:15080 http://payment-service:{port}/pay\n");
}
