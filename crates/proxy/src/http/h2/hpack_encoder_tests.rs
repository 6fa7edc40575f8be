use super::*;
use crate::http::h1::Limits;
use crate::http::h2::fields::Block;
use crate::http::h2::hpack_decoder::Decoder;
use crate::telemetry::Random;

struct Pair {
    encoder: Encoder,
    decoder: Decoder,
}

impl Pair {
    fn new() -> Self {
        Pair { encoder: Encoder::new(), decoder: Decoder::new(4096) }
    }

    /// Sends the fields in one block: what is read of them, and the bytes that it took.
    fn send(&mut self, fields: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<u8>) {
        let mut out = BytesMut::new();
        self.encoder.begin(&mut out);
        for (name, value) in fields {
            self.encoder.field(&mut out, name.as_bytes(), value.as_bytes()).unwrap();
        }
        let limits = Limits { max_headers_bytes: 1 << 20, max_headers_count: 1 << 20 };
        let mut block = Block::new(limits);
        self.decoder.read(&out, &mut block).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (block.headers.iter().map(|(name, value)| (text(name), text(value))).collect(), out.to_vec())
    }
}

#[test]
fn what_comes_again_costs_one_byte_and_what_is_new_each_time_leaves_the_table_alone() {
    let mut pair = Pair::new();
    let first = pair.send(&[("X-Mine", "1"), ("accept", "*/*")]);
    assert_eq!(first.0, [("x-mine".to_owned(), "1".to_owned()), ("accept".to_owned(), "*/*".to_owned())]);
    pair.send(&[("x-mine", "1"), ("accept", "*/*")]);
    assert_eq!(pair.send(&[("x-mine", "1"), ("accept", "*/*")]).1.len(), 2);
    for number in 0..1000 {
        let value = format!("new-{number:06}");
        let (read, bytes) = pair.send(&[("x-request-id", &value), ("X-MINE", "1")]);
        assert_eq!(read[0].1, value);
        assert_eq!(bytes.last(), Some(&0xbf), "the field that repeats stays where it was");
    }
    assert_eq!(pair.encoder.table.len(), 2);
}

#[test]
fn secrets_are_never_kept() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        for name in ["authorization", "Cookie", "set-cookie", "proxy-authorization"] {
            let (read, bytes) = pair.send(&[(name, "secret")]);
            assert_eq!(read, [(name.to_ascii_lowercase(), "secret".to_owned())]);
            assert_eq!(bytes[0] & 0xf0, 0x10, "{name}");
        }
    }
    assert!(pair.encoder.table.is_empty());
}

#[test]
fn what_cannot_be_a_field_is_not_written() {
    let mut out = BytesMut::new();
    for (name, value) in [("x", "a\r\nb"), ("x", "\0"), ("x y", "1"), ("", "1"), ("x\n", "1")] {
        let written = Encoder::new().field(&mut out, name.as_bytes(), value.as_bytes());
        assert_eq!(written, Err(Unwritable), "{name:?}: {value:?}");
    }
}

#[test]
fn a_smaller_table_is_told_and_a_block_that_was_lost_is_forgotten() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        pair.send(&[("x-mine", "1"), ("x-other", "2")]);
    }
    pair.encoder.limit(40);
    pair.encoder.limit(64);
    let (read, bytes) = pair.send(&[("x-mine", "1"), ("x-other", "2")]);
    assert_eq!(read.len(), 2);
    assert_eq!(bytes[..4], [0x3f, 9, 0x3f, 33], "the smallest size, and the last");
    let mut pair = Pair::new();
    pair.send(&[("x-mine", "1")]);
    // The second time it is kept, in a block that the peer does not see.
    pair.encoder.field(&mut BytesMut::new(), b"x-mine", b"1").unwrap();
    pair.encoder.forget();
    assert_eq!(pair.send(&[("x-mine", "1")]).0, [("x-mine".to_owned(), "1".to_owned())]);
}

#[test]
fn random_fields_come_as_they_were_sent() {
    for seed in 0..30 {
        let (mut pair, random) = (Pair::new(), Random::seeded(seed));
        for _ in 0..200 {
            if random.below(20) == 0 {
                pair.encoder.limit(random.below(4097) as u32);
            }
            let fields: Vec<(String, String)> = (0..random.below(20))
                .map(|_| {
                    let value = "v".repeat(random.below(30) as usize * 20);
                    (format!("x-{}", random.below(20)), value)
                })
                .collect();
            let sent: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(pair.send(&sent).0, fields, "seed {seed}");
        }
    }
}
