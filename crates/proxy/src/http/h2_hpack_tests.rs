use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::http::h2_huffman::tests::encode as huffman;
use crate::telemetry::Random;

/// Writes blocks as an encoder may that uses everything there is.
struct Encoder {
    random: Random,
    /// Names and values of the dynamic table, the newest first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
    size: usize,
}

impl Encoder {
    fn below(&self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    fn number(out: &mut Vec<u8>, first: u8, prefix: u32, number: usize) {
        let mask = (1 << prefix) - 1;
        if number < mask {
            out.push(first | number as u8);
            return;
        }
        out.push(first | mask as u8);
        let mut rest = number - mask;
        while rest >= 128 {
            out.push(rest as u8 & 127 | 128);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn text(&self, out: &mut Vec<u8>, text: &[u8]) {
        if self.below(2) == 0 {
            Self::number(out, 0, 7, text.len());
            out.extend_from_slice(text);
        } else {
            let coded = huffman(text);
            Self::number(out, 0x80, 7, coded.len());
            out.extend_from_slice(&coded);
        }
    }

    fn resize(&mut self, out: &mut Vec<u8>) {
        self.size = self.below(4097) as usize;
        Self::number(out, 0x20, 5, self.size);
        self.evict();
    }

    fn evict(&mut self) {
        let used = |table: &[(Vec<u8>, Vec<u8>)]| -> usize {
            table.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
        };
        while used(&self.table) > self.size {
            self.table.pop();
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let known = self.table.iter().position(|(have, of)| have == name && of == value);
        if let Some(index) = known
            && self.below(3) > 0
        {
            return Self::number(out, 0x80, 7, 62 + index);
        }
        let (first, prefix) = [(0x40, 6), (0, 4), (0x10, 4)][self.below(3) as usize];
        match self.table.iter().position(|(have, _)| have == name) {
            Some(index) => Self::number(out, first, prefix, 62 + index),
            None => {
                out.push(first);
                self.text(out, name);
            }
        }
        self.text(out, value);
        if first == 0x40 {
            self.table.insert(0, (name.to_vec(), value.to_vec()));
            self.evict();
        }
    }
}

/// Blocks of requests with what they say: fields, bytes, whether the path has a fragment.
fn blocks(seed: u64, count: usize) -> Vec<(Vec<u8>, Block)> {
    let mut encoder = Encoder { random: Random::seeded(seed), table: Vec::new(), size: 4096 };
    (0..count)
        .map(|_| {
            let mut out = Vec::new();
            if encoder.below(8) == 0 {
                encoder.resize(&mut out);
            }
            let path = ["/", "/a/b?c", "/a#b", "/%23", "/index.html"][encoder.below(5) as usize];
            let mut fields: Vec<(String, String)> =
                [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into();
            for _ in 0..encoder.below(12) {
                let name = format!("x-{}", encoder.below(20));
                let value = "v#".repeat(encoder.below(40) as usize);
                fields.push((name, value));
            }
            for (name, value) in &fields {
                encoder.field(&mut out, name.as_bytes(), value.as_bytes());
            }
            let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
            let block = Block {
                fields: fields.len() as u32,
                bytes,
                status: None,
                of_request: true,
                fragment: path == "/a#b",
            };
            (out, block)
        })
        .collect()
}

#[test]
fn random_blocks_are_followed() {
    for seed in 0..50 {
        let mut decoder = Decoder::new(4096);
        for (bytes, block) in blocks(seed, 100) {
            assert_eq!(decoder.read(&bytes), Ok(block), "seed {seed}");
        }
    }
}

/// Frames with the blocks, one stream after the other.
fn wire(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for (index, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        let stream = (2 * index as u32 + 1).to_be_bytes();
        wire.extend([0, length[0], length[1], 1, 5]);
        wire.extend(stream);
        wire.extend(block);
    }
    wire
}

/// What the `h2` crate reads: bytes of each request, and whether it gave up the connection.
fn as_h2_reads(blocks: &[Vec<u8>]) -> (Vec<usize>, bool) {
    /// A PING whose answer says that everything before it was read.
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0all-read";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wire = [wire(blocks), PING.to_vec()].concat();
        let (mut client, server) = duplex(wire.len() + 1024);
        client.write_all(&wire).await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1 << 20).max_header_list_size(1 << 20);
        let mut connection = builder.handshake::<_, Bytes>(server).await.unwrap();
        let (mut sizes, mut broken, read_all) = (Vec::new(), false, Cell::new(false));
        let answers = async {
            let mut seen = Vec::new();
            while !seen.windows(8).any(|bytes| bytes == b"all-read") {
                if client.read_buf(&mut seen).await.unwrap() == 0 {
                    break;
                }
            }
            read_all.set(true);
            // Whoever accepts looks once more.
            tokio::task::yield_now().await;
        };
        let requests = async {
            let mut responds = Vec::new();
            let next = |cx: &mut Context<'_>, connection: &mut h2::server::Connection<_, _>| match connection
                .poll_accept(cx)
            {
                Poll::Pending if read_all.get() => Poll::Ready(None),
                polled => polled,
            };
            while let Some(next) = poll_fn(|cx| next(cx, &mut connection)).await {
                match next {
                    Ok((request, respond)) => {
                        let fields = request.headers().iter();
                        sizes.push(fields.map(|(name, value)| name.as_str().len() + value.len()).sum());
                        responds.push(respond);
                    }
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
            drop(connection);
        };
        tokio::join!(answers, requests);
        (sizes, broken)
    })
}

/// The bytes that the `h2` crate keeps out of the fields.
fn pseudo(path: usize) -> usize {
    ":method".len() + ":scheme".len() + ":authority".len() + ":path".len() + 3 + 4 + 9 + path
}

#[test]
fn the_h2_crate_reads_the_same() {
    for seed in 100..110 {
        let all = blocks(seed, 60);
        let bytes: Vec<Vec<u8>> = all.iter().map(|(bytes, _)| bytes.clone()).collect();
        let (sizes, broken) = as_h2_reads(&bytes);
        assert!(!broken && sizes.len() == all.len(), "seed {seed}: {} of {}", sizes.len(), all.len());
        for (size, (_, block)) in sizes.iter().zip(&all) {
            let paths = [1, 4, 6, 11].map(pseudo);
            assert!(paths.contains(&(block.bytes - size)), "seed {seed}: {size} of {}", block.bytes);
        }
    }
}

/// Where one byte is changed, what we find broken the crate finds broken too (it also looks at names and values).
#[test]
fn the_h2_crate_refuses_what_is_refused_here() {
    let random = Random::seeded(7);
    let (mut refused, mut passed) = (0, 0);
    for seed in 0..300 {
        let mut bytes: Vec<Vec<u8>> = blocks(seed, 3).into_iter().map(|(bytes, _)| bytes).collect();
        let at = random.below(bytes[2].len() as u64) as usize;
        bytes[2][at] = random.below(256) as u8;
        let mut decoder = Decoder::new(4096);
        let ours = bytes.iter().any(|block| decoder.read(block).is_err());
        let (_, theirs) = as_h2_reads(&bytes);
        assert!(theirs || !ours, "seed {seed}, byte {at}: {:?}", bytes[2]);
        *if ours { &mut refused } else { &mut passed } += 1;
    }
    assert!(refused > 20 && passed > 20, "{refused} refused, {passed} passed");
}

#[test]
fn what_is_not_allowed_is_refused() {
    for (block, why) in [
        (&[0x80][..], "index 0"),
        (&[0xbe], "beyond the table"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], "an integer of six bytes"),
        (&[0xff], "half an integer"),
        (&[0x82, 0x20], "a new size behind a field"),
        (&[0x3f, 0xe2, 0x1f], "a table of 4097 bytes"),
        (&[0x00, 0x01], "half a string"),
        (&[0x00, 0x81, 0xff, 0x00], "a string of padding"),
        (&[0x40], "no name"),
    ] {
        assert_eq!(Decoder::new(4096).read(block), Err(Malformed), "{why}");
    }
    assert!(Decoder::new(8192).read(&[0x3f, 0xe2, 0x1f]).is_ok());
    assert_eq!(Decoder::new(0).read(&[0x3f, 0xe1, 0x1f]), Ok(Block::default()), "until it has heard of ours");
}

/// An entry larger than the table empties it (RFC 7541, section 4.4); what was evicted cannot be asked for.
#[test]
fn the_table_is_bounded() {
    let mut decoder = Decoder::new(4096);
    let insert = |value: usize| {
        let mut out = vec![0x40, 1, b'x'];
        Encoder::number(&mut out, 0, 7, value);
        out.resize(out.len() + value, b'v');
        out
    };
    decoder.read(&[insert(1), insert(2)].concat()).unwrap();
    assert_eq!(decoder.read(&[0xbf]).unwrap().bytes, 2);
    decoder.read(&insert(5000)).unwrap();
    assert_eq!(decoder.read(&[0xbe]), Err(Malformed));
    let mut decoder = Decoder::new(4096);
    for _ in 0..10_000 {
        decoder.read(&insert(0)).unwrap();
    }
    assert_eq!((decoder.table.len(), decoder.used), (4096 / 33, 4096 / 33 * 33));
}

/// Prints what following costs; nothing depends on it.
#[test]
fn what_it_costs() {
    let all = blocks(3, 100);
    let begun = std::time::Instant::now();
    let turns = 50;
    for _ in 0..turns {
        let mut decoder = Decoder::new(4096);
        for (bytes, block) in &all {
            assert_eq!(decoder.read(bytes).as_ref(), Ok(block));
        }
    }
    let each = begun.elapsed() / (turns * all.len() as u32);
    let bytes: usize = all.iter().map(|(bytes, _)| bytes.len()).sum();
    println!("header blocks of {} bytes: {each:?} each", bytes / all.len());
}
