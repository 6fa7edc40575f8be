//! `envoy.config.route.v3.VirtualHost`.

use super::filter_config::read_filter_configs;
use super::header_operation::read_header_operations;
use super::metadata::read_metadata;
use super::name::required_name;
use super::route::{read_buffer_limit, read_route};
use super::route_action::read_retry;
use crate::context::{Context, Result, refuse, report};
use crate::model::VirtualHost;
use protos::envoy::envoy::config::route::v3 as pb;
use std::sync::Arc;

/// Most routes of one virtual host, and most domains.
const LIMIT: usize = 10_000;

/// Reads a virtual host; `body` is the largest body of a direct response, in bytes.
pub fn read_virtual_host(cx: &mut Context, message: &pb::VirtualHost, body: usize) -> Result<VirtualHost> {
    let pb::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx, "matcher trees are not supported: write routes"; matcher);
    refuse!(cx, "redirection to TLS is not supported yet: write redirect routes"; require_tls);
    refuse!(cx, "route extensions are not supported"; route_specifiers);
    refuse!(cx, "is not supported: use retry_policy"; retry_policy_typed_config);
    report!(cx, "requests are not hedged"; hedge_policy);
    report!(cx, "the header is not written"; include_is_timeout_retry_header);
    report!(cx, "there is no filter that reads it"; virtual_clusters, rate_limits, cors);
    report!(cx, "requests are not mirrored yet"; request_mirror_policies);
    read_filter_configs(cx, typed_per_filter_config)?;
    read_metadata(cx, metadata, &[])?;
    if domains.is_empty() {
        return Err(cx.refused_field("domains", "is empty"));
    }
    Ok(VirtualHost {
        name: required_name(cx, "name", name)?,
        domains: cx.list("domains", domains, LIMIT, |cx, domain| read_domain(cx, domain))?,
        routes: cx.list("routes", routes, LIMIT, |cx, route| read_route(cx, route, body).map(Arc::new))?,
        request_headers: read_header_operations(
            cx,
            "request",
            request_headers_to_add,
            request_headers_to_remove,
        )?,
        response_headers: read_header_operations(
            cx,
            "response",
            response_headers_to_add,
            response_headers_to_remove,
        )?,
        retry: read_retry(cx, retry_policy)?,
        request_body_buffer_limit: read_buffer_limit(
            per_request_buffer_limit_bytes,
            request_body_buffer_limit,
        ),
        include_request_attempt_count: *include_request_attempt_count,
        include_attempt_count_in_response: *include_attempt_count_in_response,
    })
}

fn read_domain(cx: &mut Context, domain: &str) -> Result<Arc<str>> {
    let stars = domain.matches('*').count();
    let placed = stars == 0 || (stars == 1 && (domain.starts_with('*') || domain.ends_with('*')));
    let printable = domain.bytes().all(|byte| byte > 0x20 && byte < 0x7f);
    if domain.is_empty() || domain.len() > 512 || !placed || !printable {
        let shown: String = domain.chars().take(64).collect();
        return Err(cx.refused(format!("{shown:?} is not a host, *SUFFIX, PREFIX* or *")));
    }
    Ok(domain.to_ascii_lowercase().into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::read::route::tests::to_cluster;

    /// A virtual host with one route to a cluster.
    pub fn host(name: &str, domains: &[&str]) -> pb::VirtualHost {
        pb::VirtualHost {
            name: name.into(),
            domains: domains.iter().map(|domain| (*domain).into()).collect(),
            routes: vec![to_cluster("a")],
            ..Default::default()
        }
    }

    fn read(message: &pb::VirtualHost) -> Result<crate::Read<VirtualHost>> {
        Context::read(|cx| read_virtual_host(cx, message, 4096))
    }

    #[test]
    fn accepts_refuses_and_reports() {
        let mut message = host("payment:8080", &["Payment", "*.payment", "payment.*"]);
        message.cors = Some(Default::default());
        let accepted = read(&message).unwrap();
        assert_eq!(&*accepted.value.domains[0], "payment");
        assert_eq!(accepted.notes[0].path, "cors");
        for bad in ["", "a*b", "*a*", "a b", "a\n"] {
            message.domains[1] = bad.into();
            assert_eq!(read(&message).unwrap_err().path, "domains[1]");
        }
        message.domains.clear();
        assert_eq!(read(&message).unwrap_err().path, "domains");
        let tls = pb::VirtualHost { require_tls: 2, ..host("a", &["a"]) };
        assert_eq!(read(&tls).unwrap_err().path, "require_tls");
    }
}
