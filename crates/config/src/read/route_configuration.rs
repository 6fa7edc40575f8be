//! `envoy.config.route.v3.RouteConfiguration`.

use super::filter_config::read_filter_configs;
use super::header_operation::read_header_operations;
use super::metadata::read_metadata;
use super::name::{header_name, name};
use super::virtual_host::read_virtual_host;
use crate::context::{Context, Result, flag, number, refuse, report};
use crate::model::{DomainIndex, RouteConfiguration, VirtualHost};
use protos::envoy::envoy::config::route::v3 as pb;

/// Most virtual hosts of one configuration.
const LIMIT: usize = 100_000;
/// Envoy's default of `max_direct_response_body_size_bytes`.
const BODY: u32 = 4096;

/// Reads a route configuration.
pub fn read_route_configuration(
    cx: &mut Context,
    message: &pb::RouteConfiguration,
) -> Result<RouteConfiguration> {
    let pb::RouteConfiguration {
        name: resource_name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx, "virtual hosts on demand are not supported yet"; vhds);
    refuse!(cx, "the virtual host is chosen by the host header only"; vhost_header);
    refuse!(cx, "route extensions are not supported"; route_specifiers);
    report!(cx, "requests are not mirrored yet"; request_mirror_policies);
    cx.report_set(
        "validate_clusters",
        &flag(validate_clusters, false),
        "a route to a missing cluster answers 503",
    );
    cx.list("cluster_specifier_plugins", cluster_specifier_plugins, 1000, |cx, message| {
        let pb::ClusterSpecifierPlugin { extension, is_optional } = message;
        let plugin = extension.as_ref().map_or("", |extension| extension.name.as_str());
        if !is_optional {
            return Err(cx.refused(format!("the cluster specifier plugin {plugin:?} is not supported")));
        }
        cx.note(format!("the optional cluster specifier plugin {plugin:?} is not known"));
        Ok(())
    })?;
    read_filter_configs(cx, typed_per_filter_config)?;
    read_metadata(cx, metadata, &[])?;
    let body = number(max_direct_response_body_size_bytes).unwrap_or(BODY) as usize;
    let virtual_hosts =
        cx.list("virtual_hosts", virtual_hosts, LIMIT, |cx, host| read_virtual_host(cx, host, body))?;
    Ok(RouteConfiguration {
        name: name(cx, "name", resource_name)?,
        domains: index_domains(cx, &virtual_hosts)?,
        virtual_hosts,
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
        most_specific_header_mutations_wins: *most_specific_header_mutations_wins,
        ignore_port_in_host_matching: *ignore_port_in_host_matching,
        ignore_path_parameters: *ignore_path_parameters_in_path_matching,
        internal_only_headers: cx.list(
            "internal_only_headers",
            internal_only_headers,
            1000,
            |cx, text| header_name(cx, "name", text, false),
        )?,
    })
}

fn index_domains(cx: &mut Context, hosts: &[VirtualHost]) -> Result<DomainIndex> {
    let mut index = DomainIndex::default();
    for (position, host) in hosts.iter().enumerate() {
        for (number, domain) in host.domains.iter().enumerate() {
            if let Err(taken) = index.insert(domain, position) {
                let owner = hosts.get(taken).map_or("", |owner| &owner.name);
                let reason = format!("{domain:?} belongs to the virtual host {owner:?} already");
                let place = format!("virtual_hosts[{position}].domains[{number}]");
                return Err(cx.refused_field(&place, reason));
            }
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::virtual_host::tests::host;

    fn read(hosts: Vec<pb::VirtualHost>) -> Result<crate::Read<RouteConfiguration>> {
        let message = pb::RouteConfiguration {
            name: "8080".into(),
            virtual_hosts: hosts,
            request_mirror_policies: vec![Default::default()],
            ..Default::default()
        };
        Context::read(|cx| read_route_configuration(cx, &message))
    }

    #[test]
    fn indexes_domains_and_reports() {
        let read = read(vec![host("a", &["A.example.com"]), host("b", &["*"])]).unwrap();
        assert_eq!(read.value.domains.find("a.example.com"), Some(0));
        assert_eq!(read.value.domains.find("other"), Some(1));
        assert_eq!(read.notes[0].path, "request_mirror_policies");
    }

    #[test]
    fn a_domain_stands_once() {
        let refused = read(vec![host("a", &["x"]), host("b", &["y", "X"])]).unwrap_err();
        assert_eq!(refused.path, "virtual_hosts[1].domains[1]");
        assert!(refused.reason.contains("\"a\""));
    }

    #[test]
    fn refuses_vhds() {
        let message = pb::RouteConfiguration { vhds: Some(Default::default()), ..Default::default() };
        assert_eq!(Context::read(|cx| read_route_configuration(cx, &message)).unwrap_err().path, "vhds");
    }
}
