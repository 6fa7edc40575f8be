//! Tables for people, made from the proxy's own pages (Envoy's shapes).

use serde_json::Value;

use crate::output::{printable, table};

/// A part of a config dump by the name of its type.
pub fn part(dump: &Value, kind: &str) -> Value {
    let is = |it: &&Value| it["@type"].as_str().is_some_and(|name| name.ends_with(kind));
    dump["configs"].as_array().into_iter().flatten().find(is).cloned().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn or(text: String, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text }
}

/// `a.b.c.d:80` of an `Address`.
fn address(value: &Value) -> String {
    let socket = &value["socket_address"];
    match socket["port_value"].as_u64() {
        Some(port) => format!("{}:{port}", text(&socket["address"])),
        None => or(text(&value["pipe"]["path"]), "-"),
    }
}

/// What the last push of a resource was refused for.
fn refusals(resources: &[Value]) -> String {
    let refused = resources.iter().filter(|it| it["error_state"].is_object());
    let line =
        |it: &Value| format!("\nrefused: {}: {}\n", text(&it["name"]), text(&it["error_state"]["details"]));
    refused.map(line).collect()
}

/// Static and dynamic resources of a dump, each with the message in it.
fn messages<'a>(
    dump: &'a Value,
    fixed: &str,
    dynamic: &str,
    field: &'a str,
) -> impl Iterator<Item = &'a Value> {
    list(dump, fixed)
        .iter()
        .chain(list(dump, dynamic))
        .map(move |it| if it["active_state"].is_object() { &it["active_state"][field] } else { &it[field] })
        .filter(|it| it.is_object())
}

/// LISTENER, ADDRESS, MATCH, DOES.
pub fn listeners(dump: &Value) -> String {
    let mut rows = Vec::new();
    for listener in messages(dump, "static_listeners", "dynamic_listeners", "listener") {
        let default = Some(&listener["default_filter_chain"]).filter(|it| it.is_object());
        for chain in list(listener, "filter_chains").iter().chain(default) {
            rows.push(vec![
                text(&listener["name"]),
                address(&listener["address"]),
                conditions(&chain["filter_chain_match"]),
                chain_does(chain),
            ]);
        }
    }
    table(&["LISTENER", "ADDRESS", "CONNECTIONS", "LEAD TO"], &rows)
        + &refusals(list(dump, "dynamic_listeners"))
}

fn conditions(of: &Value) -> String {
    let mut all = Vec::new();
    if let Some(port) = of["destination_port"].as_u64() {
        all.push(format!("port {port}"));
    }
    let joined = |key: &str| list(of, key).iter().map(text).collect::<Vec<_>>().join(" ");
    for (key, name) in [("server_names", "SNI"), ("application_protocols", "ALPN")] {
        if !list(of, key).is_empty() {
            all.push(format!("{name} {}", joined(key)));
        }
    }
    let transport = text(&of["transport_protocol"]);
    if !transport.is_empty() {
        all.push(transport);
    }
    if all.is_empty() { "all".to_owned() } else { all.join(", ") }
}

fn chain_does(chain: &Value) -> String {
    let secured = if chain["transport_socket"].is_object() { "TLS, " } else { "" };
    for filter in list(chain, "filters") {
        let config = &filter["typed_config"];
        match filter["name"].as_str().unwrap_or_default() {
            "envoy.filters.network.http_connection_manager" => {
                let rds = text(&config["rds"]["route_config_name"]);
                let name = if rds.is_empty() { text(&config["route_config"]["name"]) } else { rds };
                return format!("{secured}HTTP, routes {name}");
            }
            "envoy.filters.network.tcp_proxy" => {
                let several = list(&config["weighted_clusters"], "clusters").iter();
                let several: Vec<String> = several.map(|it| text(&it["name"])).collect();
                return format!("{secured}TCP, {}", or(text(&config["cluster"]), &several.join(" or ")));
            }
            _ => {}
        }
    }
    format!("{secured}nothing")
}

/// ROUTES, HOST, MATCH, LEAD TO, WRITTEN BY.
pub fn routes(dump: &Value) -> String {
    let mut rows = Vec::new();
    for routes in messages(dump, "static_route_configs", "dynamic_route_configs", "route_config") {
        for host in list(routes, "virtual_hosts") {
            let domains: Vec<String> = list(host, "domains").iter().map(text).collect();
            let more = domains.len().saturating_sub(1);
            let first = domains.first().cloned().unwrap_or_default();
            let domain = if more > 0 { format!("{first} and {more} more") } else { first };
            for route in list(host, "routes") {
                rows.push(vec![
                    text(&routes["name"]),
                    domain.clone(),
                    route_match(&route["match"]),
                    route_does(route),
                    written(route),
                ]);
            }
        }
    }
    table(&["ROUTES", "HOST", "MATCH", "LEAD TO", "WRITTEN BY"], &rows)
        + &refusals(list(dump, "dynamic_route_configs"))
}

/// Who wrote a thing, as the control plane says it in its metadata: tulled's own words, else Istio's.
fn written(thing: &Value) -> String {
    let metadata = &thing["metadata"]["filter_metadata"];
    or(text(&metadata["tulle"]["origin"]), &or(text(&metadata["istio"]["config"]), "-"))
}

fn route_match(of: &Value) -> String {
    let path = [("path", ""), ("prefix", "*"), ("path_separated_prefix", "/*")]
        .into_iter()
        .find_map(|(key, end)| of[key].as_str().map(|path| format!("{}{end}", printable(path))));
    let regex = || format!("~{}", text(&of["safe_regex"]["regex"]));
    let mut all = vec![path.unwrap_or_else(regex)];
    all.extend(list(of, "headers").iter().map(|it| format!("header {}", text(&it["name"]))));
    all.extend(list(of, "query_parameters").iter().map(|it| format!("query {}", text(&it["name"]))));
    all.join(", ")
}

fn route_does(route: &Value) -> String {
    let forward = &route["route"];
    if forward.is_object() {
        let weighted = list(&forward["weighted_clusters"], "clusters");
        let shares: Vec<String> = weighted
            .iter()
            .map(|it| format!("{} ({})", text(&it["name"]), it["weight"].as_u64().unwrap_or_default()))
            .collect();
        return or(text(&forward["cluster"]), &shares.join(", "));
    }
    if route["redirect"].is_object() {
        return "a redirect".to_owned();
    }
    match route["direct_response"]["status"].as_u64() {
        Some(status) => format!("answer {status}"),
        None => "-".to_owned(),
    }
}

/// CLUSTER, TYPE, BALANCING, TLS, WRITTEN BY.
pub fn clusters(dump: &Value) -> String {
    let rows: Vec<Vec<String>> = messages(dump, "static_clusters", "dynamic_active_clusters", "cluster")
        .map(|cluster| {
            let secured = cluster["transport_socket"].is_object()
                || !list(cluster, "transport_socket_matches").is_empty();
            vec![
                text(&cluster["name"]),
                or(text(&cluster["type"]), "STATIC"),
                or(text(&cluster["lb_policy"]), "ROUND_ROBIN"),
                if secured { "TLS" } else { "-" }.to_owned(),
                written(cluster),
            ]
        })
        .collect();
    table(&["CLUSTER", "TYPE", "BALANCING", "TLS", "WRITTEN BY"], &rows)
        + &refusals(list(dump, "dynamic_active_clusters"))
}

/// ENDPOINT, HEALTH, ACTIVE, WEIGHT, CLUSTER.
pub fn endpoints(page: &Value) -> String {
    let mut rows = Vec::new();
    for cluster in list(page, "cluster_statuses") {
        for host in list(cluster, "host_statuses") {
            let status = &host["health_status"];
            let ejected = if status["failed_outlier_check"] == true { ", ejected" } else { "" };
            let active = list(host, "stats").iter().find(|it| it["name"] == "rq_active");
            rows.push(vec![
                address(&host["address"]),
                format!("{}{ejected}", or(text(&status["eds_health_status"]), "HEALTHY")),
                active.map(|it| text(&it["value"])).unwrap_or_default(),
                host["weight"].as_u64().unwrap_or(1).to_string(),
                text(&cluster["name"]),
            ]);
        }
    }
    if rows.is_empty() {
        return "no cluster has an endpoint\n".to_owned();
    }
    table(&["ENDPOINT", "HEALTH", "ACTIVE", "WEIGHT", "CLUSTER"], &rows)
}

/// KIND, NAMES, SERIAL, FROM, UNTIL; then the renewal.
pub fn certificates(page: &Value) -> String {
    let mut rows = Vec::new();
    for set in list(page, "certificates") {
        for (key, kind) in [("cert_chain", "own"), ("ca_cert", "root")] {
            for one in list(set, key) {
                let names = list(one, "subject_alt_names").iter();
                let names: Vec<String> = names.map(|it| or(text(&it["uri"]), &text(&it["dns"]))).collect();
                rows.push(vec![
                    kind.to_owned(),
                    or(names.join(" "), "-"),
                    text(&one["serial_number"]),
                    text(&one["valid_from"]),
                    text(&one["expiration_time"]),
                ]);
            }
        }
    }
    if rows.is_empty() {
        return "it has no certificate yet; its log says why (`/ready?verbose` of its admin server, too)\n"
            .to_owned();
    }
    let mut out = table(&["CERTIFICATE", "NAMES", "SERIAL", "FROM", "UNTIL"], &rows);
    let renewal = &page["renewal"];
    if renewal.is_object() {
        let failed = renewal["failures_in_a_row"].as_u64().unwrap_or_default();
        out.push_str(&format!(
            "renewed next at {}; {failed} failures in a row\n",
            or(text(&renewal["next_attempt"]), "-")
        ));
        if let Some(reason) = renewal["last_failure"].as_str() {
            out.push_str(&format!("the last that failed: {}\n", printable(reason)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_is_shown_with_who_wrote_it() {
        let origin = "VirtualService/n/a#http[0]";
        let dump = json!({"configs": [{"@type": "x/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{
            "route_config": {"name": "80", "virtual_hosts": [{"domains": ["a.n", "a"], "routes": [{
                "match": {"prefix": "/x", "headers": [{"name": "u"}]},
                "metadata": {"filter_metadata": {"tulle": {"origin": origin}}},
                "route": {"weighted_clusters": {"clusters": [{"name": "c1", "weight": 95}, {"name": "c2", "weight": 5}]}},
            }]}]},
            "name": "80", "error_state": {"details": "no\nway"},
        }]}]});
        let shown = routes(&part(&dump, "RoutesConfigDump"));
        assert!(
            shown.contains(
                "80      a.n and 1 more  /x*, header u  c1 (95), c2 (5)  VirtualService/n/a#http[0]"
            ),
            "{shown}"
        );
        assert!(shown.contains("refused: 80: no\\nway"), "{shown}");
    }

    #[test]
    fn listeners_endpoints_and_certificates_are_shown() {
        let socket = json!({"socket_address": {"address": "127.0.0.1", "port_value": 80}});
        let filter = json!({"name": "envoy.filters.network.http_connection_manager",
            "typed_config": {"rds": {"route_config_name": "80"}}});
        let dump = json!({"dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l", "address": socket,
            "filter_chains": [{"filters": [filter], "transport_socket": {}, "filter_chain_match": {"destination_port": 9}}]}}}]});
        assert!(
            listeners(&dump).contains("l         127.0.0.1:80  port 9       TLS, HTTP, routes 80"),
            "{}",
            listeners(&dump)
        );
        let page = json!({"cluster_statuses": [{"name": "c", "host_statuses": [{"address": socket, "weight": 2,
            "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": true}, "stats": []}]}]});
        assert!(endpoints(&page).contains("127.0.0.1:80  HEALTHY, ejected"), "{}", endpoints(&page));
        assert!(endpoints(&json!({})).contains("no cluster has an endpoint"));
        let page = json!({"certificates": [{"cert_chain": [{"subject_alt_names": [{"uri": "spiffe://a"}]}]}],
            "renewal": {"next_attempt": "soon", "failures_in_a_row": 1, "last_failure": "x"}});
        let shown = certificates(&page);
        assert!(
            shown.contains("own          spiffe://a") && shown.contains("next at soon; 1 failures"),
            "{shown}"
        );
        assert!(certificates(&json!({})).contains("no certificate yet"));
    }
}
