//! `cargo xtask mutate`: takes out one match arm, condition, filter or statement at a time and tells which of these
//! faults the room's own tests find. What survives is a rule that no test holds.
//!
//! It works on a copy of the tree under `target/mutate`, with a target folder of its own.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;

mod fault;
mod room;
mod sample;
mod scratch;
mod trial;

use fault::Fault;
use room::Room;
use scratch::Scratch;
use trial::Verdict;

/// What is tried.
#[derive(Debug, Args)]
pub struct Options {
    /// How many faults are tried, picked at random; all when not given
    #[arg(long)]
    sample: Option<usize>,
    /// Which ones the sample picks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only one room; all of them when not given
    #[arg(long, value_enum)]
    room: Option<Room>,
    /// Tells the faults without trying them
    #[arg(long)]
    list: bool,
}

/// Tries the faults and prints what became of each.
///
/// # Errors
/// The tree cannot be copied, or the tests of a room fail without any fault.
pub fn run(options: &Options, root: &Path, files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let rooms: Vec<Room> = match options.room {
        Some(room) => vec![room],
        None => Room::ALL.to_vec(),
    };
    let mut faults = Vec::new();
    for room in &rooms {
        for file in files.iter().filter(|file| room.holds(file)) {
            let text = std::fs::read_to_string(root.join(file))?;
            faults.extend(fault::find(&text).into_iter().map(|fault| (*room, file.clone(), fault)));
        }
    }
    let found = faults.len();
    if let Some(count) = options.sample {
        faults = sample::pick(faults, count, options.seed);
    }
    println!("mutate: {} of {found} faults", faults.len());
    if options.list {
        for (_, file, fault) in &faults {
            println!("{}", describe(file, fault));
        }
        return Ok(());
    }
    let scratch = Scratch::copy(root, files)?;
    for room in rooms.iter().filter(|room| faults.iter().any(|(of, ..)| of == *room)) {
        println!("mutate: the tests of {room} without a fault");
        match trial::run(&scratch, *room)? {
            Verdict::Survived => {}
            other => return Err(format!("the tests of {room} do not pass without a fault: {other}").into()),
        }
    }
    try_all(&scratch, &faults)
}

fn try_all(scratch: &Scratch, faults: &[(Room, PathBuf, Fault)]) -> Result<(), Box<dyn Error>> {
    let mut verdicts = Vec::new();
    for (index, (room, file, fault)) in faults.iter().enumerate() {
        let verdict = scratch.with(file, fault, || trial::run(scratch, *room))?;
        println!("[{}/{}] {verdict:<9} {}", index + 1, faults.len(), describe(file, fault));
        verdicts.push(verdict);
    }
    let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    println!(
        "\nkilled {}, no end {}, survived {}, does not build {}",
        count(Verdict::Killed),
        count(Verdict::NoEnd),
        count(Verdict::Survived),
        count(Verdict::NoBuild)
    );
    for ((_, file, fault), _) in
        faults.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Survived)
    {
        println!("  survived  {}", describe(file, fault));
    }
    Ok(())
}

fn describe(file: &Path, fault: &Fault) -> String {
    let shown: String = fault.before.trim().chars().take(100).collect();
    format!("{}:{}  {}  {shown}", file.display(), fault.line, fault.kind)
}
