//! The static table (RFC 7541, appendix A), and what the names of fields mean to us.

/// Entries of the static table.
pub(crate) const ENTRIES: usize = 61;

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    /// A pseudo-header that nobody knows.
    UnknownPseudo,
    Host,
    Cookie,
    ContentLength,
    /// Of value `trailers`, which alone is allowed.
    TeTrailers,
    /// It belongs to an HTTP/1 connection (RFC 9113, section 8.2.2).
    OfConnection,
    /// Its name or value has a byte that is not allowed (section 8.2.1).
    Invalid,
    Regular,
}

/// Name, value and kind of an entry; `index` is 1 to 61. `te` is not among them.
pub(crate) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8], Kind)> {
    let (name, value) = *TABLE.get(index.checked_sub(1)?)?;
    Some((name, value, KINDS[index - 1]))
}

/// What a field of a block is.
pub(crate) fn kind(name: &[u8], value: &[u8]) -> Kind {
    if !is_value(value) {
        return Kind::Invalid;
    }
    match kind_of_name(name) {
        Kind::TeTrailers if !value.trim_ascii().eq_ignore_ascii_case(b"trailers") => Kind::OfConnection,
        kind => kind,
    }
}

/// What a name says alone: of `te`, that it is as it should be.
const fn kind_of_name(name: &[u8]) -> Kind {
    match name {
        b":method" => Kind::Method,
        b":scheme" => Kind::Scheme,
        b":authority" => Kind::Authority,
        b":path" => Kind::Path,
        b":protocol" => Kind::Protocol,
        b":status" => Kind::Status,
        [b':', ..] => Kind::UnknownPseudo,
        b"host" => Kind::Host,
        b"cookie" => Kind::Cookie,
        b"content-length" => Kind::ContentLength,
        b"te" => Kind::TeTrailers,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
        | b"http2-settings" => Kind::OfConnection,
        name if is_name(name) => Kind::Regular,
        _ => Kind::Invalid,
    }
}

/// Lower-case letters and what else may stand in a token.
const fn is_name(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if !super::super::headers::is_token_byte(name[at]) || name[at].is_ascii_uppercase() {
            return false;
        }
        at += 1;
    }
    !name.is_empty()
}

/// No control character but the tab.
pub(crate) fn is_value(value: &[u8]) -> bool {
    // All bytes, without a branch for each.
    value.iter().fold(true, |good, byte| good & ((*byte >= 0x20) & (*byte != 0x7f) | (*byte == b'\t')))
}

/// The entry with that name, and that with the value too if there is one. 0: none.
pub(crate) fn find(name: &[u8], value: &[u8]) -> (usize, usize) {
    let mut at = FIRST[hash(name)] as usize;
    while at != 0 {
        if TABLE[at - 1].0 == name {
            break;
        }
        at = NEXT[at - 1] as usize;
    }
    let mut with_value = at;
    // Entries of one name stand side by side.
    while let Some((have, of)) = with_value.checked_sub(1).and_then(|index| TABLE.get(index)) {
        if *have != name {
            break;
        }
        if *of == value {
            return (at, with_value);
        }
        with_value += 1;
    }
    (at, 0)
}

const BUCKETS: usize = 256;

/// Few bytes tell the names of the table apart.
const fn hash(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let (first, middle, last) = (name[0] as usize, name[length / 2] as usize, name[length - 1] as usize);
    (length.wrapping_mul(7) ^ first.wrapping_mul(5) ^ middle.wrapping_mul(31) ^ last.wrapping_mul(3))
        % BUCKETS
}

/// For each hash the first entry of a name, and for each entry the next one with another name and the same hash.
const FIRST: [u8; BUCKETS] = chains().0;
const NEXT: [u8; ENTRIES] = chains().1;

const fn chains() -> ([u8; BUCKETS], [u8; ENTRIES]) {
    let (mut first, mut next) = ([0; BUCKETS], [0; ENTRIES]);
    let mut index = ENTRIES;
    while index > 0 {
        // Of entries with one name the first one stays.
        let again = index > 1 && same(TABLE[index - 1].0, TABLE[index - 2].0);
        if !again {
            let bucket = hash(TABLE[index - 1].0);
            next[index - 1] = first[bucket];
            first[bucket] = index as u8;
        }
        index -= 1;
    }
    (first, next)
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

const KINDS: [Kind; ENTRIES] = {
    let mut kinds = [Kind::Regular; ENTRIES];
    let mut at = 0;
    while at < ENTRIES {
        kinds[at] = kind_of_name(TABLE[at].0);
        at += 1;
    }
    kinds
};

const TABLE: [(&[u8], &[u8]); ENTRIES] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_name_and_by_both() {
        for index in 1..=ENTRIES {
            let (name, value, _) = entry(index).unwrap();
            let (by_name, by_both) = find(name, value);
            assert_eq!(by_both, index);
            assert_eq!(entry(by_name).unwrap().0, name);
            assert_eq!(find(name, b"another").1, 0);
        }
        assert_eq!(find(b"x-unknown", b""), (0, 0));
        assert_eq!(find(b"", b""), (0, 0));
        assert_eq!((entry(0), entry(ENTRIES + 1)), (None, None));
    }

    #[test]
    fn names_and_values_are_told_apart() {
        for (name, value, expected) in [
            ("te", "trailers", Kind::TeTrailers),
            ("te", "gzip", Kind::OfConnection),
            ("upgrade", "h2c", Kind::OfConnection),
            ("x-A", "1", Kind::Invalid),
            ("x y", "1", Kind::Invalid),
            ("", "1", Kind::Invalid),
            ("x", "a\r\nb", Kind::Invalid),
            ("x", "a\0", Kind::Invalid),
            ("x", "\x7f", Kind::Invalid),
            ("x", "a\tb \u{e4}", Kind::Regular),
            (":color", "red", Kind::UnknownPseudo),
        ] {
            assert_eq!(kind(name.as_bytes(), value.as_bytes()), expected, "{name}: {value:?}");
        }
    }
}
