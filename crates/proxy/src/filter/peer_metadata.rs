//! `istio.metadata_exchange`: tells mesh peers who we are and learns who they are, in two headers.
//!
//! The headers are believed from and sent to peers with a verified SPIFFE id only. They never reach the application,
//! and what an application or a stranger writes into them goes nowhere.

use config::model::PeerMetadataFilter;

use super::chain::{Filter, Verdict};
use super::exchange::Exchange;
use crate::http::{Headers, RequestHead, ResponseHead};
use crate::telemetry::peer_metadata::{HEADER, HEADER_ID};
use crate::upstream::Attempt;

/// The filter.
#[derive(Debug)]
pub struct PeerMetadata {
    options: PeerMetadataFilter,
}

impl PeerMetadata {
    /// A filter with these options.
    pub fn new(options: PeerMetadataFilter) -> Self {
        Self { options }
    }
}

impl Filter for PeerMetadata {
    fn on_request(&self, head: &mut RequestHead, exchange: &mut Exchange) -> Verdict {
        let said = strip(&mut head.headers);
        if let Some(said) = said
            && self.options.downstream_discovery
            && exchange.connection.is_mesh_peer()
        {
            exchange.told_by_caller = true;
            exchange.caller = exchange.connection.peer.get(&said, exchange.worker.metrics.registry());
        }
        Verdict::Continue
    }

    fn on_attempt(&self, head: &mut RequestHead, attempt: &Attempt<'_>, exchange: &mut Exchange) {
        if self.options.upstream_propagation && attempt.host.transport.is_mesh() {
            tell(&mut head.headers, exchange);
        } else {
            // An earlier try may have been to a mesh peer.
            strip(&mut head.headers);
        }
    }

    fn on_response(&self, head: &mut ResponseHead, exchange: &mut Exchange) {
        // What the router kept of the upstream's answer was taken out there; an application's is dropped here.
        strip(&mut head.headers);
        if self.options.downstream_propagation && exchange.told_by_caller {
            tell(&mut head.headers, exchange);
        }
    }
}

fn tell(headers: &mut Headers, exchange: &Exchange) {
    let own = &exchange.worker.shared.own;
    headers.set_known(HEADER, own.header.clone());
    headers.set_known(HEADER_ID, own.id.clone());
}

/// Removes both headers; returns the metadata if there was exactly one.
fn strip(headers: &mut Headers) -> Option<bytes::Bytes> {
    let count = headers.get_all(HEADER).count();
    if count == 0 && !headers.contains(HEADER_ID) {
        return None;
    }
    headers.remove(HEADER_ID);
    headers.remove(HEADER).filter(|_| count == 1)
}
