//! Reads strings in the Huffman code of RFC 7541, appendix B.

/// Bits of the code of every byte, and of the end of a string. The code is canonical: the lengths say everything.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits that one look into the table decodes.
const QUICK: u32 = 9;

/// The code, ready to be read.
struct Code {
    /// For every beginning of [`QUICK`] bits: the symbol and the bits of its code; 0 bits: the code is longer.
    quick: [(u8, u8); 1 << QUICK],
    /// For every length: the first code, how many there are, and where their symbols begin in `order`.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    start: [usize; LONGEST + 1],
    /// Symbols by length, then by value.
    order: [u16; 257],
}

const TABLE: &Code = &build();

const fn build() -> Code {
    let mut code = Code {
        quick: [(0, 0); 1 << QUICK],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        order: [0; 257],
    };
    let (mut length, mut next, mut placed) = (1, 0u32, 0);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = placed;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.order[placed] = symbol as u16;
                placed += 1;
                if length as u32 <= QUICK {
                    let free = QUICK - length as u32;
                    let mut entry = (next << free) as usize;
                    let end = entry + (1 << free);
                    while entry < end {
                        code.quick[entry] = (symbol as u8, length as u8);
                        entry += 1;
                    }
                }
                next += 1;
                code.count[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// Appends the string to `out`; `None` when it holds the code of the end, or its padding is not less than eight ones
/// (section 5.2).
pub(crate) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut rest, mut bits, mut have) = (bytes, 0u64, 0u32);
    let mut at = out.len();
    // The shortest code has five bits.
    out.resize(at + bytes.len() * 8 / 5 + 1, 0);
    let whole = loop {
        if have < 32 {
            if let Some((four, more)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*four)) << (32 - have);
                (have, rest) = (have + 32, more);
            } else {
                while let Some((byte, more)) = rest.split_first() {
                    bits |= u64::from(*byte) << (56 - have);
                    (have, rest) = (have + 8, more);
                }
            }
        }
        let (mut symbol, mut length) = TABLE.quick[(bits >> (64 - QUICK)) as usize];
        if length == 0 {
            // Ones behind the end: so padding looks like the beginning of the end's code.
            let next = (bits >> 32) as u32 | u32::MAX.checked_shr(have).unwrap_or(0);
            let Some(long) = long_code(next) else { break padding(bits, have) };
            (symbol, length) = long;
        }
        let Some(left) = have.checked_sub(u32::from(length)) else { break padding(bits, have) };
        *out.get_mut(at)? = symbol;
        at += 1;
        (bits, have) = (bits << length, left);
    };
    out.truncate(at);
    whole.then_some(())
}

/// The symbol of a code with more than [`QUICK`] bits; `None`: the end's.
fn long_code(next: u32) -> Option<(u8, u8)> {
    (QUICK as usize + 1..=LONGEST).find_map(|length| {
        let offset = (next >> (32 - length)).wrapping_sub(TABLE.first[length]);
        if offset >= TABLE.count[length] {
            return None;
        }
        let symbol = TABLE.order[TABLE.start[length] + offset as usize];
        u8::try_from(symbol).ok().map(|symbol| (symbol, length as u8))
    })
}

/// Whether what is left, in the highest bits, is less than eight ones.
fn padding(bits: u64, have: u32) -> bool {
    have < 8 && bits == !(u64::MAX >> have)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a string in the code.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut have) = (Vec::new(), 0u64, 0u32);
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let place =
                TABLE.order[TABLE.start[length]..].iter().position(|symbol| *symbol == u16::from(*byte));
            let code = u64::from(TABLE.first[length]) + place.unwrap() as u64;
            bits = bits << length | code;
            have += length as u32;
            while have >= 8 {
                out.push((bits >> (have - 8)) as u8);
                have -= 8;
                bits &= (1 << have) - 1;
            }
        }
        if have > 0 {
            out.push((bits << (8 - have) | ((1 << (8 - have)) - 1)) as u8);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = b"before".to_vec();
        super::decode(bytes, &mut text)?;
        assert!(text.starts_with(b"before"));
        Some(text.split_off(6))
    }

    /// The strings of RFC 7541, appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&example).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(decode(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decode(&[]).unwrap(), b"");
    }

    #[test]
    fn every_byte_comes_back_alone_and_among_others() {
        for byte in 0..=255u8 {
            assert_eq!(decode(&encode(&[byte])).unwrap(), [byte]);
        }
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn the_end_and_wrong_padding_are_refused() {
        for bytes in [&[0xff; 4][..], &[0xff, 0xff, 0xff, 0xfc], &[0xff], &[0x07, 0xff], &[0x00], &[0x1c]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(decode(&[0x07]).unwrap(), b"0", "five bits and three ones");
    }
}
