//! `HttpProtocolOptions` of a cluster, and the deprecated fields of the cluster that say the same.

use super::http_options::{read_common_options, read_http1_options};
use super::http2_client::read_http2_client;
use super::outlier_errors::read_error_statuses;
use crate::context::{Context, Result, refuse, report};
use crate::model::{Http2ClientOptions, HttpProtocol, UpstreamHttpOptions};
use protos::Any;
use protos::any::type_url;
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::envoy::extensions::upstreams::http::v3 as pb;
use std::collections::{BTreeMap, HashMap};

/// The key of `typed_extension_protocol_options`.
const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The deprecated fields of a cluster.
pub struct Deprecated<'a> {
    /// `common_http_protocol_options`.
    pub common: &'a Option<core::HttpProtocolOptions>,
    /// `upstream_http_protocol_options`.
    pub upstream: &'a Option<core::UpstreamHttpProtocolOptions>,
    /// `http_protocol_options`.
    pub http1: &'a Option<core::Http1ProtocolOptions>,
    /// `http2_protocol_options`.
    pub http2: &'a Option<core::Http2ProtocolOptions>,
}

/// Reads how a cluster speaks HTTP.
pub fn read_upstream_http(
    cx: &mut Context,
    options: &HashMap<String, Any>,
    old: &Deprecated<'_>,
) -> Result<UpstreamHttpOptions> {
    let sorted: BTreeMap<_, _> = options.iter().collect();
    let mut read = None;
    for (key, any) in sorted {
        cx.entry("typed_extension_protocol_options", key, |cx| {
            if key != KEY && any.type_url != type_url::<pb::HttpProtocolOptions>() {
                return Err(cx.refused(format!("protocol options {} are not supported", any.type_url)));
            }
            let message: pb::HttpProtocolOptions = cx.open(any)?;
            read = Some(read_options(cx, &message)?);
            Ok(())
        })?;
    }
    match read {
        Some(read) => {
            let reason = "typed_extension_protocol_options stands beside it";
            cx.refuse_set("common_http_protocol_options", old.common, reason)?;
            cx.refuse_set("upstream_http_protocol_options", old.upstream, reason)?;
            cx.refuse_set("http_protocol_options", old.http1, reason)?;
            cx.refuse_set("http2_protocol_options", old.http2, reason)?;
            Ok(read)
        }
        None => {
            read_upstream(cx, old.upstream)?;
            let http2 = read_http2_client(cx, "http2_protocol_options", old.http2)?;
            let protocol = if old.http2.is_some() { HttpProtocol::Http2 } else { HttpProtocol::Http1 };
            build(cx, old.common, old.http1.as_ref(), http2, protocol)
        }
    }
}

fn read_options(cx: &mut Context, message: &pb::HttpProtocolOptions) -> Result<UpstreamHttpOptions> {
    use pb::http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig};
    let pb::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = message;
    refuse!(cx, "upstream filters are not supported"; http_filters, header_validation_config);
    report!(cx, "requests are not mirrored yet"; request_mirror_policies);
    report!(cx, "no policy of a cluster uses a hash yet"; hash_policy);
    report!(cx, "the routes' retry policies act, not the cluster's"; retry_policy);
    read_upstream(cx, upstream_http_protocol_options)?;
    let error_statuses = read_error_statuses(cx, outlier_detection)?;
    let read = match upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => {
            let pb::http_protocol_options::ExplicitHttpConfig { protocol_config } = config;
            cx.field("explicit_http_config", |cx| match protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                    let http2 = Http2ClientOptions::default();
                    build(cx, common_http_protocol_options, Some(http1), http2, HttpProtocol::Http1)
                }
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    let http2 = read_http2_client(cx, "http2_protocol_options", &Some(options.clone()))?;
                    build(cx, common_http_protocol_options, None, http2, HttpProtocol::Http2)
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(cx.refused_field("http3_protocol_options", "HTTP/3 is not supported"))
                }
                None => Err(cx.refused("names no protocol")),
            })
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            let pb::http_protocol_options::UseDownstreamHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
            } = config;
            cx.field("use_downstream_protocol_config", |cx| {
                refuse!(cx, "HTTP/3 is not supported"; http3_protocol_options);
                let http2 = read_http2_client(cx, "http2_protocol_options", http2_protocol_options)?;
                let http1 = http_protocol_options.as_ref();
                build(cx, common_http_protocol_options, http1, http2, HttpProtocol::Downstream)
            })
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            let pb::http_protocol_options::AutoHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
                alternate_protocols_cache_options,
            } = config;
            cx.field("auto_config", |cx| {
                refuse!(cx, "HTTP/3 is not supported"; http3_protocol_options, alternate_protocols_cache_options);
                let http2 = read_http2_client(cx, "http2_protocol_options", http2_protocol_options)?;
                let http1 = http_protocol_options.as_ref();
                build(cx, common_http_protocol_options, http1, http2, HttpProtocol::Auto)
            })
        }
        None => Err(cx.refused_field("upstream_protocol_options", "is missing")),
    };
    Ok(UpstreamHttpOptions { error_statuses, ..read? })
}

fn read_upstream(cx: &mut Context, message: &Option<core::UpstreamHttpProtocolOptions>) -> Result<()> {
    let Some(message) = message else { return Ok(()) };
    cx.field("upstream_http_protocol_options", |cx| {
        let core::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, override_auto_sni_header } =
            message;
        refuse!(cx, "is not supported: write sni and match_typed_subject_alt_names";
            auto_sni, auto_san_validation, override_auto_sni_header);
        Ok(())
    })
}

fn build(
    cx: &mut Context,
    common: &Option<core::HttpProtocolOptions>,
    http1: Option<&core::Http1ProtocolOptions>,
    mut http2: Http2ClientOptions,
    protocol: HttpProtocol,
) -> Result<UpstreamHttpOptions> {
    let bounded = common.as_ref().is_some_and(|common| common.max_response_headers_kb.is_some());
    let common = read_common_options(cx, common, true)?;
    let http1 = read_http1_options(cx, "http_protocol_options", http1, true)?;
    // Only where none is configured do the protocols have limits of their own.
    if bounded {
        http2.max_response_headers_bytes = common.max_response_headers_bytes;
    }
    Ok(UpstreamHttpOptions {
        protocol,
        idle_timeout: common.idle_timeout,
        max_connection_duration: common.max_connection_duration,
        max_requests_per_connection: common.max_requests_per_connection,
        max_headers_count: common.max_headers_count,
        max_response_headers_bytes: common.max_response_headers_bytes,
        enable_trailers: http1.enable_trailers,
        preserve_header_case: http1.preserve_header_case,
        http2,
        error_statuses: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::UInt32Value;

    #[test]
    fn response_heads_have_envoys_limits() {
        for (set, http1, http2) in [(None, 80, 60), (Some(7), 7, 7)] {
            let common = core::HttpProtocolOptions {
                max_response_headers_kb: set.map(|value| UInt32Value { value }),
                ..Default::default()
            };
            let read = Context::read(|cx| {
                build(cx, &Some(common), None, Http2ClientOptions::default(), HttpProtocol::Http2)
            });
            let read = read.unwrap().value;
            assert_eq!(read.max_response_headers_bytes, http1 * 1024);
            assert_eq!(read.http2.max_response_headers_bytes, http2 * 1024);
        }
    }
}
