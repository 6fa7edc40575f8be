//! `envoy.filters.network.http_connection_manager`.

use super::access_log::read_access_logs;
use super::config_source::read_ads_source;
use super::http_filter::read_http_filters;
use super::http_options::{read_common_options, read_http1_options, read_kilobytes};
use super::http2_options::read_http2_options;
use super::name::{name, required_name};
use super::route_configuration::read_route_configuration;
use super::tracing::{read_internal_addresses, read_request_id, read_tracing};
use crate::context::{Context, Result, answers, flag, number, refuse, report, report_true};
use crate::model::{
    ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, Http1Options, HttpConnectionManager,
    RouteSource, ServerHeader, StripPort, Upgrade,
};
use pb::http_connection_manager as inner;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use std::sync::Arc;
use std::time::Duration;

/// Envoy's default of `stream_idle_timeout`.
const STREAM_IDLE: Duration = Duration::from_secs(300);

/// Reads the connection manager.
pub fn read_http_connection_manager(
    cx: &mut Context,
    message: &pb::HttpConnectionManager,
) -> Result<HttpConnectionManager> {
    check_fields(cx, message)?;
    let common = read_common_options(cx, &message.common_http_protocol_options, false)?;
    Ok(HttpConnectionManager {
        stat_prefix: name(cx, "stat_prefix", &message.stat_prefix)?,
        codec: read_codec(cx, message.codec_type)?,
        route: read_route(cx, &message.route_specifier)?,
        http_filters: read_http_filters(cx, &message.http_filters)?,
        access_log: read_access_logs(cx, &message.access_log)?,
        request_headers_timeout: cx.limit(
            "request_headers_timeout",
            &message.request_headers_timeout,
            None,
        )?,
        request_timeout: cx.limit("request_timeout", &message.request_timeout, None)?,
        stream_idle_timeout: cx.limit(
            "stream_idle_timeout",
            &message.stream_idle_timeout,
            Some(STREAM_IDLE),
        )?,
        idle_timeout: common.idle_timeout,
        max_connection_duration: common.max_connection_duration,
        max_stream_duration: common.max_stream_duration,
        drain_timeout: cx
            .duration("drain_timeout", &message.drain_timeout)?
            .unwrap_or(Duration::from_secs(5)),
        delayed_close_timeout: cx.limit(
            "delayed_close_timeout",
            &message.delayed_close_timeout,
            Some(Duration::from_secs(1)),
        )?,
        max_request_headers_bytes: read_kilobytes(
            cx,
            "max_request_headers_kb",
            number(&message.max_request_headers_kb),
        )?,
        max_headers_count: common.max_headers_count,
        max_requests_per_connection: common.max_requests_per_connection,
        headers_with_underscores: common.headers_with_underscores,
        normalize_path: flag(&message.normalize_path, false),
        merge_slashes: message.merge_slashes,
        escaped_slashes: read_escaped_slashes(cx, message.path_with_escaped_slashes_action)?,
        strip_port: read_strip_port(cx, message.strip_matching_host_port, &message.strip_port_mode)?,
        strip_trailing_host_dot: message.strip_trailing_host_dot,
        forward_client_cert: read_forward_client_cert(cx, message.forward_client_cert_details)?,
        client_cert_details: read_client_cert_details(cx, &message.set_current_client_cert_details),
        use_remote_address: flag(&message.use_remote_address, false),
        xff_num_trusted_hops: message.xff_num_trusted_hops,
        skip_xff_append: message.skip_xff_append,
        via: name(cx, "via", &message.via)?,
        server_name: if message.server_name.is_empty() {
            "envoy".into()
        } else {
            name(cx, "server_name", &message.server_name)?
        },
        server_header: read_server_header(cx, message.server_header_transformation)?,
        generate_request_id: flag(&message.generate_request_id, true),
        preserve_external_request_id: message.preserve_external_request_id,
        request_id: read_request_id(cx, &message.request_id_extension)?,
        tracing: read_tracing(cx, &message.tracing)?,
        internal_addresses: read_internal_addresses(cx, &message.internal_address_config)?,
        always_set_request_id_in_response: message.always_set_request_id_in_response,
        proxy_100_continue: message.proxy_100_continue,
        upgrades: read_upgrades(cx, &message.upgrade_configs)?,
        http1: read_http1(cx, &message.http_protocol_options)?,
        http2: read_http2_options(cx, "http2_protocol_options", &message.http2_protocol_options)?,
    })
}

/// The answers for all fields that are not read above.
fn check_fields(cx: &mut Context, message: &pb::HttpConnectionManager) -> Result<()> {
    answers! { cx, message => pb::HttpConnectionManager {
        elsewhere {
            codec_type, stat_prefix, http_filters, common_http_protocol_options,
            http_protocol_options, http2_protocol_options, server_name, server_header_transformation,
            max_request_headers_kb, stream_idle_timeout, request_headers_timeout,
            request_timeout, access_log,
            use_remote_address, xff_num_trusted_hops, skip_xff_append, via, generate_request_id,
            preserve_external_request_id, always_set_request_id_in_response, forward_client_cert_details,
            set_current_client_cert_details, upgrade_configs, normalize_path, merge_slashes,
            path_with_escaped_slashes_action, strip_matching_host_port,
            strip_trailing_host_dot,
            route_specifier, strip_port_mode, tracing, request_id_extension, internal_address_config,
        }
        refuse "is not supported: it would change who a request seems to come from, or its path" {
            original_ip_detection_extensions, early_header_mutation_extensions, forward_client_cert_matcher,
            path_normalization_options, typed_header_validation_config,
        }
        refuse "local replies cannot be rewritten" { local_reply_config }
        refuse "HTTP/3 is not supported" { http3_protocol_options }
        report "the headers x-forwarded-proto and :scheme are written by the proxy alone" {
            scheme_header_transformation, forward_proto_config,
        }
        report "the header is not written" {
            append_x_forwarded_port, append_local_overload, proxy_status_config,
        }
        report "a log line is written when its request ends" {
            access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
        }
        report "addresses are written as they are" { represent_ipv4_remote_address_as_ipv4_mapped_ipv6 }
        report "a response is never cut by it" { http1_safe_max_connection_duration }
        report "the stream idle timeout stands" { stream_flush_timeout }
        report "the proxy's own drain time stands" { drain_timeout, drain_timeout_jitter }
        report "each hop answers expect: 100-continue itself" { proxy_100_continue }
        report "the time to wait for a peer's close is fixed" { delayed_close_timeout }
        report_true "the user-agent is left as it is" { add_user_agent }
        report_true "an invalid message ends its connection" { stream_error_on_invalid_http_message }
        report_true "PROXY protocol is not supported" { add_proxy_protocol_connection_state }
    } }
    Ok(())
}

fn read_codec(cx: &mut Context, value: i32) -> Result<Codec> {
    match cx.enumeration("codec_type", value)? {
        inner::CodecType::Auto => Ok(Codec::Auto),
        inner::CodecType::Http1 => Ok(Codec::Http1),
        inner::CodecType::Http2 => Ok(Codec::Http2),
        inner::CodecType::Http3 => Err(cx.refused_field("codec_type", "HTTP/3 is not supported")),
    }
}

fn read_route(cx: &mut Context, message: &Option<inner::RouteSpecifier>) -> Result<RouteSource> {
    match message {
        Some(inner::RouteSpecifier::Rds(pb::Rds { config_source, route_config_name })) => {
            cx.field("rds", |cx| {
                read_ads_source(cx, "config_source", config_source)?;
                Ok(RouteSource::Rds { name: required_name(cx, "route_config_name", route_config_name)? })
            })
        }
        Some(inner::RouteSpecifier::RouteConfig(routes)) => cx.field("route_config", |cx| {
            Ok(RouteSource::Inline(Arc::new(read_route_configuration(cx, routes)?)))
        }),
        Some(inner::RouteSpecifier::ScopedRoutes(_)) => {
            Err(cx.refused_field("scoped_routes", "scoped routes are not supported"))
        }
        None => Err(cx.refused_field("route_specifier", "has neither rds nor route_config")),
    }
}

fn read_escaped_slashes(cx: &mut Context, value: i32) -> Result<EscapedSlashes> {
    use inner::PathWithEscapedSlashesAction as Action;
    Ok(match cx.enumeration("path_with_escaped_slashes_action", value)? {
        Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
        Action::RejectRequest => EscapedSlashes::Reject,
        Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
        Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
    })
}

fn read_strip_port(
    cx: &mut Context,
    matching: bool,
    mode: &Option<inner::StripPortMode>,
) -> Result<StripPort> {
    match (matching, mode) {
        (true, Some(inner::StripPortMode::StripAnyHostPort(true))) => {
            Err(cx.refused_field("strip_any_host_port", "stands beside strip_matching_host_port"))
        }
        (false, Some(inner::StripPortMode::StripAnyHostPort(true))) => Ok(StripPort::Any),
        (true, _) => Ok(StripPort::Matching),
        (false, _) => Ok(StripPort::Keep),
    }
}

fn read_forward_client_cert(cx: &mut Context, value: i32) -> Result<ForwardClientCert> {
    use inner::ForwardClientCertDetails as Details;
    Ok(match cx.enumeration("forward_client_cert_details", value)? {
        Details::Sanitize => ForwardClientCert::Sanitize,
        Details::ForwardOnly => ForwardClientCert::ForwardOnly,
        Details::AppendForward => ForwardClientCert::AppendForward,
        Details::SanitizeSet => ForwardClientCert::SanitizeSet,
        Details::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    })
}

fn read_client_cert_details(
    cx: &mut Context,
    message: &Option<inner::SetCurrentClientCertDetails>,
) -> ClientCertDetails {
    let Some(message) = message else { return ClientCertDetails::default() };
    cx.field("set_current_client_cert_details", |cx| {
        let inner::SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format } = message;
        report!(cx, "the issuer is not told"; issuer);
        report!(cx, "there is one form of the header"; format);
        ClientCertDetails { subject: flag(subject, false), cert: *cert, chain: *chain, dns: *dns, uri: *uri }
    })
}

fn read_server_header(cx: &mut Context, value: i32) -> Result<ServerHeader> {
    use inner::ServerHeaderTransformation as Transformation;
    Ok(match cx.enumeration("server_header_transformation", value)? {
        Transformation::Overwrite => ServerHeader::Overwrite,
        Transformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        Transformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn read_upgrades(cx: &mut Context, upgrades: &[inner::UpgradeConfig]) -> Result<Vec<Upgrade>> {
    cx.list("upgrade_configs", upgrades, 16, |cx, message| {
        let inner::UpgradeConfig { upgrade_type, filters, enabled } = message;
        refuse!(cx, "filters of an upgrade are not supported"; filters);
        read_upgrade(cx, upgrade_type, flag(enabled, true))
    })
}

/// A kind of upgrade; CONNECT is one.
pub fn read_upgrade(cx: &mut Context, kind: &str, enabled: bool) -> Result<Upgrade> {
    let kind: Arc<str> = required_name(cx, "upgrade_type", kind)?.to_ascii_lowercase().into();
    if &*kind == "connect-udp" {
        cx.note("UDP is not proxied: the offer goes to the upstream as any other does");
    }
    Ok(Upgrade { kind, enabled })
}

fn read_http1(
    cx: &mut Context,
    message: &Option<protos::envoy::envoy::config::core::v3::Http1ProtocolOptions>,
) -> Result<Http1Options> {
    let options = read_http1_options(cx, "http_protocol_options", message.as_ref(), false)?;
    Ok(Http1Options {
        allow_absolute_url: options.allow_absolute_url,
        accept_http_10: options.accept_http_10,
        default_host_for_http_10: options.default_host_for_http_10.into(),
        enable_trailers: options.enable_trailers,
        preserve_header_case: options.preserve_header_case,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::read::http_filter::tests::filter;
    use protos::envoy::envoy::config::core::v3 as core;
    use protos::envoy::envoy::extensions::filters::http::router::v3::Router;
    use protos::envoy::google::protobuf::{BoolValue, Duration as PbDuration};

    /// A connection manager whose routes come by RDS.
    pub fn manager() -> pb::HttpConnectionManager {
        let specifier = Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default()));
        let config_source =
            Some(core::ConfigSource { config_source_specifier: specifier, ..Default::default() });
        let rds = pb::Rds { config_source, route_config_name: "8080".into() };
        pb::HttpConnectionManager {
            stat_prefix: "outbound_0.0.0.0_8080".into(),
            http_filters: vec![filter("envoy.filters.http.router", &Router::default())],
            route_specifier: Some(inner::RouteSpecifier::Rds(rds)),
            ..Default::default()
        }
    }

    fn read(
        change: impl FnOnce(&mut pb::HttpConnectionManager),
    ) -> Result<crate::Read<HttpConnectionManager>> {
        let mut message = manager();
        change(&mut message);
        Context::read(|cx| read_http_connection_manager(cx, &message))
    }

    #[test]
    fn defaults_are_envoys() {
        let read = read(|_| ()).unwrap();
        let value = read.value;
        assert_eq!((value.max_request_headers_bytes, value.max_headers_count), (61440, 100));
        assert_eq!(value.stream_idle_timeout, Some(STREAM_IDLE));
        assert_eq!((&*value.server_name, value.server_header), ("envoy", ServerHeader::Overwrite));
        assert!(value.generate_request_id && !value.normalize_path);
        assert_eq!(value.escaped_slashes, EscapedSlashes::Keep);
        assert_eq!(value.forward_client_cert, ForwardClientCert::Sanitize);
        assert!(read.notes.is_empty(), "{:?}", read.notes);
    }

    #[test]
    fn reads_what_is_set() {
        let value = read(|message| {
            message.stream_idle_timeout = Some(PbDuration { seconds: 0, nanos: 0 });
            message.normalize_path = Some(BoolValue { value: true });
            message.path_with_escaped_slashes_action = 4;
            message.forward_client_cert_details = 2;
            message.server_header_transformation = 2;
        })
        .unwrap()
        .value;
        assert_eq!(value.stream_idle_timeout, None);
        assert_eq!(value.escaped_slashes, EscapedSlashes::UnescapeAndForward);
        assert_eq!(value.forward_client_cert, ForwardClientCert::AppendForward);
        assert_eq!(value.server_header, ServerHeader::PassThrough);
    }

    #[test]
    fn refuses_and_reports() {
        assert_eq!(read(|message| message.codec_type = 3).unwrap_err().path, "codec_type");
        assert_eq!(read(|message| message.codec_type = 77).unwrap_err().path, "codec_type");
        assert_eq!(read(|message| message.route_specifier = None).unwrap_err().path, "route_specifier");
        let refused = read(|message| message.local_reply_config = Some(Default::default())).unwrap_err();
        assert_eq!(refused.path, "local_reply_config");
        let reported =
            read(|message| message.represent_ipv4_remote_address_as_ipv4_mapped_ipv6 = true).unwrap();
        assert_eq!(reported.notes[0].path, "represent_ipv4_remote_address_as_ipv4_mapped_ipv6");
    }
}
