//! Accepting connections: bound, counted, each one a job of the supervisor.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::{TaskError, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long accepting rests after an error such as "too many open files".
const REST: Duration = Duration::from_millis(100);

/// Binds a port; the error names it.
///
/// # Errors
/// The address is in use, is not one of this machine, or needs a privilege.
pub async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, TaskError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        format!("{what} {address}: {error}; choose another address with the flag of that port").into()
    })
}

/// Serves connections until the drain starts, at most `most` at a time; further ones wait in the kernel's queue.
///
/// # Errors
/// None today: an error of a single accept is logged and accepting goes on.
pub async fn accept<F, S>(
    name: &'static str,
    listener: TcpListener,
    most: usize,
    tasks: Tasks,
    serve: F,
) -> Result<(), TaskError>
where
    F: Fn(TcpStream, SocketAddr) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(most));
    let drain = tasks.drain();
    loop {
        let permit = tokio::select! {
            () = drain.started() => return Ok(()),
            permit = permits.clone().acquire_owned() => permit?,
        };
        let accepted = tokio::select! {
            () = drain.started() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let connection = serve(stream, address);
                tasks.job(name, async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(port = name, "a connection could not be accepted: {error}");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
