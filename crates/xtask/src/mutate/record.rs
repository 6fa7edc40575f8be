//! The table of the last runs, one row a room: `docs/mutants.md`. What stands around the table is written by hand.

use std::error::Error;
use std::path::Path;

/// What became of the faults of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Folder of the room.
    pub room: String,
    /// How many faults could be made.
    pub known: usize,
    /// How many were made and built.
    pub tried: usize,
    /// How many tests noticed.
    pub noticed: usize,
    /// What picked them.
    pub seed: u64,
}

const HEAD: &str = "| room | faults | tried | noticed | survived | seed |\n|---|---|---|---|---|---|\n";

impl Row {
    fn line(&self) -> String {
        let Row { room, known, tried, noticed, seed } = self;
        let survived = tried - noticed;
        format!("| `{room}` | {known} | {tried} | {noticed} | {survived} | {seed} |")
    }
}

/// Puts the rows into the page's table in the place of those of the same rooms.
///
/// # Errors
/// The page cannot be read or written.
pub fn write(page: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    std::fs::write(page, renewed(&text, rows))?;
    Ok(())
}

fn renewed(text: &str, rows: &[Row]) -> String {
    let (before, after) = text.split_once(HEAD).unwrap_or((text, ""));
    let end =
        after.lines().take_while(|line| line.starts_with('|')).map(|line| line.len() + 1).sum::<usize>();
    let (old, after) = after.split_at(end.min(after.len()));
    let replaced = |line: &&str| !rows.iter().any(|row| line.starts_with(&format!("| `{}` |", row.room)));
    let mut lines: Vec<String> = old.lines().filter(replaced).map(str::to_owned).collect();
    lines.extend(rows.iter().map(Row::line));
    lines.sort();
    format!("{before}{HEAD}{}\n{after}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_replaces_the_one_of_its_room() {
        let row = |room: &str, noticed| Row { room: room.to_owned(), known: 9, tried: 3, noticed, seed: 1 };
        let page = renewed("# Page\n\n", &[row("b", 3), row("a", 2)]);
        assert_eq!(
            page,
            format!("# Page\n\n{HEAD}| `a` | 9 | 3 | 2 | 1 | 1 |\n| `b` | 9 | 3 | 3 | 0 | 1 |\n")
        );
        let page = renewed(&format!("{page}\nwords\n"), &[row("a", 3)]);
        assert_eq!(
            page,
            format!("# Page\n\n{HEAD}| `a` | 9 | 3 | 3 | 0 | 1 |\n| `b` | 9 | 3 | 3 | 0 | 1 |\n\nwords\n")
        );
    }
}
