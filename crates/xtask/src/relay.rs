//! A relay that only copies bytes: the floor that `cargo xtask bench` compares with, and the measure of its noise.

use tokio::net::{TcpListener, TcpStream};

/// Where the relay stands.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Port that it listens on
    listen: u16,
    /// Port that it copies to
    to: u16,
}

/// Copies until it is killed.
///
/// # Errors
/// The port cannot be bound.
pub fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    runtime::thread::block_on_local(relay(options))??;
    Ok(true)
}

async fn relay(options: &Options) -> std::io::Result<()> {
    let (_drain, watch) = runtime::Drain::new();
    let supervisor = runtime::Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let listener = TcpListener::bind(("127.0.0.1", options.listen)).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        let to = options.to;
        tasks.job_local("relayed connection", async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            // A connection that breaks is of no interest here.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
