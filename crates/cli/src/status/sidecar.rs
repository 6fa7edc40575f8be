//! `tulle status --admin ADDRESS`: how one sidecar is, by its own word. What is left to ask when the control plane is down.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{certificates, text};
use crate::Error;
use crate::control;
use crate::output::{self, Form};

/// Prints it. Exits with 1 where the sidecar is not ready.
///
/// # Errors
/// No sidecar answers there.
pub(super) fn run(admin: SocketAddr, form: Form) -> Result<ExitCode, Error> {
    let answer = summary(&page(admin, "/server_info")?, &page(admin, "/certs")?);
    match form {
        Form::Table => output::print(&render(&answer))?,
        Form::Json => output::json(&answer)?,
    }
    Ok(if answer["sidecar"]["state"] == "LIVE" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(admin: SocketAddr, path: &str) -> Result<Value, Error> {
    let answer = control::fetch_from(admin, path)
        .map_err(|error| format!("{error}; is this the admin address of a sidecar's bootstrap?"))?;
    let page = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status.is_success());
    page.ok_or_else(|| format!("what answers at {admin} is not a sidecar's admin server").into())
}

/// The same places as in the answer of `tulled`, as far as one sidecar knows them.
fn summary(info: &Value, certs: &Value) -> Value {
    let configuration = &info["configuration"];
    let (metadata, id) = (&info["node"]["metadata"], text(&info["node"], "id"));
    // sidecar~ADDRESS~WORKLOAD.NAMESPACE~DOMAIN
    let named = id.split('~').nth(2).and_then(|name| name.rsplit_once('.'));
    let name = match named {
        Some((workload, namespace)) => format!("{namespace}/{workload}"),
        None => id.to_owned(),
    };
    json!({
        "sidecar": {
            "proxy": name,
            "state": info["state"],
            "service_account": metadata["SERVICE_ACCOUNT"],
            "configuration": configuration["source"],
            "control_plane_connected": configuration["xds_connected"],
            "control_plane_failure": configuration["xds_failure"],
            "snapshot_saved": configuration["snapshot"]["saved"],
            "snapshot_refused": configuration["snapshot"]["refused"],
        },
        "certificates": [{
            "proxy": name,
            "expires": certs["certificates"][0]["cert_chain"][0]["expiration_time"],
            "renewal": certs["renewal"],
        }],
    })
}

fn render(answer: &Value) -> String {
    let sidecar = &answer["sidecar"];
    let mut out = format!("{}: {}\n", text(sidecar, "proxy"), text(sidecar, "state"));
    let saved = match text(sidecar, "snapshot_saved") {
        "" => "no snapshot of it is kept".to_owned(),
        saved => format!("kept in a snapshot of {saved}"),
    };
    // A String takes everything.
    let _ = writeln!(out, "configuration: from {}; {saved}", text(sidecar, "configuration"));
    if let Some(reason) = sidecar["snapshot_refused"].as_str() {
        let _ = writeln!(out, "the snapshot was not used: {}", reason.escape_debug());
    }
    let _ = match (sidecar["control_plane_connected"].as_bool(), text(sidecar, "control_plane_failure")) {
        (Some(true), _) => writeln!(out, "control plane: connected"),
        (_, "") => writeln!(out, "control plane: not connected yet"),
        (_, reason) => writeln!(out, "control plane: not connected: {}", reason.escape_debug()),
    };
    let _ = certificates(answer, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_without_a_control_plane_says_how_it_is() {
        let info = json!({
            "state": "LIVE",
            "node": {"id": "sidecar~127.0.0.1~frontend.production~production.svc.cluster.local", "metadata": {}},
            "configuration": {"source": "sealed snapshot", "xds_connected": false, "xds_failure": "connection\nrefused",
                "snapshot": {"saved": "2026-01-01T00:00:00Z", "refused": null}},
        });
        let certs = json!({
            "certificates": [{"cert_chain": [{"expiration_time": "2026-01-02T00:00:00Z"}]}],
            "renewal": {"next_attempt": "2026-01-01T12:00:00Z", "back_off_ms": 4000, "failures_in_a_row": 3, "failures": 3,
                "last_failure": "nobody there"},
        });
        let shown = render(&summary(&info, &certs));
        for part in [
            "production/frontend: LIVE",
            "configuration: from sealed snapshot; kept in a snapshot of 2026-01-01T00:00:00Z",
            "control plane: not connected: connection\\nrefused",
            "2026-01-01T12:00:00Z  4000 ms   3 in a row, 3 in total",
            "the last renewal that failed: nobody there",
        ] {
            assert!(shown.contains(part), "no {part:?} in\n{shown}");
        }
    }
}
