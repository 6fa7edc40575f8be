//! Arms of a match that stand on one line each.

use super::fault::outside;

/// Pattern and answer of an arm on one line.
fn parts(line: &str) -> Option<(&str, &str)> {
    let trimmed = line.trim_start();
    let balanced = |open: char, close: char| trimmed.matches(open).count() == trimmed.matches(close).count();
    let whole = trimmed.ends_with(',') && balanced('(', ')') && balanced('{', '}') && balanced('[', ']');
    let at = outside(line, " => ").filter(|_| whole)?;
    Some((&line[..at], &line[at + 4..]))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether an arm can be taken out so that the match still has an answer for everything: a later arm takes what is left.
pub fn can_go(lines: &[&str], index: usize) -> bool {
    let line = lines[index];
    let Some((pattern, _)) = parts(line) else { return false };
    if pattern.trim_start() == "_" {
        return false;
    }
    let depth = indent(line);
    let rest = lines[index + 1..].iter().take_while(|line| line.trim().is_empty() || indent(line) >= depth);
    rest.filter(|line| indent(line) == depth).any(|line| takes_all(line.trim_start()))
}

/// `_ => …` or `other => …`.
fn takes_all(arm: &str) -> bool {
    let Some((pattern, _)) = arm.split_once(" =>") else { return false };
    pattern.starts_with(|letter: char| letter.is_lowercase() || letter == '_')
        && pattern.chars().all(|letter| letter.is_lowercase() || letter == '_')
}

/// Two arms with each other's answer, where neither answer can need what the pattern binds.
pub fn swapped(line: &str, next: &str) -> Option<String> {
    let ((pattern, answer), (after, other)) = (parts(line)?, parts(next)?);
    let binds = |pattern: &str| {
        let words = pattern.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '"');
        let mut inner = words.skip_while(|word| word.is_empty());
        pattern.contains(" if ")
            || inner.any(|word| word.starts_with(|letter: char| letter.is_lowercase()) && word != "mut")
    };
    let quoted =
        |pattern: &str| pattern.trim_start().starts_with(['"', 'b', '\'']) && pattern.contains(['"', '\'']);
    let plain = |pattern: &str| quoted(pattern) || !binds(pattern);
    let same = indent(line) == indent(next) && answer != other;
    (same && plain(pattern) && plain(after)).then(|| format!("{pattern} => {other}\n{after} => {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_goes_where_another_takes_its_place() {
        let lines = ["    A => 1,", "    B => {", "        x(1)", "    }", "    _ => 2,", "}"];
        assert!(can_go(&lines, 0));
        assert!(!can_go(&["    A => 1,", "    B => 2,", "}", "_ => 3,"], 0));
        assert!(!can_go(&lines, 4));
    }

    #[test]
    fn answers_change_places_where_nothing_is_bound() {
        assert_eq!(swapped("    A => 1,", "    B => 2,").as_deref(), Some("    A => 2,\n    B => 1,"));
        assert_eq!(
            swapped("    \"a\" => 1,", "    \"b\" => 2,").as_deref(),
            Some("    \"a\" => 2,\n    \"b\" => 1,")
        );
        assert_eq!(swapped("    Some(a) => a,", "    None => 2,"), None);
        assert_eq!(swapped("    A => 1,", "    B => 1,"), None);
    }
}
