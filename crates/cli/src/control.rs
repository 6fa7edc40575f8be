//! Asking a running `tulled` through its monitoring port.

use std::net::SocketAddr;

use runtime::{Drain, Supervisor};
use serde_json::Value;

use crate::{Error, client};

/// One question, one JSON answer. Blocks; for commands that do nothing else meanwhile.
///
/// # Errors
/// `tulled` is not there, or says no: the text names the address and what it said.
pub fn ask(address: SocketAddr, path: &str) -> Result<Value, Error> {
    let asking = async {
        let (_drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        client::get(address, path, &supervisor.tasks()).await
    };
    let answer = runtime::thread::block_on_local(asking)?.map_err(|error| {
        format!("tulled cannot be asked: {error}; is --monitoring its monitoring address?")
    })?;
    if !answer.status.is_success() {
        return Err(format!("tulled at {address} says {}: {}", answer.status, answer.text().trim()).into());
    }
    Ok(serde_json::from_slice(&answer.body)?)
}
