//! `cargo xtask bench`: Tulle and its peers side by side in the same role, on the same machine, in interleaved runs; the
//! table, the plots and the raw numbers are written down.
//!
//! Proxies are pinned to one core, the load and the program behind to another. What counts is the ratio of CPU time per
//! request to that of a peer in the same run: the clock of a shared machine is no judge.

mod load;
mod measure;
mod page;
mod peers;
mod place;
mod plot;
mod scenario;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use load::Load;
use measure::Sample;
use peers::{Peer, Peers};
use place::Place;
use scenario::{SCENARIOS, Scenario};
use serde::Serialize;

/// Flags of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Interleaved runs of every cell
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of load per run
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Only scenarios whose name begins so; the page is not written then
    #[arg(long)]
    only: Option<String>,
    /// Only these proxies, comma-separated; the page is not written then
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<String>,
    /// Core of the proxies
    #[arg(long, default_value_t = 1)]
    proxy_core: usize,
    /// Core of the load and of the program behind
    #[arg(long, default_value_t = 0)]
    load_core: usize,
}

/// All samples of one proxy in one scenario.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Scenario's name.
    pub scenario: &'static str,
    /// The proxy.
    pub proxy: &'static str,
    /// One per run.
    pub samples: Vec<Sample>,
}

/// Runs every scenario; `Ok(false)` when a proxy failed a request.
///
/// # Errors
/// A peer cannot be installed, a proxy does not start, or the results cannot be written.
pub fn run(options: &Options, root: &Path) -> Result<bool, String> {
    let built = Command::new("cargo")
        .args(["build", "--release", "--bin", "tulle-proxy", "--bin", "xtask"])
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo build: {error}"))?;
    if !built.success() {
        return Err("cargo build --release failed".to_owned());
    }
    let peers = Peers::find(root)?;
    let place = Place::new(root, options.proxy_core, options.load_core)?;
    let _upstream = place.start_upstream()?;
    let wanted = |one: &&Scenario| options.only.as_deref().is_none_or(|only| one.name.starts_with(only));
    let chosen =
        |peer: &Peer| options.proxies.is_empty() || options.proxies.iter().any(|it| it == peer.name());
    let mut cells: Vec<Cell> = Vec::new();
    for scenario in SCENARIOS.iter().filter(wanted) {
        for peer in scenario.peers.iter().filter(|it| chosen(it)) {
            cells.push(Cell { scenario: scenario.name, proxy: peer.name(), samples: Vec::new() });
        }
    }
    for number in 1..=options.runs {
        for cell in &mut cells {
            eprintln!("bench: run {number} of {}: {} {}", options.runs, cell.scenario, cell.proxy);
            cell.samples.push(one(options, &place, &peers, cell)?);
        }
    }
    let whole = options.only.is_none() && options.proxies.is_empty();
    page::write(root, &cells, &peers, options, whole)?;
    Ok(cells.iter().flat_map(|cell| &cell.samples).all(|sample| sample.errors == 0))
}

fn one(options: &Options, place: &Place, peers: &Peers, cell: &Cell) -> Result<Sample, String> {
    let scenario = SCENARIOS.iter().find(|it| it.name == cell.scenario).ok_or("no such scenario")?;
    let peer = Peer::named(cell.proxy).ok_or("no such proxy")?;
    let running = place.start(scenario, peer, peers)?;
    let load = Load { scenario, core: options.load_core, port: running.entry };
    load.run(place, Duration::from_secs(1))?;
    let idle = running.resident_kib();
    let before = running.cpu();
    let outcome = load.run(place, Duration::from_secs(options.seconds))?;
    let cpu = running.cpu().saturating_sub(before);
    Ok(Sample::new(&outcome, cpu, idle, running.resident_kib()))
}
