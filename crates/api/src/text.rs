//! Words for messages: quoting what the user wrote, and guessing what was meant.

/// The text in quotes, shortened when it is long, control characters escaped.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::with_capacity(text.len().min(LONGEST) + 2);
    shown.push('"');
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        if character.is_control() || character == '"' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown.push('"');
    shown
}

/// A name for a message: cut when it is longer than any valid one, control characters escaped.
pub fn printable(name: &str) -> String {
    const LONGEST: usize = 253;
    if name.len() <= LONGEST && !name.contains(char::is_control) {
        return name.to_string();
    }
    let kept = name.chars().take(LONGEST);
    kept.flat_map(|character| {
        let escaped = character.is_control().then(|| character.escape_default());
        let plain = (!character.is_control()).then_some(character);
        escaped.into_iter().flatten().chain(plain)
    })
    .collect()
}

/// The one of `known` that `written` was probably meant to be.
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.is_empty() || written.len() > 64 {
        return None;
    }
    let plain = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let wanted = plain(written);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (written.len().min(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, candidate)| (*distance, written.len().abs_diff(candidate.len())))
        .map(|(_, candidate)| candidate)
}

/// `did you mean "weight"?`, when there is a likely candidate.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(written, known).map(|candidate| format!("did you mean \"{candidate}\"?"))
}

/// `"a", "b" or "c"`.
pub fn one_of(known: &[&str]) -> String {
    match known {
        [] => "nothing".into(),
        [only] => format!("\"{only}\""),
        [first @ .., last] => {
            let first = first.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            format!("{first} or \"{last}\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_near_misses_only() {
        let known = ["weight", "destination", "headers"];
        assert_eq!(closest("wieght", known), Some("weight"));
        assert_eq!(closest("Weight", known), Some("weight"));
        assert_eq!(closest("header", known), Some("headers"));
        assert_eq!(closest("retries", known), None);
        assert_eq!(closest("perTryTimeout", ["per_try_timeout"]), Some("per_try_timeout"));
    }

    #[test]
    fn quotes_are_short_and_printable() {
        assert_eq!(quote("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
        assert!(quote(&"x".repeat(10_000)).chars().count() < 90);
        assert_eq!(printable("a\u{1b}b"), "a\\u{1b}b");
        assert_eq!(printable("payment-service"), "payment-service");
        assert_eq!(printable(&"x".repeat(10_000)).len(), 253);
    }
}
