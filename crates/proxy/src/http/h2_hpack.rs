//! Follows header compression (RFC 7541) without keeping a field: what a header block says is told by the few facts that
//! the `h2` and `http` crates hide from us. See `h2_heads`.

use std::collections::VecDeque;

use super::h2_huffman;

/// Size of the dynamic table before anybody says something else (section 6.5.2 of RFC 9113).
const DEFAULT_TABLE: usize = 4096;
/// What an entry counts beside its name and value (section 4.1).
const OVERHEAD: usize = 32;
/// Bytes of a name or value that are looked at.
const SEEN: usize = 16;

/// The block is not one, or asks for more than is allowed: nothing that follows on the connection can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What matters of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Regular,
    Path,
    Status,
    OtherPseudo,
}

/// What matters of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    name: Name,
    /// The path has a fragment; the status is an interim one.
    marked: bool,
    name_length: u32,
    value_length: u32,
}

impl Field {
    fn size(self) -> usize {
        OVERHEAD + self.name_length as usize + self.value_length as usize
    }
}

/// What a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Block {
    /// Fields.
    pub fields: u32,
    /// Bytes of all names and values.
    pub bytes: usize,
    /// It has `:status`; whether an interim one.
    pub status: Option<bool>,
    /// It has a pseudo-header that belongs to requests.
    pub of_request: bool,
    /// Its `:path` has a fragment.
    pub fragment: bool,
}

impl Block {
    fn add(&mut self, field: Field) {
        self.fields = self.fields.saturating_add(1);
        self.bytes = self.bytes.saturating_add(field.size() - OVERHEAD);
        match field.name {
            Name::Regular => {}
            Name::Status => self.status = Some(field.marked),
            Name::Path => {
                self.of_request = true;
                self.fragment |= field.marked;
            }
            Name::OtherPseudo => self.of_request = true,
        }
    }

    /// Whether it has any pseudo-header.
    pub(crate) fn has_pseudo(self) -> bool {
        self.of_request || self.status.is_some()
    }
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    used: usize,
    size: usize,
    /// The largest size that the peer may choose.
    limit: usize,
}

impl Decoder {
    /// `limit`: the table's size that the peer is told (SETTINGS_HEADER_TABLE_SIZE). Until it has heard that, the usual one
    /// holds.
    pub(crate) fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(DEFAULT_TABLE);
        Decoder { table: VecDeque::new(), used: 0, size: DEFAULT_TABLE, limit }
    }

    /// Reads one whole block.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Block, Malformed> {
        let mut block = Block::default();
        let mut reader = Reader(bytes);
        let mut may_resize = true;
        while let Some(first) = reader.peek() {
            if first & 0xe0 == 0x20 {
                if !may_resize {
                    return Err(Malformed);
                }
                self.resize(reader.number(5)?)?;
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                block.add(self.get(reader.number(7)?)?);
                continue;
            }
            let indexed = first & 0x40 != 0;
            let field = self.literal(&mut reader, if indexed { 6 } else { 4 })?;
            block.add(field);
            if indexed {
                self.insert(field);
            }
        }
        Ok(block)
    }

    fn literal(&self, reader: &mut Reader<'_>, prefix: u32) -> Result<Field, Malformed> {
        let (name, name_length) = match reader.number(prefix)? {
            0 => {
                let text = reader.text()?;
                (name_of(&text.seen[..text.length.min(SEEN)], text.length), text.length)
            }
            index => {
                let known = self.get(index)?;
                (known.name, known.name_length as usize)
            }
        };
        let value = reader.text()?;
        let marked = match name {
            Name::Path => value.fragment,
            Name::Status => value.length == 3 && value.seen[0] == b'1',
            Name::Regular | Name::OtherPseudo => false,
        };
        let length = |length: usize| u32::try_from(length).map_err(|_| Malformed);
        Ok(Field { name, marked, name_length: length(name_length)?, value_length: length(value.length)? })
    }

    fn get(&self, index: usize) -> Result<Field, Malformed> {
        let index = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC.get(index) {
            Some((name, value)) => Ok(static_field(index, *name, *value)),
            None => self.table.get(index - STATIC.len()).copied().ok_or(Malformed),
        }
    }

    fn insert(&mut self, field: Field) {
        let size = field.size();
        self.evict(size);
        // One that is larger than the whole table empties it (section 4.4).
        if size <= self.size {
            self.used += size;
            self.table.push_front(field);
        }
    }

    fn resize(&mut self, size: usize) -> Result<(), Malformed> {
        if size > self.limit {
            return Err(Malformed);
        }
        self.size = size;
        self.evict(0);
        Ok(())
    }

    /// Makes room for an entry of that size.
    fn evict(&mut self, wanted: usize) {
        while self.used.saturating_add(wanted) > self.size {
            let Some(oldest) = self.table.pop_back() else { return };
            self.used -= oldest.size();
        }
    }
}

fn name_of(seen: &[u8], length: usize) -> Name {
    if seen.first() != Some(&b':') {
        return Name::Regular;
    }
    match seen {
        b":path" if length == 5 => Name::Path,
        b":status" if length == 7 => Name::Status,
        _ => Name::OtherPseudo,
    }
}

fn static_field(index: usize, name: u8, value: u8) -> Field {
    let kind = match index {
        3 | 4 => Name::Path,
        7..=13 => Name::Status,
        0..=6 => Name::OtherPseudo,
        _ => Name::Regular,
    };
    Field { name: kind, marked: false, name_length: name.into(), value_length: value.into() }
}

/// Lengths of names and values of the static table (appendix A).
#[rustfmt::skip]
const STATIC: [(u8, u8); 61] = [
    (10, 0), (7, 3), (7, 4), (5, 1), (5, 11), (7, 4), (7, 5), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3), (7, 3),
    (14, 0), (15, 13), (15, 0), (13, 0), (6, 0), (27, 0), (3, 0), (5, 0), (13, 0), (13, 0), (19, 0), (16, 0), (16, 0),
    (14, 0), (16, 0), (13, 0), (12, 0), (6, 0), (4, 0), (4, 0), (6, 0), (7, 0), (4, 0), (4, 0), (8, 0), (17, 0), (13, 0),
    (8, 0), (19, 0), (13, 0), (4, 0), (8, 0), (12, 0), (18, 0), (19, 0), (5, 0), (7, 0), (7, 0), (11, 0), (6, 0), (10, 0),
    (25, 0), (17, 0), (10, 0), (4, 0), (3, 0), (16, 0),
];

/// A string that was read.
struct Text {
    length: usize,
    seen: [u8; SEEN],
    /// It has a `#`.
    fragment: bool,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer with a prefix of so many bits (section 5.1); at most four bytes may follow it.
    fn number(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let mask = (1usize << prefix) - 1;
        let mut number = usize::from(self.byte()?) & mask;
        if number < mask {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<Text, Malformed> {
        let huffman = self.peek().ok_or(Malformed)? & 0x80 != 0;
        let length = self.number(7)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        let mut text = Text { length, seen: [0; SEEN], fragment: false };
        if !huffman {
            let seen = length.min(SEEN);
            text.seen[..seen].copy_from_slice(&bytes[..seen]);
            text.fragment = memchr::memchr(b'#', bytes).is_some();
            return Ok(text);
        }
        let mut at = 0;
        let decoded = h2_huffman::walk(bytes, |byte| {
            if let Some(place) = text.seen.get_mut(at) {
                *place = byte;
            }
            at += 1;
            text.fragment |= byte == b'#';
        });
        text.length = decoded.ok_or(Malformed)?;
        Ok(text)
    }
}

#[cfg(test)]
#[path = "h2_hpack_tests.rs"]
mod tests;
