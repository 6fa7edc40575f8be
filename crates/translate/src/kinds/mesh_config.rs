//! MeshConfig: what a user must be told about the fields that translation reads.

use api::MeshConfig;
use api::kinds::extension_provider::ExtensionProvider;
use api::kinds::mesh_config::{ACCESS_LOG_SAMPLE, AccessLogEncoding, Variable};
use api::kinds::structure::{self, AnyValue, Structure};

use crate::kinds::format_string;
use crate::note::{About, Note};

/// What a user must be told about the MeshConfig.
pub fn verdict(mesh: &MeshConfig, notes: &mut Vec<Note>) {
    let mut about = About::new("MeshConfig", "", "mesh", notes);
    let format = &mesh.access_log_format;
    if mesh.access_log_encoding == AccessLogEncoding::Json && !format.is_empty() {
        match structure::parse(format) {
            Err(reason) => {
                about.warning("accessLogFormat", format!("{reason}; the default object is written"));
            }
            Ok(labels) => label_verdicts(&labels, "accessLogFormat", &mut about),
        }
    } else if let Some(reason) = format_string::log_defect(format) {
        about.warning("accessLogFormat", format!("{reason}; the default line is written"));
    }
    if mesh.access_log_sample() == Variable::Malformed {
        let reason = "neither a percentage from 0 to 100 nor off; 1 is in force";
        about.warning(format!("defaultConfig.proxyMetadata.{ACCESS_LOG_SAMPLE}"), reason);
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
        (None, Some(otel)) => (otel.log_format.as_ref(), format!("{field}.envoyOtelAls.logFormat")),
        (None, None) => return,
    };
    let Some(format) = format else { return };
    if let Some(reason) = format.text.as_deref().and_then(format_string::log_defect) {
        about.warning(format!("{field}.text"), format!("{reason}; the default line is written"));
    }
    if let Some(labels) = &format.labels {
        label_verdicts(labels, &format!("{field}.labels"), about);
    }
}

/// What a user must be told about labels, and about those in them.
fn label_verdicts(labels: &Structure, field: &str, about: &mut About<'_>) {
    for (key, value) in labels {
        let field = format!("{field}.{key}");
        match value {
            AnyValue::Map(map) => label_verdicts(map, &field, about),
            AnyValue::List(items) => {
                let named = items.iter().enumerate().map(|(at, item)| (at.to_string(), item.clone()));
                label_verdicts(&named.collect(), &field, about);
            }
            AnyValue::Text(text) => {
                if let Some(reason) = format_string::log_defect(text) {
                    about.warning(field, format!("{reason}; the label is left out"));
                }
            }
            AnyValue::Null | AnyValue::Bool(_) | AnyValue::Number(_) => {}
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
    fn what_a_json_log_cannot_say_is_told() {
        let mut mesh = MeshConfig { access_log_encoding: AccessLogEncoding::Json, ..Default::default() };
        assert!(fields(&mesh).is_empty());
        mesh.access_log_format = r#"{"a": "%PROTOCOL%", "b": {"c": ["%NOPE%"]}}"#.to_owned();
        assert_eq!(fields(&mesh), ["accessLogFormat.b.c.0"]);
        mesh.access_log_format = "[".to_owned();
        assert_eq!(fields(&mesh), ["accessLogFormat"]);
    }

    #[test]
    fn a_malformed_sample_is_told() {
        let mut mesh = MeshConfig::default();
        let variables = &mut mesh.default_config.get_or_insert_default().proxy_metadata;
        variables.insert(ACCESS_LOG_SAMPLE.to_owned(), "most".to_owned());
        assert_eq!(fields(&mesh), ["defaultConfig.proxyMetadata.TULLE_ACCESS_LOG_SAMPLE"]);
    }
}
