//! Header fields in the order and the letters in which they were received.

use bytes::Bytes;

/// An ordered list of header fields.
///
/// Names and values are kept byte for byte (a service behind the mesh sees the names that its caller wrote); lookups
/// ignore ASCII case (RFC 9110, section 5.1). A name may occur more than once. Fields of a head that was received as one
/// text stay where they are in it.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// The head that the fields came in; empty when they came in another way.
    received: Bytes,
    fields: Vec<Field>,
    byte_size: usize,
    names: Names,
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

#[derive(Debug, Clone)]
enum Field {
    /// Where its parts begin in the received head, and how long they are.
    Received { name: (u32, u32), value: (u32, u32) },
    /// One that was added or changed.
    Own(Bytes, Bytes),
}

impl Field {
    #[inline]
    fn name<'f>(&'f self, received: &'f [u8]) -> &'f [u8] {
        match self {
            Field::Received { name, .. } => cut(received, *name),
            Field::Own(name, _) => name,
        }
    }

    #[inline]
    fn value<'f>(&'f self, received: &'f [u8]) -> &'f [u8] {
        match self {
            Field::Received { value, .. } => cut(received, *value),
            Field::Own(_, value) => value,
        }
    }

    fn size(&self, received: &[u8]) -> usize {
        self.name(received).len() + self.value(received).len() + FIELD_OVERHEAD
    }
}

#[inline]
fn cut(received: &[u8], (at, length): (u32, u32)) -> &[u8] {
    received.get(at as usize..(at + length) as usize).unwrap_or_default()
}

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
        Headers { received: Bytes::new(), fields: Vec::new(), byte_size: 0, names: Names::NONE }
    }

    /// An empty list with room for `count` fields.
    pub fn with_capacity(count: usize) -> Self {
        Headers { fields: Vec::with_capacity(count), ..Headers::new() }
    }

    /// An empty list for the fields of `head`, with room for `count` of them.
    pub(crate) fn of_head(head: &Bytes, count: usize) -> Self {
        Headers { received: head.clone(), ..Headers::with_capacity(count) }
    }

    /// The first value of `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        Some(self.fields[self.find(name.as_bytes())?].value(&self.received))
    }

    /// The first value of `name`, to keep.
    pub fn get_bytes(&self, name: &str) -> Option<Bytes> {
        Some(self.value_at(self.find(name.as_bytes())?))
    }

    /// The first value of `name`, when it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let fields = if self.names.may_have(name.as_bytes()) { &self.fields[..] } else { &[] };
        let named = fields.iter().filter(move |field| same_name(field.name(&self.received), name.as_bytes()));
        named.map(|field| field.value(&self.received))
    }

    /// Whether a field of this name is there.
    #[inline]
    pub fn contains(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_some()
    }

    /// Makes `value` the only value of `name`. A field that is there keeps its place and its spelling.
    pub fn set(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.replace(token(name.into()), harmless(value.into()));
    }

    /// As [`Headers::set`], for a name that stands in the code: nobody needs to look at its bytes.
    pub(crate) fn set_known(&mut self, name: &'static str, value: impl Into<Bytes>) {
        debug_assert!(name.bytes().all(is_token_byte), "{name}");
        self.replace(Bytes::from_static(name.as_bytes()), harmless(value.into()));
    }

    fn replace(&mut self, name: Bytes, value: Bytes) {
        let Some(first) = self.find(&name) else {
            self.push(name, value);
            return;
        };
        let spelled = match &self.fields[first] {
            Field::Own(spelled, _) => spelled.clone(),
            Field::Received { name, .. } => self.received.slice_ref(cut(&self.received, *name)),
        };
        let field = Field::Own(spelled, value);
        self.byte_size += field.size(&self.received);
        self.byte_size -= self.fields[first].size(&self.received);
        self.fields[first] = field;
        let received = &self.received;
        if !self.fields[first + 1..].iter().any(|field| same_name(field.name(received), &name)) {
            return;
        }
        let mut index = 0;
        self.retain(|have, _| {
            index += 1;
            index - 1 <= first || !same_name(have, &name)
        });
    }

    /// Adds a field at the end, beside others of the same name. CR, LF and NUL in a value become spaces (RFC 9110,
    /// section 5.5) and bytes that a name may not have become hyphens, so that nothing that the proxy or its
    /// configuration computes can end its line.
    pub fn append(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(token(name.into()), harmless(value.into()));
    }

    /// As [`Headers::append`], for a name that stands in the code.
    pub(crate) fn append_known(&mut self, name: &'static str, value: impl Into<Bytes>) {
        debug_assert!(name.bytes().all(is_token_byte), "{name}");
        self.push(Bytes::from_static(name.as_bytes()), harmless(value.into()));
    }

    /// Removes every field of this name; returns the first value.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        let found = self.value_at(self.find(name.as_bytes())?);
        self.retain(|have, _| !same_name(have, name.as_bytes()));
        Some(found)
    }

    /// Keeps the fields for which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let (mut byte_size, mut names) = (0, Names::NONE);
        let received = &self.received;
        self.fields.retain(|field| {
            let name = field.name(received);
            let kept = keep(name, field.value(received));
            if kept {
                byte_size += field.size(received);
                names.add(name);
            }
            kept
        });
        (self.byte_size, self.names) = (byte_size, names);
    }

    /// Name and value of every field, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name(&self.received), field.value(&self.received)))
    }

    /// Name, value and, where it was received as an encoder would write it, the line of every field, in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
        let received = &self.received[..];
        self.fields.iter().map(move |field| {
            let (name, value) = (field.name(received), field.value(received));
            let line = match field {
                Field::Own(..) => None,
                Field::Received { name: (at, _), .. } => {
                    let line = cut(received, (*at, (name.len() + value.len() + FIELD_OVERHEAD) as u32));
                    let plain =
                        line[..].get(name.len()..name.len() + 2) == Some(b": ") && line.ends_with(b"\r\n");
                    (plain && line.len() == name.len() + value.len() + FIELD_OVERHEAD).then_some(line)
                }
            };
            (name, value, line)
        })
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
        self.fields.push(Field::Own(name, value));
    }

    /// Adds a field that a parser found in the head of [`Headers::of_head`]; one of another text is copied.
    pub(crate) fn push_received(&mut self, name: &[u8], value: &[u8]) {
        let (Some(name_at), Some(value_at)) = (self.place(name), self.place(value)) else {
            self.push(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
            return;
        };
        self.byte_size += name.len() + value.len() + FIELD_OVERHEAD;
        self.names.add(name);
        self.fields.push(Field::Received { name: name_at, value: value_at });
    }

    /// Where a part of the received head stands.
    fn place(&self, part: &[u8]) -> Option<(u32, u32)> {
        let at = part.as_ptr().addr().checked_sub(self.received.as_ptr().addr())?;
        let end = at.checked_add(part.len())?;
        (end <= self.received.len())
            .then_some((u32::try_from(at).ok()?, u32::try_from(end).ok()? - at as u32))
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        if !self.names.may_have(name) {
            return None;
        }
        self.fields.iter().position(|field| same_name(field.name(&self.received), name))
    }

    fn value_at(&self, index: usize) -> Bytes {
        match &self.fields[index] {
            Field::Own(_, value) => value.clone(),
            Field::Received { value, .. } => self.received.slice_ref(cut(&self.received, *value)),
        }
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

/// Equal lengths first: it tells nearly all names apart without looking at a letter. Then the bytes as they are, since
/// most peers write the names as this proxy does.
fn same_name(have: &[u8], name: &[u8]) -> bool {
    have.len() == name.len() && (have == name || have.eq_ignore_ascii_case(name))
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
        assert_eq!(headers.iter().next().unwrap().0, b"X-First");
    }

    #[test]
    fn set_keeps_place_and_removes_the_others() {
        let mut headers: Headers = [("A", "1"), ("B", "2"), ("a", "3"), ("C", "4")].into_iter().collect();
        headers.set("a", "changed");
        let text: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{:?}{:?}", Bytes::copy_from_slice(n), Bytes::copy_from_slice(v)))
            .collect();
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
    fn fields_of_a_head_stay_where_they_are_until_they_are_changed() {
        let head = Bytes::from_static(b"GET / HTTP/1.1\r\nA: one\r\nb:two\r\nC:  three \r\n\r\n");
        let mut headers = Headers::of_head(&head, 4);
        for (name, value) in [(16..17, 19..22), (24..25, 26..29), (31..32, 35..40)] {
            headers.push_received(&head[name], &head[value]);
        }
        headers.push_received(b"other", b"text");
        assert_eq!(headers.get_bytes("a").unwrap().as_ptr(), head[19..].as_ptr(), "not copied");
        let lines: Vec<_> = headers.lines().collect();
        assert_eq!(lines[0], (&b"A"[..], &b"one"[..], Some(&b"A: one\r\n"[..])));
        assert_eq!(lines[1], (&b"b"[..], &b"two"[..], None), "not as an encoder writes it");
        assert_eq!(lines[2], (&b"C"[..], &b"three"[..], None));
        assert_eq!(lines[3], (&b"other"[..], &b"text"[..], None));
        headers.set("a", "new");
        assert_eq!(headers.lines().next(), Some((&b"A"[..], &b"new"[..], None)));
        let same: Headers =
            [("A", "new"), ("b", "two"), ("C", "three"), ("other", "text")].into_iter().collect();
        assert_eq!((&headers, headers.byte_size()), (&same, same.byte_size()));
        assert_eq!(headers.remove("b").unwrap(), "two");
        assert_eq!(headers.len(), 3);
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
