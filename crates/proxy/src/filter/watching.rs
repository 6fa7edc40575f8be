//! Tells taps and `tulle top` about requests, where somebody watches.

use std::rc::Rc;
use std::sync::Arc;

use super::connection::ConnectionState;
use super::exchange::Exchange;
use super::worker::Worker;
use crate::http::RequestHead;
use crate::telemetry::ResponseFlags;
use crate::telemetry::labels::{Reporter, Workload};
use crate::telemetry::recent::{Asked, Story};
use crate::telemetry::watch::{Kind, Watch, Watching};
use crate::telemetry::watch_filter::Request;

/// The longest text of a sum that a client chose, in bytes.
const LONGEST: usize = 253;

/// Who wants to know of a request that begins.
pub fn begin(worker: &Rc<Worker>, connection: &Rc<ConnectionState>, head: &RequestHead) -> Watching {
    let request = || Request {
        reporter: connection.chain.reporter,
        method: head.method.as_str(),
        target: &head.target,
        authority: &head.authority,
        headers: &head.headers,
        peer: &connection.peer_principal,
    };
    worker.shared.watches.watching(request, &worker.random)
}

/// The request has ended: each watch that still wants it is told.
pub fn end(watching: &[Arc<Watch>], exchange: &Exchange, asked: &Asked<'_>) {
    let record = &exchange.record;
    let flagged = record.flags != ResponseFlags::NONE;
    let mut story = None;
    for watch in watching.iter().filter(|watch| watch.takes_end(record.status, flagged)) {
        if watch.wants_stories() {
            watch.tell(story.get_or_insert_with(|| Story::of(asked, record)));
            continue;
        }
        let took = record.end.unwrap_or(record.begun).saturating_duration_since(record.begun);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let failed = record.status == 0 || record.status >= 500;
        watch.count(exchange.worker.number, kind(exchange), failed, microseconds);
    }
}

fn kind(exchange: &Exchange) -> Kind {
    let record = &exchange.record;
    let service = exchange.cluster.as_ref().and_then(|cluster| cluster.service.as_ref());
    let (direction, peer) = match exchange.connection.chain.reporter {
        Reporter::Source => {
            let upstream = exchange.upstream.as_ref().map(|upstream| &upstream.host.workload);
            ("outbound", exchange.called.as_ref().or(upstream).map(|it| name(it)))
        }
        Reporter::Destination => {
            let principal = || Some(exchange.connection.peer_principal.to_string());
            ("inbound", exchange.caller.as_ref().map(|it| name(it)).or_else(principal))
        }
    };
    Kind {
        direction,
        service: match service {
            Some(service) => service.host.as_str().into(),
            None => printable(&exchange.authority),
        },
        route: record
            .route_origin
            .clone()
            .or_else(|| record.route_name.clone())
            .unwrap_or_else(|| "-".into()),
        peer: peer.unwrap_or_else(|| "unknown".to_owned()).into(),
    }
}

fn name(workload: &Workload) -> String {
    match workload.workload.as_str() {
        "unknown" => "unknown".to_owned(),
        name => format!("{}/{name}", workload.namespace),
    }
}

/// What a client chose, as text that can do nothing to a terminal.
fn printable(bytes: &[u8]) -> Arc<str> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).escape_debug().to_string().into()
}
