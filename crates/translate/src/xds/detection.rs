//! The listener filters that find out what a connection speaks, and how long they may take.

use protos::Any;
use protos::envoy::envoy::config::listener::v3::{Listener, ListenerFilter, listener_filter};
use protos::envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use protos::envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use protos::envoy::google::protobuf::Duration;

use crate::scope::Scope;

/// Finds TLS and what its ClientHello offers.
pub fn tls_inspector() -> ListenerFilter {
    filter("envoy.filters.listener.tls_inspector", protos::any::pack(&TlsInspector::default()))
}

/// Finds HTTP in plain text.
pub fn http_inspector() -> ListenerFilter {
    filter("envoy.filters.listener.http_inspector", protos::any::pack(&HttpInspector::default()))
}

/// Who says nothing waits for a server that speaks first: the connection goes on as bytes. `tulle-proxy` finds that out
/// from the server, without a limit; Envoy needs one.
pub fn limit(listener: &mut Listener, scope: &Scope<'_>) {
    let nanos = if scope.is_tulle() { 0 } else { 100_000_000 };
    listener.listener_filters_timeout = Some(Duration { seconds: 0, nanos });
    listener.continue_on_listener_filters_timeout = true;
}

fn filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
