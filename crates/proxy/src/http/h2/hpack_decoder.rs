//! Reads header blocks (RFC 7541).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::fields::Block;
use super::hpack_static::{self, ENTRIES, Kind};
use super::huffman;
use super::settings::DEFAULT_TABLE;

/// What an entry counts beside its name and value (section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// The block is not one, or asks for more than is allowed: nothing that follows on the connection can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A field of the dynamic table; it was judged when it came.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    name: Bytes,
    value: Bytes,
}

impl Entry {
    fn size(&self) -> usize {
        OVERHEAD + self.name.len() + self.value.len()
    }
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest first.
    table: VecDeque<Entry>,
    used: usize,
    size: usize,
    /// The largest size that the peer may choose.
    limit: usize,
    /// Strings out of the Huffman code.
    scratch: Vec<u8>,
}

/// A string of a block: in the block, or decoded behind the first so many bytes of the scratch.
#[derive(Debug, Clone, Copy)]
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded(usize, usize),
}

impl<'a> Text<'a> {
    fn bytes(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(start, end) => &scratch[start..end],
        }
    }
}

impl Decoder {
    /// `limit`: the table's size that the peer is told (SETTINGS_HEADER_TABLE_SIZE). Until it has heard that, the usual one
    /// holds.
    pub(crate) fn new(limit: u32) -> Self {
        let limit = limit.max(DEFAULT_TABLE) as usize;
        let size = DEFAULT_TABLE as usize;
        Decoder { table: VecDeque::new(), used: 0, size, limit, scratch: Vec::new() }
    }

    /// Reads one whole block.
    pub(crate) fn read(&mut self, bytes: &[u8], block: &mut Block) -> Result<(), Malformed> {
        let mut reader = Reader(bytes);
        let mut may_resize = true;
        while let Some(first) = reader.0.first().copied() {
            if first & 0xe0 == 0x20 {
                if !may_resize {
                    return Err(Malformed);
                }
                self.resize(reader.number(5)?)?;
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                self.indexed(reader.number(7)?, block)?;
            } else {
                let kept = first & 0x40 != 0;
                self.literal(&mut reader, kept, block)?;
            }
        }
        if self.scratch.capacity() > 4096 {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn indexed(&self, index: usize, block: &mut Block) -> Result<(), Malformed> {
        if let Some((name, value, kind)) = hpack_static::entry(index) {
            if block.counts(kind, name, value) {
                block.add(kind, Bytes::from_static(name), Bytes::from_static(value));
            }
            return Ok(());
        }
        let entry = self.entry(index)?;
        if block.counts(entry.kind, &entry.name, &entry.value) {
            block.add(entry.kind, entry.name.clone(), entry.value.clone());
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, Malformed> {
        index.checked_sub(1 + ENTRIES).and_then(|index| self.table.get(index)).ok_or(Malformed)
    }

    fn literal(&mut self, reader: &mut Reader<'_>, kept: bool, block: &mut Block) -> Result<(), Malformed> {
        self.scratch.clear();
        let index = reader.number(if kept { 6 } else { 4 })?;
        let known = match index {
            0 => None,
            _ => Some(match hpack_static::entry(index) {
                Some((name, ..)) => Bytes::from_static(name),
                None => self.entry(index)?.name.clone(),
            }),
        };
        let name = match known {
            None => reader.text(&mut self.scratch)?,
            Some(_) => Text::Plain(b""),
        };
        let value = reader.text(&mut self.scratch)?;
        let value = value.bytes(&self.scratch);
        let name_bytes = match &known {
            Some(name) => name,
            None => name.bytes(&self.scratch),
        };
        let kind = hpack_static::kind(name_bytes, value);
        let counts = block.counts(kind, name_bytes, value);
        if !kept {
            if counts {
                let (name, value) = match known {
                    Some(name) => (name, block.text(value)),
                    None => {
                        let name = block.text(name_bytes);
                        (name, block.text(value))
                    }
                };
                block.add(kind, name, value);
            }
            return Ok(());
        }
        // The table's own copy: a slice of a block would hold on to the whole block.
        let entry = match known {
            Some(name) => Entry { kind, name, value: Bytes::copy_from_slice(value) },
            None => {
                let mut both = BytesMut::with_capacity(name_bytes.len() + value.len());
                both.extend_from_slice(name_bytes);
                both.extend_from_slice(value);
                let mut both = both.freeze();
                let name = both.split_to(name_bytes.len());
                Entry { kind, name, value: both }
            }
        };
        if counts {
            block.add(kind, entry.name.clone(), entry.value.clone());
        }
        self.insert(entry);
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict(size);
        // One that is larger than the whole table empties it (section 4.4).
        if size <= self.size {
            self.used += size;
            self.table.push_front(entry);
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
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

    fn text(&mut self, scratch: &mut Vec<u8>) -> Result<Text<'a>, Malformed> {
        let huffman = self.0.first().ok_or(Malformed)? & 0x80 != 0;
        let length = self.number(7)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        if !huffman {
            return Ok(Text::Plain(bytes));
        }
        let start = scratch.len();
        huffman::decode(bytes, scratch).ok_or(Malformed)?;
        Ok(Text::Decoded(start, scratch.len()))
    }
}

#[cfg(test)]
#[path = "hpack_decoder_tests.rs"]
mod tests;
