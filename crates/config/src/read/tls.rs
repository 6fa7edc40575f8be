//! What `DownstreamTlsContext` and `UpstreamTlsContext` have in common.

use super::config_source::read_ads_source;
use super::data_source::{Data, read_data_source};
use super::name::required_name;
use crate::context::{Context, Result, refuse, report};
use crate::model::tls::{PrivateKey, Roots};
use crate::model::{CertificateSource, TlsParameters, TlsVersion, TrustSource};
use protos::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use std::sync::Arc;

/// `CommonTlsContext`, defaults resolved.
pub struct CommonTls {
    /// Versions.
    pub parameters: TlsParameters,
    /// ALPN protocols.
    pub alpn: Vec<Arc<str>>,
    /// Our certificate.
    pub certificate: Option<CertificateSource>,
    /// What a peer is verified with.
    pub trust: Option<TrustSource>,
}

/// Reads `CommonTlsContext`.
pub fn read_common_tls(cx: &mut Context, message: &Option<tls::CommonTlsContext>) -> Result<CommonTls> {
    let message = cx.required("common_tls_context", message)?;
    cx.field("common_tls_context", |cx| {
        let tls::CommonTlsContext {
            tls_params,
            tls_certificates,
            tls_certificate_sds_secret_configs,
            tls_certificate_provider_instance,
            custom_tls_certificate_selector,
            tls_certificate_certificate_provider,
            tls_certificate_certificate_provider_instance,
            alpn_protocols,
            custom_handshaker,
            key_log,
            validation_context_type,
        } = message;
        refuse!(cx, "certificate providers are not supported: use SDS or files";
            tls_certificate_provider_instance, tls_certificate_certificate_provider,
            tls_certificate_certificate_provider_instance, custom_tls_certificate_selector);
        refuse!(cx, "custom handshakers are not supported"; custom_handshaker);
        report!(cx, "session keys are never written anywhere"; key_log);
        let parameters = read_parameters(cx, tls_params)?;
        let alpn = cx.list("alpn_protocols", alpn_protocols, 32, |cx, protocol| {
            if protocol.is_empty() || protocol.len() > 255 {
                return Err(cx.refused("an ALPN protocol has 1 to 255 bytes"));
            }
            Ok(Arc::from(protocol.as_str()))
        })?;
        let mut certificates = cx.list("tls_certificates", tls_certificates, 1, read_certificate)?;
        let secrets = cx.list(
            "tls_certificate_sds_secret_configs",
            tls_certificate_sds_secret_configs,
            1,
            |cx, secret| Ok(CertificateSource::Sds(read_sds(cx, secret)?)),
        )?;
        certificates.extend(secrets);
        if certificates.len() > 1 {
            return Err(
                cx.refused_field("tls_certificates", "stands beside tls_certificate_sds_secret_configs")
            );
        }
        let trust = match validation_context_type {
            None => None,
            Some(validation) => Some(super::tls_trust::read_validation(cx, validation)?),
        };
        Ok(CommonTls { parameters, alpn, certificate: certificates.pop(), trust })
    })
}

/// Reads the name of a secret. `default` and `ROOTCA` are answered inside the proxy, so their source may be absent.
pub fn read_sds(cx: &mut Context, message: &tls::SdsSecretConfig) -> Result<Arc<str>> {
    let tls::SdsSecretConfig { name, sds_config } = message;
    let name = required_name(cx, "name", name)?;
    if !matches!(&*name, "default" | "ROOTCA") {
        let reason = format!("the secret {name:?} is not known: default and ROOTCA are, or use files");
        return Err(cx.refused_field("name", reason));
    }
    if sds_config.is_some() {
        read_ads_source(cx, "sds_config", sds_config)?;
    }
    Ok(name)
}

fn read_parameters(cx: &mut Context, message: &Option<tls::TlsParameters>) -> Result<TlsParameters> {
    use tls::tls_parameters::TlsProtocol;
    let absent = tls::TlsParameters::default();
    cx.field("tls_params", |cx| {
        let tls::TlsParameters {
            tls_minimum_protocol_version,
            tls_maximum_protocol_version,
            cipher_suites,
            ecdh_curves,
            signature_algorithms,
            compliance_policies,
        } = message.as_ref().unwrap_or(&absent);
        report!(cx, "only AEAD suites with forward secrecy are spoken, in a fixed order"; cipher_suites);
        report!(cx, "the curves are fixed: X25519, P-256, P-384"; ecdh_curves);
        report!(cx, "the signature algorithms are fixed"; signature_algorithms);
        refuse!(cx, "compliance policies are not supported"; compliance_policies);
        let minimum = match cx.enumeration("tls_minimum_protocol_version", *tls_minimum_protocol_version)? {
            TlsProtocol::TlSv13 => TlsVersion::V1_3,
            TlsProtocol::TlsAuto | TlsProtocol::TlSv12 => TlsVersion::V1_2,
            TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
                cx.field("tls_minimum_protocol_version", |cx| cx.note("versions below 1.2 are never spoken"));
                TlsVersion::V1_2
            }
        };
        let maximum = match cx.enumeration("tls_maximum_protocol_version", *tls_maximum_protocol_version)? {
            TlsProtocol::TlsAuto | TlsProtocol::TlSv13 => TlsVersion::V1_3,
            TlsProtocol::TlSv12 => TlsVersion::V1_2,
            TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
                return Err(
                    cx.refused_field("tls_maximum_protocol_version", "versions below 1.2 are never spoken")
                );
            }
        };
        if minimum > maximum {
            return Err(
                cx.refused_field("tls_maximum_protocol_version", "is below tls_minimum_protocol_version")
            );
        }
        Ok(TlsParameters { minimum, maximum })
    })
}

fn read_certificate(cx: &mut Context, message: &tls::TlsCertificate) -> Result<CertificateSource> {
    let tls::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = message;
    refuse!(cx, "is not supported: use PEM files without a password"; pkcs12, private_key_provider, password);
    report!(cx, "files are watched by themselves"; watched_directory);
    report!(cx, "nothing is stapled"; ocsp_staple, signed_certificate_timestamp);
    refuse!(cx, "parameters of one certificate are not supported"; tls_params);
    let chain = cx.required("certificate_chain", certificate_chain)?;
    let key = cx.required("private_key", private_key)?;
    match (read_data_source(cx, "certificate_chain", chain)?, read_data_source(cx, "private_key", key)?) {
        (Data::File(chain), Data::File(key)) => Ok(CertificateSource::Files { chain, key }),
        (Data::Inline(chain), Data::Inline(key)) => {
            Ok(CertificateSource::Inline { chain, key: PrivateKey(key) })
        }
        _ => Err(cx.refused_field("private_key", "chain and key must both be files or both be inline")),
    }
}

/// Roots from a data source.
pub fn read_roots(
    cx: &mut Context,
    field: &str,
    message: &protos::envoy::envoy::config::core::v3::DataSource,
) -> Result<Roots> {
    Ok(match read_data_source(cx, field, message)? {
        Data::File(path) => Roots::File(path),
        Data::Inline(bytes) => Roots::Inline(bytes),
    })
}
