//! The file of the mesh's settings.

use std::sync::Arc;

use crate::acting;
use crate::decode::{self, Null};
use crate::document::positions;
use crate::kinds::mesh_config::MeshConfig;
use crate::origin::Origin;
use crate::parse;
use crate::problem::{Level, Problem};
use crate::report::Report;
use crate::validate;

/// Reads a MeshConfig: one bare document (the value of key `mesh` of Istio's ConfigMap), YAML or JSON. An empty file
/// is a MeshConfig of defaults. `None` when anything is wrong: the last good settings should stay.
pub fn parse_mesh_config(file: &str, bytes: &[u8]) -> (Option<MeshConfig>, Vec<Problem>) {
    let node = match parse::text(file, bytes).and_then(|text| parse::single(file, text)) {
        Ok(Some(node)) => node,
        Ok(None) => return (Some(MeshConfig::default()), Vec::new()),
        Err(problem) => return (None, vec![*problem]),
    };
    let origin = Origin::new(Arc::from(file), node.at, positions(&node));
    let mut report = Report::new("MeshConfig", "", "", &origin);
    let config = match decode::decode::<MeshConfig>(&node, "", Null::Absent) {
        Ok(config) => config,
        Err(findings) => {
            for finding in findings {
                report.add_at(Level::Error, &finding.field, finding.at, finding.message, finding.suggestion);
            }
            return (None, report.into_problems());
        }
    };
    validate::mesh_config(&config, &mut report);
    let good = !report.has_errors();
    if good {
        acting::mesh_config(&origin, &mut report);
    }
    (good.then_some(config), report.into_problems())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::mesh_config::{NormalizationType, OutboundTrafficPolicyMode};

    fn shown(text: &str) -> Vec<String> {
        parse_mesh_config("mesh.yaml", text.as_bytes()).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        for text in ["", "# nothing\n", "{}"] {
            let (config, problems) = parse_mesh_config("mesh.yaml", text.as_bytes());
            let config = config.expect("defaults");
            assert_eq!((config.root_namespace(), config.trust_domain()), ("istio-system", "cluster.local"));
            assert_eq!((config.proxy_listen_port(), config.proxy_inbound_listen_port()), (15001, 15006));
            assert_eq!((config.proxy_http_port(), config.access_log_file()), (None, None));
            assert_eq!(config.outbound_traffic_policy_mode(), OutboundTrafficPolicyMode::AllowAny);
            assert_eq!(config.path_normalization(), NormalizationType::Base);
            assert_eq!(config.default_service_export_to(), ["*"]);
            assert!(config.enable_auto_mtls());
            assert!(problems.is_empty());
        }
    }

    #[test]
    fn reads_what_is_written() {
        let text = "trustDomain: example.org\nrootNamespace: mesh\nproxyHttpPort: 15080\noutboundTrafficPolicy: {}\nenableAutoMtls: false\nmeshMTLS: {minProtocolVersion: TLSV1_3}\ndefaultConfig: {proxyMetadata: {A: b}}\n";
        let (config, problems) = parse_mesh_config("mesh.yaml", text.as_bytes());
        let config = config.expect("valid");
        assert_eq!((config.root_namespace(), config.trust_domain()), ("mesh", "example.org"));
        assert_eq!(config.proxy_http_port(), Some(15080));
        assert_eq!(config.outbound_traffic_policy_mode(), OutboundTrafficPolicyMode::RegistryOnly);
        assert!(!config.enable_auto_mtls());
        assert_eq!(config.proxy_metadata().and_then(|map| map.get("A")).map(String::as_str), Some("b"));
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["mesh.yaml:7:33: warning: MeshConfig: defaultConfig.proxyMetadata.A: accepted, not acting yet"]
        );
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        assert_eq!(
            shown("acessLogFile: /dev/stdout\naccessLogEncoding: XML\n"),
            [
                "mesh.yaml:1:1: error: MeshConfig: acessLogFile: unknown field \"acessLogFile\"; did you mean \"accessLogFile\"?",
                "mesh.yaml:2:20: error: MeshConfig: accessLogEncoding: unknown value \"XML\"; expected \"TEXT\" or \"JSON\"",
            ]
        );
        assert!(
            shown("proxyHttpPort: 70000\n")[0]
                .starts_with("mesh.yaml:1:1: error: MeshConfig: proxyHttpPort: ")
        );
        assert!(shown("a: 1\n---\nb: 2\n")[0].starts_with("mesh.yaml:3:1: error: a second document"));
        assert!(shown("- 1\n")[0].contains("expected a map, found a list"));
        assert!(parse_mesh_config("mesh.yaml", b"trustDomain: [\n").0.is_none());
    }
}
