//! The inspectors of a listener.

use crate::context::{Context, Result, flag, number, refuse};
use crate::model::{ListenerFilter, TlsInspector};
use protos::any::type_url;
use protos::envoy::envoy::config::listener::v3 as pb;
use protos::envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use protos::envoy::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use protos::envoy::envoy::extensions::filters::listener::tls_inspector::v3 as tls;

/// Reads an inspector.
pub fn read_listener_filter(cx: &mut Context, message: &pb::ListenerFilter) -> Result<ListenerFilter> {
    let pb::ListenerFilter { name, filter_disabled, config_type } = message;
    refuse!(cx, "a listener filter cannot be disabled for some connections"; filter_disabled);
    let any = match config_type {
        Some(pb::listener_filter::ConfigType::TypedConfig(any)) => any,
        Some(pb::listener_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(cx.refused_field("config_discovery", "filter configuration by ECDS is not supported"));
        }
        None => {
            return Err(cx.refused_field("typed_config", format!("is missing (listener filter {name:?})")));
        }
    };
    cx.field("typed_config", |cx| {
        let url = any.type_url.as_str();
        if url == type_url::<tls::TlsInspector>() {
            let message = cx.open(any)?;
            Ok(ListenerFilter::TlsInspector(read_tls_inspector(cx, &message)?))
        } else if url == type_url::<HttpInspector>() {
            let HttpInspector {} = cx.open(any)?;
            Ok(ListenerFilter::HttpInspector)
        } else if url == type_url::<OriginalDst>() {
            let OriginalDst {} = cx.open(any)?;
            Ok(ListenerFilter::OriginalDestination)
        } else {
            let known = "tls_inspector, http_inspector and original_dst are";
            Err(cx.refused(format!("the listener filter {name:?} ({url}) is not supported: {known}")))
        }
    })
}

fn read_tls_inspector(cx: &mut Context, message: &tls::TlsInspector) -> Result<TlsInspector> {
    let tls::TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = message;
    let none = "no fingerprints are made";
    cx.report_set("enable_ja3_fingerprinting", &flag(enable_ja3_fingerprinting, false), none);
    cx.report_set("enable_ja4_fingerprinting", &flag(enable_ja4_fingerprinting, false), none);
    cx.report_set("initial_read_buffer_size", initial_read_buffer_size, "the buffer grows as needed");
    let most = TlsInspector::default().max_client_hello_size;
    let size = number(max_client_hello_size).unwrap_or(most);
    if !(256..=most).contains(&size) {
        let reason = format!("{size} is not between 256 and {most} bytes");
        return Err(cx.refused_field("max_client_hello_size", reason));
    }
    Ok(TlsInspector {
        max_client_hello_size: size,
        close_on_parsing_errors: *close_connection_on_client_hello_parsing_errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::UInt32Value;

    fn read<M: protos::Message + prost::Name>(config: &M) -> Result<crate::Read<ListenerFilter>> {
        let config_type = Some(pb::listener_filter::ConfigType::TypedConfig(protos::any::pack(config)));
        let message = pb::ListenerFilter { name: "inspector".into(), config_type, filter_disabled: None };
        Context::read(|cx| read_listener_filter(cx, &message))
    }

    #[test]
    fn reads_the_inspectors() {
        assert_eq!(read(&HttpInspector {}).unwrap().value, ListenerFilter::HttpInspector);
        assert_eq!(read(&OriginalDst {}).unwrap().value, ListenerFilter::OriginalDestination);
        let strict = tls::TlsInspector {
            close_connection_on_client_hello_parsing_errors: true,
            max_client_hello_size: Some(UInt32Value { value: 4096 }),
            ..Default::default()
        };
        let wanted = TlsInspector { max_client_hello_size: 4096, close_on_parsing_errors: true };
        assert_eq!(read(&strict).unwrap().value, ListenerFilter::TlsInspector(wanted));
    }

    #[test]
    fn refuses_what_it_does_not_know_and_sizes_without_a_bound() {
        let endless = tls::TlsInspector {
            max_client_hello_size: Some(UInt32Value { value: 1 << 20 }),
            ..Default::default()
        };
        assert_eq!(read(&endless).unwrap_err().path, "typed_config.max_client_hello_size");
        let unknown = read(&protos::envoy::google::protobuf::UInt32Value { value: 1 }).unwrap_err();
        assert!(unknown.reason.contains("UInt32Value"), "{}", unknown.reason);
    }
}
