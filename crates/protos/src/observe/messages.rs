//! The messages of [`super`]: questions, answers, stories of requests and their sums.

use crate::envoy::envoy::config::core::v3::Node;

/// What a proxy sends: first who it is, then answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromProxy {
    /// Who it is; only in the first message.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// An answer; in every other message.
    #[prost(message, optional, tag = "2")]
    pub answer: Option<Answer>,
}

/// A question of the control plane.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Question {
    /// Chosen by the asker; the answer repeats it.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is known about requests with this `x-request-id`.
    #[prost(string, tag = "2")]
    pub request_id: String,
    /// A page of the admin server, `/certs`; empty: none is asked for.
    #[prost(string, tag = "3")]
    pub page: String,
    /// Requests to watch from now on. Answers come with this question's id until it is stopped.
    #[prost(message, optional, tag = "4")]
    pub watch: Option<Watch>,
    /// The watch with this id ends.
    #[prost(bool, tag = "5")]
    pub stop: bool,
    /// Access logs are raised, or not any more. The answer's document says until when.
    #[prost(message, optional, tag = "6")]
    pub log: Option<RaiseLog>,
}

/// Access logs write, beside what their filters take, for a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RaiseLog {
    /// Requests with this `x-request-id`; empty: every request.
    #[prost(string, tag = "1")]
    pub request_id: String,
    /// For so long, in seconds; 0: nothing is raised any more.
    #[prost(uint32, tag = "2")]
    pub seconds: u32,
}

/// What is told about requests while they pass.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Watch {
    /// Which requests.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<Filter>,
    /// Of those so many in a million; 0 stands for all.
    #[prost(uint32, tag = "2")]
    pub per_million: u32,
    /// Sums every second instead of each request's story.
    #[prost(bool, tag = "3")]
    pub sums: bool,
}

/// Which requests are watched: those to which all that is said applies. Texts may begin or end with `*`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Filter {
    /// `inbound` or `outbound`; empty: both.
    #[prost(string, tag = "1")]
    pub direction: String,
    /// One of these methods; empty: all.
    #[prost(string, repeated, tag = "2")]
    pub methods: Vec<String>,
    /// The path without query; empty: all.
    #[prost(string, tag = "3")]
    pub path: String,
    /// The host; empty: all.
    #[prost(string, tag = "4")]
    pub authority: String,
    /// One of these statuses: `404`, `5xx`; `failed`: what ended with a response flag or 5xx. Empty: all.
    #[prost(string, repeated, tag = "5")]
    pub statuses: Vec<String>,
    /// All of these request headers.
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<HeaderFilter>,
    /// The caller's SPIFFE id; empty: all.
    #[prost(string, tag = "7")]
    pub peer: String,
}

/// A header that a watched request has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderFilter {
    /// Its name in lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value; `*`: any.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The question's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The request passed here, whether or not its story was kept.
    #[prost(bool, tag = "2")]
    pub seen: bool,
    /// The stories that were kept, in the order in which they ended.
    #[prost(message, repeated, tag = "3")]
    pub stories: Vec<Story>,
    /// A part of the page that was asked for.
    #[prost(bytes = "vec", tag = "4")]
    pub document: Vec<u8>,
    /// More answers to the same question follow.
    #[prost(bool, tag = "5")]
    pub more: bool,
    /// Stories of a watch that were left out since the last answer, because nobody took them fast enough.
    #[prost(uint64, tag = "6")]
    pub dropped: u64,
    /// Sums since the last answer.
    #[prost(message, repeated, tag = "7")]
    pub sums: Vec<Sum>,
    /// Why the question is not answered.
    #[prost(string, tag = "8")]
    pub refusal: String,
    /// It belongs to a watch.
    #[prost(bool, tag = "9")]
    pub watching: bool,
}

/// Requests of one kind, summed up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    /// `inbound` or `outbound`.
    #[prost(string, tag = "1")]
    pub direction: String,
    /// The service that was asked for.
    #[prost(string, tag = "2")]
    pub service: String,
    /// The route's origin, else its name.
    #[prost(string, tag = "3")]
    pub route: String,
    /// The other side, `namespace/workload`.
    #[prost(string, tag = "4")]
    pub peer: String,
    /// How many ended.
    #[prost(uint64, tag = "5")]
    pub requests: u64,
    /// How many of them with 5xx or without an answer.
    #[prost(uint64, tag = "6")]
    pub failures: u64,
    /// Their durations: numbers of the slots of [`slot_of`] that are not empty.
    #[prost(uint32, repeated, tag = "7")]
    pub slots: Vec<u32>,
    /// How many lie in each of them.
    #[prost(uint64, repeated, tag = "8")]
    pub counts: Vec<u64>,
}

/// Slots of the durations of [`Sum`]: eight for each power of two of microseconds.
pub const SLOTS: usize = 8 * 40;

/// The slot of a duration in microseconds.
pub fn slot_of(microseconds: u64) -> usize {
    if microseconds < 8 {
        return usize::try_from(microseconds).unwrap_or(0);
    }
    let power = microseconds.ilog2();
    let within = (microseconds >> (power - 3)) & 7;
    ((power as usize - 2) * 8 + usize::try_from(within).unwrap_or(0)).min(SLOTS - 1)
}

/// The upper end of a slot, in microseconds.
pub fn slot_end(slot: usize) -> u64 {
    if slot < 8 {
        return slot as u64 + 1;
    }
    let (power, within) = (slot / 8 + 2, slot as u64 % 8);
    (8 + within + 1) << (power - 3)
}

/// What became of one request in one proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Story {
    /// When it came, microseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub began: u64,
    /// `inbound` or `outbound`.
    #[prost(string, tag = "2")]
    pub direction: String,
    /// Method.
    #[prost(string, tag = "3")]
    pub method: String,
    /// Host.
    #[prost(string, tag = "4")]
    pub authority: String,
    /// Path without query: a query may hold what is nobody's business.
    #[prost(string, tag = "5")]
    pub path: String,
    /// Protocol.
    #[prost(string, tag = "6")]
    pub protocol: String,
    /// Status that the client got; 0: none.
    #[prost(uint32, tag = "7")]
    pub status: u32,
    /// Envoy's response flags; `-` for none.
    #[prost(string, tag = "8")]
    pub flags: String,
    /// Envoy's response code details.
    #[prost(string, tag = "9")]
    pub details: String,
    /// Why no connection to the upstream could be made.
    #[prost(string, tag = "10")]
    pub transport_failure: String,
    /// The route's origin, `VirtualService/production/payment-service#http[1]`.
    #[prost(string, tag = "11")]
    pub route: String,
    /// Cluster.
    #[prost(string, tag = "12")]
    pub cluster: String,
    /// The upstream host that was tried last.
    #[prost(string, tag = "13")]
    pub upstream: String,
    /// Tries made.
    #[prost(uint32, tag = "14")]
    pub attempts: u32,
    /// The caller's address.
    #[prost(string, tag = "15")]
    pub peer_address: String,
    /// The caller's verified SPIFFE id.
    #[prost(string, tag = "16")]
    pub peer: String,
    /// Parts of the time, microseconds since `began`: the request's last byte read; the last try sent; the response's
    /// head; the end. 0: it did not come to that.
    #[prost(uint64, tag = "17")]
    pub request_read: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "18")]
    pub sent: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "19")]
    pub answered: u64,
    /// See `request_read`.
    #[prost(uint64, tag = "20")]
    pub ended: u64,
    /// Bytes of the request's body.
    #[prost(uint64, tag = "21")]
    pub request_bytes: u64,
    /// Bytes of the response's body.
    #[prost(uint64, tag = "22")]
    pub response_bytes: u64,
    /// The address that the caller connected to.
    #[prost(string, tag = "23")]
    pub local_address: String,
    /// The tries, in their order.
    #[prost(message, repeated, tag = "24")]
    pub tries: Vec<Try>,
    /// The request's id.
    #[prost(string, tag = "25")]
    pub request_id: String,
    /// The code of the reason for which it ended other than well; empty: it ended well.
    #[prost(string, tag = "26")]
    pub reason: String,
    /// The proxy that noticed it, `namespace/name`, where it was another one that said so.
    #[prost(string, tag = "27")]
    pub failed_at: String,
    /// With whom that proxy spoke.
    #[prost(string, tag = "28")]
    pub failed_with: String,
}

/// One try of a request; times in microseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Try {
    /// The host's address.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Our address of the connection: the host's proxy sees it as its peer's. Empty: there was no connection.
    #[prost(string, tag = "2")]
    pub local: String,
    /// When it began, since the request came.
    #[prost(uint64, tag = "3")]
    pub began: u64,
    /// In line for a connection.
    #[prost(uint64, tag = "4")]
    pub queue: u64,
    /// TCP.
    #[prost(uint64, tag = "5")]
    pub connect: u64,
    /// TLS, and HTTP/2's settings.
    #[prost(uint64, tag = "6")]
    pub handshake: u64,
    /// From the request sent to the head of the response, or to the failure.
    #[prost(uint64, tag = "7")]
    pub upstream: u64,
    /// The status of its answer; 0: none.
    #[prost(uint32, tag = "8")]
    pub status: u32,
    /// The code of the reason for which it failed; empty: it did not.
    #[prost(string, tag = "9")]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_what_lies_below_its_end() {
        let mut last = 0;
        for exponent in 0..40 {
            for microseconds in [1u64 << exponent, (1 << exponent) + (1 << exponent) / 3] {
                let slot = slot_of(microseconds);
                assert!(slot >= last && slot < SLOTS);
                assert!(microseconds < slot_end(slot), "{microseconds} in {slot}");
                assert!(slot == 0 || microseconds >= slot_end(slot - 1), "{microseconds} in {slot}");
                last = slot;
            }
        }
        assert_eq!(slot_of(u64::MAX), SLOTS - 1);
    }
}
