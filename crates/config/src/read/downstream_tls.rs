//! `DownstreamTlsContext`.

use super::tls::read_common_tls;
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::DownstreamTls;
use protos::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;

/// Reads TLS termination.
pub fn read_downstream_tls(cx: &mut Context, message: &tls::DownstreamTlsContext) -> Result<DownstreamTls> {
    use tls::downstream_tls_context::{OcspStaplePolicy, SessionTicketKeysType};
    let tls::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = message;
    cx.refuse_set("require_sni", &flag(require_sni, false), "is not supported")?;
    report!(cx, "sessions live in the memory of one worker";
        disable_stateful_session_resumption, session_timeout);
    cx.report_set(
        "full_scan_certs_on_sni_mismatch",
        &flag(full_scan_certs_on_sni_mismatch, false),
        "there is one certificate",
    );
    report!(cx, "the order of suites is fixed"; prefer_client_ciphers);
    if OcspStaplePolicy::try_from(*ocsp_staple_policy) != Ok(OcspStaplePolicy::LenientStapling) {
        refuse!(cx, "nothing is stapled"; ocsp_staple_policy);
    }
    if let Some(keys) = session_ticket_keys_type {
        let field = match keys {
            SessionTicketKeysType::SessionTicketKeys(_) => "session_ticket_keys",
            SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_) => {
                "session_ticket_keys_sds_secret_config"
            }
            SessionTicketKeysType::DisableStatelessSessionResumption(_) => {
                "disable_stateless_session_resumption"
            }
        };
        cx.field(field, |cx| cx.note("session tickets are not shared between proxies"));
    }
    let common = read_common_tls(cx, common_tls_context)?;
    let require_client_certificate = flag(require_client_certificate, false);
    if require_client_certificate && common.trust.is_none() {
        let reason = "needs a validation context: client certificates would not be verified";
        return Err(cx.refused_field("require_client_certificate", reason));
    }
    let Some(certificate) = common.certificate else {
        return Err(cx.refused_field(
            "common_tls_context.tls_certificates",
            "is missing: a server needs a certificate",
        ));
    };
    Ok(DownstreamTls {
        require_client_certificate,
        parameters: common.parameters,
        alpn: common.alpn,
        certificate,
        trust: common.trust,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::tls::Roots;
    use crate::model::{CertificateSource, StringMatch, TlsVersion};
    use protos::envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
    use protos::envoy::google::protobuf::BoolValue;

    fn secret(name: &str) -> tls::SdsSecretConfig {
        tls::SdsSecretConfig { name: name.into(), sds_config: None }
    }

    /// The mesh's own context: `default`, `ROOTCA` and a SPIFFE prefix.
    pub fn mesh() -> tls::CommonTlsContext {
        let prefix = StringMatcher {
            match_pattern: Some(MatchPattern::Prefix("spiffe://cluster.local/".into())),
            ..Default::default()
        };
        let san = tls::SubjectAltNameMatcher { san_type: 3, matcher: Some(prefix), oid: String::new() };
        let validation = tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![san],
            ..Default::default()
        };
        let combined = tls::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(validation),
            validation_context_sds_secret_config: Some(secret("ROOTCA")),
            ..Default::default()
        };
        tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret("default")],
            alpn_protocols: vec!["http/1.1".into()],
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::CombinedValidationContext(combined),
            ),
            ..Default::default()
        }
    }

    fn read(change: impl FnOnce(&mut tls::DownstreamTlsContext)) -> Result<crate::Read<DownstreamTls>> {
        let mut message = tls::DownstreamTlsContext {
            common_tls_context: Some(mesh()),
            require_client_certificate: Some(BoolValue { value: true }),
            ..Default::default()
        };
        change(&mut message);
        Context::read(|cx| read_downstream_tls(cx, &message))
    }

    #[test]
    fn reads_the_meshs_own() {
        let read = read(|message| message.prefer_client_ciphers = true).unwrap();
        assert!(read.value.require_client_certificate);
        assert_eq!(read.value.certificate, CertificateSource::Sds("default".into()));
        assert_eq!(read.value.parameters.minimum, TlsVersion::V1_2);
        let trust = read.value.trust.unwrap();
        assert_eq!(trust.roots, Roots::Sds("ROOTCA".into()));
        assert_eq!(trust.sans[0].matcher.pattern, StringMatch::Prefix("spiffe://cluster.local/".into()));
        assert_eq!(read.notes[0].path, "prefer_client_ciphers");
    }

    #[test]
    fn refuses_what_would_verify_nothing() {
        let without = read(|message| {
            message.common_tls_context.as_mut().unwrap().validation_context_type = None;
        });
        assert_eq!(without.unwrap_err().path, "require_client_certificate");
        let other = read(|message| {
            message.common_tls_context.as_mut().unwrap().tls_certificate_sds_secret_configs[0].name =
                "x".into();
        });
        assert_eq!(other.unwrap_err().path, "common_tls_context.tls_certificate_sds_secret_configs[0].name");
        assert_eq!(read(|message| message.ocsp_staple_policy = 2).unwrap_err().path, "ocsp_staple_policy");
    }
}
