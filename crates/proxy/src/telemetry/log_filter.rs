//! Which requests an access log writes.

use std::sync::Arc;

use config::model::{AccessLogFilter, Comparison, HeaderMatcher};
use decide::{RequestView, header_matches};

use super::flags::ResponseFlags;
use super::random::Random;
use super::record::{Captured, RequestRecord};
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
}

impl LogFilter {
    /// Compiles a filter; `slot` gives a header of the request its position.
    pub fn compile(filter: &AccessLogFilter, slot: &mut dyn FnMut(&Arc<str>) -> usize) -> LogFilter {
        match filter {
            AccessLogFilter::StatusCode(comparison) => LogFilter::Status(*comparison),
            AccessLogFilter::Duration(comparison) => LogFilter::Duration(*comparison),
            AccessLogFilter::NotHealthCheck => LogFilter::All,
            AccessLogFilter::Sample { millionths, independent } => {
                let id = (!independent).then(|| slot(&request_id::HEADER.into()));
                LogFilter::Sample(*millionths, id)
            }
            AccessLogFilter::And(parts) => {
                LogFilter::And(parts.iter().map(|part| LogFilter::compile(part, slot)).collect())
            }
            AccessLogFilter::Or(parts) => {
                LogFilter::Or(parts.iter().map(|part| LogFilter::compile(part, slot)).collect())
            }
            AccessLogFilter::Header(matcher) => LogFilter::Header(matcher.clone(), slot(&matcher.name)),
            AccessLogFilter::ResponseFlag(flags) if flags.is_empty() => LogFilter::Flags(None),
            AccessLogFilter::ResponseFlag(flags) => {
                // A flag that this proxy never sets is never found.
                LogFilter::Flags(Some(flags.iter().filter_map(|flag| ResponseFlags::named(flag)).collect()))
            }
            AccessLogFilter::GrpcStatus { statuses, exclude } => {
                LogFilter::GrpcStatus(statuses.clone(), *exclude)
            }
        }
    }

    /// Whether a request that has ended is written.
    pub fn takes(&self, record: &RequestRecord, random: &Random) -> bool {
        match self {
            LogFilter::Status(comparison) => comparison.holds(record.status.into()),
            LogFilter::Duration(comparison) => {
                let lasted = record.end.unwrap_or(record.begun).saturating_duration_since(record.begun);
                comparison.holds(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
            }
            LogFilter::All => true,
            LogFilter::Sample(millionths, id) => {
                let id = id.and_then(|slot| value(&record.request_values, slot));
                let point = id.map_or_else(|| random.below(1_000_000), by_id);
                point < u64::from(*millionths)
            }
            LogFilter::And(parts) => parts.iter().all(|part| part.takes(record, random)),
            LogFilter::Or(parts) => parts.iter().any(|part| part.takes(record, random)),
            LogFilter::Header(matcher, slot) => {
                header_matches(matcher, &OneHeader { matcher, value: value(&record.request_values, *slot) })
            }
            LogFilter::Flags(None) => record.flags != ResponseFlags::NONE,
            LogFilter::Flags(Some(flags)) => flags.iter().any(|flag| record.flags.contains(*flag)),
            LogFilter::GrpcStatus(statuses, exclude) => {
                record.grpc_status.is_some_and(|status| statuses.contains(&status) != *exclude)
            }
        }
    }
}

fn value(values: &Captured, slot: usize) -> Option<&[u8]> {
    values.get(slot).and_then(Option::as_deref).filter(|value| !value.is_empty())
}

/// A number below a million that every proxy on the way makes of the same id (FNV-1a).
fn by_id(id: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash % 1_000_000
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
    use config::model::ComparisonOperator;
    use std::time::{Duration, Instant, SystemTime};

    fn record(status: u16) -> RequestRecord {
        let mut record = RequestRecord::new(SystemTime::now(), Instant::now(), "HTTP/1.1");
        record.status = status;
        record.end = Some(record.begun + Duration::from_millis(20));
        record
    }

    fn takes(filter: &AccessLogFilter, record: &RequestRecord) -> bool {
        LogFilter::compile(filter, &mut |_| 0).takes(record, &Random::seeded(1))
    }

    #[test]
    fn each_kind_takes_some_and_leaves_others() {
        let at_least = |value| Comparison { operator: ComparisonOperator::GreaterOrEqual, value };
        let errors = AccessLogFilter::StatusCode(at_least(500));
        assert!(takes(&errors, &record(503)) && !takes(&errors, &record(200)));
        assert!(takes(&AccessLogFilter::Duration(at_least(20)), &record(200)));
        assert!(!takes(&AccessLogFilter::Duration(at_least(21)), &record(200)));
        let mut flagged = record(404);
        flagged.fail(base::Reason::NoRoute);
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
        call.grpc_status = Some(14);
        assert!(takes(&unavailable(false), &call) && !takes(&unavailable(true), &call));
    }

    #[test]
    fn a_sample_by_id_is_the_same_in_every_proxy() {
        let filter = LogFilter::compile(
            &AccessLogFilter::Sample { millionths: 100_000, independent: false },
            &mut |_| 0,
        );
        let taken = |seed| {
            let random = Random::seeded(seed);
            let with = |id: u32| {
                let mut record = record(200);
                record.request_values = [Some(format!("id-{id}").into())].into_iter().collect();
                record
            };
            (0..5_000).filter(|id| filter.takes(&with(*id), &random)).collect::<Vec<u32>>()
        };
        assert_eq!(taken(1), taken(2));
        assert!((350..650).contains(&taken(1).len()), "{}", taken(1).len());
    }
}
