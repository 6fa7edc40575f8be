//! Writes header blocks (RFC 7541).
//!
//! A field enters the dynamic table when it comes a second time: so what is new in every message (identifiers, paths,
//! lengths) does not push out what repeats. What could be guessed by its size beside another client's bytes never enters it
//! (section 7.1). Strings are written as they are: to code them costs more than the bytes that it saves between hosts.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::hpack_decoder::OVERHEAD;
use super::hpack_static::{self, ENTRIES};
use super::settings::DEFAULT_TABLE;
use crate::http::headers::is_token_byte;

/// Fields that were seen once, by their hash.
const SEEN: usize = 64;
/// Places of the look-up: about as many as the table has entries.
const PLACES: usize = 128;
/// Larger fields stay out of the table.
const LARGEST_KEPT: usize = 512;

/// A field that cannot be written: a control character in its value, or a name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unwritable;

#[derive(Debug)]
struct Entry {
    hash: u32,
    name: Bytes,
    value: Bytes,
}

/// The encoder of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The newest first.
    table: VecDeque<Entry>,
    used: usize,
    size: usize,
    /// Sizes that the peer has to be told with the next block: the smallest one that held since, and the last one.
    resized: Option<(usize, usize)>,
    seen: [u32; SEEN],
    /// Entries that ever were.
    inserted: u16,
    /// For each hash the number of the newest entry that has it: where that one is gone, the older ones are too.
    newest: [u16; PLACES],
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let size = DEFAULT_TABLE as usize;
        Encoder {
            table: VecDeque::new(),
            used: 0,
            size,
            resized: None,
            seen: [0; SEEN],
            inserted: 0,
            newest: [0; PLACES],
        }
    }

    /// The peer keeps a table of at most that size.
    pub(crate) fn limit(&mut self, size: u32) {
        let size = size.min(DEFAULT_TABLE) as usize;
        if size == self.size {
            return;
        }
        let smallest = self.resized.map_or(self.size, |(smallest, _)| smallest).min(size);
        self.resized = Some((smallest, size));
        self.size = size;
        self.evict(0);
    }

    /// What was written last does not reach the peer: it has not seen the fields that were kept.
    pub(crate) fn forget(&mut self) {
        self.resized = Some((0, self.size));
        self.table.clear();
        self.used = 0;
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut BytesMut) {
        let Some((smallest, last)) = self.resized.take() else { return };
        if smallest < last {
            number(out, 0x20, 5, smallest);
        }
        number(out, 0x20, 5, last);
    }

    /// Writes a field; its name may have upper-case letters, which become lower-case ones.
    pub(crate) fn field(&mut self, out: &mut BytesMut, name: &[u8], value: &[u8]) -> Result<(), Unwritable> {
        // Most pseudo-headers stand in the static table with their value.
        if name.first() == Some(&b':')
            && let (_, index @ 1..) = hpack_static::find(name, value)
        {
            number(out, 0x80, 7, index);
            return Ok(());
        }
        let hash = hash(name, value);
        if let Some(index) = self.find(hash, name, value) {
            number(out, 0x80, 7, index + 1 + ENTRIES);
            return Ok(());
        }
        let name = &*lower_case(name)?;
        let (by_name, by_both) = hpack_static::find(name, value);
        if by_both != 0 {
            number(out, 0x80, 7, by_both);
            return Ok(());
        }
        if !hpack_static::is_value(value) {
            return Err(Unwritable);
        }
        let size = OVERHEAD + name.len() + value.len();
        let secret = is_secret(name);
        let seen = &mut self.seen[hash as usize % SEEN];
        let again = std::mem::replace(seen, hash) == hash;
        let kept = again && !secret && size <= LARGEST_KEPT.min(self.size);
        let (first, prefix) = match (kept, secret) {
            (true, _) => (0x40, 6),
            (false, true) => (0x10, 4),
            (false, false) => (0, 4),
        };
        number(out, first, prefix, by_name);
        if by_name == 0 {
            text(out, name);
        }
        text(out, value);
        if kept {
            self.evict(size);
            self.used += size;
            let mut both = BytesMut::with_capacity(name.len() + value.len());
            both.extend_from_slice(name);
            both.extend_from_slice(value);
            let mut both = both.freeze();
            let name = both.split_to(name.len());
            self.inserted = self.inserted.wrapping_add(1);
            self.newest[hash as usize % PLACES] = self.inserted;
            self.table.push_front(Entry { hash, name, value: both });
        }
        Ok(())
    }

    /// Where the field is in the table.
    fn find(&self, hash: u32, name: &[u8], value: &[u8]) -> Option<usize> {
        let is = |entry: &Entry| entry.hash == hash && entry.value == value && same_name(&entry.name, name);
        let newest = self.inserted.wrapping_sub(self.newest[hash as usize % PLACES]);
        if is(self.table.get(usize::from(newest))?) {
            return Some(usize::from(newest));
        }
        // Another field stands in its place.
        self.table.iter().position(is)
    }

    /// Makes room for an entry of that size.
    fn evict(&mut self, wanted: usize) {
        while self.used + wanted > self.size {
            let Some(oldest) = self.table.pop_back() else { return };
            self.used -= OVERHEAD + oldest.name.len() + oldest.value.len();
        }
    }
}

fn same_name(have: &[u8], name: &[u8]) -> bool {
    have == name || have.eq_ignore_ascii_case(name)
}

/// Fields that are not kept, so that nobody can find out their value by the size of what is sent beside it.
fn is_secret(name: &[u8]) -> bool {
    match name.len() {
        6 => name == b"cookie",
        10 => name == b"set-cookie",
        13 => name == b"authorization",
        19 => name == b"proxy-authorization",
        _ => false,
    }
}

/// The name in lower case.
fn lower_case(name: &[u8]) -> Result<Cow<'_, [u8]>, Unwritable> {
    let (mut token, mut upper) = (!name.is_empty(), false);
    let rest = name.strip_prefix(b":").unwrap_or(name);
    for byte in rest {
        token &= is_token_byte(*byte);
        upper |= byte.is_ascii_uppercase();
    }
    if !token {
        return Err(Unwritable);
    }
    Ok(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// Of a few bytes: equal fields have equal hashes, and unequal ones mostly not. Never 0.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    for bytes in [name, value] {
        let (first, last) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
        if let (Some(first), Some(last)) = (first, last) {
            hash = mix(hash ^ u64::from_le_bytes(*first) & CASE);
            hash = mix(hash ^ u64::from_le_bytes(*last) & CASE);
            if bytes.len() > 16 {
                let middle = &bytes[bytes.len() / 2 - 4..];
                let middle = middle.first_chunk::<8>().map_or(0, |middle| u64::from_le_bytes(*middle));
                hash = mix(hash ^ middle & CASE);
            }
        } else {
            for byte in bytes {
                hash = mix(hash ^ u64::from(byte & 0xdf));
            }
        }
    }
    (hash >> 32) as u32 | 1 << 31
}

/// Without the bit that tells letters' cases apart.
const CASE: u64 = 0xdfdf_dfdf_dfdf_dfdf;

const fn mix(hash: u64) -> u64 {
    (hash ^ hash >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// An integer behind the bits of `first` (section 5.1).
pub(super) fn number(out: &mut BytesMut, first: u8, prefix: u32, number: usize) {
    let mask = (1usize << prefix) - 1;
    if number < mask {
        out.put_u8(first | number as u8);
        return;
    }
    out.put_u8(first | mask as u8);
    let mut rest = number - mask;
    while rest >= 128 {
        out.put_u8(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn text(out: &mut BytesMut, text: &[u8]) {
    number(out, 0, 7, text.len());
    out.put_slice(text);
}

#[cfg(test)]
#[path = "hpack_encoder_tests.rs"]
mod tests;
