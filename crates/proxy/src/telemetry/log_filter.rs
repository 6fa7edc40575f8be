//! Which requests an access log writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::model::{AccessLogFilter, Comparison, Expression, HeaderMatcher};
use decide::expression::Value;
use decide::{RequestView, header_matches};

use super::attributes::value_of;
use super::captures::Captures;
use super::flags::ResponseFlags;
use super::log_value::LogContext;
use super::record::Captured;
use super::request_id;

/// A filter ready for use: it knows where the values of headers that it reads were put.
#[derive(Debug)]
pub enum LogFilter {
    /// On the status.
    Status(Comparison),
    /// On the milliseconds.
    Duration(Comparison),
    /// Every request.
    All,
    /// A share in millionths; by the id at that position, else by chance.
    Sample(u32, Option<usize>),
    /// All hold.
    And(Vec<LogFilter>),
    /// One holds.
    Or(Vec<LogFilter>),
    /// The header at that position.
    Header(HeaderMatcher, usize),
    /// One of these flags; `None`: any flag.
    Flags(Option<Vec<ResponseFlags>>),
    /// One of these gRPC statuses, or none of them.
    GrpcStatus(Vec<u8>, bool),
    /// The expression holds; where it has no value, that is counted.
    Expression(Arc<Expression>, Arc<AtomicU64>),
}

impl LogFilter {
    /// Compiles a filter; what it needs of heads is added to `captures`. `errors` counts expressions without a value.
    pub fn compile(filter: &AccessLogFilter, captures: &mut Captures, errors: &Arc<AtomicU64>) -> LogFilter {
        match filter {
            AccessLogFilter::StatusCode(comparison) => LogFilter::Status(*comparison),
            AccessLogFilter::Duration(comparison) => LogFilter::Duration(*comparison),
            AccessLogFilter::NotHealthCheck => LogFilter::All,
            AccessLogFilter::Sample { millionths, independent } => {
                let id = (!independent).then(|| captures.request_header(request_id::HEADER));
                LogFilter::Sample(*millionths, id)
            }
            AccessLogFilter::And(parts) => LogFilter::And(all(parts, captures, errors)),
            AccessLogFilter::Or(parts) => LogFilter::Or(all(parts, captures, errors)),
            AccessLogFilter::Header(matcher) => {
                LogFilter::Header(matcher.clone(), captures.request_header(&matcher.name))
            }
            AccessLogFilter::ResponseFlag(flags) if flags.is_empty() => LogFilter::Flags(None),
            AccessLogFilter::ResponseFlag(flags) => {
                // A flag that this proxy never sets is never found.
                LogFilter::Flags(Some(flags.iter().filter_map(|flag| ResponseFlags::named(flag)).collect()))
            }
            AccessLogFilter::GrpcStatus { statuses, exclude } => {
                LogFilter::GrpcStatus(statuses.clone(), *exclude)
            }
            AccessLogFilter::Expression(expression) => {
                captures.expression(expression);
                LogFilter::Expression(expression.clone(), errors.clone())
            }
        }
    }

    /// Whether a request that has ended is written.
    pub fn takes(&self, context: &LogContext<'_>) -> bool {
        let record = context.record;
        match self {
            LogFilter::Status(comparison) => comparison.holds(record.status.into()),
            LogFilter::Duration(comparison) => {
                let lasted = record.end.unwrap_or(record.begun).saturating_duration_since(record.begun);
                comparison.holds(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
            }
            LogFilter::All => true,
            LogFilter::Sample(millionths, id) => {
                let id = id.and_then(|slot| value(&record.request_values, slot));
                let point = id.map_or_else(|| context.random.below(1_000_000), by_id);
                point < u64::from(*millionths)
            }
            LogFilter::And(parts) => parts.iter().all(|part| part.takes(context)),
            LogFilter::Or(parts) => parts.iter().any(|part| part.takes(context)),
            LogFilter::Header(matcher, slot) => {
                header_matches(matcher, &OneHeader { matcher, value: value(&record.request_values, *slot) })
            }
            LogFilter::Flags(None) => record.flags != ResponseFlags::NONE,
            LogFilter::Flags(Some(flags)) => flags.iter().any(|flag| record.flags.contains(*flag)),
            LogFilter::GrpcStatus(statuses, exclude) => {
                record.grpc_status.is_some_and(|status| statuses.contains(&status) != *exclude)
            }
            LogFilter::Expression(expression, errors) => match value_of(expression, context) {
                Ok(value) => value == Value::Bool(true),
                Err(_) => {
                    errors.fetch_add(1, Ordering::Relaxed);
                    false
                }
            },
        }
    }
}

fn all(parts: &[AccessLogFilter], captures: &mut Captures, errors: &Arc<AtomicU64>) -> Vec<LogFilter> {
    parts.iter().map(|part| LogFilter::compile(part, captures, errors)).collect()
}

fn value(values: &Captured, slot: usize) -> Option<&[u8]> {
    values.get(slot).and_then(Option::as_deref).filter(|value| !value.is_empty())
}

/// A number below a million that every proxy on the way makes of the same id: eight bytes at a time (after FNV-1a and
/// the finish of MurmurHash3).
fn by_id(id: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let (words, rest) = id.as_chunks::<8>();
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| mix(u64::from(*byte)));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ (hash >> 33)) % 1_000_000
}

/// The one header that a matcher asks for, as it was captured.
struct OneHeader<'a> {
    matcher: &'a HeaderMatcher,
    value: Option<&'a [u8]>,
}

impl OneHeader<'_> {
    fn pseudo(&self, name: &str) -> &[u8] {
        if &*self.matcher.name == name { self.value.unwrap_or_default() } else { b"" }
    }
}

impl RequestView for OneHeader<'_> {
    fn method(&self) -> &[u8] {
        self.pseudo(":method")
    }

    fn scheme(&self) -> &str {
        std::str::from_utf8(self.pseudo(":scheme")).unwrap_or_default()
    }

    fn authority(&self) -> &[u8] {
        let host = self.pseudo("host");
        if host.is_empty() { self.pseudo(":authority") } else { host }
    }

    fn target(&self) -> &[u8] {
        self.pseudo(":path")
    }

    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.value.filter(|_| name.eq_ignore_ascii_case(&self.matcher.name)).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyLength, RequestHead, Scheme, Version};
    use crate::telemetry::Random;
    use crate::telemetry::testing::Ended;
    use config::model::ComparisonOperator;
    use std::time::Duration;

    fn record(status: u16) -> Ended {
        let mut ended = Ended::default();
        ended.record.status = status;
        ended.record.end = Some(ended.record.begun + Duration::from_millis(20));
        ended
    }

    fn takes(filter: &AccessLogFilter, ended: &Ended) -> bool {
        LogFilter::compile(filter, &mut Captures::default(), &Arc::default()).takes(&ended.context())
    }

    #[test]
    fn an_expression_holds_or_not_and_one_without_a_value_is_counted() {
        let errors = Arc::default();
        let filter = |text: &str| {
            let expression = config::parse_expression(text).unwrap();
            AccessLogFilter::Expression(Arc::new(expression))
        };
        let takes = |text: &str| {
            let mut ended = record(503);
            let filter = LogFilter::compile(&filter(text), &mut ended.captures, &errors);
            let head = RequestHead {
                method: http::Method::GET,
                scheme: Scheme::Http,
                authority: "pay:8080".into(),
                target: "/a?b=1".into(),
                version: Version::Http11,
                headers: [("X-User", "ann")].into_iter().collect(),
                length: BodyLength::None,
                upgrade: None,
            };
            ended.captures.capture_request(&head, &mut ended.record);
            filter.takes(&ended.context())
        };
        for text in [
            "response.code >= 400 && request.method == 'GET'",
            "request.url_path == '/a' && request.query == 'b=1' && request.host.startsWith('pay')",
            "request.headers['x-user'] == 'ann'",
            "request.duration == duration('20ms') && response.flags == 0",
            "source.address == '127.0.2.1:40000' && destination.port == 8080",
            "connection.mtls && connection.uri_san_peer_certificate.endsWith('/sa/b')",
            "xds.node.id == 'n1' && !has(request.headers.nobody)",
        ] {
            assert!(takes(text), "{text}");
        }
        for text in ["response.code == 200", "'x' in request.headers", "request.method", "1"] {
            assert!(!takes(text), "{text}");
        }
        assert_eq!(errors.load(Ordering::Relaxed), 0);
        assert!(!takes("request.headers['nobody'] == 'ann'") && !takes("request.time == 1"));
        assert_eq!(errors.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn each_kind_takes_some_and_leaves_others() {
        let at_least = |value| Comparison { operator: ComparisonOperator::GreaterOrEqual, value };
        let errors = AccessLogFilter::StatusCode(at_least(500));
        assert!(takes(&errors, &record(503)) && !takes(&errors, &record(200)));
        assert!(takes(&AccessLogFilter::Duration(at_least(20)), &record(200)));
        assert!(!takes(&AccessLogFilter::Duration(at_least(21)), &record(200)));
        let mut flagged = record(404);
        flagged.record.fail(base::Reason::NoRoute);
        let named = |flag: &str| AccessLogFilter::ResponseFlag(vec![flag.into()]);
        assert!(
            takes(&named("NR"), &flagged) && !takes(&named("UH"), &flagged) && !takes(&named("LH"), &flagged)
        );
        let any = AccessLogFilter::ResponseFlag(vec![]);
        assert!(takes(&any, &flagged) && !takes(&any, &record(404)));
        let both = |parts: &[&AccessLogFilter]| parts.iter().map(|part| (*part).clone()).collect();
        assert!(takes(&AccessLogFilter::Or(both(&[&errors, &any])), &flagged));
        assert!(!takes(&AccessLogFilter::And(both(&[&errors, &any])), &flagged));
        let mut call = record(200);
        let unavailable = |exclude| AccessLogFilter::GrpcStatus { statuses: vec![14], exclude };
        assert!(!takes(&unavailable(false), &call) && !takes(&unavailable(true), &call), "no gRPC");
        call.record.grpc_status = Some(14);
        assert!(takes(&unavailable(false), &call) && !takes(&unavailable(true), &call));
    }

    #[test]
    fn a_sample_by_id_is_the_same_in_every_proxy() {
        let filter = LogFilter::compile(
            &AccessLogFilter::Sample { millionths: 100_000, independent: false },
            &mut Captures::default(),
            &Arc::default(),
        );
        let taken = |seed| {
            let with = |id: u32| {
                let mut ended = record(200);
                ended.random = Random::seeded(seed);
                ended.record.request_values = [Some(format!("id-{id}").into())].into_iter().collect();
                ended
            };
            (0..5_000).filter(|id| filter.takes(&with(*id).context())).collect::<Vec<u32>>()
        };
        assert_eq!(taken(1), taken(2));
        assert!((350..650).contains(&taken(1).len()), "{}", taken(1).len());
    }
}
