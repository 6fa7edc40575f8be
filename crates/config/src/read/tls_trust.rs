//! What a peer's certificate is verified with: `CertificateValidationContext` and its SDS forms.

use super::string_matcher::read_string_matcher;
use super::tls::{read_roots, read_sds};
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::tls::Roots;
use crate::model::{SanMatcher, SanType, TrustSource};
use protos::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;

/// Most SAN matchers or pins of one context.
const LIMIT: usize = 10_000;

/// Reads a validation context in any of its forms.
pub fn read_validation(
    cx: &mut Context,
    message: &tls::common_tls_context::ValidationContextType,
) -> Result<TrustSource> {
    use tls::common_tls_context::ValidationContextType as Form;
    match message {
        Form::ValidationContext(context) => {
            cx.field("validation_context", |cx| read_context(cx, context, None))
        }
        Form::ValidationContextSdsSecretConfig(secret) => {
            cx.field("validation_context_sds_secret_config", |cx| {
                let roots = Roots::Sds(read_sds(cx, secret)?);
                Ok(TrustSource { roots, sans: Vec::new(), spki: Vec::new(), certificate_hash: Vec::new() })
            })
        }
        Form::CombinedValidationContext(combined) => cx.field("combined_validation_context", |cx| {
            let tls::common_tls_context::CombinedCertificateValidationContext {
                default_validation_context,
                validation_context_sds_secret_config,
                validation_context_certificate_provider,
                validation_context_certificate_provider_instance,
            } = combined;
            refuse!(cx, "certificate providers are not supported: use SDS or files";
                validation_context_certificate_provider, validation_context_certificate_provider_instance);
            let secret =
                cx.required("validation_context_sds_secret_config", validation_context_sds_secret_config)?;
            let roots = cx.field("validation_context_sds_secret_config", |cx| read_sds(cx, secret))?;
            let context = cx.required("default_validation_context", default_validation_context)?;
            cx.field("default_validation_context", |cx| read_context(cx, context, Some(Roots::Sds(roots))))
        }),
        Form::ValidationContextCertificateProvider(_)
        | Form::ValidationContextCertificateProviderInstance(_) => {
            Err(cx.refused("certificate providers are not supported as validation context: use SDS or files"))
        }
    }
}

fn read_context(
    cx: &mut Context,
    message: &tls::CertificateValidationContext,
    sds: Option<Roots>,
) -> Result<TrustSource> {
    let tls::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = message;
    refuse!(cx, "is not supported: use SDS or trusted_ca"; ca_certificate_provider_instance, system_root_certs);
    refuse!(cx, "custom validators are not supported"; custom_validator_config);
    refuse!(cx, "revocation lists are not supported"; crl);
    refuse!(cx, "the depth of a chain cannot be limited yet"; max_verify_depth);
    refuse!(cx, "every chain is verified: VERIFY_TRUST_CHAIN is the only value"; trust_chain_verification);
    let timestamp = flag(require_signed_certificate_timestamp, false);
    cx.refuse_set("require_signed_certificate_timestamp", &timestamp, "is not supported")?;
    report!(cx, "an expired certificate is always refused"; allow_expired_certificate);
    report!(cx, "files are watched by themselves"; watched_directory);
    report!(cx, "there are no revocation lists"; only_verify_leaf_cert_crl);
    report!(cx, "no list of authorities is sent"; suppress_client_ca_list);
    let roots = match (sds, trusted_ca) {
        (Some(roots), None) => roots,
        (None, Some(source)) => read_roots(cx, "trusted_ca", source)?,
        (Some(_), Some(_)) => return Err(cx.refused_field("trusted_ca", "stands beside an SDS secret")),
        (None, None) => return Err(cx.refused_field("trusted_ca", "is missing: nothing would be verified")),
    };
    let mut sans =
        cx.list("match_typed_subject_alt_names", match_typed_subject_alt_names, LIMIT, read_san)?;
    sans.extend(cx.list("match_subject_alt_names", match_subject_alt_names, LIMIT, |cx, matcher| {
        Ok(SanMatcher { kind: None, matcher: read_string_matcher(cx, matcher)? })
    })?);
    let spki = cx.list("verify_certificate_spki", verify_certificate_spki, LIMIT, |cx, text| {
        base64(text).ok_or_else(|| cx.refused("is not the base64 form of a SHA-256"))
    })?;
    let certificate_hash =
        cx.list("verify_certificate_hash", verify_certificate_hash, LIMIT, |cx, text| {
            hex(text).ok_or_else(|| cx.refused("is not the hexadecimal form of a SHA-256"))
        })?;
    Ok(TrustSource { roots, sans, spki, certificate_hash })
}

fn read_san(cx: &mut Context, message: &tls::SubjectAltNameMatcher) -> Result<SanMatcher> {
    use tls::subject_alt_name_matcher::SanType as Kind;
    let tls::SubjectAltNameMatcher { san_type, matcher, oid } = message;
    refuse!(cx, "otherName is not supported"; oid);
    let kind = match cx.enumeration("san_type", *san_type)? {
        Kind::Email => SanType::Email,
        Kind::Dns => SanType::Dns,
        Kind::Uri => SanType::Uri,
        Kind::IpAddress => SanType::IpAddress,
        Kind::OtherName => return Err(cx.refused_field("san_type", "otherName is not supported")),
        Kind::Unspecified => return Err(cx.refused_field("san_type", "is missing")),
    };
    let matcher = cx.required("matcher", matcher)?;
    Ok(SanMatcher { kind: Some(kind), matcher: cx.field("matcher", |cx| read_string_matcher(cx, matcher))? })
}

/// 32 bytes in base64 with padding (RFC 4648 section 4): 44 characters, the last of them `=`.
fn base64(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let mut bits: u32 = 0;
    let mut count = 0;
    let mut out = Vec::with_capacity(33);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out.try_into().ok()
}

/// 32 bytes in hexadecimal, with or without colons.
fn hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (digits.len() == 64).then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pins() {
        assert_eq!(base64(&format!("{}=", "A".repeat(43))), Some([0; 32]));
        assert_eq!(base64("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=").map(|pin| pin[31]), Some(32));
        assert_eq!(hex(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(hex(&vec!["01"; 32].join(":")), Some([1; 32]));
        for bad in ["", "A", "é"] {
            assert!(base64(bad).is_none() && hex(bad).is_none());
        }
    }
}
