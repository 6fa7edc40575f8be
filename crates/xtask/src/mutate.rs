//! `cargo xtask mutate`: makes one fault at a time (an arm, a condition, a filter, a statement, a constant) and tells which
//! ones tests find: those of the file's module, then of the crate, then, with `--cases`, the differential cases. What
//! survives is a rule that no test holds.
//!
//! It works on a copy of the tree under `target/mutate`, with a target folder of its own.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;

mod arms;
mod fault;
mod record;
mod room;
mod sample;
mod scratch;
mod trial;

use fault::Fault;
use record::Row;
use room::Room;
use scratch::Scratch;
use trial::Verdict;

/// What is tried.
#[derive(Debug, Args)]
pub struct Options {
    /// How many faults are tried, picked at random; all when not given
    #[arg(long)]
    sample: Option<usize>,
    /// Which ones the sample picks; a new one every time, which is printed, when not given
    #[arg(long)]
    seed: Option<u64>,
    /// Only one room; all of them when not given
    #[arg(long, value_enum)]
    room: Option<Room>,
    /// Only files whose path contains this
    #[arg(long)]
    file: Option<String>,
    /// Only faults whose line in `--list` contains this, such as `machine.rs:287`
    #[arg(long)]
    fault: Option<String>,
    /// Also runs the differential cases against what the crate's tests let pass
    #[arg(long)]
    cases: bool,
    /// Tells the faults without trying them
    #[arg(long)]
    list: bool,
    /// Puts what came out into the table of `docs/mutants.md`
    #[arg(long)]
    record: bool,
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
    let wanted = |file: &Path| options.file.as_ref().is_none_or(|part| file.to_string_lossy().contains(part));
    let mut faults = Vec::new();
    for room in &rooms {
        for file in files.iter().filter(|file| room.holds(file) && wanted(file)) {
            let text = std::fs::read_to_string(root.join(file))?;
            faults.extend(fault::find(&text).into_iter().map(|fault| (*room, file.clone(), fault)));
        }
    }
    faults.retain(|(_, file, fault)| {
        options.fault.as_ref().is_none_or(|part| describe(file, fault).contains(part))
    });
    let found = faults.len();
    let known = |room: Room| faults.iter().filter(|(of, ..)| *of == room).count();
    let mut rows: Vec<Row> = rooms
        .iter()
        .map(|room| Row { room: room.to_string(), known: known(*room), ..Row::default() })
        .collect();
    let seed = options.seed.unwrap_or_else(new_seed);
    if let Some(count) = options.sample {
        faults = sample::pick(faults, count, seed);
    }
    println!("mutate: {} of {found} faults, seed {seed}", faults.len());
    if options.list {
        for (_, file, fault) in &faults {
            println!("{}", describe(file, fault));
        }
        return Ok(());
    }
    let scratch = Scratch::copy(root, files)?;
    let mut tested = Vec::new();
    for room in rooms.iter().filter(|room| faults.iter().any(|(of, ..)| of == *room)) {
        if tested.contains(&room.package()) {
            continue;
        }
        tested.push(room.package());
        println!("mutate: the tests of {} without a fault", room.package());
        match trial::run(&scratch, *room, None, options.cases)? {
            Verdict::Survived => {}
            other => return Err(format!("the tests of {room} do not pass without a fault: {other}").into()),
        }
    }
    let verdicts = try_all(&scratch, &faults, options.cases)?;
    for ((room, ..), verdict) in faults.iter().zip(&verdicts) {
        if let Some(row) = rows.iter_mut().find(|row| row.room == room.to_string()) {
            row.seed = seed;
            row.tried += usize::from(*verdict != Verdict::NoBuild);
            row.noticed += usize::from(matches!(verdict, Verdict::Killed | Verdict::NoEnd));
        }
    }
    rows.retain(|row| row.tried > 0);
    if options.record {
        record::write(&root.join("docs/mutants.md"), &rows)?;
    }
    Ok(())
}

fn new_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_secs())
}

fn try_all(
    scratch: &Scratch,
    faults: &[(Room, PathBuf, Fault)],
    cases: bool,
) -> Result<Vec<Verdict>, Box<dyn Error>> {
    let mut verdicts = Vec::new();
    for (index, (room, file, fault)) in faults.iter().enumerate() {
        let verdict = scratch.with(file, fault, || trial::run(scratch, *room, Some(file), cases))?;
        println!("[{}/{}] {verdict:<9} {}", index + 1, faults.len(), describe(file, fault));
        verdicts.push(verdict);
    }
    let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let noticed = count(Verdict::Killed) + count(Verdict::NoEnd);
    let tried = noticed + count(Verdict::Survived);
    println!(
        "\nnoticed {noticed} of {tried} ({} %; {} without an end), {} did not build",
        noticed * 100 / tried.max(1),
        count(Verdict::NoEnd),
        count(Verdict::NoBuild)
    );
    for ((_, file, fault), _) in
        faults.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Survived)
    {
        println!("  survived  {}", describe(file, fault));
    }
    Ok(verdicts)
}

fn describe(file: &Path, fault: &Fault) -> String {
    let one_line = fault.before.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = one_line.chars().take(100).collect();
    format!("{}:{}  {}  {shown}", file.display(), fault.line, fault.kind)
}
