//! What the claims do to the running mesh and read from it: failures on request, counts at the program, what a sidecar
//! says about its hosts and its certificate, traffic in the background.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use http_body_util::BodyExt;
use runtime::Tasks;

use super::mesh::{Mesh, Workload, workload};
use crate::Error;
use crate::bootstrap::ADMIN_PORT;
use crate::client::{self, Connection};
use crate::echo::burst::Tally;

/// How a burst is sent.
#[derive(Debug, Clone, Copy)]
pub struct Burst<'a> {
    /// Requests in all.
    pub count: u64,
    /// Requests at once.
    pub concurrency: u64,
    /// Headers of each, as `name:value`.
    pub headers: &'a [&'a str],
}

/// Requests that went on while something was done to the mesh.
pub struct Background {
    tally: Rc<RefCell<Tally>>,
    stop: Rc<Cell<bool>>,
    failure: Rc<RefCell<Option<String>>>,
}

impl Background {
    /// Requests that have ended so far.
    pub fn sent(&self) -> u64 {
        self.tally.borrow().sent
    }

    /// Ends the traffic and tells how it went.
    ///
    /// # Errors
    /// The caller's program broke off.
    pub fn stop(self) -> Result<Tally, Error> {
        self.stop.set(true);
        match self.failure.take() {
            Some(reason) => Err(reason.into()),
            None => Ok(self.tally.take()),
        }
    }
}

impl Mesh {
    /// Tells a program what to do with every request (`tulle echo --help`); an empty script ends it.
    ///
    /// # Errors
    /// The program does not answer, or does not know the script.
    pub async fn script(&self, program: &str, script: &str) -> Result<(), Error> {
        let address = self.place.program(workload(program).host);
        let mut connection = Connection::open(address, self.tasks()).await?;
        let target = format!("/echo/do?{script}");
        let answer =
            connection.exchange(client::request("POST", &target, &address.to_string(), &[])?).await?;
        if answer.status != 200 {
            return Err(format!("{program}: {script}: {}", answer.text()).into());
        }
        Ok(())
    }

    /// Requests named `id` that a program has executed since its start, counted by the program.
    pub fn executed(&self, program: &str, id: &str) -> u64 {
        let text = std::fs::read_to_string(self.place.record(program)).unwrap_or_default();
        text.lines().filter(|line| *line == id).count() as u64
    }

    /// A page of a sidecar's admin port.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn admin_page(&self, of: &Workload, path: &str) -> Result<String, Error> {
        let admin = SocketAddr::new(self.place.workload(of.host), ADMIN_PORT);
        Ok(client::get(admin, path, self.tasks()).await?.text())
    }

    /// Lets the frontend call the payment service until the traffic is stopped.
    ///
    /// # Errors
    /// The frontend does not answer.
    pub async fn background(&self) -> Result<Background, Error> {
        let address = self.place.program(workload("frontend").host);
        let target = "/burst?count=10000000&concurrency=8&via=vip";
        let mut connection = Connection::open(address, self.tasks()).await?;
        let answer = connection.send(client::request("GET", target, &address.to_string(), &[])?).await?;
        let background = Background { tally: Rc::default(), stop: Rc::default(), failure: Rc::default() };
        let (tally, stop, failure) =
            (background.tally.clone(), background.stop.clone(), background.failure.clone());
        let jobs: &Tasks = self.tasks();
        jobs.job_local("background traffic", async move {
            let _open = connection;
            let mut body = answer.into_body();
            let mut text = Vec::new();
            // The callers stop when nobody reads their tally any more.
            while !stop.get() {
                let Some(Ok(frame)) = body.frame().await else {
                    failure.borrow_mut().get_or_insert("the background traffic broke off".to_owned());
                    return;
                };
                text.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    if let Ok(now) = serde_json::from_slice(&line) {
                        *tally.borrow_mut() = now;
                    }
                }
            }
        });
        Ok(background)
    }

    /// Waits until so many more requests of the background have ended.
    ///
    /// # Errors
    /// They did not in time.
    pub async fn more(&mut self, traffic: &Background, requests: u64) -> Result<(), Error> {
        let goal = traffic.sent() + requests;
        self.until("the traffic goes on", async |_| Ok(traffic.sent() >= goal)).await
    }
}
