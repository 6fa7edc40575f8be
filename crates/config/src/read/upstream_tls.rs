//! `UpstreamTlsContext`.

use super::name::name;
use super::tls::read_common_tls;
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::UpstreamTls;
use protos::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;

/// Reads TLS towards an upstream.
pub fn read_upstream_tls(cx: &mut Context, message: &tls::UpstreamTlsContext) -> Result<UpstreamTls> {
    let tls::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage,
    } = message;
    refuse!(cx, "is not supported: write sni and match_typed_subject_alt_names"; auto_host_sni, auto_sni_san_validation);
    report!(cx, "nothing is renegotiated"; allow_renegotiation);
    report!(cx, "the number of kept sessions is fixed"; max_session_keys);
    cx.report_set("enforce_rsa_key_usage", &flag(enforce_rsa_key_usage, false), "the TLS library decides");
    let sni = name(cx, "sni", sni)?;
    if sni.len() > 253 {
        return Err(cx.refused_field("sni", "longer than 253 bytes"));
    }
    let common = read_common_tls(cx, common_tls_context)?;
    let Some(trust) = common.trust else {
        let reason = "is missing: the upstream would not be verified; add trusted_ca or an SDS secret";
        return Err(cx.refused_field("common_tls_context.validation_context", reason));
    };
    Ok(UpstreamTls {
        sni,
        parameters: common.parameters,
        alpn: common.alpn,
        certificate: common.certificate,
        trust,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_meshs_own_and_refuses_to_verify_nothing() {
        let mut message = tls::UpstreamTlsContext {
            common_tls_context: Some(crate::read::downstream_tls::tests::mesh()),
            sni: "outbound_.8080_.stable_.payment.production.svc.cluster.local".into(),
            allow_renegotiation: true,
            ..Default::default()
        };
        let read = Context::read(|cx| read_upstream_tls(cx, &message)).unwrap();
        assert!(read.value.sni.starts_with("outbound_.8080"));
        assert_eq!(read.notes[0].path, "allow_renegotiation");
        message.common_tls_context.as_mut().unwrap().validation_context_type = None;
        let refused = Context::read(|cx| read_upstream_tls(cx, &message)).unwrap_err();
        assert_eq!(refused.path, "common_tls_context.validation_context");
    }
}
