//! The numbers of Istio's request metrics.

use super::cells::{Counter, Histogram, MergedHistogram};
use super::exemplar::{Exemplar, ExemplarCell};
use super::metric_set::MetricSet;
use super::series::Cells;

/// The numbers of one set of request labels on one worker.
#[derive(Debug, Default)]
pub struct RequestCells {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    /// gRPC calls among the requests; without one there are no messages to show.
    calls: Counter,
    request_messages: Counter,
    response_messages: Counter,
    exemplar: ExemplarCell,
}

/// What one finished request adds to its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSample {
    /// From the first byte of the request to the end of the response.
    pub duration_microseconds: u64,
    /// Head and body of the request, as seen.
    pub request_bytes: u64,
    /// Head and body of the response, as seen.
    pub response_bytes: u64,
    /// Messages of a gRPC call: of the caller, of the called one. `None` for any other request.
    pub messages: Option<(u64, u64)>,
    /// The trace that shows the request, when it is recorded.
    pub exemplar: Option<Exemplar>,
}

impl RequestCells {
    /// Counts one request in those of the metrics. Only the owning worker may call it.
    pub fn add(&self, metrics: MetricSet, sample: &RequestSample) {
        self.requests.increment();
        if metrics.has(MetricSet::DURATION) {
            self.duration.observe_thousandths(sample.duration_microseconds);
            if let Some(exemplar) = sample.exemplar {
                self.exemplar.set(exemplar);
            }
        }
        if metrics.has(MetricSet::REQUEST_BYTES) {
            self.request_bytes.observe(sample.request_bytes);
        }
        if metrics.has(MetricSet::RESPONSE_BYTES) {
            self.response_bytes.observe(sample.response_bytes);
        }
        if let Some((request, response)) = sample.messages {
            self.calls.increment();
            self.request_messages.add(request);
            self.response_messages.add(response);
        }
    }
}

/// All workers' numbers of one set of request labels.
#[derive(Debug, Default)]
pub struct MergedRequests {
    /// `istio_requests_total`.
    pub requests: u64,
    /// `istio_request_duration_milliseconds`.
    pub duration: MergedHistogram,
    /// `istio_request_bytes`.
    pub request_bytes: MergedHistogram,
    /// `istio_response_bytes`.
    pub response_bytes: MergedHistogram,
    /// gRPC calls.
    pub calls: u64,
    /// `istio_request_messages_total`.
    pub request_messages: u64,
    /// `istio_response_messages_total`.
    pub response_messages: u64,
    /// A recent trace with its duration.
    pub exemplar: Option<Exemplar>,
}

impl Cells for RequestCells {
    type Merged = MergedRequests;

    fn merge_into(&self, merged: &mut MergedRequests) {
        merged.requests = merged.requests.wrapping_add(self.requests.get());
        self.duration.merge_into(&mut merged.duration);
        self.request_bytes.merge_into(&mut merged.request_bytes);
        self.response_bytes.merge_into(&mut merged.response_bytes);
        merged.calls = merged.calls.wrapping_add(self.calls.get());
        merged.request_messages = merged.request_messages.wrapping_add(self.request_messages.get());
        merged.response_messages = merged.response_messages.wrapping_add(self.response_messages.get());
        merged.exemplar = Exemplar::later(merged.exemplar, self.exemplar.get());
    }

    fn samples(&self) -> u64 {
        self.requests.get()
    }
}
