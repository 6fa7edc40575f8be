//! Stories of requests, and sums of them, as messages of `tulle.v1.Observe`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use protos::observe;

use crate::telemetry::labels::Reporter;
use crate::telemetry::recent::{Story, Tried};
use crate::telemetry::watch::{Kind, Sum};

/// A story as the control plane reads it.
pub fn message(story: Story) -> observe::Story {
    let since = |duration: Option<Duration>| duration.map(micros).unwrap_or_default();
    let text = |text: Option<Arc<str>>| text.map(|it| it.to_string()).unwrap_or_default();
    let direction = match story.reporter {
        Reporter::Source => "outbound",
        Reporter::Destination => "inbound",
    };
    observe::Story {
        began: micros(story.start_time.duration_since(UNIX_EPOCH).unwrap_or_default()),
        direction: direction.to_owned(),
        method: story.method.to_string(),
        authority: story.authority.into(),
        path: story.path.into(),
        protocol: story.protocol.to_owned(),
        status: u32::from(story.status),
        flags: story.flags.to_string(),
        details: story.details.into(),
        transport_failure: story.transport_failure.into(),
        route: text(story.route),
        cluster: text(story.cluster),
        upstream: text(story.upstream),
        attempts: story.attempts,
        peer_address: story.peer_address.to_string(),
        peer: story.peer.into(),
        request_read: since(story.request_read),
        sent: since(story.sent),
        answered: since(story.answered),
        ended: micros(story.ended),
        request_bytes: story.request_bytes,
        response_bytes: story.response_bytes,
        local_address: story.local_address.to_string(),
        tries: story.tries.iter().map(tried).collect(),
        request_id: story.request_id.into(),
        reason: story.reason.map(|it| it.code().to_owned()).unwrap_or_default(),
        failed_at: story.told.as_ref().map(|it| it.hop.to_string()).unwrap_or_default(),
        failed_with: story.told.map(|it| it.peer.into()).unwrap_or_default(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn tried(tried: &Tried) -> observe::Try {
    observe::Try {
        host: tried.host.to_string(),
        local: tried.local.map(|it| it.to_string()).unwrap_or_default(),
        began: micros(tried.began),
        queue: micros(tried.parts.queue),
        connect: micros(tried.parts.connect),
        handshake: micros(tried.parts.handshake),
        upstream: micros(tried.parts.upstream),
        status: u32::from(tried.status),
        reason: tried.reason.map(|it| it.code().to_owned()).unwrap_or_default(),
    }
}

/// A sum as the control plane reads it.
pub fn sum(kind: &Kind, sum: &Sum) -> observe::Sum {
    let filled = || (0u32..).zip(sum.durations.iter()).filter(|(_, count)| **count > 0);
    observe::Sum {
        direction: kind.direction.to_owned(),
        service: kind.service.to_string(),
        route: kind.route.to_string(),
        peer: kind.peer.to_string(),
        requests: sum.requests,
        failures: sum.failures,
        slots: filled().map(|(slot, _)| slot).collect(),
        counts: filled().map(|(_, count)| *count).collect(),
    }
}
