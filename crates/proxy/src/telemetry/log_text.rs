//! Writes the values of log lines: numbers, addresses and texts from outside, without a detour over a text of their own.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// The numbers below 256 as three digits, and how many of them count.
const OCTETS: [([u8; 3], u8); 256] = octets();

const fn octets() -> [([u8; 3], u8); 256] {
    let mut all = [([b'0'; 3], 0); 256];
    let mut number = 0;
    while number < 256 {
        // Each is below ten.
        let digits =
            [b'0' + (number / 100) as u8, b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
        all[number] = match number {
            0..10 => ([digits[2], 0, 0], 1),
            10..100 => ([digits[1], digits[2], 0], 2),
            _ => (digits, 3),
        };
        number += 1;
    }
    all
}

/// Writes a number.
pub fn number(line: &mut Vec<u8>, mut number: u64) {
    if let Ok(small) = u8::try_from(number) {
        let (digits, count) = &OCTETS[usize::from(small)];
        return line.extend_from_slice(&digits[..usize::from(*count)]);
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        // The remainder is below ten.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&digits[at..]);
}

/// Writes an address without a port.
pub fn ip(line: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            // Three digits are written each time, of which only those stay that count.
            let mut text = [b'.'; 18];
            let mut at = 0;
            for octet in ip.octets() {
                let (digits, count) = &OCTETS[usize::from(octet)];
                text[at..at + 3].copy_from_slice(digits);
                at += usize::from(*count);
                text[at] = b'.';
                at += 1;
            }
            line.extend_from_slice(&text[..at - 1]);
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec cannot fail.
            let _ = write!(line, "{ip}");
        }
    }
}

/// Writes an address with its port.
pub fn address(line: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(_) => ip(line, address.ip()),
        SocketAddr::V6(_) => {
            line.push(b'[');
            ip(line, address.ip());
            line.push(b']');
        }
    }
    line.push(b':');
    number(line, address.port().into());
}

/// Whether a text can stand in a line, and in a JSON text, as it is: eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let plain = |word: &[u8; 8]| is_plain_word(u64::from_le_bytes(*word));
    words.iter().all(plain)
        && match bytes.last_chunk::<8>() {
            // Some bytes are looked at twice: that is faster than one by one.
            Some(last) => rest.is_empty() || plain(last),
            None => rest.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')),
        }
}

/// The same of eight bytes.
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let below_blank = word.wrapping_sub(ONES * 0x20) & !word;
    let found = word
        | below_blank
        | zero_in(word ^ (ONES * 0x7f))
        | zero_in(word ^ (ONES * u64::from(b'"')))
        | zero_in(word ^ (ONES * u64::from(b'\\')));
    found & HIGH == 0
}

/// A value from outside must neither end its line nor its quotes: control characters, quotes and bytes that are not
/// UTF-8 are written as `\xNN`.
pub fn escaped(line: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        return line.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '"' {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    hexadecimal(line, byte);
                }
            } else {
                line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            hexadecimal(line, *byte);
        }
    }
}

fn hexadecimal(line: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Writes a JSON string; bytes that are not UTF-8 become U+FFFD.
pub fn json(line: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        line.push(b'"');
        line.extend_from_slice(text);
        line.push(b'"');
        return;
    }
    // Serialising a string into a Vec cannot fail.
    let _ = serde_json::to_writer(line, &String::from_utf8_lossy(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_as_everywhere() {
        for value in [0, 7, 9, 10, 99, 100, 255, 256, 65_535, u64::MAX] {
            assert_eq!(written(|line| number(line, value)), value.to_string());
        }
        for text in ["127.0.0.1:8080", "255.255.255.255:0", "0.10.99.100:9", "[::1]:65535", "[2001:db8::5]:1"]
        {
            let parsed: SocketAddr = text.parse().unwrap();
            assert_eq!(written(|line| address(line, parsed)), text);
            assert_eq!(written(|line| ip(line, parsed.ip())), parsed.ip().to_string());
        }
    }

    #[test]
    fn eight_bytes_at_a_time_are_as_one_by_one() {
        for place in 0..20 {
            for byte in 0..=255u8 {
                let mut text = *b"abcdefghijklmnopqrst";
                text[place] = byte;
                let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                assert_eq!(is_plain(&text), plain, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn a_value_from_outside_cannot_end_its_line_or_its_quotes() {
        let text = written(|line| escaped(line, b"a\r\nb\" \x1b[2J \xff \xc2\x85 \xc3\xa9 \\ \0"));
        assert_eq!(text, "a\\x0d\\x0ab\\x22 \\x1b[2J \\xff \\xc2\\x85 \u{e9} \\ \\x00");
        assert_eq!(written(|line| json(line, b"a\r\n\"\xff\\")), "\"a\\r\\n\\\"\u{fffd}\\\\\"");
        assert_eq!(written(|line| json(line, b"plain/1 {}")), "\"plain/1 {}\"");
    }
}
