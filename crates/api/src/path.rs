//! Field paths: `spec.http[1].match[0].headers.x-user`, `metadata.labels["app.kubernetes.io/name"]`.

/// A path under construction: a chain from the innermost field to the root, on the stack.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The whole document.
    Root,
    /// A key of a map.
    Key(&'a Path<'a>, &'a str),
    /// An entry of a list.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// The path as text; empty for the root.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.write(text);
                push_key(text, key);
            }
            Path::Index(parent, index) => {
                parent.write(text);
                push_index(text, *index);
            }
        }
    }
}

/// Bytes of a key that are shown; a longer one is cut, so that no path grows with hostile keys.
const LONGEST_KEY: usize = 128;

/// Appends a key: `.key`, or `["key"]` when it holds other characters than letters, digits, `_` and `-`. Control
/// characters are escaped and long keys cut: a path is shown to people.
pub fn push_key(path: &mut String, key: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(plain) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        return;
    }
    path.push_str("[\"");
    let end = path.len() + LONGEST_KEY;
    for character in key.chars() {
        if path.len() >= end {
            path.push('…');
            break;
        }
        if character.is_control() {
            path.extend(character.escape_default());
        } else {
            path.push(character);
        }
    }
    path.push_str("\"]");
}

/// Appends `[index]`.
pub fn push_index(path: &mut String, index: usize) {
    path.push('[');
    path.push_str(&index.to_string());
    path.push(']');
}

/// `base.key`, with the quoting of [`push_key`].
pub fn key(base: &str, key: &str) -> String {
    let mut path = base.to_string();
    push_key(&mut path, key);
    path
}

/// `base[index]`.
pub fn index(base: &str, index: usize) -> String {
    let mut path = base.to_string();
    push_index(&mut path, index);
    path
}

/// The path without its last part; `None` when there is only one.
pub fn parent(path: &str) -> Option<&str> {
    let cut = if path.ends_with("\"]") { path.rfind("[\"")? } else { path.rfind(['.', '['])? };
    (cut > 0).then(|| &path[..cut])
}

/// The parts of a path: keys as they are, list entries as `[]`.
pub fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let end = quoted.find("\"]").unwrap_or(quoted.len());
            parts.push(&quoted[..end]);
            rest = quoted.get(end + 2..).unwrap_or("");
        } else if rest.starts_with('[') {
            parts.push("[]");
            rest = rest.find(']').and_then(|end| rest.get(end + 1..)).unwrap_or("");
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return parts;
            }
            parts.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_splits() {
        let labels = Path::Key(&Path::Root, "metadata");
        let labels = Path::Key(&labels, "labels");
        let name = Path::Key(&labels, "app.kubernetes.io/name");
        assert_eq!(name.render(), "metadata.labels[\"app.kubernetes.io/name\"]");
        assert_eq!(parts(&name.render()), ["metadata", "labels", "app.kubernetes.io/name"]);
        assert_eq!(parts("spec.http[12].route[0].weight"), ["spec", "http", "[]", "route", "[]", "weight"]);
        assert_eq!(parent("spec.http[1]"), Some("spec.http"));
        assert_eq!(parent("spec"), None);
        assert_eq!(key("a", "x\u{1b}y"), "a[\"x\\u{1b}y\"]");
        assert!(key("a", &"k".repeat(1_000_000)).len() < 150);
        assert_eq!(parent(&name.render()), Some("metadata.labels"));
    }
}
