use super::*;

/// A field behind two bytes of length.
fn long(bytes: &[u8]) -> Vec<u8> {
    let mut field = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    field.extend(bytes);
    field
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), long(content)].concat()
}

fn name(text: &str) -> Vec<u8> {
    extension(SERVER_NAME, &long(&[vec![0], long(text.as_bytes())].concat()))
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let each = names.iter().flat_map(|name| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat());
    extension(PROTOCOLS, &long(&each.collect::<Vec<u8>>()))
}

/// A handshake message.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(long(&[0x13, 1, 0x13, 2]));
    body.extend([1, 0]);
    body.extend(long(extensions));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(long(&body));
    message
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [vec![HANDSHAKE, 3, 1], long(part)].concat()).collect()
}

fn read(bytes: &[u8]) -> Reading {
    Reader::new(16 * 1024).read(bytes)
}

fn one_by_one(bytes: &[u8]) -> Reading {
    let mut reader = Reader::new(16 * 1024);
    (0..=bytes.len())
        .map(|length| reader.read(&bytes[..length]))
        .find(|reading| *reading != Reading::Partial)
        .unwrap_or(Reading::Partial)
}

fn payment() -> Vec<u8> {
    message(&[name("Payment.Production"), alpn(&["istio-http/1.1", "istio"])].concat())
}

#[test]
fn names_and_protocols_are_read_however_they_come() {
    let wanted = Reading::Whole(ClientHello {
        server_name: Some("payment.production".to_owned()),
        protocols: vec!["istio-http/1.1".to_owned(), "istio".to_owned()],
    });
    for size in [1, 2, 3, 50, 16_000] {
        let bytes = records(&payment(), size);
        assert_eq!(read(&bytes), wanted, "records of {size}");
        assert_eq!(one_by_one(&bytes), wanted, "records of {size}, byte by byte");
        assert_eq!(read(&bytes[..bytes.len() - 1]), Reading::Partial);
    }
    assert_eq!(read(&records(&message(&[]), 100)), Reading::Whole(ClientHello::default()));
}

#[test]
fn what_is_no_client_hello_is_known_at_its_first_wrong_byte() {
    assert_eq!(read(b"G"), Reading::NotOne);
    assert_eq!(read(&[HANDSHAKE, 2]), Reading::NotOne);
    assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 0]), Reading::NotOne, "an empty record");
    assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 5, 2]), Reading::NotOne, "a ServerHello");
    let mut alert = records(&payment(), 50);
    alert[55] = 21;
    assert_eq!(read(&alert), Reading::NotOne, "another content type between two records");
}

#[test]
fn malformed_hellos_are_none() {
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut bytes = payment();
        change(&mut bytes);
        read(&records(&bytes, 16_000))
    };
    assert_eq!(broken(|bytes| bytes[38] = 33), Reading::NotOne, "a session id of 33 bytes");
    assert_eq!(broken(|bytes| bytes[40] = 3), Reading::NotOne, "an odd list of ciphers");
    for extensions in [
        [name("a"), name("b")].concat(),
        [alpn(&["a"]), alpn(&["b"])].concat(),
        extension(SERVER_NAME, &long(&[vec![1], long(b"a")].concat())),
        extension(SERVER_NAME, &long(&[vec![0], long(b"")].concat())),
        name("a\0b"),
        vec![0, 1, 0],
    ] {
        assert_eq!(read(&records(&message(&extensions), 16_000)), Reading::NotOne, "{extensions:?}");
    }
    let broken_list = message(&extension(PROTOCOLS, &[0, 5, 9, 1]));
    assert_eq!(read(&records(&broken_list, 16_000)), Reading::Whole(ClientHello::default()));
}

#[test]
fn the_length_is_bounded_with_its_records() {
    let padded = message(&extension(21, &vec![0; 400]));
    for (limit, size, long) in [(600, 1000, false), (400, 1000, true), (600, 1, true), (6, 1, true)] {
        let mut reader = Reader::new(limit);
        let reading = reader.read(&records(&padded, size));
        assert_eq!(reading == Reading::TooLong, long, "{limit} bytes, records of {size}: {reading:?}");
    }
    let endless = [HANDSHAKE, 3, 1, 0, 5, CLIENT_HELLO, 0xff, 0xff, 0xff, 0];
    assert_eq!(read(&endless), Reading::TooLong);
}

#[test]
fn a_session_id_has_at_most_32_bytes() {
    let hello = |length: u8| {
        let mut bytes = payment();
        bytes[38] = length;
        bytes.splice(39..39, vec![9; usize::from(length)]);
        let body = u16::try_from(bytes.len() - 4).unwrap();
        bytes[2..4].copy_from_slice(&body.to_be_bytes());
        read(&records(&bytes, 16_000))
    };
    assert!(matches!(hello(32), Reading::Whole(_)));
    assert_eq!(hello(33), Reading::NotOne);
}
