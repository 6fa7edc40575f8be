//! The notation of bytes in case files.

/// Bytes of a text: every character is one byte (Latin-1), and `${TEXT*N}` stands for N times TEXT.
pub fn bytes(text: &str) -> Vec<u8> {
    expand(text)
        .chars()
        .map(|c| u8::try_from(u32::from(c)).expect("a character above U+00FF in a case"))
        .collect()
}

/// A text of bytes, the inverse of [`bytes`] without abbreviations.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Writes out the repetitions.
pub fn expand(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        result.push_str(before);
        let (inside, tail) = after.split_once('}').expect("${ without }");
        let (unit, count) = inside.rsplit_once('*').expect("${TEXT*N} without *");
        result.push_str(&unit.repeat(count.parse().expect("${TEXT*N}: N is a number")));
        rest = tail;
    }
    result + rest
}

/// A long text shortened to its beginning, length and checksum, so that observations stay small.
pub fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.len() <= 600 {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head}… ({} bytes, checksum {:016x})", text.chars().count(), checksum(text.as_bytes()))
}

/// FNV-1a, 64 bits.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A request in short form, `GET /path | header: value | …`, as bytes. `host: example.com` unless it names a host;
/// a body adds its `content-length`.
pub fn request(short: &str, more: &[String], body: Option<&str>) -> Vec<u8> {
    let mut parts = short.split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let line = parts.remove(0);
    let line = if line.contains(" HTTP/") { line } else { format!("{line} HTTP/1.1") };
    parts.extend(more.iter().cloned());
    if !parts.iter().any(|part| part.to_ascii_lowercase().starts_with("host:")) {
        parts.insert(0, "host: example.com".to_owned());
    }
    let body = bytes(body.unwrap_or_default());
    if !body.is_empty() {
        parts.push(format!("content-length: {}", body.len()));
    }
    message(&line, &parts, &body)
}

/// An answer in short form, `200 | header: value | …`, as bytes, with the body's length.
pub fn answer(short: &str, default_body: &str) -> Vec<u8> {
    let mut parts = short.split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let (status, body) = match parts.remove(0).split_once(' ') {
        Some((status, body)) => (status.to_owned(), bytes(body)),
        None => (short.split(" | ").next().unwrap_or_default().to_owned(), bytes(default_body)),
    };
    let none = matches!(status.as_str(), "204" | "304");
    if !none {
        parts.push(format!("content-length: {}", body.len()));
    }
    message(&format!("HTTP/1.1 {status} Scripted"), &parts, if none { b"" } else { &body })
}

fn message(line: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut whole = bytes(line);
    whole.extend(b"\r\n");
    for header in headers {
        whole.extend(bytes(header));
        whole.extend(b"\r\n");
    }
    whole.extend(b"\r\n");
    whole.extend(body);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_and_bytes() {
        assert_eq!(bytes("a${xy*2}\u{ff}"), b"axyxy\xff");
        assert_eq!(text(b"\xff\r"), "\u{ff}\r");
        assert_ne!(brief(&"x".repeat(700)), brief(&"x".repeat(701)));
    }

    #[test]
    fn short_forms() {
        assert_eq!(request("GET /", &[], None), b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n");
        let posted = request("POST / HTTP/1.0 | Host: b", &[], Some("hi"));
        assert_eq!(posted, b"POST / HTTP/1.0\r\nHost: b\r\ncontent-length: 2\r\n\r\nhi");
        assert_eq!(
            answer("503 no | a: b", "x"),
            b"HTTP/1.1 503 Scripted\r\na: b\r\ncontent-length: 2\r\n\r\nno"
        );
        assert_eq!(answer("204", "x"), b"HTTP/1.1 204 Scripted\r\n\r\n");
    }
}
