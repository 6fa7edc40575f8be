//! Envoy's own names of statistics, as `/stats` tells them: `cluster.app.upstream_rq_2xx` for what Prometheus calls
//! `envoy_cluster_upstream_rq_xx{envoy_cluster_name="app", envoy_response_code_class="2"}`.

/// Labels that are part of a name: the beginning of the family, the label, and what the name begins with.
const SCOPES: [(&str, &str, &str); 4] = [
    ("envoy_cluster_", "envoy_cluster_name", "cluster"),
    ("envoy_http_", "envoy_http_conn_manager_prefix", "http"),
    ("envoy_tcp_", "envoy_tcp_prefix", "tcp"),
    ("envoy_listener_", "envoy_listener_address", "listener"),
];

/// The name of a series. A label that Envoy's names have no place for is appended.
pub fn envoy_name(family: &str, labels: &[(&'static str, String)]) -> String {
    let mut rest: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut take = |wanted: &str| {
        let at = rest.iter().position(|(name, _)| *name == wanted)?;
        Some(rest.remove(at).1)
    };
    let scope = SCOPES.iter().find(|(start, ..)| family.starts_with(start));
    let mut name = match scope.and_then(|(start, label, scope)| Some((start, scope, take(label)?))) {
        Some((start, scope, value)) => format!("{scope}.{value}.{}", &family[start.len()..]),
        None => match family.strip_prefix("envoy_tracing_").and_then(|rest| rest.split_once('_')) {
            Some((tracer, rest)) => format!("tracing.{tracer}.{rest}"),
            None => family.to_owned(),
        },
    };
    if let Some((prefix, rest)) = name.split_once(".tracing_")
        && family.starts_with("envoy_http_tracing_")
    {
        name = format!("{prefix}.tracing.{rest}");
    }
    if let Some(class) = take("envoy_response_code_class") {
        name = format!("{}{class}xx", name.strip_suffix("xx").unwrap_or(&name));
    }
    if let Some(code) = take("envoy_response_code") {
        name = format!("{name}_{code}");
    }
    for (label, value) in rest {
        name.push_str(&format!(".{label}.{value}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_the_place_that_envoy_gives_them() {
        let name = |family, labels: &[(&'static str, &str)]| {
            let labels: Vec<(&'static str, String)> =
                labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            envoy_name(family, &labels)
        };
        let cluster = ("envoy_cluster_name", "a|b");
        assert_eq!(name("envoy_cluster_upstream_rq_retry", &[cluster]), "cluster.a|b.upstream_rq_retry");
        let class = ("envoy_response_code_class", "2");
        assert_eq!(name("envoy_cluster_upstream_rq_xx", &[class, cluster]), "cluster.a|b.upstream_rq_2xx");
        let prefix = ("envoy_http_conn_manager_prefix", "in");
        assert_eq!(name("envoy_http_downstream_rq_total", &[prefix]), "http.in.downstream_rq_total");
        assert_eq!(name("envoy_http_tracing_not_traceable", &[prefix]), "http.in.tracing.not_traceable");
        let sent = "envoy_tracing_opentelemetry_spans_sent";
        assert_eq!(name(sent, &[]), "tracing.opentelemetry.spans_sent");
        assert_eq!(name("tulle_lost", &[("path", "/x")]), "tulle_lost.path./x");
        assert_eq!(name("envoy_cluster_odd", &[]), "envoy_cluster_odd");
    }
}
