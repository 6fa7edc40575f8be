//! `tulle demo`: a whole mesh on this machine, and a tour that measures what it claims.

use std::process::ExitCode;
use std::time::Duration;

use runtime::{Drain, Supervisor, Tasks};

use crate::Error;

mod claims;
mod mesh;
mod picture;
mod place;
mod processes;
mod tour;

/// How long the processes of the demo may take to stop.
const GRACE: Duration = Duration::from_secs(10);

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
        let stop = jobs.drain();
        let result = tokio::select! {
            result = guided(&arguments, &jobs) => result,
            () = stop.started() => Ok(ExitCode::from(130)),
        };
        // The receiver lives until the supervisor has seen this task end.
        let _ = sender.send(result);
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

async fn guided(arguments: &DemoArguments, tasks: &Tasks) -> Result<ExitCode, Error> {
    let mut picture = picture::Picture::new(arguments.check);
    let place = place::Place::prepare(arguments.directory.clone())?;
    let mut mesh = mesh::Mesh::start(place, tasks, &mut picture).await?;
    let claims = tour::walk(&mut mesh, &mut picture, arguments.requests).await;
    picture.clear();
    let ok = claims.iter().all(|claim| claim.ok);
    if arguments.check {
        println!("{}", serde_json::json!({"ok": ok, "claims": claims}));
        mesh.stop().await;
        return Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    tour::farewell(&mesh, &claims);
    runtime::signals::shutdown().await?;
    mesh.stop().await;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
