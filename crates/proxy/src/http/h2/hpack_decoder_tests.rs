use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::http::h1::Limits;
use crate::http::h2::huffman::tests::encode as huffman;
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

type Fields = Vec<(String, String)>;

/// Blocks of requests with their fields.
fn blocks(seed: u64, count: usize) -> Vec<(Vec<u8>, Fields)> {
    let mut encoder = Encoder { random: Random::seeded(seed), table: Vec::new(), size: 4096 };
    (0..count)
        .map(|_| {
            let mut out = Vec::new();
            if encoder.below(8) == 0 {
                encoder.resize(&mut out);
            }
            let path = ["/", "/a/b?c", "/a/b", "/%23", "/index.html"][encoder.below(5) as usize];
            let mut fields: Fields =
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
            (out, fields)
        })
        .collect()
}

fn read(decoder: &mut Decoder, bytes: &[u8]) -> Result<Block, Malformed> {
    let limits = Limits { max_headers_bytes: 1 << 20, max_headers_count: 1 << 20 };
    let mut block = Block::new(limits);
    decoder.read(bytes, &mut block).map(|()| block)
}

/// All fields of a block, pseudo-headers first.
fn fields(block: &Block) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pseudo = [
        (":method", &block.method),
        (":scheme", &block.scheme),
        (":authority", &block.authority),
        (":path", &block.path),
    ];
    let pseudo =
        pseudo.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value.as_ref()?))));
    pseudo.chain(block.headers.iter().map(|(name, value)| (text(name), text(value)))).collect()
}

#[test]
fn random_blocks_are_read() {
    for seed in 0..50 {
        let mut decoder = Decoder::new(4096);
        for (bytes, expected) in blocks(seed, 100) {
            assert_eq!(fields(&read(&mut decoder, &bytes).unwrap()), expected, "seed {seed}");
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

#[test]
fn the_h2_crate_reads_the_same() {
    for seed in 100..110 {
        let all = blocks(seed, 60);
        let bytes: Vec<Vec<u8>> = all.iter().map(|(bytes, _)| bytes.clone()).collect();
        let (sizes, broken) = as_h2_reads(&bytes);
        let ours: Vec<usize> = all
            .iter()
            .map(|(_, fields)| fields[4..].iter().map(|(name, value)| name.len() + value.len()).sum())
            .collect();
        assert!(!broken, "seed {seed}");
        assert_eq!(sizes, ours, "seed {seed}");
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
        let ours = bytes.iter().any(|block| read(&mut decoder, block).is_err());
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
        assert!(read(&mut Decoder::new(4096), block).is_err(), "{why}");
    }
    assert!(read(&mut Decoder::new(8192), &[0x3f, 0xe2, 0x1f]).is_ok());
    assert!(read(&mut Decoder::new(0), &[0x3f, 0xe1, 0x1f]).is_ok(), "until it has heard of ours");
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
    read(&mut decoder, &[insert(1), insert(2)].concat()).unwrap();
    assert_eq!(fields(&read(&mut decoder, &[0xbf]).unwrap()), [("x".to_owned(), "v".to_owned())]);
    read(&mut decoder, &insert(5000)).unwrap();
    assert!(read(&mut decoder, &[0xbe]).is_err());
    let mut decoder = Decoder::new(4096);
    for _ in 0..10_000 {
        read(&mut decoder, &insert(0)).unwrap();
    }
    assert_eq!((decoder.table.len(), decoder.used), (4096 / 33, 4096 / 33 * 33));
}
