//! The sealed snapshot of the last good configuration: taken into use at the start, with or without a control plane, and
//! written again after every change, off the request path.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::model;
use protos::Message as _;
use runtime::DrainWatch;
use tokio::sync::oneshot;

use crate::identity::store::Store;
use crate::state::sealed::{Content, Origin};
use crate::state::sealed_status::Loaded;
use crate::state::{Builder, SealedStatus};
use crate::tls::Secrets;

/// Changes within this time are written together.
const COALESCE: Duration = Duration::from_millis(500);
/// Pause after a failed write; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Versions of what was taken into use, by type and name: what the xDS server is told.
pub type Known = Vec<(String, BTreeMap<String, String>)>;

/// The sealed snapshot of one workload.
#[derive(Clone)]
pub struct Survival {
    store: Arc<Store>,
    secrets: Arc<Secrets>,
    node: String,
    status: SealedStatus,
    restored: Option<Written>,
}

impl Survival {
    /// The snapshot in the state directory of the workload `node`.
    pub fn new(store: Arc<Store>, secrets: Arc<Secrets>, node: &model::Node, status: SealedStatus) -> Self {
        Survival { store, secrets, node: format!("{} {}", node.id, node.cluster), status, restored: None }
    }

    fn origin(&self) -> Origin {
        let bundle = self.secrets.current().map(|own| own.bundle()).unwrap_or_default();
        Origin { node: self.node.clone(), bundle }
    }

    /// Takes the saved snapshot into use, whole or not at all. What it held, for [`xds::client::Config::known`].
    pub fn restore(&mut self, builder: &mut Builder) -> Known {
        match self.try_restore(builder) {
            Ok(known) => known,
            Err(reason) => {
                tracing::warn!(
                    "the sealed snapshot is not used, configuration comes from the control plane only: {reason}"
                );
                self.status.change(|facts| facts.refused = Some(reason));
                Known::new()
            }
        }
    }

    fn try_restore(&mut self, builder: &mut Builder) -> Result<Known, String> {
        let loaded = self.store.load_snapshot().map_err(|error| error.to_string())?;
        let Some(bytes) = loaded else { return Ok(Known::new()) };
        let mut content = Content::read(&bytes, &self.node).map_err(|error| error.to_string())?;
        let length = bytes.len();
        drop(bytes);
        let seconds = std::mem::take(&mut content.saved);
        let saved = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or("it was made at a time that does not exist")?;
        let written = Written::of(&content.encode_to_vec());
        let (count, bundle) = (content.resources.len(), content.bundle.clone());
        let resources = content.by_type();
        builder.restore(&resources)?;
        if bundle != self.origin().bundle {
            tracing::info!(
                "the sealed snapshot was made under another trust bundle; the current one decides"
            );
        }
        self.restored = Some(written);
        let age_seconds = SystemTime::now().duration_since(saved).unwrap_or_default().as_secs();
        tracing::info!(resources = count, age_seconds, "started from the sealed snapshot");
        self.status.change(|facts| {
            facts.loaded = Some(Loaded { saved, resources: count });
            (facts.saved, facts.bytes) = (Some(saved), length);
        });
        let versions = resources.into_iter().map(|(type_url, all)| {
            let of_type = all.into_iter().map(|resource| (resource.name, resource.version)).collect();
            (type_url.to_owned(), of_type)
        });
        Ok(versions.collect())
    }

    /// Writes the snapshot after every change that is whole, until the drain.
    ///
    /// # Errors
    /// None: what cannot be written is logged, counted and tried again.
    pub async fn keep(self, builder: Rc<RefCell<Builder>>, drain: DrainWatch) {
        let (mut published, mut stream, kept) = {
            let builder = builder.borrow();
            (builder.published(), builder.stream(), builder.kept())
        };
        let mut identity = self.secrets.changes();
        let mut last = self.restored;
        let mut pause = None;
        loop {
            let retry = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = drain.started() => return,
                Ok(()) = published.changed() => {}
                Ok(()) = stream.changed() => {}
                Ok(()) = identity.changed() => {}
                () = retry => {}
            }
            tokio::select! {
                () = drain.started() => return,
                () = tokio::time::sleep(COALESCE) => {}
            }
            let whole = builder.borrow().waiting().is_empty() && stream.borrow_and_update().complete;
            published.mark_unchanged();
            if !whole {
                continue;
            }
            let (survival, kept, before) = (self.clone(), kept.clone(), last);
            // On a thread of its own: the disk may be slow, and the memory goes back when the thread ends.
            let (tell, told) = oneshot::channel();
            let started = runtime::thread::spawn("snapshot", move || {
                // Nobody listens any more when the process ends.
                let _ = tell.send(survival.write(&kept, before));
            });
            let result = match started {
                Ok(_) => told.await.unwrap_or_else(|_| Err("the writer panicked".to_owned())),
                Err(error) => Err(error.to_string()),
            };
            match result {
                Ok(written) => (last, pause) = (written, None),
                Err(reason) => {
                    let (first, longest) = RETRY;
                    let next = pause.map_or(first, |pause: Duration| (pause * 2).min(longest));
                    let retry_in_s = next.as_secs();
                    tracing::warn!(
                        retry_in_s,
                        "the sealed snapshot is not written, the one before stays: {reason}"
                    );
                    self.status.change(|facts| {
                        facts.write_failures += 1;
                        facts.failure = Some(reason);
                    });
                    pause = Some(next);
                }
            }
        }
    }

    /// Writes what is accepted now unless it equals what was written `before`; what is written now.
    fn write(&self, kept: &crate::state::Kept, before: Option<Written>) -> Result<Option<Written>, String> {
        let now = SystemTime::now();
        let Some(mut content) = Content::of(kept, &self.origin(), now) else { return Ok(before) };
        let saved = std::mem::take(&mut content.saved);
        let written = Written::of(&content.encode_to_vec());
        if before == Some(written) {
            return Ok(before);
        }
        content.saved = saved;
        let bytes = content.encode_to_vec();
        drop(content);
        let length = self.store.save_snapshot(&bytes).map_err(|error| error.to_string())?;
        self.status.change(|facts| {
            facts.writes += 1;
            facts.failure = None;
            (facts.saved, facts.bytes) = (Some(now), length);
        });
        Ok(Some(written))
    }
}

/// Digest of a content without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written([u8; 32]);

impl Written {
    fn of(bytes: &[u8]) -> Written {
        let mut digest = [0; 32];
        let computed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.copy_from_slice(computed.as_ref());
        Written(digest)
    }
}
