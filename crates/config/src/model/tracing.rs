//! Traces: which requests are traced, what their spans say, and where the spans go.

use super::{Format, HeaderOperations};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `HttpConnectionManager.Tracing`, defaults resolved as Envoy does.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Which requests are traced.
    pub sampling: Sampling,
    /// Spans name the moments of a request as events.
    pub verbose: bool,
    /// Bytes of the path in `http.url` (256 by default).
    pub max_path_tag_length: usize,
    /// Tags of every span, sorted by name.
    pub custom_tags: Vec<CustomTag>,
    /// Who makes the spans; `None`: the bootstrap's tracer, else nobody.
    pub provider: Option<Arc<Tracer>>,
    /// A span of its own for every try.
    pub spawn_upstream_span: bool,
    /// Name of the span; before decorators.
    pub operation: Option<Format>,
    /// Name of the span of a try.
    pub upstream_operation: Option<Format>,
    /// The trace context is not sent on.
    pub no_context_propagation: bool,
}

/// Which requests are traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Of those with `x-client-trace-id`.
    pub client: Fraction,
    /// Of those that nobody forces.
    pub random: Fraction,
    /// Of those that would be traced after that.
    pub overall: Fraction,
}

/// A share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// So many ...
    pub numerator: u32,
    /// ... of so many; never 0.
    pub denominator: u32,
}

impl Fraction {
    /// All.
    pub const ALL: Fraction = Fraction { numerator: 10_000, denominator: 10_000 };

    /// Whether an evenly spread number falls into the share.
    pub fn takes(self, number: u64) -> bool {
        number % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

/// `envoy.config.route.v3.Tracing`: what a route says differently.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTracing {
    /// Which requests are traced.
    pub sampling: Sampling,
    /// Tags before those of the connection manager.
    pub custom_tags: Vec<CustomTag>,
    /// Name of the span.
    pub operation: Option<Format>,
    /// Name of the span of a try.
    pub upstream_operation: Option<Format>,
}

/// `envoy.config.route.v3.Decorator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decorator {
    /// Name of the span.
    pub operation: Arc<str>,
    /// The other side is told the name.
    pub propagate: bool,
}

/// A tag that the configuration asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomTag {
    /// Its name.
    pub tag: Arc<str>,
    /// Where its value comes from; without a value there is no tag.
    pub value: TagValue,
}

/// Where the value of a tag comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TagValue {
    /// Always that.
    Literal(Arc<str>),
    /// An environment variable of the proxy.
    Environment {
        /// The variable.
        name: Arc<str>,
        /// When it is not set.
        default: Arc<str>,
    },
    /// A header of the request, in lower case.
    Header {
        /// The header.
        name: Arc<str>,
        /// When it is not there.
        default: Arc<str>,
    },
    /// A format string.
    Format(Format),
}

/// Who makes spans.
#[derive(Debug, Clone, PartialEq)]
pub enum Tracer {
    /// `envoy.tracers.opentelemetry`.
    OpenTelemetry(OpenTelemetry),
    /// `envoy.tracers.zipkin`.
    Zipkin(Zipkin),
}

/// `envoy.config.trace.v3.OpenTelemetryConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenTelemetry {
    /// Where spans go; `None`: nowhere, the context is sent on all the same.
    pub collector: Option<Collector>,
    /// `service.name`.
    pub service_name: Arc<str>,
    /// `OTEL_RESOURCE_ATTRIBUTES` is read.
    pub environment_attributes: bool,
    /// Attributes of the resource.
    pub static_attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// Spans that may wait (1,024 by default).
    pub max_cache_size: usize,
    /// `telemetry.sdk.*` are set.
    pub sdk_attributes: bool,
    /// `service.name` is set.
    pub service_name_attribute: bool,
    /// The scope has a name.
    pub instrumentation_scope: bool,
}

/// `envoy.config.trace.v3.ZipkinConfig` with JSON over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Zipkin {
    /// Where spans go.
    pub collector: Collector,
    /// New traces have ids of 128 bits.
    pub wide_trace_ids: bool,
    /// The server's span has the id of the client's.
    pub shared_span_context: bool,
    /// W3C's context is read and written beside B3.
    pub with_w3c: bool,
}

/// Where telemetry is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// The cluster.
    pub cluster: Arc<str>,
    /// The protocol on top of HTTP.
    pub protocol: CollectorProtocol,
    /// `:authority`.
    pub authority: Arc<str>,
    /// Limit of one message; `None`: the sender's own.
    pub timeout: Option<Duration>,
    /// Added headers.
    pub headers: HeaderOperations,
}

/// How a collector is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectorProtocol {
    /// A unary gRPC call of the service that the payload belongs to.
    Grpc,
    /// A POST to that path.
    Http {
        /// Begins with a slash.
        path: Arc<str>,
    },
}
