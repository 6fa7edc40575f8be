//! Mutual TLS of gRPC (gRFC A29): certificates come from the files that the bootstrap names, never from here.

use protos::envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
    UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use protos::envoy::envoy::r#type::matcher::v3::StringMatcher;

use crate::values;

/// The certificate provider of the bootstrap, as Istio's agent names it.
const PROVIDER: &str = "default";

/// Mutual TLS of a server. gRPC compares no names here: the bootstrap's roots say who is in the mesh, and policies
/// decide the rest.
pub fn downstream() -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new())),
        require_client_certificate: values::boolean(true),
        ..Default::default()
    };
    socket(protos::any::pack(&context))
}

/// Mutual TLS of a client: the server must have one of these names.
pub fn upstream(sni: String, names: Vec<StringMatcher>) -> TransportSocket {
    let context = UpstreamTlsContext { common_tls_context: Some(common(names)), sni, ..Default::default() };
    socket(protos::any::pack(&context))
}

#[allow(deprecated)] // gRPC reads the matchers without a type
fn common(names: Vec<StringMatcher>) -> CommonTlsContext {
    let provider = |certificate: &str| CertificateProviderPluginInstance {
        instance_name: PROVIDER.to_owned(),
        certificate_name: certificate.to_owned(),
    };
    let validation = CertificateValidationContext {
        ca_certificate_provider_instance: Some(provider("ROOTCA")),
        match_subject_alt_names: names,
        ..Default::default()
    };
    CommonTlsContext {
        tls_certificate_provider_instance: Some(provider("default")),
        validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
        ..Default::default()
    }
}

fn socket(config: protos::Any) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}
