//! The bootstrap of a case: the base file with the case's parts merged in.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::case::Case;
use super::tls::Certificates;

const TYPES: &str = "type.googleapis.com/envoy.extensions";
/// What every request leaves in the access log: names and values, with blanks between them.
pub const LOG: &str = "method=%REQ(:METHOD)% path=%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% protocol=%PROTOCOL% status=%RESPONSE_CODE% \
    flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS% cluster=%UPSTREAM_CLUSTER% upstream=%UPSTREAM_HOST% \
    route=%ROUTE_NAME% received=%BYTES_RECEIVED% sent=%BYTES_SENT%";

/// Addresses and files of one run.
pub struct Place<'a> {
    /// Where the proxy listens.
    pub listener: SocketAddr,
    /// Its admin server.
    pub admin: SocketAddr,
    /// Its access log.
    pub access_log: &'a Path,
    /// Certificates, where TLS is spoken.
    pub certificates: Option<&'a Certificates>,
    /// Where files of the run go.
    pub folder: &'a Path,
    /// Where the upstreams are.
    pub upstreams: &'a [(String, SocketAddr)],
}

/// The bootstrap as JSON, which both proxies read.
pub fn bootstrap(case: &Case, place: &Place) -> Value {
    let mut route_config = json!({ "name": "local", "virtual_hosts": virtual_hosts(case) });
    merge(&mut route_config, &case.route_config);
    let mut filters = case.http_filters.clone();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
    }));
    let mut manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "case",
        "route_config": route_config,
        "http_filters": filters,
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
                "path": place.access_log,
                "log_format": { "text_format_source": { "inline_string": format!("{LOG} {}\n", case.log.trim()) } },
            },
        }],
    });
    let log = &mut manager["access_log"][0];
    if !case.log_filter.is_null() {
        log["filter"] = case.log_filter.clone();
    }
    if !case.log_format.is_null() {
        log["typed_config"]["log_format"] = case.log_format.clone();
    }
    merge(&mut manager, &case.hcm);
    let own = case.tls.as_ref().map_or(json!({}), |tls| json!({ "tls": tls }));
    let chains = if case.chains.is_empty() { vec![own] } else { case.chains.clone() };
    let chains: Vec<Value> = chains
        .into_iter()
        .map(|mut more| {
            let filters =
                network_filters(case, &manager, more.as_object_mut().and_then(|own| own.remove("hcm")));
            with_tls(json!({ "filters": filters }), more, "DownstreamTlsContext", place)
        })
        .collect();
    let mut listener = json!({ "name": "front", "address": socket(place.listener), "filter_chains": chains });
    merge(&mut listener, &case.listener);
    json!({
        "node": { "id": "differential", "cluster": "differential" },
        "admin": { "address": socket(place.admin) },
        "static_resources": {
            "listeners": [listener],
            "clusters": clusters(case, place),
        },
    })
}

/// The case's network filters, or the connection manager with what the filter chain has of its own.
fn network_filters(case: &Case, manager: &Value, own: Option<Value>) -> Vec<Value> {
    if !case.network_filters.is_empty() {
        return case.network_filters.clone();
    }
    let mut manager = manager.clone();
    merge(&mut manager, &own.unwrap_or_default());
    vec![json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })]
}

fn virtual_hosts(case: &Case) -> Vec<Value> {
    if !case.virtual_hosts.is_empty() {
        return case.virtual_hosts.clone();
    }
    let routes = match case.routes.as_slice() {
        [] => vec![json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } })],
        routes => routes.to_vec(),
    };
    vec![json!({ "name": "all", "domains": ["*"], "routes": routes })]
}

fn clusters(case: &Case, place: &Place) -> Vec<Value> {
    let mut named: Map<String, Value> =
        place.upstreams.iter().map(|(name, _)| (name.clone(), Value::Null)).collect();
    named.extend(case.clusters.clone());
    named.into_iter().map(|(name, more)| cluster(&name, more, place)).collect()
}

fn cluster(name: &str, mut more: Value, place: &Place) -> Value {
    let own = json!([name]);
    let endpoints = more.as_object_mut().and_then(|fields| fields.remove("endpoints")).unwrap_or(own);
    let endpoints: Vec<Value> = endpoints
        .as_array()
        .expect("`endpoints` is a list of upstreams")
        .iter()
        .map(|upstream| {
            let found = place.upstreams.iter().find(|(known, _)| Some(known.as_str()) == upstream.as_str());
            let (_, address) = found.unwrap_or_else(|| panic!("no upstream {upstream} for cluster {name}"));
            json!({ "endpoint": { "address": socket(*address) } })
        })
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    let mut take = |field: &str| more.as_object_mut().and_then(|fields| fields.remove(field));
    let http2 =
        take("http2").map(|http2| json!({ "explicit_http_config": { "http2_protocol_options": http2 } }));
    if let Some(http) = http2.or_else(|| take("http")) {
        let mut options = json!({ "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions") });
        merge(&mut options, &http);
        cluster["typed_extension_protocol_options"] =
            json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    }
    cluster = with_tls(cluster, more, "UpstreamTlsContext", place);
    cluster
}

/// Merges the case's part into an object; its `tls` becomes a transport socket.
fn with_tls(mut object: Value, mut more: Value, context: &str, place: &Place) -> Value {
    let tls = more.as_object_mut().and_then(|fields| fields.remove("tls"));
    if let (Some(tls), Some(certificates)) = (tls, place.certificates) {
        object["transport_socket"] = certificates.transport_socket(context, place.folder);
        merge(&mut object["transport_socket"]["typed_config"], &tls);
    }
    merge(&mut object, &more);
    object
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_merge_and_lists_are_replaced() {
        let mut value = json!({ "a": { "b": 1 }, "c": [1, 2] });
        merge(&mut value, &json!({ "a": { "d": 2 }, "c": [3] }));
        assert_eq!(value, json!({ "a": { "b": 1, "d": 2 }, "c": [3] }));
    }
}
