//! `tulle demo`: a whole mesh on this machine, and a tour that measures what it claims.

use std::process::ExitCode;
use std::time::Duration;

use runtime::{Drain, Supervisor, Tasks};

use crate::Error;

mod claims;
mod leaves;
mod levers;
mod mesh;
mod picture;
mod place;
mod processes;
mod tour;

/// How long the processes of the demo may take to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Exit code after a signal that ended the tour, as shells count it.
const INTERRUPTED: u8 = 130;

/// Flags of `tulle demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArguments {
    /// Measure every claim, print one JSON object, stop; the exit code is 0 only if all of them hold
    #[arg(long)]
    check: bool,
    /// Folder for configuration, keys and logs [default: a temporary one, removed at the end]
    #[arg(long)]
    directory: Option<std::path::PathBuf>,
    /// Requests of the canary measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    requests: u64,
}

/// Runs the demo.
///
/// # Errors
/// A part of the mesh could not be started; the text names it and its log.
pub fn run(arguments: DemoArguments) -> Result<ExitCode, Error> {
    runtime::thread::block_on_local(supervise(arguments))?
}

async fn supervise(arguments: DemoArguments) -> Result<ExitCode, Error> {
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let (finished, jobs) = (drain.clone(), tasks.clone());
    tasks.spawn_local("tour", async move {
        // The receiver lives until the supervisor has seen this task end.
        let _ = sender.send(guided(&arguments, &jobs).await);
        finished.start();
        Ok(())
    });
    tasks.spawn_local("signals", async move {
        runtime::signals::shutdown().await?;
        drain.start();
        Ok(())
    });
    supervisor.run(GRACE).await?;
    receiver.try_recv().map_err(|_| "the demo did not stop in time")?
}

/// Starts the mesh, walks the tour, stops the mesh. A signal ends it early with exit code 130.
async fn guided(arguments: &DemoArguments, tasks: &Tasks) -> Result<ExitCode, Error> {
    let stop = tasks.drain();
    let mut picture = picture::Picture::new(arguments.check);
    let place = place::Place::prepare(arguments.directory.clone())?;
    let mut mesh = tokio::select! {
        mesh = mesh::Mesh::start(place, tasks, &mut picture) => mesh?,
        () = stop.started() => return Ok(INTERRUPTED.into()),
    };
    let claims = tokio::select! {
        claims = tour::walk(&mut mesh, &mut picture, arguments.requests) => Some(claims),
        () = stop.started() => None,
    };
    picture.clear();
    let Some(claims) = claims else {
        mesh.stop().await;
        return Ok(INTERRUPTED.into());
    };
    let ok = claims.iter().all(|claim| claim.ok);
    if arguments.check {
        println!("{}", serde_json::json!({"ok": ok, "claims": claims}));
    } else {
        tour::farewell(&mesh, &claims);
        stop.started().await;
    }
    mesh.stop().await;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
