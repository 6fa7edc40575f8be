//! A tracer: which headers it reads and writes, and where its spans go.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use config::model::{self, Node};
use protos::otlp::EXPORT_TRACES;

use super::context::{Found, SpanContext};
use super::span::Span;
use super::{b3, opentelemetry, w3c, zipkin};
use crate::http::Headers;
use crate::telemetry::export::{Counts, Exports, Queue};
use crate::telemetry::registry::Family;
use crate::telemetry::{Random, Registry, families};

/// Spans that may wait for a Zipkin collector.
const ZIPKIN_QUEUE: usize = 1024;

/// Which headers carry the context.
#[derive(Debug, Clone, Copy)]
enum Propagation {
    W3c,
    B3 { wide: bool, shared: bool, with_w3c: bool },
}

/// A span that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its context.
    pub context: SpanContext,
    /// The client sent a context, and it was none.
    pub malformed: bool,
}

/// Makes spans. Shared by all workers and by every listener with the same configuration.
#[derive(Debug)]
pub struct Tracer {
    propagation: Propagation,
    queue: Option<Queue<Span>>,
}

impl Tracer {
    /// Begins the span of a request. `traced` is the proxy's own decision, for requests whose caller has none.
    pub fn start(&self, headers: &Headers, traced: bool, server: bool, random: &Random) -> Started {
        let (found, decided) = match self.propagation {
            Propagation::W3c => (w3c::extract(headers), traced),
            Propagation::B3 { with_w3c, .. } => {
                let found = match b3::extract(headers, traced) {
                    Found::Nothing if with_w3c => w3c::extract(headers),
                    found => found,
                };
                (found, b3::sampled(headers, traced))
            }
        };
        let malformed = found == Found::Malformed;
        let context = match (found, self.propagation) {
            (Found::Context(parent), Propagation::B3 { shared: true, .. }) if server => {
                SpanContext { shared: true, ..parent }
            }
            (Found::Context(parent), _) => parent.child(random, true),
            (_, Propagation::W3c) => SpanContext::root(random, true, false, decided),
            (_, Propagation::B3 { wide, .. }) => SpanContext::root(random, wide, true, decided),
        };
        Started { context, malformed }
    }

    /// Writes the context of a span into a request that is sent on.
    pub fn inject(&self, headers: &mut Headers, context: &SpanContext) {
        match self.propagation {
            Propagation::W3c => w3c::inject(headers, context),
            Propagation::B3 { with_w3c, .. } => {
                b3::inject(headers, context);
                if with_w3c {
                    w3c::inject_parent(headers, context);
                }
            }
        }
    }

    /// Zipkin's spans are called after the host.
    pub fn names_by_host(&self) -> bool {
        matches!(self.propagation, Propagation::B3 { .. })
    }

    /// Hands over a span that has ended.
    pub fn send(&self, span: Span) {
        if let Some(queue) = &self.queue {
            queue.push(span);
        }
    }
}

/// The tracers in use.
#[derive(Debug)]
pub struct Tracers {
    registry: Arc<Registry>,
    service: Arc<str>,
    address: Option<IpAddr>,
    open: Mutex<Vec<(Arc<model::Tracer>, Weak<Tracer>)>>,
    opentelemetry: OnceLock<Arc<Counts>>,
    zipkin: OnceLock<Arc<Counts>>,
}

impl Tracers {
    /// No tracer yet; counts are shown in `registry`.
    pub fn new(node: &Node, registry: Arc<Registry>) -> Self {
        let address = node.text("INSTANCE_IPS").and_then(|all| all.split(',').next()?.trim().parse().ok());
        Tracers {
            registry,
            service: node.cluster.clone(),
            address,
            open: Mutex::default(),
            opentelemetry: OnceLock::new(),
            zipkin: OnceLock::new(),
        }
    }

    /// The tracer with that configuration, opened if it was not. Called when configuration is applied.
    pub fn get(&self, config: &Arc<model::Tracer>, exports: &Exports) -> Arc<Tracer> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, tracer)| tracer.strong_count() > 0);
        let there = open.iter().find(|(known, _)| known == config);
        if let Some(tracer) = there.and_then(|(_, tracer)| tracer.upgrade()) {
            return tracer;
        }
        let tracer = Arc::new(match &**config {
            model::Tracer::OpenTelemetry(config) => self.opentelemetry(config, exports),
            model::Tracer::Zipkin(config) => self.zipkin(config, exports),
        });
        open.push((config.clone(), Arc::downgrade(&tracer)));
        tracer
    }

    fn opentelemetry(&self, config: &model::OpenTelemetry, exports: &Exports) -> Tracer {
        let counts = self.opentelemetry.get_or_init(|| {
            let counts = Counts::default();
            self.show(&families::OPENTELEMETRY_SPANS_SENT, &counts.sent);
            self.show(&families::OPENTELEMETRY_SPANS_DROPPED, &counts.dropped);
            self.show(&families::OPENTELEMETRY_TIMER_FLUSHED, &counts.flushed);
            Arc::new(counts)
        });
        let environment = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let encoder = opentelemetry::Encoder::new(config, &environment);
        let queue = config.collector.as_ref().map(|collector| {
            let to = (collector.clone(), EXPORT_TRACES, "application/x-protobuf");
            exports.open(config.max_cache_size, to, counts, move |spans| encoder.encode(spans))
        });
        Tracer { propagation: Propagation::W3c, queue }
    }

    fn zipkin(&self, config: &model::Zipkin, exports: &Exports) -> Tracer {
        let counts = self.zipkin.get_or_init(|| {
            let counts = Counts::default();
            self.show(&families::ZIPKIN_SPANS_SENT, &counts.sent);
            self.show(&families::ZIPKIN_SPANS_DROPPED, &counts.dropped);
            self.show(&families::ZIPKIN_TIMER_FLUSHED, &counts.flushed);
            self.show(&families::ZIPKIN_REPORTS_SENT, &counts.messages_sent);
            self.show(&families::ZIPKIN_REPORTS_DROPPED, &counts.messages_refused);
            self.show(&families::ZIPKIN_REPORTS_FAILED, &counts.messages_failed);
            self.show(&families::ZIPKIN_REPORTS_WITHOUT_CLUSTER, &counts.without_cluster);
            Arc::new(counts)
        });
        let encoder = zipkin::Encoder::new(&self.service, self.address);
        let to = (config.collector.clone(), "", "application/json");
        let queue = exports.open(ZIPKIN_QUEUE, to, counts, move |spans| encoder.encode(spans));
        let propagation = Propagation::B3 {
            wide: config.wide_trace_ids,
            shared: config.shared_span_context,
            with_w3c: config.with_w3c,
        };
        Tracer { propagation, queue: Some(queue) }
    }

    fn show(&self, family: &'static Family, count: &Arc<AtomicU64>) {
        self.registry.shared_counter(family, Vec::new(), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(propagation: Propagation) -> Tracer {
        Tracer { propagation, queue: None }
    }

    fn start(tracer: &Tracer, fields: &[(&'static str, &'static str)], traced: bool) -> Started {
        tracer.start(&fields.iter().copied().collect(), traced, true, &Random::seeded(3))
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-";
    const ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    #[test]
    fn the_callers_decision_stands() {
        let otel = tracer(Propagation::W3c);
        let traced = format!("{PARENT}01");
        let mut headers = Headers::new();
        headers.append("traceparent", traced.clone());
        let started = otel.start(&headers, false, true, &Random::seeded(3));
        assert!(started.context.sampled && started.context.trace_id == ID && !started.malformed);
        assert_eq!(started.context.parent_id, 0x00f0_67aa_0ba9_02b7);
        headers.set("traceparent", format!("{PARENT}00"));
        assert!(!otel.start(&headers, true, true, &Random::seeded(3)).context.sampled);
    }

    #[test]
    fn what_is_malformed_begins_a_new_trace() {
        for (propagation, name) in [
            (Propagation::W3c, "traceparent"),
            (Propagation::B3 { wide: true, shared: false, with_w3c: false }, "b3"),
        ] {
            let tracer = tracer(propagation);
            let started = start(&tracer, &[(name, "garbage")], true);
            assert!(started.malformed && started.context.sampled && started.context.parent_id == 0);
            let mut headers: Headers = [(name, "garbage")].into_iter().collect();
            tracer.inject(&mut headers, &started.context);
            assert_eq!(headers.get_all(name).count(), 1);
            assert_ne!(headers.get_str(name), Some("garbage"));
        }
    }

    #[test]
    fn a_shared_span_has_the_callers_id() {
        let fields = [("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-spanid", "1"), ("x-b3-parentspanid", "2")];
        let shared = tracer(Propagation::B3 { wide: true, shared: true, with_w3c: false });
        let context = start(&shared, &fields, true).context;
        assert_eq!((context.span_id, context.parent_id, context.shared), (1, 2, true));
        let own = tracer(Propagation::B3 { wide: true, shared: false, with_w3c: false });
        let context = start(&own, &fields, true).context;
        assert_eq!((context.parent_id, context.shared), (1, false));
        assert_ne!(context.span_id, 1);
    }

    #[test]
    fn zipkin_may_read_and_write_w3c_too() {
        let both = tracer(Propagation::B3 { wide: false, shared: false, with_w3c: true });
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = start(&both, &[("traceparent", parent)], false).context;
        assert!(context.trace_id == ID && context.sampled);
        let mut headers = Headers::new();
        both.inject(&mut headers, &context);
        assert_eq!(headers.get_str("x-b3-traceid"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert!(headers.get_str("traceparent").unwrap().starts_with("00-4bf9"));
    }
}
