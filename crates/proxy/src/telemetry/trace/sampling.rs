//! Which requests are traced, and where the decision is written: in the 13th digit of the request's id, as Envoy does.

use bytes::Bytes;
use config::model::{RequestIdOptions, Sampling};

use super::context::hexadecimal;
use crate::http::Headers;
use crate::telemetry::{Random, request_id};

/// Asks for a trace where `client_sampling` allows it.
pub const CLIENT_TRACE_ID: &str = "x-client-trace-id";
/// Asks for a trace; believed of internal addresses only.
pub const FORCE_TRACE: &str = "x-envoy-force-trace";
/// Digits and hyphens of a UUID.
const UUID: usize = 36;
/// Position of the digit that tells the decision.
const DIGIT: usize = 14;

/// Why a request is traced, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not.
    NotTraceable,
    /// By chance.
    Sampled,
    /// A program of ours asked.
    ServiceForced,
    /// The client asked.
    ClientForced,
}

impl Reason {
    /// Whether spans are made.
    pub fn traces(self) -> bool {
        self != Reason::NotTraceable
    }

    const fn digit(self) -> u8 {
        match self {
            Reason::NotTraceable => b'4',
            Reason::Sampled => b'9',
            Reason::ServiceForced => b'a',
            Reason::ClientForced => b'b',
        }
    }

    fn of(id: &[u8]) -> Self {
        let all = [Reason::Sampled, Reason::ServiceForced, Reason::ClientForced];
        match id.get(DIGIT) {
            Some(digit) if id.len() == UUID => {
                all.into_iter().find(|it| it.digit() == *digit).unwrap_or(Reason::NotTraceable)
            }
            _ => Reason::NotTraceable,
        }
    }
}

/// Decides, and writes the decision into the request's id. An id that is no UUID is never traced.
pub fn decide(
    sampling: &Sampling,
    options: RequestIdOptions,
    headers: &mut Headers,
    random: &Random,
) -> Reason {
    if !options.samples_traces {
        return Reason::Sampled;
    }
    let Some(id) = headers.get(request_id::HEADER) else { return Reason::NotTraceable };
    // The same id is taken by all proxies or by none.
    let Some(number) = id.get(..8).and_then(hexadecimal) else { return Reason::NotTraceable };
    let before = Reason::of(id);
    let mut reason = before;
    if reason == Reason::NotTraceable {
        if headers.contains(CLIENT_TRACE_ID) && sampling.client.takes(random.next()) {
            reason = Reason::ClientForced;
        } else if headers.contains(FORCE_TRACE) {
            reason = Reason::ServiceForced;
        } else if sampling.random.takes(number) {
            reason = Reason::Sampled;
        }
    }
    if reason.traces() && !sampling.overall.takes(number) {
        reason = Reason::NotTraceable;
    }
    if reason != before && options.pack_trace_reason {
        pack(headers, reason);
    }
    reason
}

/// Writes a decision into the request's id.
pub fn pack(headers: &mut Headers, reason: Reason) {
    if let Some(id) = headers.get(request_id::HEADER)
        && id.len() == UUID
    {
        let mut id = id.to_vec();
        id[DIGIT] = reason.digit();
        headers.set(request_id::HEADER, Bytes::from(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::Fraction;

    const NONE: Fraction = Fraction { numerator: 0, denominator: 10_000 };

    fn run(sampling: Sampling, fields: &[(&'static str, &'static str)]) -> (Reason, String) {
        let mut headers: Headers = fields.iter().copied().collect();
        let reason = decide(&sampling, RequestIdOptions::default(), &mut headers, &Random::seeded(1));
        (reason, headers.get_str(request_id::HEADER).unwrap_or_default().to_owned())
    }

    const PLAIN: &str = "12345678-1234-4234-9234-123456789012";

    #[test]
    fn by_rate_header_and_id() {
        let all = Sampling { client: Fraction::ALL, random: Fraction::ALL, overall: Fraction::ALL };
        let none = Sampling { random: NONE, ..all };
        let id = (request_id::HEADER, PLAIN);
        assert_eq!(run(all, &[id]), (Reason::Sampled, PLAIN.replacen("-4", "-9", 1)));
        assert_eq!(run(none, &[id]), (Reason::NotTraceable, PLAIN.to_owned()));
        let client = run(none, &[id, (CLIENT_TRACE_ID, "x")]);
        assert_eq!(client, (Reason::ClientForced, PLAIN.replacen("-4", "-b", 1)));
        assert_eq!(run(none, &[id, (FORCE_TRACE, "1")]).0, Reason::ServiceForced);
        let known = "12345678-1234-9234-9234-123456789012";
        assert_eq!(run(none, &[(request_id::HEADER, known)]), (Reason::Sampled, known.to_owned()));
        let never = Sampling { overall: NONE, ..all };
        assert_eq!(run(never, &[(request_id::HEADER, known)]), (Reason::NotTraceable, PLAIN.to_owned()));
        for odd in ["short", "zz345678-1234-9234-9234-123456789012", ""] {
            assert_eq!(run(all, &[(request_id::HEADER, odd)]), (Reason::NotTraceable, odd.to_owned()));
        }
        assert_eq!(run(all, &[]).0, Reason::NotTraceable);
    }

    #[test]
    fn a_rate_takes_its_share() {
        let one = Fraction { numerator: 100, denominator: 10_000 };
        let sampling = Sampling { client: Fraction::ALL, random: one, overall: Fraction::ALL };
        let random = Random::seeded(7);
        let taken = (0..100_000)
            .filter(|_| {
                let mut headers = Headers::new();
                headers.append(request_id::HEADER, request_id::generate(&random));
                decide(&sampling, RequestIdOptions::default(), &mut headers, &random).traces()
            })
            .count();
        assert!((800..1_200).contains(&taken), "{taken}");
    }

    #[test]
    fn without_the_id_everything_is_offered_and_nothing_written() {
        let options = RequestIdOptions { samples_traces: false, ..Default::default() };
        let sampling = Sampling { client: NONE, random: NONE, overall: NONE };
        let mut headers: Headers = [(request_id::HEADER, PLAIN)].into_iter().collect();
        assert_eq!(decide(&sampling, options, &mut headers, &Random::seeded(1)), Reason::Sampled);
        assert_eq!(headers.get_str(request_id::HEADER), Some(PLAIN));
    }
}
