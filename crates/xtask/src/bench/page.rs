//! The results as a page, plots and raw numbers.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::measure::Sample;
use super::peers::{Peer, Peers};
use super::scenario::{Kind, SCENARIOS, Scenario};
use super::{Cell, Options, plot};

/// Where the page goes.
const PAGE: &str = "docs/performance.md";
/// Where plots and raw numbers go.
const FOLDER: &str = "docs/performance";
/// Spread of the relay above which a run judges nothing.
const QUIET: f64 = 0.05;

/// Minimum, median and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Least.
    pub min: f64,
    /// Middle.
    pub median: f64,
    /// Greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one number; zeros of none.
    pub fn of(numbers: impl Iterator<Item = f64>) -> Spread {
        let mut all: Vec<f64> = numbers.collect();
        all.sort_by(f64::total_cmp);
        let at = |index: usize| all.get(index).copied().unwrap_or(0.0);
        Spread { min: at(0), median: at(all.len() / 2), max: at(all.len().saturating_sub(1)) }
    }
}

fn spread(cell: &Cell, number: impl Fn(&Sample) -> f64) -> Spread {
    Spread::of(cell.samples.iter().map(number))
}

/// The median of the ratios of runs that stood next to each other.
pub fn ratio(ours: &Cell, theirs: &Cell) -> f64 {
    let pairs = ours.samples.iter().zip(&theirs.samples);
    Spread::of(pairs.map(|(a, b)| a.cpu_per_unit / b.cpu_per_unit)).median
}

/// Writes the page where everything ran; prints it otherwise.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    root: &Path,
    cells: &[Cell],
    peers: &Peers,
    options: &Options,
    whole: bool,
) -> Result<(), String> {
    let text = page(root, cells, peers, options);
    if !whole {
        println!("{text}");
        return Ok(());
    }
    let save = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    save(&root.join(PAGE), &text)?;
    let raw = json!({"runs": options.runs, "seconds": options.seconds, "cells": cells});
    save(&folder.join("raw.json"), &format!("{raw:#}\n"))?;
    for scenario in SCENARIOS {
        save(&folder.join(format!("{}.svg", scenario.name)), &plot::bars(scenario, &of(cells, scenario)))?;
    }
    Ok(())
}

fn of<'c>(cells: &'c [Cell], scenario: &Scenario) -> Vec<&'c Cell> {
    cells.iter().filter(|cell| cell.scenario == scenario.name).collect()
}

fn page(root: &Path, cells: &[Cell], peers: &Peers, options: &Options) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = body(&mut out, root, cells, peers, options);
    out
}

fn body(out: &mut String, root: &Path, cells: &[Cell], peers: &Peers, options: &Options) -> std::fmt::Result {
    writeln!(
        out,
        "# Performance\n\nMade by `cargo xtask bench`: {} interleaved runs of {} s for every cell, proxies pinned to one core, load and the program\nbehind to another; \
         a pair counts both proxies. Quote the ratios: the absolute numbers belong to this machine.\nThe configurations are in [benches](../benches), the raw numbers in [performance/raw.json](performance/raw.json).\n",
        options.runs, options.seconds
    )?;
    writeln!(
        out,
        "Machine: {}. Versions: tulle {}; {}.\n",
        machine(),
        commit(root),
        peers.versions().join("; ")
    )?;
    if let Some(floor) = cells.iter().find(|cell| cell.proxy == Peer::Relay.name()) {
        let it = spread(floor, |sample| sample.cpu_per_unit);
        let wide = (it.max - it.min) / it.median.max(f64::MIN_POSITIVE);
        let quiet = if wide <= QUIET {
            "the machine was quiet"
        } else {
            "the machine was **not** quiet: do not judge by this run"
        };
        writeln!(out, "The relay's spread was {:.1} %: {quiet}.\n", wide * 100.0)?;
    }
    writeln!(
        out,
        "| scenario | CPU, tulle | compared with | ratio | must | met |\n|---|---|---|---|---|---|"
    )?;
    for scenario in SCENARIOS {
        let here = of(cells, scenario);
        let (Some((peer, must)), Some(ours)) = (scenario.target, find(&here, Peer::Tulle)) else { continue };
        let Some(theirs) = find(&here, peer) else { continue };
        let found = ratio(ours, theirs);
        let met = if found <= must { "yes" } else { "**no**" };
        let cpu = spread(ours, |sample| sample.cpu_per_unit).median;
        writeln!(
            out,
            "| {}: {} | {cpu:.2} {} | {} | {found:.2} | ≤ {must:.2} | {met} |",
            scenario.name,
            scenario.what,
            unit(scenario),
            peer.name()
        )?;
    }
    for scenario in SCENARIOS {
        table(out, scenario, &of(cells, scenario))?;
    }
    Ok(())
}

fn find<'c>(cells: &[&'c Cell], peer: Peer) -> Option<&'c Cell> {
    cells.iter().copied().find(|cell| cell.proxy == peer.name())
}

/// Unit of the CPU column.
pub fn unit(scenario: &Scenario) -> &'static str {
    if scenario.kind == Kind::Bytes { "s/GB" } else { "µs/request" }
}

fn table(out: &mut String, scenario: &Scenario, cells: &[&Cell]) -> std::fmt::Result {
    if cells.is_empty() {
        return Ok(());
    }
    let rate = if scenario.kind == Kind::Bytes { "Gbit/s" } else { "requests/s" };
    writeln!(
        out,
        "\n## {}: {}\n\n![{}](performance/{}.svg)\n\n| proxy | {rate} | CPU {} | RSS idle MiB | RSS after MiB | errors |\n|---|---|---|---|---|---|",
        scenario.name,
        scenario.what,
        scenario.what,
        scenario.name,
        unit(scenario)
    )?;
    for cell in cells {
        let show = |it: Spread, digits: usize| {
            format!("{:.digits$}–{:.digits$}–{:.digits$}", it.min, it.median, it.max)
        };
        let errors: u64 = cell.samples.iter().map(|sample| sample.errors).sum();
        let per_second = spread(cell, |sample| sample.per_second);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {errors} |",
            cell.proxy,
            show(per_second, if per_second.median < 1000.0 { 2 } else { 0 }),
            show(spread(cell, |sample| sample.cpu_per_unit), 2),
            show(spread(cell, |sample| sample.idle_mib), 1),
            show(spread(cell, |sample| sample.loaded_mib), 1),
        )?;
    }
    Ok(())
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} × {cores}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

fn commit(root: &Path) -> String {
    let output = Command::new("git").args(["log", "-1", "--format=%h of %cs"]).current_dir(root).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(proxy: &'static str, cpu: &[f64]) -> Cell {
        let sample = |cpu: &f64| Sample {
            per_second: 1.0,
            cpu_per_unit: *cpu,
            idle_mib: 1.0,
            loaded_mib: 1.0,
            errors: 0,
        };
        Cell { scenario: "a", proxy, samples: cpu.iter().map(sample).collect() }
    }

    #[test]
    fn the_ratio_is_the_median_of_neighbours() {
        // A machine that slows down in the second run slows both.
        let (ours, theirs) = (cell("tulle", &[10.0, 20.0, 11.0]), cell("haproxy", &[10.0, 20.0, 10.0]));
        assert_eq!(ratio(&ours, &theirs), 1.0);
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Spread { min: 1.0, median: 2.0, max: 3.0 });
    }

    #[test]
    fn a_target_that_is_missed_is_shown_as_missed() {
        let mut text = String::new();
        let scenario = SCENARIOS.iter().find(|it| it.name == "a").unwrap();
        let cells = [cell("tulle", &[20.0]), cell("haproxy", &[10.0])];
        table(&mut text, scenario, &cells.iter().collect::<Vec<_>>()).unwrap();
        assert!(text.contains("| tulle | 1.00–1.00–1.00 | 20.00–20.00–20.00 |"), "{text}");
        assert!(ratio(&cells[0], &cells[1]) > scenario.target.unwrap().1);
    }
}
