//! Istio's metrics, and sets of them.

/// One of Istio's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// `counter` or `histogram`.
    pub kind: &'static str,
}

const fn metric(name: &'static str, kind: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind }
}

/// Every one; the position is the bit in a [`MetricSet`]. First those of requests, then those of connections.
pub const METRICS: [Metric; 10] = [
    metric("istio_requests_total", "counter", "Requests answered, by caller, called workload and outcome."),
    metric(
        "istio_request_duration_milliseconds",
        "histogram",
        "Time from the request to the end of the response.",
    ),
    metric("istio_request_bytes", "histogram", "Size of the request, head and body."),
    metric("istio_response_bytes", "histogram", "Size of the response, head and body."),
    metric("istio_request_messages_total", "counter", "gRPC messages of callers."),
    metric("istio_response_messages_total", "counter", "gRPC messages of called workloads."),
    metric("istio_tcp_connections_opened_total", "counter", "TCP connections that began."),
    metric("istio_tcp_connections_closed_total", "counter", "TCP connections that ended."),
    metric("istio_tcp_sent_bytes_total", "counter", "Bytes that came from the called side."),
    metric("istio_tcp_received_bytes_total", "counter", "Bytes that came from the caller."),
];

/// A set of Istio's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MetricSet(u16);

impl MetricSet {
    /// `istio_requests_total`.
    pub const REQUESTS: MetricSet = MetricSet(1);
    /// `istio_request_duration_milliseconds`.
    pub const DURATION: MetricSet = MetricSet(1 << 1);
    /// `istio_request_bytes`.
    pub const REQUEST_BYTES: MetricSet = MetricSet(1 << 2);
    /// `istio_response_bytes`.
    pub const RESPONSE_BYTES: MetricSet = MetricSet(1 << 3);
    /// `istio_request_messages_total`.
    pub const REQUEST_MESSAGES: MetricSet = MetricSet(1 << 4);
    /// `istio_response_messages_total`.
    pub const RESPONSE_MESSAGES: MetricSet = MetricSet(1 << 5);
    /// `istio_tcp_connections_opened_total`.
    pub const TCP_OPENED: MetricSet = MetricSet(1 << 6);
    /// `istio_tcp_connections_closed_total`.
    pub const TCP_CLOSED: MetricSet = MetricSet(1 << 7);
    /// `istio_tcp_sent_bytes_total`.
    pub const TCP_SENT: MetricSet = MetricSet(1 << 8);
    /// `istio_tcp_received_bytes_total`.
    pub const TCP_RECEIVED: MetricSet = MetricSet(1 << 9);
    /// Those of requests.
    pub const HTTP: MetricSet = MetricSet(0x3f);
    /// Those of connections.
    pub const TCP: MetricSet = MetricSet(0x3c0);

    /// The set of the metric at that place of [`METRICS`].
    pub const fn at(index: usize) -> MetricSet {
        MetricSet(1 << index)
    }

    /// The metric with this name, with or without `istio_`.
    pub fn named(name: &str) -> Option<MetricSet> {
        let name = name.strip_prefix("istio_").unwrap_or(name);
        METRICS.iter().position(|it| it.name.strip_prefix("istio_") == Some(name)).map(MetricSet::at)
    }

    /// Whether any of `other` is in it.
    pub const fn has(self, other: MetricSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: MetricSet) -> MetricSet {
        MetricSet(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: MetricSet) -> MetricSet {
        MetricSet(self.0 & other.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        assert_eq!(MetricSet::named("requests_total"), Some(MetricSet::REQUESTS));
        assert_eq!(MetricSet::named("istio_response_messages_total"), Some(MetricSet::RESPONSE_MESSAGES));
        assert_eq!(MetricSet::named("tcp_received_bytes_total"), Some(MetricSet::TCP_RECEIVED));
        assert_eq!(MetricSet::named("mine"), None);
        let all = (0..METRICS.len()).fold(MetricSet::default(), |all, at| all.with(MetricSet::at(at)));
        assert_eq!(all, MetricSet::HTTP.with(MetricSet::TCP));
        assert!(MetricSet::HTTP.and(MetricSet::TCP).is_empty());
    }
}
