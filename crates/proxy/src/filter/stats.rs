//! `istio.stats`: counts the request in Istio's metrics when it has ended.

use config::model::StatsFilter;

use super::chain::Filter;
use super::exchange::Exchange;
use crate::telemetry::Registry;
use crate::telemetry::captures::Captures;
use crate::telemetry::exemplar::Exemplar;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::{ConnectionSecurity, Reporter, RequestLabels, Service};
use crate::telemetry::metric_set::MetricSet;
use crate::telemetry::request_cells::RequestSample;
use crate::telemetry::shape::{self, Shape};
use crate::upstream::cluster::service_of_host;

/// The longest host that becomes a label, in bytes (the longest DNS name).
const MAX_HOST: usize = 253;

/// The filter.
#[derive(Debug)]
pub struct Stats {
    host_header_fallback: bool,
    shapes: Vec<Shape>,
}

impl Stats {
    /// A filter with these options.
    pub fn new(options: &StatsFilter, registry: &Registry, captures: &mut Captures) -> Self {
        let shapes = Shape::compile(options, MetricSet::HTTP, registry);
        shapes.iter().for_each(|shape| shape.capture(captures));
        Self { host_header_fallback: !options.disable_host_header_fallback, shapes }
    }

    /// The service that the client's Host header names; remembered by the connection, which rarely changes it.
    fn by_host(&self, exchange: &Exchange) -> Interned<Service> {
        let metrics = &exchange.worker.metrics;
        let host = &exchange.authority;
        if !self.host_header_fallback || host.is_empty() || host.len() > MAX_HOST {
            return metrics.registry().services.unknown();
        }
        let mut last = exchange.connection.host_service.borrow_mut();
        if let Some((known, service)) = &*last
            && known == host
        {
            return service.clone();
        }
        let service = metrics.host(host, || {
            let text = std::str::from_utf8(host).ok()?;
            Some(service_of_host(&without_port(text).to_ascii_lowercase()))
        });
        *last = Some((bytes::Bytes::copy_from_slice(host), service.clone()));
        service
    }
}

/// `[::1]:80` as `[::1]`, `a:80` as `a`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

impl Filter for Stats {
    fn on_end(&self, exchange: &Exchange) {
        if self.shapes.is_empty() {
            return;
        }
        let (worker, connection, record) = (&exchange.worker, &exchange.connection, &exchange.record);
        let registry = worker.metrics.registry();
        let own = &worker.shared.own_workload;
        let (unknown, nobody) = (registry.workloads.unknown_ref(), registry.principals.unknown_ref());
        let by_host;
        let service = match exchange.cluster.as_ref().and_then(|cluster| cluster.service.as_ref()) {
            Some(service) => service,
            None => {
                by_host = self.by_host(exchange);
                &by_host
            }
        };
        let upstream = exchange.upstream.as_ref();
        let reporter = connection.chain.reporter;
        let (source, destination, source_principal, destination_principal, security) = match reporter {
            Reporter::Destination => (
                exchange.caller.as_ref().unwrap_or(unknown),
                own,
                &connection.peer_principal,
                &connection.own_principal,
                connection.security(),
            ),
            Reporter::Source => (
                own,
                exchange
                    .called
                    .as_ref()
                    .or(upstream.map(|upstream| &upstream.host.workload))
                    .unwrap_or(unknown),
                upstream.map_or(nobody, |upstream| &upstream.own_principal),
                upstream.map_or(nobody, |upstream| &upstream.peer_principal),
                ConnectionSecurity::Unknown,
            ),
        };
        let labels = RequestLabels {
            reporter,
            source,
            source_principal,
            destination,
            destination_principal,
            service,
            protocol: exchange.protocol,
            code: record.status,
            flags: record.flags,
            security,
        };
        let duration =
            record.end.map_or_else(Default::default, |end| end.saturating_duration_since(record.begun));
        let duration_microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let sample = RequestSample {
            duration_microseconds,
            request_bytes: record.request_head_bytes + record.request_body_bytes,
            response_bytes: record.response_head_bytes + record.response_body_bytes,
            messages: exchange.messages(),
            exemplar: exchange.recorded_trace.map(|trace_id| Exemplar {
                trace_id,
                value_thousandths: duration_microseconds,
                at: record.start_time,
            }),
        };
        for shape in &self.shapes {
            match &shape.change {
                None => worker.metrics.count(&labels, shape, "", &sample),
                Some(change) => {
                    let values = shape::values(change, &exchange.log_context());
                    worker.metrics.count(&labels, shape, &values, &sample);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_service() {
        for (host, name) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("::1", "::1"), ("a:b", "a:b")]
        {
            assert_eq!(without_port(host), name);
        }
    }
}
