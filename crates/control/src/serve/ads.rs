//! The aggregated discovery service: who may ask, what it gets, and how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use base::Clock;
use protos::envoy::envoy::config::core::v3::Node;
use tokio::sync::watch;
use tonic::Status;
use translate::{Flavour, ProxyNode};
use xds::Dialect;
use xds::order::{CLUSTER, ENDPOINT, LISTENER, ROUTE, short_name};
use xds::resource::Resource;
use xds::server::{Answer, Caller, Event, Proxy, Source, TypeStatus, Wanted};

use crate::encoding::one_line;
use crate::peer::PeerIdentity;
use crate::push::connections::{ConnectionReport, Registration, Rejection, State, TypeReport};
use crate::push::{Connections, Pusher, Snapshot, XdsMetrics};
use crate::timestamp::rfc3339;

/// The most notes kept per proxy.
const MOST_NOTES: usize = 100;

/// What ADS streams are served from; hand it to [`xds::server::AdsService`].
pub struct AdsSource {
    pusher: Arc<Pusher>,
    connections: Arc<Connections>,
    metrics: Arc<XdsMetrics>,
    clock: Arc<dyn Clock>,
}

impl AdsSource {
    /// Serves what `pusher` publishes, and keeps `connections` and `metrics`.
    pub fn new(
        pusher: Arc<Pusher>,
        connections: Arc<Connections>,
        metrics: Arc<XdsMetrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        AdsSource { pusher, connections, metrics, clock }
    }

    #[allow(clippy::result_large_err, reason = "the type is tonic's")]
    fn admit(&self, node: &Node, caller: &Caller) -> Result<AdsProxy, Status> {
        let peer = caller.extensions.get::<PeerIdentity>();
        let node = ProxyNode::from_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        check(&node, peer)?;
        let report = report(&node, peer, caller.dialect, rfc3339(self.clock.now()));
        let registration = self.connections.register(report).ok_or_else(|| {
            Status::resource_exhausted("too many proxies are connected to this control plane")
        })?;
        Ok(AdsProxy {
            pusher: self.pusher.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            node,
            registration,
            snapshot: None,
            pushed: false,
        })
    }
}

impl Source for AdsSource {
    type Proxy = AdsProxy;

    fn open(&self, node: &Node, caller: &Caller) -> Result<AdsProxy, Status> {
        let admitted = self.admit(node, caller);
        let address = caller.extensions.get::<PeerIdentity>().map(|peer| peer.address.to_string());
        match &admitted {
            Ok(proxy) => {
                self.metrics.connected.add_one();
                tracing::info!(node = %proxy.node.id, address, "a proxy connected");
            }
            Err(status) => {
                self.metrics.refused.add_one();
                let reason = one_line(status.message());
                tracing::warn!(node = ?node.id, address, "a proxy was refused: {reason}");
            }
        }
        admitted
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.pusher.watch()
    }
}

/// A proxy gets the configuration of the workload that its certificate names, and of no other.
#[allow(clippy::result_large_err, reason = "the type is tonic's")]
pub(super) fn check(node: &ProxyNode, peer: Option<&PeerIdentity>) -> Result<(), Status> {
    let Some(peer) = peer else {
        return Err(Status::unauthenticated(
            "the connection carries no identity; ADS needs a client certificate",
        ));
    };
    let Some(spiffe) = &peer.spiffe else {
        if !peer.tls {
            // Opened by the operator, on loopback only: whoever can reach it is trusted with what it asks for.
            return Ok(());
        }
        return Err(Status::unauthenticated(
            "ADS needs a client certificate of this mesh; get one from IstioCertificateService with a join token",
        ));
    };
    let claims = [
        ("NAMESPACE", node.namespace.as_str(), spiffe.namespace()),
        ("SERVICE_ACCOUNT", node.service_account.as_str(), spiffe.service_account()),
    ];
    for (field, claimed, certified) in claims {
        if claimed != certified {
            return Err(Status::permission_denied(format!(
                "node.metadata.{field} is \"{claimed}\", but the client certificate is for \"{certified}\" ({spiffe}); \
                 give the proxy the identity of its own workload"
            )));
        }
    }
    Ok(())
}

fn report(
    node: &ProxyNode,
    peer: Option<&PeerIdentity>,
    dialect: Dialect,
    connected_at: String,
) -> ConnectionReport {
    ConnectionReport {
        node: node.id.clone(),
        namespace: node.namespace.clone(),
        workload: node.workload.clone(),
        service_account: node.service_account.clone(),
        program: match node.flavour {
            Flavour::Tulle => "tulle-proxy",
            Flavour::Envoy => "envoy",
            Flavour::Grpc => "grpc",
        },
        identity: peer.and_then(|peer| peer.spiffe.as_ref()).map(ToString::to_string),
        address: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
        dialect: match dialect {
            Dialect::Delta => "delta",
            Dialect::StateOfTheWorld => "state-of-the-world",
        },
        connected_at,
        revision: 0,
        types: BTreeMap::new(),
        notes: Vec::new(),
        proxy: Arc::new(node.clone()),
    }
}

/// One stream.
pub struct AdsProxy {
    pusher: Arc<Pusher>,
    metrics: Arc<XdsMetrics>,
    clock: Arc<dyn Clock>,
    node: ProxyNode,
    registration: Registration,
    /// What all answers come from until the next change.
    snapshot: Option<Arc<Snapshot>>,
    /// Whether anything was sent from it.
    pushed: bool,
}

impl Proxy for AdsProxy {
    fn refresh(&mut self) {
        let was = self.snapshot.take();
        self.snapshot = self.pusher.snapshot();
        self.pushed = false;
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| was.is_some()) {
            self.metrics.waited(Instant::now().saturating_duration_since(snapshot.changed));
        }
        let revision = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.revision);
        self.registration.update(|report| {
            report.revision = revision;
            report.notes.clear();
        });
    }

    fn resources(&mut self, type_url: &str, wanted: Wanted<'_>) -> Answer {
        if !matches!(type_url, CLUSTER | ENDPOINT | LISTENER | ROUTE) {
            return Answer::UnknownType;
        }
        let Some(snapshot) = &self.snapshot else { return Answer::NotReady };
        let wanted = match wanted {
            Wanted::All => translate::Wanted::All,
            Wanted::Names(names) => translate::Wanted::Names(names),
        };
        let begun = Instant::now();
        let translated = translate::translate(&snapshot.world, &self.node, type_url, &wanted);
        let bytes = translated.resources.iter().map(|it| it.any.value.len()).sum();
        self.metrics.made(type_url, begun.elapsed(), bytes);
        if !translated.notes.is_empty() {
            let notes = translated.notes.iter().map(ToString::to_string);
            self.registration.update(|report| {
                for note in notes {
                    if report.notes.len() < MOST_NOTES && !report.notes.contains(&note) {
                        report.notes.push(note);
                    }
                }
            });
        }
        let resources = translated.resources.into_iter();
        Answer::Resources(
            resources
                .map(|it| Arc::new(Resource { name: it.name, version: it.version, any: it.any }))
                .collect(),
        )
    }

    fn event(&mut self, event: &Event, status: &TypeStatus) {
        let now = rfc3339(self.clock.now());
        let type_url = event.type_url();
        match event {
            Event::Pushed { resources, removed, .. } => {
                self.pushed = true;
                self.metrics.pushed(type_url);
                tracing::debug!(node = %self.node.id, r#type = label(type_url), resources, removed, "pushed");
            }
            Event::Acked { .. } => {}
            Event::Nacked { nack, .. } => {
                self.metrics.rejected(type_url);
                let resources = nack.resources.join(", ");
                tracing::warn!(
                    node = %self.node.id,
                    r#type = label(type_url),
                    resources,
                    "a proxy refused its configuration and keeps the previous one: {}",
                    nack.text.escape_debug()
                );
            }
        }
        self.registration.update(|report| {
            let last = report.types.remove(label(type_url));
            report.types.insert(label(type_url).to_owned(), type_report(event, status, last, now));
        });
    }

    fn settled(&mut self) {
        if let (true, Some(snapshot)) = (self.pushed, &self.snapshot) {
            self.metrics.converged(Instant::now().saturating_duration_since(snapshot.changed));
        }
        self.pushed = false;
    }
}

impl Drop for AdsProxy {
    fn drop(&mut self) {
        tracing::info!(node = %self.node.id, "a proxy disconnected");
    }
}

/// The name of a type in reports.
fn label(type_url: &str) -> &str {
    match short_name(type_url) {
        "other" => type_url,
        short => short,
    }
}

fn type_report(event: &Event, status: &TypeStatus, last: Option<TypeReport>, now: String) -> TypeReport {
    let (pushed_at, rejected_at) = match (event, last) {
        (Event::Pushed { .. }, last) => (now, last.and_then(|last| last.rejection).map(|last| last.at)),
        (_, last) => (last.map(|last| last.pushed_at).unwrap_or_default(), Some(now)),
    };
    let rejection = status.nack.as_ref().map(|nack| Rejection {
        text: nack.text.clone(),
        version: nack.version.clone(),
        resources: nack.resources.clone(),
        at: rejected_at.unwrap_or_default(),
    });
    let state = match (status.in_flight, &rejection) {
        (true, _) => State::Waiting,
        (false, Some(_)) => State::Rejected,
        (false, None) => State::Synced,
    };
    TypeReport {
        state,
        all: status.wildcard,
        names: status.names,
        resources: status.resources,
        sent_version: status.sent.clone(),
        acked_version: status.acked.clone(),
        rejection,
        pushes: status.pushes,
        rejections: status.nacks,
        pushed_at,
    }
}

#[cfg(test)]
mod tests;
