//! The ADS stream: over the bootstrap's static cluster, with the workload's own certificate.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use config::model::{self, AdsProtocol, CertificateSource, Cluster, Discovery, Roots, TransportSocket};
use protos::envoy::envoy::config::core::v3::Node;
use runtime::DrainWatch;
use tokio::sync::{Notify, mpsc, watch};
use tonic::transport::Channel;
use xds::Dialect;
use xds::client::{Config, Connection, Handler, Missing, Subscribe, Update, Verdict};

use super::survive::Known;
use crate::state::Builder;
use crate::tls::channel::{channel_on, connect_tls, plain_channel};
use crate::tls::{ClientTls, Secrets};

/// The builder as the stream and the warming timer share it; both live on the main thread.
#[derive(Clone)]
pub struct SharedBuilder {
    /// The builder.
    pub builder: Rc<RefCell<Builder>>,
    /// Told after every update: something may wait now.
    pub touched: Rc<Notify>,
}

impl SharedBuilder {
    /// Shares a builder.
    pub fn new(builder: Builder) -> Self {
        SharedBuilder { builder: Rc::new(RefCell::new(builder)), touched: Rc::new(Notify::new()) }
    }

    /// Uses what has waited long enough, for ever.
    pub async fn keep_warming(self) {
        loop {
            let deadline = self.builder.borrow().deadline();
            match deadline {
                None => self.touched.notified().await,
                Some(deadline) => tokio::select! {
                    () = tokio::time::sleep_until(deadline.into()) => self.builder.borrow_mut().publish(),
                    () = self.touched.notified() => {}
                },
            }
        }
    }
}

impl Handler for SharedBuilder {
    fn update(&mut self, update: &Update, subscriptions: &mut Vec<Subscribe>) -> Verdict {
        let verdict = self.builder.borrow_mut().update(update, subscriptions);
        self.touched.notify_one();
        verdict
    }

    fn missing(&mut self, missing: &Missing, subscriptions: &mut Vec<Subscribe>) {
        self.builder.borrow_mut().missing(missing, subscriptions);
        self.touched.notify_one();
    }

    fn connection(&mut self, connection: &Connection) {
        self.builder.borrow_mut().connection(connection);
    }
}

/// How the xDS server is reached.
pub struct Server {
    addresses: Vec<String>,
    next: Cell<usize>,
    tls: Option<ClientTls>,
    needs_identity: bool,
    secrets: Arc<Secrets>,
}

impl Server {
    /// The server that a static cluster names.
    ///
    /// # Errors
    /// The cluster is not there, has no endpoint, or its TLS context cannot be used.
    pub fn new(bootstrap: &model::Bootstrap, name: &str, secrets: &Arc<Secrets>) -> Result<Server, String> {
        let cluster: &Arc<Cluster> =
            bootstrap.clusters.iter().find(|cluster| &*cluster.name == name).ok_or_else(|| {
                format!(
                    "dynamic_resources.ads_config: cluster \"{name}\" is not in static_resources.clusters"
                )
            })?;
        let (Discovery::Static(assignment) | Discovery::StrictDns { assignment, .. }) = &cluster.discovery
        else {
            return Err(format!("cluster \"{name}\": the xDS server's cluster must be STATIC or STRICT_DNS"));
        };
        let addresses: Vec<String> =
            assignment.endpoints().map(|endpoint| endpoint.address.to_string()).collect();
        if addresses.is_empty() {
            return Err(format!("cluster \"{name}\": load_assignment has no endpoint"));
        }
        let (tls, needs_identity) = match &cluster.transport_socket {
            TransportSocket::RawBuffer => (None, false),
            TransportSocket::Tls(options) => {
                let tls = ClientTls::new(options, secrets)
                    .map_err(|error| format!("cluster \"{name}\": {error}"))?;
                let own = matches!(options.certificate, Some(CertificateSource::Sds(_)));
                (Some(tls), own || matches!(options.trust.roots, Roots::Sds(_)))
            }
        };
        Ok(Server { addresses, next: Cell::new(0), tls, needs_identity, secrets: secrets.clone() })
    }

    /// Opens a channel to the next of the server's addresses.
    async fn connect(&self) -> Result<Channel, String> {
        if self.needs_identity {
            self.secrets.ready().await;
        }
        let index = self.next.get();
        self.next.set(index.wrapping_add(1));
        let address = self.addresses.get(index % self.addresses.len()).ok_or("no address")?;
        let Some(tls) = &self.tls else { return plain_channel(address).await };
        let config = tls.config_with_alpn(&[b"h2"])?;
        let stream = connect_tls(address, config).await?;
        channel_on(stream).await.map_err(|error| format!("{address}: {error}"))
    }
}

/// Keeps the stream open until the drain. `channels` is told of every connection.
pub async fn run(
    server: Server,
    node: Node,
    protocol: AdsProtocol,
    mut shared: SharedBuilder,
    channels: watch::Sender<Option<Channel>>,
    known: Known,
    drain: DrainWatch,
) {
    let mut settings = Config::new(node);
    settings.known = known;
    settings.dialect = match protocol {
        AdsProtocol::Delta => Dialect::Delta,
        AdsProtocol::StateOfTheWorld => Dialect::StateOfTheWorld,
    };
    let first = shared.builder.borrow_mut().subscriptions();
    let (commands, wishes) = mpsc::channel(first.len().max(1));
    for subscription in first {
        // The channel holds them all, so that this cannot fail.
        let _ = commands.try_send(subscription);
    }
    let server = Rc::new(server);
    let connect = move || {
        let (server, channels) = (server.clone(), channels.clone());
        async move {
            let channel = server.connect().await?;
            channels.send_replace(Some(channel.clone()));
            Ok(channel)
        }
    };
    xds::client::run(connect, settings, &mut shared, wishes, drain).await;
    // Dropping the sender before would end the stream.
    drop(commands);
}
