//! The faults that can be made in a source file, found line by line: the house style puts one thing on a line.

use super::arms;

/// A change of one line, or of two that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first line, from 1.
    pub line: usize,
    /// What is done.
    pub kind: &'static str,
    /// The lines as they are.
    pub before: String,
    /// The lines with the fault, as many.
    pub after: String,
}

/// Operators and what takes their place.
const OPERATORS: [(&str, &str, &str); 12] = [
    (" == ", " != ", "== becomes !="),
    (" != ", " == ", "!= becomes =="),
    (" < ", " >= ", "< becomes >="),
    (" > ", " <= ", "> becomes <="),
    (" <= ", " < ", "<= becomes <"),
    (" >= ", " > ", ">= becomes >"),
    (" && ", " || ", "&& becomes ||"),
    (" || ", " && ", "|| becomes &&"),
    (" += ", " -= ", "+= becomes -="),
    (" -= ", " += ", "-= becomes +="),
    (" + ", " - ", "+ becomes -"),
    (" - ", " + ", "- becomes +"),
];

/// Lines that only tell somebody something: what they say is no rule.
const TELLS: [&str; 8] =
    ["tracing::", "debug!(", "info!(", "warn!(", "error!(", "trace!(", "println!(", "debug_assert"];

/// All faults of a file, outside its tests.
pub fn find(text: &str) -> Vec<Fault> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<&str> = code.lines().collect();
    let mut faults = Vec::new();
    let mut in_literal = false;
    for (index, line) in lines.iter().copied().enumerate() {
        let ends_as_it_begins = quotes(line).is_multiple_of(2);
        let whole = !in_literal && ends_as_it_begins;
        in_literal ^= !ends_as_it_begins;
        if whole && !is_no_rule(line.trim_start()) {
            of_line(&lines, index, &mut faults);
        }
    }
    faults
}

fn is_no_rule(trimmed: &str) -> bool {
    let starts = ["//", "#", "use ", "pub use ", "pub mod ", "mod "];
    starts.iter().any(|start| trimmed.starts_with(start)) || TELLS.iter().any(|word| trimmed.contains(word))
}

fn of_line(lines: &[&str], index: usize, faults: &mut Vec<Fault>) {
    let line = lines[index];
    let trimmed = line.trim_start();
    let mut add = |kind, after: Option<String>| {
        if let Some(after) = after.filter(|after| after != line) {
            faults.push(Fault { line: index + 1, kind, before: line.to_owned(), after });
        }
    };
    for (from, to, kind) in OPERATORS {
        add(kind, operator(line, from, to));
    }
    add("the condition is turned", condition(line));
    add("the guard is turned", guard(line));
    add("the filter is turned", filter(line));
    add("the arm is taken out", arms::can_go(lines, index).then(String::new));
    add("the answer is turned", answer(line));
    add("the constant is another", constant(line));
    add("the statement is left out", is_effect(trimmed).then(String::new));
    if let Some(swapped) = lines.get(index + 1).and_then(|next| arms::swapped(line, next)) {
        let before = format!("{line}\n{}", lines[index + 1]);
        faults.push(Fault { line: index + 1, kind: "two arms change places", before, after: swapped });
    }
}

/// The text with a fault in it.
pub fn apply(text: &str, fault: &Fault) -> String {
    let count = fault.before.lines().count();
    let lines: Vec<&str> = text.lines().collect();
    let (head, rest) = lines.split_at(fault.line - 1);
    let tail = rest.get(count..).unwrap_or_default();
    let with: Vec<&str> = head.iter().chain(&[fault.after.as_str()]).chain(tail).copied().collect();
    with.join("\n") + "\n"
}

/// Quotes that begin or end a string literal.
fn quotes(text: &str) -> usize {
    text.replace("\\\"", "").replace("'\"'", "").matches('"').count()
}

/// Where a text stands outside of string literals.
pub fn outside(line: &str, wanted: &str) -> Option<usize> {
    line.match_indices(wanted).map(|(at, _)| at).find(|at| quotes(&line[..*at]).is_multiple_of(2))
}

fn operator(line: &str, from: &str, to: &str) -> Option<String> {
    let at = outside(line, from)?;
    let before = &line[..at];
    // `= || …` and `, || …` begin a closure.
    if from == " || " && (before.ends_with(['=', ',', '(']) || before.is_empty()) {
        return None;
    }
    // Bounds of types and lifetimes, and texts that are put together.
    let is_type = ["impl ", "dyn ", "where ", ": Fn", "<'"].iter().any(|word| line.contains(word));
    if from == " + " && (is_type || line.contains("&str") || line.contains(" + &") || line.contains('"')) {
        return None;
    }
    Some(format!("{before}{to}{}", &line[at + from.len()..]))
}

/// `if …` on one line, with or without `else` before it.
fn condition(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    let indent = &line[..line.len() - trimmed.len()];
    let word = ["if ", "} else if ", "while "].into_iter().find(|word| trimmed.starts_with(word))?;
    let (inner, rest) = trimmed[word.len()..].split_once(" {")?;
    (!inner.starts_with("let ") && !inner.contains(" let ") && (rest.is_empty() || rest.starts_with(' ')))
        .then(|| format!("{indent}{word}!({inner}) {{{rest}"))
}

/// `PATTERN if … =>`.
fn guard(line: &str) -> Option<String> {
    let arrow = outside(line, " => ")?;
    let at = line[..arrow].find(" if ")?;
    let inner = &line[at + 4..arrow];
    (!inner.contains("let ")).then(|| format!("{} if !({inner}){}", &line[..at], &line[arrow..]))
}

/// `.filter(|…| …)`, `.any(|…| …)` and their like on one line.
fn filter(line: &str) -> Option<String> {
    let words =
        [".filter(|", ".any(|", ".all(|", ".is_some_and(|", ".is_none_or(|", ".find(|", ".position(|"];
    let (at, word) = words.into_iter().find_map(|word| Some((outside(line, word)?, word)))?;
    let body = at + word.len();
    let inner = body + line[body..].find("| ")? + 2;
    let mut depth = 1;
    for (offset, letter) in line[inner..].char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let end = inner + offset;
            return Some(format!("{}!({}){}", &line[..inner], &line[inner..end], &line[end..]));
        }
    }
    None
}

/// An arm, a field or a statement that says true or false.
fn answer(line: &str) -> Option<String> {
    let turned = ["=> true,", "return true;", " = true;", ": true,", "(true)"];
    let opposite = ["=> false,", "return false;", " = false;", ": false,", "(false)"];
    let both = turned.into_iter().zip(opposite);
    let pairs = both.flat_map(|(yes, no)| [(yes, no), (no, yes)]);
    pairs.into_iter().find_map(|(from, to)| {
        let at = outside(line, from)?;
        Some(format!("{}{to}{}", &line[..at], &line[at + from.len()..]))
    })
}

/// The first number on the line, one more: `const LIMIT: usize = 5;`, `> 5`, `from_secs(5)`.
fn constant(line: &str) -> Option<String> {
    let begins = ["= ", "> ", "< ", "(", "..", "..=", "* ", "+ ", "- ", "=> ", "| "];
    let bytes = line.as_bytes();
    let at = (1..bytes.len()).find(|at| {
        let before = &line[..*at];
        bytes[*at].is_ascii_digit()
            && line.is_char_boundary(*at)
            && begins.iter().any(|begin| before.ends_with(begin))
            && quotes(before).is_multiple_of(2)
    })?;
    let digits: String =
        line[at..].chars().take_while(|letter| letter.is_ascii_digit() || *letter == '_').collect();
    let rest = &line[at + digits.len()..];
    if rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '\'') || rest.starts_with('.') {
        return None;
    }
    let number: u64 = digits.replace('_', "").parse().ok()?;
    Some(format!("{}{}{rest}", &line[..at], number + 1))
}

/// A whole statement on one line that only has an effect: a call, a change, a check with `?`, or a leap.
fn is_effect(trimmed: &str) -> bool {
    if matches!(trimmed, "continue;" | "return;" | "break;") {
        return true;
    }
    let whole = trimmed.ends_with(';') && trimmed.matches('(').count() == trimmed.matches(')').count();
    let keyword =
        ["let ", "return", "pub ", "const ", "static ", "type ", "break", "continue", "panic!", "assert"];
    if !whole || keyword.iter().any(|word| trimmed.starts_with(word)) {
        return false;
    }
    let assigns = [" = ", " += ", " -= ", " |= "].iter().any(|sign| {
        trimmed.split_once(sign).is_some_and(|(left, _)| {
            let place = left.chars().all(|letter| letter.is_alphanumeric() || "._*[]".contains(letter));
            place && (left.contains(['.', '*']) || *sign != " = ")
        })
    });
    let calls = trimmed.starts_with(|letter: char| letter.is_alphabetic())
        && (trimmed.ends_with(");") || trimmed.ends_with(")?;") || trimmed.ends_with(").await;"))
        && outside(trimmed, " = ").is_none();
    assigns || calls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(&'static str, String)> {
        find(text).into_iter().map(|fault| (fault.kind, fault.after.trim().to_owned())).collect()
    }

    #[test]
    fn each_kind_of_rule_can_be_broken() {
        for (line, kind, after) in [
            ("    if a == b {", "== becomes !=", "if a != b {"),
            ("    if a >= b {", ">= becomes >", "if a > b {"),
            ("    let a = b - c;", "- becomes +", "let a = b + c;"),
            ("    if ready(a) {", "the condition is turned", "if !(ready(a)) {"),
            ("    } else if ready(a) {", "the condition is turned", "} else if !(ready(a)) {"),
            ("    Some(a) if a.ok() => 1,", "the guard is turned", "Some(a) if !(a.ok()) => 1,"),
            (
                "    let b = a.filter(|it| it.ok(1)).count();",
                "the filter is turned",
                "let b = a.filter(|it| !(it.ok(1))).count();",
            ),
            ("    A | B => true,", "the answer is turned", "A | B => false,"),
            ("    self.open = false;", "the answer is turned", "self.open = true;"),
            ("    const LONGEST: u64 = 1_000;", "the constant is another", "const LONGEST: u64 = 1001;"),
            ("    names.push(name);", "the statement is left out", ""),
            ("    self.notify.wait().await;", "the statement is left out", ""),
            ("    cluster.lb_policy = policy;", "the statement is left out", ""),
            ("    count += 1;", "the statement is left out", ""),
            ("    check(name)?;", "the statement is left out", ""),
            ("    continue;", "the statement is left out", ""),
        ] {
            let found = faults(line);
            assert!(found.contains(&(kind, after.to_owned())), "{line}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_rule_is_left_alone() {
        for line in [
            "    // if a == b {",
            "    if let Some(a) = b {",
            "    let text = \"a == b && c\";",
            "    let run = || a;",
            "    let a: Vec<u8> = check(name)?;",
            "    tracing::warn!(\"a\", 1);",
            "fn a(b: impl Fn() + Send) {",
            "#[cfg(test)]\nmod tests { fn a() { if a == b {} } }",
        ] {
            assert_eq!(faults(line), [], "{line}");
        }
    }

    #[test]
    fn a_fault_changes_its_lines_only() {
        let text = "fn a() {\n    names.push(x);\n    names.push(y);\n}\n";
        let faults = find(text);
        assert_eq!(apply(text, &faults[1]), "fn a() {\n    names.push(x);\n\n}\n");
        let text = "match a {\n    B => b,\n    C => c,\n}\n";
        let swap = find(text).into_iter().find(|fault| fault.kind == "two arms change places").unwrap();
        assert_eq!(apply(text, &swap), "match a {\n    B => c,\n    C => b,\n}\n");
    }
}
