//! MeshConfig: what a user must be told about the fields that translation reads.

use api::MeshConfig;
use api::kinds::extension_provider::ExtensionProvider;
use api::kinds::mesh_config::AccessLogEncoding;
use api::kinds::structure::AnyValue;

use crate::kinds::sendable;
use crate::note::{About, Note};

/// What a user must be told about the MeshConfig.
pub fn verdict(mesh: &MeshConfig, notes: &mut Vec<Note>) {
    let mut about = About::new("MeshConfig", "", "mesh", notes);
    if mesh.access_log_encoding == AccessLogEncoding::Json && !mesh.access_log_file.is_empty() {
        about.info("accessLogEncoding", "the access log is written as text; JSON does not act yet");
    }
    if let Some(reason) = sendable::format_defect(&mesh.access_log_format) {
        about.warning("accessLogFormat", format!("{reason}; the default line is written"));
    }
    for (at, provider) in mesh.extension_providers.iter().enumerate() {
        provider_verdict(provider, &format!("extensionProviders[{at}]"), &mut about);
    }
    if mesh.default_traffic_policy.is_some() {
        about.info("defaultTrafficPolicy", "only DestinationRules set policies yet");
    }
    let settings = mesh.mesh_mtls.as_ref();
    if settings.is_some_and(|it| !it.cipher_suites.is_empty() || !it.ecdh_curves.is_empty()) {
        about.info("meshMTLS", "only minProtocolVersion acts; cipher suites and curves are the proxy's own");
    }
}

/// What a user must be told about a provider of access logs.
fn provider_verdict(provider: &ExtensionProvider, field: &str, about: &mut About<'_>) {
    let (format, field) = match (&provider.envoy_file_access_log, &provider.envoy_otel_als) {
        (Some(file), _) => (file.log_format.as_ref(), format!("{field}.envoyFileAccessLog.logFormat")),
        (None, Some(otel)) => {
            let reason = "Envoy writes this log; tulle-proxy does not yet";
            about.warning(format!("{field}.envoyOtelAls"), reason);
            (otel.log_format.as_ref(), format!("{field}.envoyOtelAls.logFormat"))
        }
        (None, None) => return,
    };
    let Some(format) = format else { return };
    if let Some(reason) = format.text.as_deref().and_then(sendable::format_defect) {
        about.warning(format!("{field}.text"), format!("{reason}; the default line is written"));
    }
    for (key, value) in format.labels.iter().flatten() {
        let reason = match value {
            AnyValue::Text(text) => sendable::format_defect(text),
            _ => Some("only texts are written".to_owned()),
        };
        if let Some(reason) = reason {
            about.warning(format!("{field}.labels.{key}"), format!("{reason}; the label is left out"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(mesh: &MeshConfig) -> Vec<String> {
        let mut notes = Vec::new();
        verdict(mesh, &mut notes);
        notes.into_iter().map(|note| note.field).collect()
    }

    #[test]
    fn a_json_log_is_told_only_when_there_is_a_log() {
        let mut mesh = MeshConfig { access_log_encoding: AccessLogEncoding::Json, ..Default::default() };
        assert!(fields(&mesh).is_empty());
        mesh.access_log_file = "/dev/stdout".to_owned();
        assert_eq!(fields(&mesh), ["accessLogEncoding"]);
    }
}
