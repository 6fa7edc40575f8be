//! Header fields in the order and the letters in which they were received.

use bytes::Bytes;

/// An ordered list of header fields.
///
/// Names and values are kept byte for byte (a service behind the mesh sees the names that its caller wrote); lookups
/// ignore ASCII case (RFC 9110, section 5.1). A name may occur more than once.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    fields: Vec<(Bytes, Bytes)>,
    byte_size: usize,
    names: Names,
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for Headers {}

/// Which names may be there: one bit for each that was added. Most look-ups of a proxy are for names that are not there,
/// and end here.
#[derive(Debug, Clone, Copy, Default)]
struct Names(u64);

impl Names {
    const NONE: Names = Names(0);

    /// Length, first and last letter tell the names apart that proxies look for.
    fn bit(name: &[u8]) -> u64 {
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return 1 };
        let letters = usize::from(first | 0x20) * 5 + usize::from(last | 0x20) * 11;
        1 << ((letters + name.len() * 3) % 64)
    }

    fn add(&mut self, name: &[u8]) {
        self.0 |= Self::bit(name);
    }

    fn may_have(self, name: &[u8]) -> bool {
        self.0 & Self::bit(name) != 0
    }
}

/// What one field costs on the wire beside its name and its value: `: ` and the line end.
const FIELD_OVERHEAD: usize = 4;

impl Headers {
    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Headers { fields: Vec::new(), byte_size: 0, names: Names::NONE }
    }

    /// An empty list with room for `count` fields.
    pub fn with_capacity(count: usize) -> Self {
        Headers { fields: Vec::with_capacity(count), ..Headers::new() }
    }

    /// The first value of `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        if !self.names.may_have(name.as_bytes()) {
            return None;
        }
        self.fields.iter().find(|(have, _)| same_name(have, name)).map(|(_, value)| value)
    }

    /// The first value of `name`, when it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> + 'a {
        let fields = if self.names.may_have(name.as_bytes()) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |(have, _)| same_name(have, name)).map(|(_, value)| value)
    }

    /// Whether a field of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Makes `value` the only value of `name`. A field that is there keeps its place and its spelling.
    pub fn set(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (name, value) = (token(name.into()), harmless(value.into()));
        let same = |(have, _): &(Bytes, Bytes)| have.len() == name.len() && have.eq_ignore_ascii_case(&name);
        let first = if self.names.may_have(&name) { self.fields.iter().position(same) } else { None };
        let Some(first) = first else {
            self.push(name, value);
            return;
        };
        let old = std::mem::replace(&mut self.fields[first].1, value);
        self.byte_size = self.byte_size + self.fields[first].1.len() - old.len();
        if !self.fields[first + 1..].iter().any(same) {
            return;
        }
        let mut index = 0;
        self.retain(|have, _| {
            index += 1;
            index - 1 <= first || !have.eq_ignore_ascii_case(&name)
        });
    }

    /// Adds a field at the end, beside others of the same name. CR, LF and NUL in a value become spaces (RFC 9110,
    /// section 5.5) and bytes that a name may not have become hyphens, so that nothing that the proxy or its
    /// configuration computes can end its line.
    pub fn append(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(token(name.into()), harmless(value.into()));
    }

    /// Removes every field of this name; returns the first value.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        let found = self.get(name).cloned()?;
        self.retain(|have, _| !same_name(have, name));
        Some(found)
    }

    /// Keeps the fields for which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Bytes, &Bytes) -> bool) {
        let (mut byte_size, mut names) = (0, Names::NONE);
        self.fields.retain(|(name, value)| {
            let kept = keep(name, value);
            if kept {
                byte_size += name.len() + value.len() + FIELD_OVERHEAD;
                names.add(name);
            }
            kept
        });
        (self.byte_size, self.names) = (byte_size, names);
    }

    /// Name and value of every field, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Bytes)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The size on the wire, in bytes: names, values, separators and line ends.
    pub fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// Adds a field whose value was checked already: one that a parser cut from the wire.
    pub(crate) fn push(&mut self, name: Bytes, value: Bytes) {
        self.byte_size += name.len() + value.len() + FIELD_OVERHEAD;
        self.names.add(&name);
        self.fields.push((name, value));
    }
}

impl<N: Into<Bytes>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }
}

/// Equal lengths first: it tells nearly all names apart without looking at a letter.
fn same_name(have: &[u8], name: &str) -> bool {
    have.len() == name.len() && have.eq_ignore_ascii_case(name.as_bytes())
}

/// The value without the three bytes that could end a line or a string.
fn harmless(value: Bytes) -> Bytes {
    if memchr::memchr3(b'\r', b'\n', 0, &value).is_none() {
        return value;
    }
    let mut copy = value.to_vec();
    for byte in &mut copy {
        if matches!(*byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
    Bytes::from(copy)
}

/// Whether a byte may stand in a field name or a method (RFC 9110, section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// One look a byte: every name that the proxy adds is checked.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        {
            table[byte] = may_stand_in_a_token(byte as u8);
        }
        byte += 1;
    }
    table
};

const fn may_stand_in_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The name with hyphens in the place of bytes that are not allowed in one.
fn token(name: Bytes) -> Bytes {
    if !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte)) {
        return name;
    }
    if name.is_empty() {
        return Bytes::from_static(b"-");
    }
    name.iter().map(|byte| if is_token_byte(*byte) { *byte } else { b'-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_without_case_and_keeps_the_letters() {
        let headers: Headers = [("X-First", "1"), ("x-FIRST", "2"), ("Other", "3")].into_iter().collect();
        assert_eq!(headers.get_str("x-first"), Some("1"));
        assert_eq!(headers.get_all("x-first").count(), 2);
        assert!(!headers.contains("x-firs"));
        assert_eq!(headers.iter().next().unwrap().0, "X-First");
    }

    #[test]
    fn set_keeps_place_and_removes_the_others() {
        let mut headers: Headers = [("A", "1"), ("B", "2"), ("a", "3"), ("C", "4")].into_iter().collect();
        headers.set("a", "changed");
        let text: Vec<_> = headers.iter().map(|(n, v)| format!("{n:?}{v:?}")).collect();
        assert_eq!(text, [r#"b"A"b"changed""#, r#"b"B"b"2""#, r#"b"C"b"4""#]);
        let sum: usize = headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        assert_eq!(headers.byte_size(), sum);
        headers.set("new", "x");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn remove_takes_all_of_a_name() {
        let mut headers: Headers = [("A", "1"), ("B", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(headers.remove("a").unwrap(), "1");
        assert_eq!(headers.remove("a"), None);
        assert_eq!((headers.len(), headers.byte_size()), (1, 6));
    }

    #[test]
    fn names_are_found_until_they_are_removed_whatever_their_case() {
        let names = ["X-Request-ID", "x-envoy-attempt-count", "Host", "a", "traceparent", "x-b3-traceid"];
        let mut headers: Headers = names.into_iter().map(|name| (name, "1")).collect();
        for name in names {
            assert!(
                headers.contains(&name.to_ascii_lowercase()) && headers.contains(&name.to_ascii_uppercase())
            );
            headers.remove(name);
            assert!(!headers.contains(name));
        }
        assert_eq!(headers, Headers::new());
        headers.append("Late", "1");
        assert!(headers.contains("late"));
    }

    #[test]
    fn a_computed_value_cannot_end_its_line() {
        let mut headers = Headers::new();
        headers.append("x", "a\r\nevil: 1\0");
        headers.set("y", "b\nc");
        assert_eq!(headers.get_str("x"), Some("a  evil: 1 "));
        assert_eq!(headers.get_str("y"), Some("b c"));
        headers.append("a\r\nb: c", "d");
        assert_eq!(headers.get_str("a--b--c"), Some("d"));
    }
}
