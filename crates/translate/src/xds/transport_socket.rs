//! TLS of both directions: which certificate is shown and which peer is accepted.

use api::MeshConfig;
use api::kinds::destination_rule::{ClientTlsMode, ClientTlsSettings};
use api::kinds::mesh_config::TlsProtocol;
use protos::envoy::envoy::config::core::v3::{
    DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType,
};
use protos::envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
    certificate_validation_context::{SystemRootCerts, TrustChainVerification},
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol as EnvoyTlsProtocol,
};
use protos::envoy::envoy::r#type::matcher::v3::StringMatcher;

use crate::kinds::service::Protocol;
use crate::scope::Scope;
use crate::values;
use crate::xds::upstream_http::Upstream;

/// The cluster of an Envoy's bootstrap where it gets its secrets, as in Istio's.
const SECRET_SERVER: &str = "sds-grpc";
/// Protocols that a sidecar accepts from its peers.
fn server_alpn(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Unknown => &["h2", "http/1.1"],
        // No exchange of metadata inside the connection: Istio's `istio-peer-exchange` would be answered by nobody.
        Protocol::Tcp | Protocol::Datagram => &["istio"],
    }
}

/// Protocols that a sidecar offers to a peer in the mesh: Istio's names first. `None`: bytes that it does not look into.
fn client_alpn(scope: &Scope<'_>, spoken: Option<Upstream>) -> &'static [&'static str] {
    match spoken {
        None => &["istio"],
        Some(Upstream::Http1) => &["istio-http/1.1", "istio", "http/1.1"],
        Some(Upstream::Http2) => &["istio-h2", "istio", "h2"],
        // Each connection of `tulle-proxy` offers these in the form of what it speaks; Envoy does so without a list.
        Some(Upstream::AsDownstream) if scope.is_tulle() => &["istio-http/1.1", "istio", "http/1.1"],
        Some(Upstream::AsDownstream) => &[],
    }
}

/// Protocols that are offered to a server outside the mesh.
fn plain_alpn(spoken: Option<Upstream>) -> &'static [&'static str] {
    match spoken {
        None | Some(Upstream::AsDownstream) => &[],
        Some(Upstream::Http1) => &["http/1.1"],
        Some(Upstream::Http2) => &["h2"],
    }
}

/// Plain text.
pub fn raw_buffer() -> TransportSocket {
    let config = protos::any::pack(&RawBuffer {});
    TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}

/// Mutual TLS of a server: any identity of the mesh is accepted; policies decide the rest.
pub fn downstream(scope: &Scope<'_>, protocol: Protocol) -> TransportSocket {
    let mesh = scope.world.mesh();
    let domains =
        std::iter::once(mesh.trust_domain()).chain(mesh.trust_domain_aliases.iter().map(String::as_str));
    let names = domains.map(|domain| values::prefix(format!("spiffe://{domain}/"))).collect();
    let context = DownstreamTlsContext {
        common_tls_context: Some(mesh_context(scope, names, server_alpn(protocol))),
        require_client_certificate: values::boolean(true),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&context))),
    }
}

/// Mutual TLS of a client in the mesh: the server must have one of these names.
pub fn upstream_mesh(
    scope: &Scope<'_>,
    spoken: Option<Upstream>,
    sni: String,
    names: Vec<StringMatcher>,
) -> TransportSocket {
    let common = mesh_context(scope, names, client_alpn(scope, spoken));
    upstream(UpstreamTlsContext { common_tls_context: Some(common), sni, ..Default::default() })
}

/// TLS as a DestinationRule asks for it, with files or the system's roots. `None` means plain text.
pub fn upstream_explicit(
    scope: &Scope<'_>,
    spoken: Option<Upstream>,
    settings: &ClientTlsSettings,
    sni: String,
    mesh_names: Vec<StringMatcher>,
) -> Option<TransportSocket> {
    let mesh = scope.world.mesh();
    let written: Vec<StringMatcher> = settings.subject_alt_names.iter().map(values::exact).collect();
    match settings.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => {
            let names = if written.is_empty() { mesh_names } else { written };
            let sni = if settings.sni.is_empty() { sni } else { settings.sni.clone() };
            Some(upstream_mesh(scope, spoken, sni, names))
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            let mut common = CommonTlsContext {
                tls_params: Some(parameters(mesh)),
                alpn_protocols: plain_alpn(spoken).iter().map(|name| (*name).to_owned()).collect(),
                validation_context_type: Some(ValidationContextType::ValidationContext(validation(
                    settings, mesh,
                ))),
                ..Default::default()
            };
            if settings.mode == ClientTlsMode::Mutual {
                common.tls_certificates = vec![TlsCertificate {
                    certificate_chain: file(&settings.client_certificate),
                    private_key: file(&settings.private_key),
                    ..Default::default()
                }];
            }
            let host_decides = settings.sni.is_empty();
            Some(upstream(UpstreamTlsContext {
                common_tls_context: Some(common),
                sni: settings.sni.clone(),
                // Without an SNI of its own the connection carries the request's host, and the certificate must have it.
                auto_host_sni: host_decides,
                auto_sni_san_validation: host_decides
                    && settings.subject_alt_names.is_empty()
                    && verifies(settings, mesh),
                ..Default::default()
            }))
        }
    }
}

/// Why no connection can be made as a DestinationRule asks: field below `tls`, and reason. Such a cluster is not sent.
/// Some things only `tulle-proxy` cannot do.
pub fn explicit_defect(settings: &ClientTlsSettings, tulle: bool) -> Option<(&'static str, &'static str)> {
    if !matches!(settings.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        return None;
    }
    if !settings.credential_name.is_empty() {
        return Some(("credentialName", "Secrets are not read: give file paths"));
    }
    if !tulle {
        return None;
    }
    if skips_verification(settings) {
        return Some(("insecureSkipVerify", "tulle-proxy verifies every server"));
    }
    if settings.ca_certificates.is_empty() {
        return Some(("caCertificates", "tulle-proxy does not read the system's roots yet: give a file"));
    }
    if !settings.ca_crl.is_empty() {
        return Some(("caCrl", "tulle-proxy does not read revocation lists yet"));
    }
    settings
        .sni
        .is_empty()
        .then_some(("sni", "tulle-proxy does not take it from the request's host yet: give it"))
}

fn skips_verification(settings: &ClientTlsSettings) -> bool {
    settings.insecure_skip_verify == Some(true)
}

/// Whether the server's certificate must lead to a root: one that is given, or the system's. Where MeshConfig turns
/// the system's roots off, written names or a revocation list turn them on again: what is written is never weakened.
fn verifies(settings: &ClientTlsSettings, mesh: &MeshConfig) -> bool {
    !skips_verification(settings)
        && (!settings.ca_certificates.is_empty()
            || mesh.verify_certificate_at_client()
            || !settings.subject_alt_names.is_empty()
            || !settings.ca_crl.is_empty())
}

fn validation(settings: &ClientTlsSettings, mesh: &MeshConfig) -> CertificateValidationContext {
    let mut context = CertificateValidationContext::default();
    if skips_verification(settings) {
        context.trust_chain_verification = TrustChainVerification::AcceptUntrusted as i32;
        return context;
    }
    if !verifies(settings, mesh) {
        // Names that no root vouches for say nothing, and Envoy refuses such a context.
        return context;
    }
    context.trusted_ca = file(&settings.ca_certificates);
    context.crl = file(&settings.ca_crl);
    if settings.ca_certificates.is_empty() {
        context.system_root_certs = Some(SystemRootCerts {});
    }
    // Without names of its own the certificate must have the SNI; an absent SNI is the request's host.
    let sni = Some(&settings.sni).filter(|sni| !sni.is_empty() && settings.subject_alt_names.is_empty());
    for name in settings.subject_alt_names.iter().chain(sni) {
        let san_type = if name.contains("://") { SanType::Uri } else { SanType::Dns };
        context.match_typed_subject_alt_names.push(SubjectAltNameMatcher {
            san_type: san_type as i32,
            matcher: Some(values::exact(name)),
            ..Default::default()
        });
    }
    context
}

fn file(path: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::Filename(path.to_owned()));
    (!path.is_empty()).then(|| DataSource { specifier, ..Default::default() })
}

fn upstream(context: UpstreamTlsContext) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&context))),
    }
}

fn parameters(mesh: &MeshConfig) -> TlsParameters {
    let minimum = match mesh.mesh_mtls.as_ref().map(|settings| settings.min_protocol_version) {
        Some(TlsProtocol::V1_3) => EnvoyTlsProtocol::TlSv13,
        Some(TlsProtocol::Auto | TlsProtocol::V1_2) | None => EnvoyTlsProtocol::TlSv12,
    };
    TlsParameters {
        tls_minimum_protocol_version: minimum as i32,
        tls_maximum_protocol_version: EnvoyTlsProtocol::TlSv13 as i32,
        ..Default::default()
    }
}

/// The workload's own certificate, and peers whose URI is one of `names` under the mesh's roots.
fn mesh_context(scope: &Scope<'_>, names: Vec<StringMatcher>, alpn: &[&str]) -> CommonTlsContext {
    // `tulle-proxy` answers these names itself.
    let source = if scope.is_tulle() { values::ads(true) } else { values::secret_server(SECRET_SERVER) };
    let secret = |name: &str| SdsSecretConfig { name: name.to_owned(), sds_config: Some(source.clone()) };
    let matchers = names.into_iter().map(|matcher| SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(matcher),
        ..Default::default()
    });
    #[allow(deprecated)] // the message has deprecated fields beside the two that are set
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: matchers.collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(parameters(scope.world.mesh())),
        tls_certificate_sds_secret_configs: vec![secret("default")],
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}
