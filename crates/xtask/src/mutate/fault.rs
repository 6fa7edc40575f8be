//! The faults that can be made in a source file, found line by line: the house style puts one thing on a line.

/// A change of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// What is done.
    pub kind: &'static str,
    /// The line as it is.
    pub before: String,
    /// The line with the fault.
    pub after: String,
}

/// Operators and what takes their place.
const OPERATORS: [(&str, &str, &str); 8] = [
    (" == ", " != ", "== becomes !="),
    (" != ", " == ", "!= becomes =="),
    (" < ", " >= ", "< becomes >="),
    (" > ", " <= ", "> becomes <="),
    (" <= ", " > ", "<= becomes >"),
    (" >= ", " < ", ">= becomes <"),
    (" && ", " || ", "&& becomes ||"),
    (" || ", " && ", "|| becomes &&"),
];

/// Statements whose effect can be left out, by what they call.
const EFFECTS: [&str; 7] =
    [".push(", ".push_str(", ".insert(", ".extend(", ".remove(", ".retain(", ".clear()"];

/// All faults of a file, outside its tests.
pub fn find(text: &str) -> Vec<Fault> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut faults = Vec::new();
    let mut in_literal = false;
    for (index, line) in code.lines().enumerate() {
        let trimmed = line.trim_start();
        let ends_as_it_begins = quotes(line).is_multiple_of(2);
        let whole = !in_literal && ends_as_it_begins;
        in_literal ^= !ends_as_it_begins;
        if !whole || trimmed.starts_with("//") || trimmed.starts_with('#') || trimmed.starts_with("use ") {
            continue;
        }
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
        add("the arm is taken out", is_arm(trimmed).then(String::new));
        add("the arm's answer is turned", answer(line));
        add("the statement is left out", is_effect(trimmed).then(String::new));
    }
    faults
}

/// The text with a fault in it.
pub fn apply(text: &str, fault: &Fault) -> String {
    let change = |(index, line)| if index + 1 == fault.line { fault.after.as_str() } else { line };
    let lines: Vec<&str> = text.lines().enumerate().map(change).collect();
    lines.join("\n") + "\n"
}

/// Quotes that begin or end a string literal.
fn quotes(text: &str) -> usize {
    text.replace("\\\"", "").matches('"').count()
}

/// Where a text stands outside of string literals.
fn outside(line: &str, wanted: &str) -> Option<usize> {
    line.match_indices(wanted).map(|(at, _)| at).find(|at| quotes(&line[..*at]).is_multiple_of(2))
}

fn operator(line: &str, from: &str, to: &str) -> Option<String> {
    let at = outside(line, from)?;
    let before = &line[..at];
    // `= || …` and `, || …` begin a closure, and `where` and `impl` have bounds, not comparisons.
    if from == " || " && (before.ends_with(['=', ',', '(']) || before.is_empty()) {
        return None;
    }
    Some(format!("{before}{to}{}", &line[at + from.len()..]))
}

/// `if …` on one line, with or without `else` before it.
fn condition(line: &str) -> Option<String> {
    let trimmed = line.trim_start();
    let indent = &line[..line.len() - trimmed.len()];
    let word = ["if ", "} else if "].into_iter().find(|word| trimmed.starts_with(word))?;
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

/// `.filter(|…| …)` on one line.
fn filter(line: &str) -> Option<String> {
    let at = outside(line, ".filter(|")?;
    let body = at + ".filter(|".len();
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

/// An arm on one line that is not the last resort.
fn is_arm(trimmed: &str) -> bool {
    let balanced = |open: char, close: char| trimmed.matches(open).count() == trimmed.matches(close).count();
    let named = outside(trimmed, " => ").is_some() && !trimmed.starts_with("_ =>");
    named && trimmed.ends_with(',') && balanced('(', ')') && balanced('{', '}') && balanced('[', ']')
}

/// An arm that answers true or false.
fn answer(line: &str) -> Option<String> {
    let turned = [("=> true,", "=> false,"), ("=> false,", "=> true,")];
    turned.into_iter().find_map(|(from, to)| line.strip_suffix(from).map(|before| format!("{before}{to}")))
}

/// A whole statement on one line that only has an effect: a change, an assignment to a field, a check with `?`.
fn is_effect(trimmed: &str) -> bool {
    let whole = trimmed.ends_with(';') && trimmed.matches('(').count() == trimmed.matches(')').count();
    let keyword = ["let ", "return", "pub ", "const ", "static ", "type ", "mod ", "break", "continue"];
    if !whole || keyword.iter().any(|word| trimmed.starts_with(word)) {
        return false;
    }
    let assigns = trimmed.split_once(" = ").is_some_and(|(left, _)| {
        left.contains('.') && left.chars().all(|letter| letter.is_alphanumeric() || "._*".contains(letter))
    });
    let starts = trimmed.starts_with(|letter: char| letter.is_alphabetic());
    assigns || (starts && (trimmed.ends_with(")?;") || EFFECTS.iter().any(|call| trimmed.contains(call))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(line: &str) -> Vec<(&'static str, String)> {
        find(line).into_iter().map(|fault| (fault.kind, fault.after.trim().to_owned())).collect()
    }

    #[test]
    fn each_kind_of_rule_can_be_broken() {
        for (line, kind, after) in [
            ("    if a == b {", "== becomes !=", "if a != b {"),
            ("    if ready(a) {", "the condition is turned", "if !(ready(a)) {"),
            ("    } else if ready(a) {", "the condition is turned", "} else if !(ready(a)) {"),
            ("    Some(a) if a.ok() => 1,", "the guard is turned", "Some(a) if !(a.ok()) => 1,"),
            (
                "    let b = a.filter(|it| it.ok(1)).count();",
                "the filter is turned",
                "let b = a.filter(|it| !(it.ok(1))).count();",
            ),
            ("    \"GET\" => 1,", "the arm is taken out", ""),
            ("    A | B => true,", "the arm's answer is turned", "A | B => false,"),
            ("    names.push(name);", "the statement is left out", ""),
            ("    cluster.lb_policy = policy;", "the statement is left out", ""),
            ("    check(name)?;", "the statement is left out", ""),
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
            "    _ => 1,",
            "    let text = \"a == b && c\";",
            "    let run = || 1;",
            "    let a: Vec<u8> = check(name)?;",
            "#[cfg(test)]\nmod tests { fn a() { if a == b {} } }",
        ] {
            assert_eq!(faults(line), [], "{line}");
        }
    }

    #[test]
    fn a_fault_changes_its_line_only() {
        let text = "fn a() {\n    names.push(1);\n    names.push(2);\n}\n";
        let faults = find(text);
        assert_eq!(apply(text, &faults[1]), "fn a() {\n    names.push(1);\n\n}\n");
    }
}
