//! `/debug/why?request_id=…`: what became of one request, hop by hop, from what the proxies kept.

use std::time::{Duration, UNIX_EPOCH};

use base::Reason;
use protos::observe::{Story, Try};
use serde::Serialize;
use translate::{World, merge, source};

use super::observe::Reply;
use super::why_order;
use crate::timestamp::rfc3339;

/// How long the proxies may take.
pub const LIMIT: Duration = Duration::from_secs(2);
/// The longest id that is asked for, in bytes.
pub const LONGEST_ID: usize = 256;

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Why {
    /// The id.
    pub request_id: String,
    /// How many proxies were asked.
    pub asked: usize,
    /// Those that did not answer in time, `namespace/workload`.
    pub silent: Vec<String>,
    /// Those through which it passed, `namespace/workload`.
    pub seen_by: Vec<String>,
    /// What was kept, in the order of the request's way.
    pub hops: Vec<Hop>,
    /// Several hops begin a way of their own: what lies between was not kept, or one id served several requests.
    pub gaps: bool,
}

/// One proxy on the way.
#[derive(Debug, Serialize)]
pub struct Hop {
    /// How many hops lead to it; 0: nothing that was told does.
    pub depth: usize,
    /// The try of the hop before it to which it belongs, from 1; 0: no hop leads to it.
    pub attempt: usize,
    /// `namespace/workload`.
    pub proxy: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// When the request came, RFC 3339.
    pub began: String,
    /// Method, host and path.
    pub request: String,
    /// Protocol.
    pub protocol: String,
    /// Status that the client got; 0: none.
    pub status: u32,
    /// Envoy's response flags.
    pub flags: String,
    /// Envoy's response code details.
    pub details: String,
    /// Why it failed here; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cause>,
    /// The caller as its certificate says, or its address.
    pub caller: String,
    /// The user's route, and where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Written>,
    /// Cluster.
    pub cluster: String,
    /// The upstream host that was tried last.
    pub upstream: String,
    /// Tries made.
    pub attempts: u32,
    /// Where the time of each try went.
    pub tries: Vec<Tried>,
    /// Milliseconds of the parts of its time.
    pub times: Times,
}

/// Why a request failed.
#[derive(Debug, Serialize)]
pub struct Cause {
    /// The stable code.
    pub code: &'static str,
    /// `downstream`, `upstream` or `mesh`.
    pub blame: &'static str,
    /// What happened, in words.
    pub text: String,
    /// The resources that decided.
    pub resources: Vec<Written>,
    /// The proxy that noticed it, `namespace/name`, where it was another one; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failed_at: String,
    /// With whom that proxy spoke.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failed_with: String,
}

/// A resource and its place.
#[derive(Debug, Serialize)]
pub struct Written {
    /// `kind/namespace/name#part`.
    pub resource: String,
    /// `file:line`; empty when nobody wrote it.
    pub place: String,
}

/// One try; times in milliseconds.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// The host's address.
    pub host: String,
    /// The status of its answer; 0: none.
    pub status: u32,
    /// The code of the reason for which it failed; empty: it did not.
    pub reason: String,
    /// When it began, since the request came.
    pub began: f64,
    /// In line for a connection.
    pub queue: f64,
    /// TCP.
    pub connect: f64,
    /// TLS.
    pub handshake: f64,
    /// From the request sent to the head of the response.
    pub upstream: f64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub struct Times {
    /// In line for connections, of all tries.
    pub queue: f64,
    /// TCP, of all tries.
    pub connect: f64,
    /// TLS, of all tries.
    pub handshake: f64,
    /// From a request sent to the head of its response, of all tries.
    pub upstream: f64,
    /// From the head of the response to its end.
    pub transfer: f64,
    /// What is left: the filters, and the pauses between tries.
    pub own: f64,
    /// All of it.
    pub total: f64,
}

/// Puts the answers of the proxies together.
pub fn why(world: &World, request_id: &str, replies: Vec<Reply>) -> Why {
    let mut why = Why {
        request_id: request_id.to_owned(),
        asked: replies.len(),
        silent: Vec::new(),
        seen_by: Vec::new(),
        hops: Vec::new(),
        gaps: false,
    };
    let mut stories = Vec::new();
    for reply in replies {
        let proxy = format!("{}/{}", reply.namespace, reply.workload);
        match reply.answer {
            None => why.silent.push(proxy),
            Some(answer) => {
                if answer.seen || !answer.stories.is_empty() {
                    why.seen_by.push(proxy.clone());
                }
                stories.extend(answer.stories.into_iter().map(|it| (proxy.clone(), it)));
            }
        }
    }
    for place in why_order::order(&stories) {
        let (proxy, story) = stories[place.index].clone();
        let hop = hop(world, proxy, story);
        why.hops.push(Hop { depth: place.depth, attempt: place.attempt, ..hop });
    }
    why.gaps = why.hops.iter().filter(|hop| hop.depth == 0).count() > 1;
    why
}

/// One hop, without its place among others.
pub fn hop(world: &World, proxy: String, story: Story) -> Hop {
    let reason = cause(world, &proxy, &story);
    let unknown = story.peer.is_empty() || story.peer == "unknown";
    let route = (!story.route.is_empty()).then(|| written(world, &story.route));
    Hop {
        depth: 0,
        attempt: 0,
        proxy,
        began: rfc3339(UNIX_EPOCH + Duration::from_micros(story.began)),
        request: format!("{} {}{}", story.method, story.authority, story.path),
        protocol: story.protocol.clone(),
        status: story.status,
        flags: story.flags.clone(),
        details: story.details.clone(),
        reason,
        caller: if unknown { story.peer_address.clone() } else { story.peer.clone() },
        route,
        cluster: story.cluster.clone(),
        upstream: story.upstream.clone(),
        attempts: story.attempts,
        tries: story.tries.iter().map(tried).collect(),
        times: times(&story),
        direction: story.direction,
    }
}

fn written(world: &World, reference: &str) -> Written {
    Written { resource: reference.to_owned(), place: source::place(world, reference) }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a request are far below 2^52")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1_000.0
}

fn tried(one: &Try) -> Tried {
    Tried {
        host: one.host.clone(),
        status: one.status,
        reason: one.reason.clone(),
        began: milliseconds(one.began),
        queue: milliseconds(one.queue),
        connect: milliseconds(one.connect),
        handshake: milliseconds(one.handshake),
        upstream: milliseconds(one.upstream),
    }
}

fn times(story: &Story) -> Times {
    let sum = |part: fn(&Try) -> u64| story.tries.iter().map(part).fold(0, u64::saturating_add);
    let (queue, connect) = (sum(|it| it.queue), sum(|it| it.connect));
    let (handshake, upstream) = (sum(|it| it.handshake), sum(|it| it.upstream));
    let transfer = if story.answered > 0 { story.ended.saturating_sub(story.answered) } else { 0 };
    let parts = [queue, connect, handshake, upstream, transfer];
    let own = parts.into_iter().fold(story.ended, u64::saturating_sub);
    Times {
        queue: milliseconds(queue),
        connect: milliseconds(connect),
        handshake: milliseconds(handshake),
        upstream: milliseconds(upstream),
        transfer: milliseconds(transfer),
        own: milliseconds(own),
        total: milliseconds(story.ended),
    }
}

const ANSWERED: &str = "direct_response";
const DENIED: &str = "rbac_access_denied_matched_policy[";

fn cause(world: &World, proxy: &str, story: &Story) -> Option<Cause> {
    let mut resources = Vec::new();
    let reason = if let Some(policy) = story.details.strip_prefix(DENIED) {
        let policy = policy.strip_suffix(']').unwrap_or(policy);
        resources = match source::policy(policy) {
            Some(reference) => vec![written(world, &reference)],
            None => selecting(world, proxy),
        };
        Reason::PolicyDenied
    } else if story.details == ANSWERED && story.route.is_empty() && story.status >= 400 {
        // Nobody wrote the route that answered: it is the one for hosts that the mesh does not know.
        Reason::NoRoute
    } else {
        // A proxy that is older than the codes says flags only.
        Reason::of_code(&story.reason).or_else(|| story.flags.split(',').find_map(Reason::of_flag))?
    };
    let mut text = reason.sentence().to_owned();
    if !story.transport_failure.is_empty() {
        text = format!("{text}: {}", story.transport_failure);
    }
    Some(Cause {
        code: reason.code(),
        blame: reason.blame().as_str(),
        text,
        resources,
        failed_at: story.failed_at.clone(),
        failed_with: story.failed_with.clone(),
    })
}

/// The policies that select a workload: those that might have allowed what none of them allowed.
fn selecting(world: &World, proxy: &str) -> Vec<Written> {
    let Some((namespace, workload)) = proxy.split_once('/') else { return Vec::new() };
    let Some(entry) = world.namespace(namespace).and_then(|it| it.workload_entries.get(workload)) else {
        return Vec::new();
    };
    let labels = translate::kinds::workload_entry::labels(entry);
    merge::authorization_policies(world, namespace, &labels)
        .into_iter()
        .map(|policy| {
            let resource = format!("AuthorizationPolicy/{}/{}", policy.meta.namespace, policy.meta.name);
            Written { place: policy.origin.place("spec"), resource }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::MeshConfig;
    use protos::observe::Answer;
    use translate::Change;

    const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: callers}\nspec:\n  rules:\n  - to: [{operation: {methods: [GET]}}]\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: b}\nspec: {address: 127.0.0.2, labels: {app: b}}\n";

    fn world() -> World {
        let parsed = api::parse("a.yaml", POLICY.as_bytes(), "n");
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let changes: Vec<Change> = parsed.objects.into_iter().map(Change::Apply).collect();
        World::empty(MeshConfig::default()).with(&changes)
    }

    fn reply(workload: &str, stories: Vec<Story>) -> Reply {
        let answer = Some(Answer { id: 1, seen: true, stories, ..Answer::default() });
        Reply { namespace: "n".to_owned(), workload: workload.to_owned(), answer }
    }

    fn story(began: u64, direction: &str, details: &str, flags: &str) -> Story {
        let (direction, details, flags) = (direction.to_owned(), details.to_owned(), flags.to_owned());
        Story { began, direction, details, flags, status: 503, ended: 2_000, ..Default::default() }
    }

    #[test]
    fn hops_stand_in_the_order_of_the_way() {
        let of_a = Try { local: "a:1".to_owned(), upstream: 1_500, connect: 200, ..Try::default() };
        let replies = vec![
            reply("b", vec![Story { peer_address: "a:1".to_owned(), ..story(10, "inbound", "", "UC") }]),
            reply("a", vec![Story { tries: vec![of_a], ..story(10_000, "outbound", "", "-") }]),
        ];
        let why = why(&world(), "x", replies);
        assert_eq!(why.seen_by, ["n/b", "n/a"]);
        let proxies: Vec<&str> = why.hops.iter().map(|it| it.proxy.as_str()).collect();
        assert_eq!(proxies, ["n/a", "n/b"]);
        let causes: Vec<_> = why.hops.iter().map(|it| it.reason.as_ref().map(|it| it.code)).collect();
        assert_eq!(causes, [None, Some("upstream-reset")]);
        assert!(!why.gaps && why.hops[1].depth == 1);
        let times = &why.hops[0].times;
        assert_eq!((times.total, times.connect, times.upstream, times.own), (2.0, 0.2, 1.5, 0.3));
    }

    #[test]
    fn a_denial_leads_to_the_line_of_the_rule_or_to_the_policies_that_did_not_allow_it() {
        let by_rule = "rbac_access_denied_matched_policy[ns[n]-policy[callers]-rule[0]]";
        for (details, resource, line) in [
            (by_rule, "AuthorizationPolicy/n/callers#rules[0]", "a.yaml:6"),
            ("rbac_access_denied_matched_policy[none]", "AuthorizationPolicy/n/callers", "a.yaml:4"),
        ] {
            let why = why(&world(), "x", vec![reply("b", vec![story(1, "inbound", details, "-")])]);
            let cause = why.hops[0].reason.as_ref().unwrap();
            assert_eq!((cause.code, cause.blame), ("policy-denied", "downstream"));
            assert_eq!(
                (cause.resources[0].resource.as_str(), cause.resources[0].place.as_str()),
                (resource, line)
            );
        }
    }

    #[test]
    fn the_reason_is_the_one_that_was_told_and_a_flag_stands_in_for_none() {
        let told = Story {
            reason: "ejected".to_owned(),
            failed_at: "n/c".to_owned(),
            failed_with: "127.0.0.9:80".to_owned(),
            ..story(1, "outbound", "via_upstream", "UH")
        };
        let why = why(&world(), "x", vec![reply("a", vec![told])]);
        let cause = why.hops[0].reason.as_ref().unwrap();
        assert_eq!(
            (cause.code, cause.failed_at.as_str(), cause.failed_with.as_str()),
            ("ejected", "n/c", "127.0.0.9:80")
        );
    }

    #[test]
    fn who_does_not_answer_is_named_and_an_unknown_host_has_no_route() {
        let silent = Reply { namespace: "n".to_owned(), workload: "c".to_owned(), answer: None };
        let why =
            why(&world(), "x", vec![silent, reply("a", vec![story(1, "outbound", "direct_response", "-")])]);
        assert_eq!((why.asked, why.silent.as_slice()), (2, ["n/c".to_owned()].as_slice()));
        assert_eq!(why.hops[0].reason.as_ref().unwrap().code, "no-route");
    }
}
