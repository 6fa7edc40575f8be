//! The Huffman code of RFC 7541, appendix B: canonical, so that the lengths say everything.

/// Bits of the code of every byte, and of the end of a string.
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

/// Decodes a string; `None` when it holds the end-of-string code or its padding is wrong.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut text = Vec::new();
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1));
    loop {
        let (mut code, mut length) = (0_u32, 0_u8);
        // The first code of the present length, and which symbol has it.
        let (mut first, mut index) = (0_u32, 0_usize);
        loop {
            let Some(bit) = bits.next() else {
                // Padding is at most seven ones.
                return (length < 8 && code == (1 << length) - 1).then_some(text);
            };
            code = code << 1 | u32::from(bit);
            length += 1;
            first <<= 1;
            let count = order[index..].iter().take_while(|symbol| LENGTHS[**symbol] == length).count();
            let offset = usize::try_from(code - first).ok()?;
            if offset < count {
                text.push(u8::try_from(order[index + offset]).ok()?);
                break;
            }
            first += u32::try_from(count).ok()?;
            index += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strings of RFC 7541, appendix C.4.
    #[test]
    fn the_examples_of_the_rfc() {
        let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&example).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}
