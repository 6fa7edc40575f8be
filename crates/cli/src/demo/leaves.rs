//! The certificates that the sidecars have had since the mesh came up, and the requests that had to succeed meanwhile.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::mesh::{Mesh, WORKLOADS};
use crate::Error;
use crate::bootstrap::ADMIN_PORT;
use crate::client;
use crate::echo::burst::Tally;

/// How often the sidecars are asked.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Seen {
    serials: BTreeMap<&'static str, BTreeSet<String>>,
    sent: u64,
    failed: u64,
}

/// What was seen so far. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Leaves {
    seen: Rc<RefCell<Seen>>,
}

impl Leaves {
    /// Looks at the sidecars' certificates from now on, until the demo ends.
    pub fn watch(&self, mesh: &Mesh) {
        let (seen, tasks) = (self.seen.clone(), mesh.tasks().clone());
        let admins =
            WORKLOADS.iter().map(|it| (it.name, SocketAddr::new(mesh.place.workload(it.host), ADMIN_PORT)));
        let (admins, stop): (Vec<_>, _) = (admins.collect(), tasks.drain());
        mesh.tasks().job_local("leaves", async move {
            while !stop.is_draining() {
                for (name, admin) in &admins {
                    // A sidecar that is being restarted does not answer.
                    if let Ok(serial) =
                        client::get(*admin, "/certs", &tasks).await.and_then(|page| serial(&page.text()))
                    {
                        seen.borrow_mut().serials.entry(name).or_default().insert(serial);
                    }
                }
                tokio::select! {
                    () = stop.started() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
    }

    /// Requests none of which may fail.
    pub fn count(&self, tally: &Tally) {
        let mut seen = self.seen.borrow_mut();
        seen.sent += tally.sent;
        seen.failed += tally.failed;
    }

    /// How many certificates a sidecar has had.
    pub fn of(&self, workload: &str) -> usize {
        self.seen.borrow().serials.get(workload).map_or(0, BTreeSet::len)
    }

    /// Requests that were counted, and those of them that failed.
    pub fn requests(&self) -> (u64, u64) {
        let seen = self.seen.borrow();
        (seen.sent, seen.failed)
    }
}

fn serial(page: &str) -> Result<String, Error> {
    let page: serde_json::Value = serde_json::from_str(page)?;
    let serial = page["certificates"][0]["cert_chain"][0]["serial_number"].as_str();
    Ok(serial.ok_or("no certificate yet")?.to_owned())
}
