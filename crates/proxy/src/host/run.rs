//! The process: workers, the main thread's tasks, and the drain at the end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::clock::SystemClock;
use config::Refused;
use config::model::{self, AccessLogSink, Cluster};
use runtime::{Drain, Supervisor, Tasks, thread};
use tokio::sync::{mpsc, watch};

use super::ads::{self, Server, SharedBuilder};
use super::bootstrap::{self, Loaded};
use super::options::{Mode, Options};
use super::survive::{Known, Survival};
use super::{export, node, observe};
use crate::filter::denial_log::DenialLog;
use crate::filter::{self, Shared};
use crate::identity;
use crate::listen::{self, Command, ConnectionLimit, Listening, Manager, Parts, Worker};
use crate::route::LiveRouting;
use crate::state::{Builder, Checks, Live, Notes, SealedStatus};
use crate::tcp::Forwarder;
use crate::telemetry::Registry;
use crate::telemetry::registry::{Computed, SERIES_IDLE};
use crate::tls::Secrets;
use crate::upstream::transport::Transport;
use crate::upstream::{Environment, outlier_sweep, resolve};
use crate::{admin, allocator};

/// How long the access logs get for their last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// What tasks that end at the deadline of the drain may take for it: the workers end only after them.
const LAST_STEPS: Duration = Duration::from_millis(500);
/// How often series that nobody uses are looked for.
const SERIES_SWEEP: Duration = Duration::from_secs(5 * 60);
/// How often the end of the drain is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Pause before sockets that could not be bound are tried again.
const BIND_RETRY: Duration = Duration::from_secs(2);

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// The bootstrap cannot be used, a socket of it cannot be bound, or a part that must live has died.
pub fn run(mut options: Options) -> Result<(), String> {
    let format =
        if options.log_json { runtime::logging::Format::Json } else { runtime::logging::Format::Text };
    runtime::logging::init(&options.log_level, format)?;
    let processors =
        || std::thread::available_parallelism().map_or(1, |count| u16::try_from(count.get()).unwrap_or(1024));
    options.concurrency = Some(options.concurrency.unwrap_or_else(processors));
    let loaded = bootstrap::load(&options.config)?;
    thread::block_on_local(serve(options, loaded))
        .map_err(|error| format!("cannot start the runtime: {error}"))?
}

/// Tells a worker what to do.
type Sender = mpsc::UnboundedSender<Command>;
/// A worker's thread.
type WorkerThread = JoinHandle<std::io::Result<()>>;

/// What the main thread holds.
struct Host {
    options: Options,
    loaded: Loaded,
    secrets: Arc<Secrets>,
    shared: Arc<Shared>,
    live: Arc<Live>,
    notes: Notes,
    builder: SharedBuilder,
    identity: Option<Arc<identity::Status>>,
    sealed: SealedStatus,
    drain: Drain,
    started: Instant,
}

/// What lies in the workload's state directory.
struct State {
    keeper: Option<identity::Keeper>,
    survival: Option<Survival>,
}

pub(super) async fn serve(options: Options, loaded: Loaded) -> Result<(), String> {
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let host = Host::new(options, loaded, drain)?;
    if host.options.mode == Mode::Validate {
        println!("configuration '{}' OK", host.options.config.display());
        return Ok(());
    }
    let mut state = host.open_state()?;
    let (senders, workers) = host.start_workers(&tasks)?;
    let mut manager =
        Manager::new(senders.clone(), host.parts(), host.loaded.model.runtime.listener_connections.clone());
    let listening = manager.listening();
    host.builder.builder.borrow_mut().publish();
    host.apply();
    resolve::resolve_all(&host.shared.routing.load().clusters).await;
    let known = host.restore(&mut state);
    let complete = manager.reconcile(&host.live.load().listeners);
    // What the bootstrap demands must be there; what a snapshot says is tried again, as what a server says.
    let is_static = |name: &str| host.loaded.model.listeners.iter().any(|listener| &*listener.name == name);
    let failures = listening.failures().into_iter().filter(|(name, _)| is_static(name));
    let failures: Vec<String> = failures.map(|(name, reason)| format!("listener {name}: {reason}")).collect();
    if !failures.is_empty() {
        return Err(failures.join("; "));
    }
    host.start_tasks(&tasks, manager, complete, state, known)?;
    allocator::give_back();
    let grace = host.options.drain_time() + LAST_STEPS;
    let result = supervisor.run(grace).await.map_err(|error| error.to_string());
    // Workers end with their last sender; before, they finish what runs.
    drop(senders);
    for worker in workers {
        if !matches!(worker.join(), Ok(Ok(()))) {
            tracing::error!("a worker ended with an error");
        }
    }
    host.shared.sinks.flush(FLUSH_LIMIT);
    result
}

impl Host {
    fn new(options: Options, loaded: Loaded, drain: Drain) -> Result<Host, String> {
        let bootstrap = &loaded.model;
        let registry = Arc::new(Registry::with_budget(node::series_budget(&bootstrap.node)?));
        let secrets = Secrets::new();
        let mut environment = Environment::new(registry.clone(), secrets.clone());
        environment.pass_over_unreachable = bootstrap.runtime.pass_over_unreachable_hosts;
        let events = environment.events.clone();
        let routing = LiveRouting::new(environment);
        let shared = Shared::with_tracer(&bootstrap.node, bootstrap.tracer.clone(), registry, routing);
        if let Some(path) = &bootstrap.outlier_event_log {
            let sink = shared.sinks.get(&AccessLogSink::File(path.clone()));
            events.write_to(sink.map_err(|error| {
                format!("cluster_manager.outlier_detection.event_log_path: {path}: {error}")
            })?);
        }
        let live = Live::new();
        let parts = Parts { shared: shared.clone(), secrets: secrets.clone() };
        let ads = bootstrap.ads.as_ref();
        let checks = checks(parts);
        let mut builder = Builder::new(
            live.clone(),
            checks,
            ads.is_some_and(|ads| ads.listeners),
            ads.is_some_and(|ads| ads.clusters),
        );
        builder
            .add_static(&loaded.message, bootstrap)
            .map_err(|reason| format!("{}: {reason}", options.config.display()))?;
        let notes = builder.notes();
        notes.add("bootstrap", &options.config.display().to_string(), &loaded.notes);
        let identity = bootstrap.identity.as_ref().map(|_| Arc::new(identity::Status::default()));
        let builder = SharedBuilder::new(builder);
        Ok(Host {
            options,
            secrets,
            shared,
            live,
            notes,
            builder,
            identity,
            sealed: SealedStatus::default(),
            drain,
            started: Instant::now(),
            loaded,
        })
    }

    fn parts(&self) -> Parts {
        Parts { shared: self.shared.clone(), secrets: self.secrets.clone() }
    }

    /// Opens the state directory and takes the saved identity into use, where the bootstrap asks for an identity.
    fn open_state(&self) -> Result<State, String> {
        let bootstrap = &self.loaded.model;
        let (Some(wanted), Some(status)) = (&bootstrap.identity, &self.identity) else {
            return Ok(State { keeper: None, survival: None });
        };
        let options = identity::Options {
            service: identity::Service {
                address: wanted.ca_address.to_string(),
                trust_domain: wanted.trust_domain.to_string(),
                expected: node::expected_identity(&bootstrap.node, &wanted.trust_domain)?,
                lifetime_seconds: wanted.lifetime_seconds,
            },
            token_file: wanted.token_file.as_deref().map(Into::into),
            state_directory: (&*wanted.state_directory).into(),
        };
        let clock = Arc::new(SystemClock);
        let keeper = identity::Keeper::open(options, self.secrets.clone(), status.clone(), clock)
            .map_err(|error| error.to_string())?;
        let survival = bootstrap.ads.as_ref().map(|_| {
            Survival::new(keeper.store(), self.secrets.clone(), &bootstrap.node, self.sealed.clone())
        });
        Ok(State { keeper: Some(keeper), survival })
    }

    /// Takes the sealed snapshot into use, where there is one.
    fn restore(&self, state: &mut State) -> Known {
        let Some(survival) = &mut state.survival else { return Known::new() };
        let mut builder = self.builder.builder.borrow_mut();
        let known = survival.restore(&mut builder);
        builder.publish();
        drop(builder);
        self.apply();
        known
    }

    /// Takes routes and clusters of the current snapshot into use.
    fn apply(&self) {
        apply(&self.live, &self.shared, &self.notes);
    }

    fn start_workers(&self, tasks: &Tasks) -> Result<(Vec<Sender>, Vec<WorkerThread>), String> {
        let limit = ConnectionLimit::from_descriptors(self.loaded.model.runtime.max_connections);
        let mut senders = Vec::new();
        let mut handles = Vec::new();
        for index in 0..self.options.concurrency.unwrap_or(1) {
            let (sender, commands) = mpsc::unbounded_channel();
            let (shared, tasks, limit) = (self.shared.clone(), tasks.clone(), limit.clone());
            let start = move || worker(shared, tasks, limit, commands);
            let handle = thread::worker(&format!("worker-{index}"), start)
                .map_err(|error| format!("cannot start worker {index}: {error}"))?;
            senders.push(sender);
            handles.push(handle);
        }
        Ok((senders, handles))
    }

    fn start_tasks(
        &self,
        tasks: &Tasks,
        manager: Manager,
        complete: bool,
        state: State,
        known: Known,
    ) -> Result<(), String> {
        let listening = manager.listening();
        let drain = self.drain.clone();
        tasks.spawn_local("signals", async move {
            let watch = drain.watch();
            tokio::select! {
                name = runtime::signals::shutdown() => {
                    tracing::info!(signal = name?, "draining");
                    drain.start();
                }
                () = watch.started() => {}
            }
            Ok(())
        });
        self.start_configuration(tasks, manager, complete);
        self.start_state(tasks, state);
        let pages = Rc::new(self.pages(tasks, &listening));
        self.start_ads(tasks, known, pages.clone())?;
        self.start_admin(tasks, pages)
    }

    fn start_configuration(&self, tasks: &Tasks, mut manager: Manager, mut complete: bool) {
        let (live, shared, notes) = (self.live.clone(), self.shared.clone(), self.notes.clone());
        let mut published = self.builder.builder.borrow().published();
        published.mark_unchanged();
        let drain = tasks.drain();
        let (served, ending) = watch::channel(false);
        if let Some(outlets) = self.shared.exports.take() {
            let exporting = export::run(outlets, self.shared.clone(), ending);
            tasks.spawn_local("exports", async move {
                exporting.await;
                Ok(())
            });
        }
        let (minimum, limit) = (self.options.minimum_drain(), self.options.drain_time());
        tasks.spawn_local("configuration", async move {
            loop {
                tokio::select! {
                    () = drain.started() => break,
                    changed = published.changed() => changed?,
                    () = tokio::time::sleep(BIND_RETRY), if !complete => {}
                }
                apply(&live, &shared, &notes);
                complete = manager.reconcile(&live.load().listeners);
            }
            let begun = drain.since().unwrap_or_else(Instant::now);
            let listening = manager.listening();
            // Workers end with their last sender. This task may still be here when the time is over: it must hold none.
            drop(manager);
            listen::drain::run(&listening, minimum, begun + limit).await;
            // Nobody reads it any more once the exports have ended.
            let _ = served.send(true);
            Ok(())
        });
        let (builder, drain) = (self.builder.clone(), tasks.drain());
        tasks.spawn_local("warming", async move {
            until(&drain, builder.keep_warming()).await;
            Ok(())
        });
        let (routing, drain) = (self.shared.routing.clone(), tasks.drain());
        let events = routing.outlier_events().clone();
        let (registry, ending) = (self.shared.registry.clone(), tasks.drain());
        tasks.spawn_local("series", async move {
            let sweeping = async {
                loop {
                    tokio::time::sleep(SERIES_SWEEP).await;
                    registry.sweep(Instant::now(), SERIES_IDLE);
                }
            };
            until(&ending, sweeping).await;
            Ok(())
        });
        tasks.spawn_local("outliers", async move {
            until(&drain, outlier_sweep::run(move || routing.clusters(), events)).await;
            Ok(())
        });
        let (routing, drain) = (self.shared.routing.clone(), tasks.drain());
        tasks.spawn_local("names", async move {
            until(&drain, resolve::run(move || routing.clusters())).await;
            Ok(())
        });
    }

    fn start_state(&self, tasks: &Tasks, state: State) {
        if let Some(keeper) = state.keeper {
            let drain = tasks.drain();
            tasks.spawn_local("identity", async move {
                tokio::select! {
                    result = keeper.keep() => result,
                    () = drain.started() => Ok(()),
                }
            });
        }
        if let Some(survival) = state.survival {
            let (builder, drain) = (self.builder.builder.clone(), tasks.drain());
            tasks.spawn_local("snapshot", async move {
                survival.keep(builder, drain).await;
                Ok(())
            });
        }
    }

    fn start_ads(&self, tasks: &Tasks, known: Known, pages: Rc<admin::Context>) -> Result<(), String> {
        let bootstrap = &self.loaded.model;
        let Some(ads) = &bootstrap.ads else { return Ok(()) };
        let server = Server::new(bootstrap, &ads.cluster, &self.secrets)?;
        let node = node::for_server(self.loaded.message.node.as_ref());
        let (protocol, builder, drain) = (ads.protocol, self.builder.clone(), tasks.drain());
        let (channels, connected) = watch::channel(None);
        let sources = observe::Sources { shared: self.shared.clone(), pages };
        let observing = observe::run(connected, node.clone(), sources);
        tasks.spawn_local("ads", async move {
            ads::run(server, node, protocol, builder, channels, known, drain).await;
            Ok(())
        });
        let drain = tasks.drain();
        tasks.spawn_local("observe", async move {
            until(&drain, observing).await;
            Ok(())
        });
        Ok(())
    }

    /// What the admin pages are made from, whoever asks for them.
    fn pages(&self, tasks: &Tasks, listening: &Listening) -> admin::Context {
        let (kept, stream) = {
            let builder = self.builder.builder.borrow();
            (builder.kept(), builder.stream())
        };
        let readiness = admin::Readiness {
            secrets: self.secrets.clone(),
            identity: self.identity.clone(),
            sealed: self.sealed.clone(),
            stream,
            listening: listening.clone(),
            builder: self.builder.builder.clone(),
            live: self.live.clone(),
            drain: tasks.drain(),
            was_ready: Cell::new(false),
        };
        let membership = Arc::new(admin::Membership(self.shared.routing.clone()));
        let computed: Arc<dyn Computed> = membership.clone();
        self.shared.registry.compute(Arc::downgrade(&computed));
        admin::Context {
            command_line: admin::CommandLine {
                config_path: self.options.config.display().to_string(),
                concurrency: self.options.concurrency,
                drain_seconds: self.options.drain_seconds,
                log_level: self.options.log_level.clone(),
            },
            node: node::for_server(self.loaded.message.node.as_ref()),
            bootstrap: self.loaded.message.clone(),
            readiness,
            shared: self.shared.clone(),
            registry: self.shared.registry.clone(),
            raised: self.shared.sinks.raised.clone(),
            routing: self.shared.routing.clone(),
            membership,
            kept,
            notes: self.notes.clone(),
            drain: self.drain.clone(),
            tasks: tasks.clone(),
            started: self.started,
        }
    }

    fn start_admin(&self, tasks: &Tasks, pages: Rc<admin::Context>) -> Result<(), String> {
        let Some(wanted) = &self.loaded.model.admin else { return Ok(()) };
        let socket = admin::bind(&wanted.address).map_err(|error| format!("admin: {error}"))?;
        start_status(&self.loaded.model.node, tasks, &pages)?;
        let pages = Rc::new(admin::AdminPages(pages));
        let (serving, own) = (admin::serve(socket, pages, tasks.clone()), tasks.clone());
        tasks.spawn_local("admin", async move {
            tokio::select! {
                result = serving => result,
                () = last_one(&own) => Ok(()),
            }
        });
        Ok(())
    }
}

/// Istio's status port, where the node asks for it.
fn start_status(node: &model::Node, tasks: &Tasks, context: &Rc<admin::Context>) -> Result<(), String> {
    let Some(admin::StatusPort { address, app }) = admin::StatusPort::of(node)? else { return Ok(()) };
    let socket =
        admin::bind(&model::Address::Socket(address)).map_err(|error| format!("status port: {error}"))?;
    let pages = Rc::new(admin::StatusPages { context: context.clone(), app });
    let (serving, drain) = (admin::serve(socket, pages, tasks.clone()), tasks.drain());
    tasks.spawn_local("status port", async move {
        tokio::select! {
            result = serving => result,
            () = drain.started() => Ok(()),
        }
    });
    Ok(())
}

/// Waits until the drain has left no task but the caller: whoever watches a drain can see it to its end.
async fn last_one(tasks: &Tasks) {
    tasks.drain().started().await;
    while tasks.alive() > 1 {
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs what never ends by itself until the drain starts.
async fn until(drain: &runtime::DrainWatch, future: impl Future<Output = ()>) {
    tokio::select! {
        () = future => {}
        () = drain.started() => {}
    }
}

fn apply(live: &Live, shared: &Shared, notes: &Notes) {
    for problem in shared.routing.apply(&live.load()) {
        tracing::error!(cluster = %problem.cluster, "not usable: {}", problem.reason);
    }
    for (kind, fields) in notes.fields_by_kind() {
        shared.registry.set_not_acting(kind, fields);
    }
}

async fn worker(
    shared: Arc<Shared>,
    tasks: Tasks,
    limit: ConnectionLimit,
    commands: mpsc::UnboundedReceiver<Command>,
) {
    let http = filter::Worker::new(&shared);
    let tcp = Forwarder::new(http.clone());
    let worker = Rc::new(Worker { tasks, limit, http: http.clone(), failures: DenialLog::default(), tcp });
    tokio::select! {
        () = listen::worker::run(worker.clone(), commands) => {}
        () = http.maintain() => {}
        () = worker.tcp.report() => {}
    }
}

/// A resource is only accepted when it could be served.
fn checks(parts: Parts) -> Checks {
    let secrets = parts.secrets.clone();
    Checks {
        listener: Box::new(move |listener: &model::Listener| {
            listen::chain::ActiveListener::build(&Arc::new(listener.clone()), None, &parts).map(|_| ())
        }),
        cluster: Box::new(move |cluster: &Cluster| {
            let named = cluster.transport_socket_matches.iter().enumerate();
            let matches = named.map(|(index, one)| {
                (format!("transport_socket_matches[{index}].transport_socket"), &one.socket)
            });
            for (path, socket) in matches.chain([("transport_socket".to_owned(), &cluster.transport_socket)])
            {
                Transport::new(socket, &secrets).map_err(|error| Refused {
                    path: format!("{path}.typed_config.{}", error.path),
                    reason: error.reason,
                })?;
            }
            Ok(())
        }),
    }
}
