//! The properties that the fuzzers assert, on the smuggling corpus and on mutations of it. The same bytes on every run.

mod corpus;

use proxy::http::fuzzing;
use proxy::listen;
use proxy::state::fuzzing as sealed;

/// Marsaglia's xorshift with a fixed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Pieces that parsers stumble on.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0\r\n\r\n",
    b"chunked",
    b"\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
    b"\xff",
    b"ffffffffffffffff",
    b"Connection: close, host\r\n",
    b"-1",
    b"HTTP/1.0",
    b"http://a@b/",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\n",
    b"X: y\r\n z\r\n",
];

const RESPONSES: [&[u8]; 7] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 599 \r\n\r\n",
];

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(8)).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            2 => drop(bytes.splice(at..end, PIECES[random.below(PIECES.len())].iter().copied())),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
        }
    }
    bytes
}

/// A field behind two bytes of length.
fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A ClientHello with a name, protocols and padding, in records of at most `size` bytes.
fn client_hello(name: &[u8], padding: usize, size: usize) -> Vec<u8> {
    let extension = |kind: u8, content: &[u8]| [&[0, kind][..], &long(content)].concat();
    let extensions = [
        extension(0, &long(&[&[0][..], &long(name)].concat())),
        extension(16, &long(b"\x02h2\x08http/1.1\x05istio")),
        extension(21, &vec![0; padding]),
    ];
    let ciphers = long(&[0x13, 1, 0x13, 2]);
    let body = [&[3, 3][..], &[7; 32], &[0], &ciphers, &[1, 0], &long(&extensions.concat())].concat();
    let message = [&[1, 0][..], &long(&body)].concat();
    message.chunks(size).flat_map(|part| [&[0x16, 3, 1][..], &long(part)].concat()).collect()
}

/// What clients say first that is neither HTTP nor TLS.
const FIRST_BYTES: [&[u8]; 7] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"EHLO client.example\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"CONNECT a:443 HTTP/1.1\r\n",
    b"\x16\x03\x01\x00\x05hello",
];

#[test]
fn detection_holds_its_properties_on_first_bytes_and_their_mutations() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut seeds: Vec<Vec<u8>> = FIRST_BYTES.iter().map(|bytes| bytes.to_vec()).collect();
    for (padding, size) in [(0, 16_000), (0, 1), (0, 7), (200, 100), (400, 16_000)] {
        seeds.push(client_hello(b"payment.production.svc", padding, size));
    }
    seeds.extend(corpus::load().into_iter().map(|case| case.bytes).filter(|bytes| bytes.len() < 1000));
    let check = |bytes: &[u8]| {
        let checked = std::panic::catch_unwind(|| {
            listen::fuzzing::client_hello(bytes);
            listen::fuzzing::protocol_detection(bytes);
        });
        assert!(checked.is_ok(), "with the input {}", bytes.escape_ascii());
    };
    for seed in &seeds {
        check(seed);
        (0..100).for_each(|_| check(&mutate(seed, &mut random)));
    }
}

fn check(bytes: &[u8]) {
    let checked = std::panic::catch_unwind(|| {
        fuzzing::request(bytes);
        fuzzing::response(bytes);
        fuzzing::chunked(bytes);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            fuzzing::chunked(&bytes[end + 4..]);
        }
    });
    assert!(checked.is_ok(), "with the input {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn the_properties_hold_for_the_corpus_and_its_mutations() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seeds: Vec<Vec<u8>> = corpus::load().into_iter().map(|case| case.bytes).collect();
    seeds.extend(RESPONSES.iter().map(|bytes| bytes.to_vec()));
    for seed in &seeds {
        check(seed);
        // Large seeds are there for limits; flipping a byte of filling finds nothing.
        let rounds = if seed.len() > 1000 { 1 } else { 300 };
        for _ in 0..rounds {
            check(&mutate(seed, &mut random));
        }
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream][..], payload].concat()
}

#[test]
fn the_http2_server_holds_its_properties_on_frames_and_their_mutations() {
    const HEAD: &[u8] = b"\x82\x86\x84\x41\x02up\x00\x01x\x01y";
    const POST: &[u8] = b"\x83\x86\x44\x02/p\x41\x02up\x0f\x0d\x015";
    const CONNECT: &[u8] = b"\x02\x07CONNECT\x86\x84\x41\x02up\x00\x09:protocol\x09websocket";
    let settings = frame(4, 0, 0, b"");
    let requests = [
        frame(1, 5, 1, HEAD),
        [frame(1, 4, 1, POST), frame(0, 1, 1, b"hello")].concat(),
        [frame(1, 4, 1, POST), frame(0, 0, 1, b"hello"), frame(1, 5, 1, b"\x00\x01t\x01v")].concat(),
        [frame(1, 0, 1, &HEAD[..3]), frame(9, 4, 1, &HEAD[3..])].concat(),
        [frame(1, 4, 1, CONNECT), frame(0, 1, 1, b"raw")].concat(),
        [frame(1, 5, 1, HEAD), frame(3, 0, 1, &[0, 0, 0, 8]), frame(6, 0, 0, &[0; 8])].concat(),
        [frame(8, 0, 0, &[0, 0, 1, 0]), frame(2, 0, 3, &[0, 0, 0, 0, 1]), frame(7, 0, 0, &[0; 8])].concat(),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let check = |bytes: &[u8]| {
        let checked = std::panic::catch_unwind(|| {
            proxy::http::h2_fuzzing::heads(&[b"\x05", bytes].concat());
            proxy::http::h2_fuzzing::server(bytes);
        });
        assert!(checked.is_ok(), "with the input {}", bytes.escape_ascii());
    };
    for request in &requests {
        let seed = [&settings[..], request].concat();
        check(&seed);
        (0..100).for_each(|_| check(&mutate(&seed, &mut random)));
    }
}

#[test]
fn the_properties_of_sealed_snapshots_hold_for_mutations() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for seed in sealed::seeds() {
        sealed::snapshot(&seed);
        for _ in 0..1000 {
            let bytes = mutate(&seed, &mut random);
            let checked = std::panic::catch_unwind(|| sealed::snapshot(&bytes));
            assert!(checked.is_ok(), "with the input {bytes:?}");
        }
    }
}
