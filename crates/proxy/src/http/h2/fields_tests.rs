use super::*;
use crate::http::h2::fields_written;
use crate::http::h2::hpack_decoder::Decoder;
use crate::http::h2::hpack_encoder::{Encoder, Unwritable};
use crate::http::h2::hpack_static;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn block(fields: Fields<'_>, limits: Limits) -> Block {
    let mut block = Block::new(limits);
    for (name, value) in fields {
        let (name, value) =
            (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        let kind = hpack_static::kind(&name, &value);
        if block.counts(kind, &name, &value) {
            block.add(kind, name, value);
        }
    }
    block
}

fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "up"), (":path", path)]
}

fn request(method: &str, fields: Fields<'_>, ended: bool) -> Result<RequestHead, Fault> {
    let all = [&pseudo(method, "/")[..], fields].concat();
    block(&all, Limits::default()).into_request(ended, true)
}

fn response(fields: Fields<'_>, ended: bool, asked: &RequestHead) -> Result<ResponseHead, Fault> {
    block(fields, Limits::default()).into_response(ended, &Asked::new(asked))
}

/// What is written, as text.
fn written(
    write: impl FnOnce(&mut Encoder, &mut BytesMut) -> Result<(), Unwritable>,
) -> Vec<(String, String)> {
    let mut out = BytesMut::new();
    write(&mut Encoder::new(), &mut out).unwrap();
    let mut block = Block::new(Limits::default());
    Decoder::new(4096).read(&out, &mut block).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pseudo = [
        (":method", &block.method),
        (":scheme", &block.scheme),
        (":authority", &block.authority),
        (":path", &block.path),
        (":protocol", &block.protocol),
        (":status", &block.status),
    ];
    let pseudo =
        pseudo.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value.as_ref()?))));
    pseudo.chain(block.headers.iter().map(|(name, value)| (text(name), text(value)))).collect()
}

fn written_request(head: &RequestHead) -> Vec<(String, String)> {
    written(|encoder, out| fields_written::request(encoder, out, head))
}

fn written_response(head: &ResponseHead) -> Vec<(String, String)> {
    written(|encoder, out| fields_written::response(encoder, out, head))
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_request_is_read_and_written_the_same() {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "up:8080"),
        (":path", "/p?q"),
        ("x-a", "1"),
        ("te", "trailers"),
        ("x-a", " 2\t"),
        ("content-length", "5"),
    ];
    let head = block(&fields, Limits::default()).into_request(false, false).unwrap();
    assert_eq!((&head.authority[..], &head.target[..]), (&b"up:8080"[..], &b"/p?q"[..]));
    assert_eq!((head.scheme, head.version), (Scheme::Https, Version::Http2));
    assert_eq!((head.length, head.upgrade.clone()), (BodyLength::Known(5), None));
    assert_eq!(head.headers.get_all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
    let mut expected: Vec<_> = fields.iter().map(|(name, value)| pair(name, value.trim())).collect();
    expected.sort();
    let mut written = written_request(&head);
    written.sort();
    assert_eq!(written, expected);
}

#[test]
fn crumbs_become_one_cookie() {
    let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
    let head = request("GET", &fields, true).unwrap();
    assert_eq!(head.headers.get_all("cookie").collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    assert_eq!(head.length, BodyLength::None);
}

#[test]
fn host_and_authority_agree_or_the_request_is_refused() {
    let head = request("GET", &[("host", "UP")], true).unwrap();
    assert_eq!((&head.authority[..], head.headers.contains("host")), (&b"up"[..], false));
    let without = |fields: Fields<'_>| {
        let all = [&[(":method", "GET"), (":scheme", "http"), (":path", "/")][..], fields].concat();
        block(&all, Limits::default()).into_request(true, false)
    };
    assert_eq!(&without(&[("host", "only")]).unwrap().authority[..], b"only");
    assert_eq!(without(&[]), Err(Fault::Refused(Refusal::NO_HOST)));
    for fields in [&[("host", "other")][..], &[("host", "up"), ("host", "up")]] {
        assert!(matches!(request("GET", fields, true), Err(Fault::Refused(_))));
    }
    assert!(matches!(without(&[("host", "a/b")]), Err(Fault::Refused(_))));
}

#[test]
fn what_belongs_to_an_http_1_connection_is_malformed_and_a_doubtful_length_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        let refused = request("POST", &[(name, value)], false);
        assert!(matches!(refused, Err(Fault::Malformed(_))), "{name}: {value}");
    }
    for value in ["+5", "5, 5", "9223372036854775808", ""] {
        let refused = request("POST", &[("content-length", value)], false);
        assert!(matches!(refused, Err(Fault::Refused(_))), "{value}");
    }
    assert!(request("POST", &[("content-length", "5"), ("content-length", "5")], false).is_err());
    assert!(request("POST", &[("content-length", "5")], true).is_err());
    assert!(request("TRACE", &[], false).is_err() && request("TRACE", &[], true).is_ok());
}

#[test]
fn pseudo_headers_are_there_once_in_their_place_and_of_the_right_kind() {
    let malformed = |fields: Fields<'_>| block(fields, Limits::default()).into_request(true, false);
    let whole = pseudo("GET", "/");
    assert!(malformed(&whole).is_ok());
    for index in [0, 1, 3] {
        let mut fields = whole.clone();
        fields.remove(index);
        assert!(matches!(malformed(&fields), Err(Fault::Malformed(_))), "{fields:?}");
    }
    for more in [(":path", "/b"), (":status", "200"), (":method", "GET")] {
        let fields = [&whole[..], &[more]].concat();
        assert!(matches!(malformed(&fields), Err(Fault::Malformed(_))), "{more:?}");
    }
    let late = [&whole[..3], &[("x", "y"), (":path", "/")]].concat();
    assert!(matches!(malformed(&late), Err(Fault::Malformed(_))));
    for (name, value) in [(":color", "red"), ("X", "y"), ("x", "a\nb"), ("", "1")] {
        let fields = [&whole[..], &[(name, value)]].concat();
        assert!(matches!(malformed(&fields), Err(Fault::Fields(_))), "{name}: {value}");
    }
    for (path, refused) in
        [("/a#b", true), ("/\u{e4}", true), ("a", true), ("*", true), ("", false), ("/a b", true)]
    {
        let fault = malformed(&pseudo("GET", path)).unwrap_err();
        assert_eq!(matches!(fault, Fault::Refused(_)), refused, "{path}: {fault:?}");
    }
    let trailers = block(&[(":path", "/")], Limits::default()).into_trailers();
    assert!(matches!(trailers, Err(Fault::Malformed(_))));
}

#[test]
fn heads_are_bounded() {
    let limits = Limits { max_headers_bytes: 100, max_headers_count: 2 };
    let read = |fields: Fields<'_>| {
        block(&[&pseudo("GET", "/")[..], fields].concat(), limits).into_request(true, false)
    };
    let long = "v".repeat(100);
    let large = Fault::Refused(Refusal::HeadTooLarge { limit: 100, seen: 105 });
    assert_eq!(read(&[("x", &long)]), Err(large));
    let many = Fault::Refused(Refusal::TooManyHeaders { limit: 2, seen: 3 });
    assert_eq!(read(&[("a", "1"), ("b", "2"), ("b", "3")]), Err(many));
    assert!(read(&[("a", "1"), ("b", "2")]).is_ok());
    let path = format!("/{long}");
    assert!(block(&pseudo("GET", &path), limits).into_request(true, false).is_err());
}

#[test]
fn an_extended_connect_is_an_upgrade_in_neutral_form() {
    let wire = [
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "up"),
        (":path", "/chat"),
        (":protocol", "websocket"),
        ("sec-websocket-version", "13"),
    ];
    assert!(block(&wire, Limits::default()).into_request(false, false).is_err(), "it was not offered");
    let head = block(&wire, Limits::default()).into_request(false, true).unwrap();
    assert_eq!((head.method.clone(), head.length), (Method::GET, BodyLength::Unknown));
    assert_eq!(head.upgrade.as_deref(), Some(&b"websocket"[..]));
    assert_eq!(head.headers.get_str("upgrade"), Some("websocket"));
    let written = written_request(&head);
    assert!(
        written.contains(&pair(":method", "CONNECT")) && written.contains(&pair(":protocol", "websocket"))
    );
    assert!(!written.iter().any(|(name, _)| name == "upgrade" || name == "content-length"));

    let accepted = response(&[(":status", "200")], false, &head).unwrap();
    assert_eq!((accepted.status, accepted.headers.get_str("upgrade")), (101, Some("websocket")));
    assert_eq!(written_response(&accepted), [pair(":status", "200")]);
    assert_eq!(response(&[(":status", "403")], false, &head).unwrap().status, 403);
}

#[test]
fn connect_names_only_a_target() {
    let fields = [(":method", "CONNECT"), (":authority", "db:5432")];
    let head = block(&fields, Limits::default()).into_request(false, false).unwrap();
    assert_eq!((&head.authority[..], &head.target[..]), (&b"db:5432"[..], &b""[..]));
    assert_eq!((head.length, head.upgrade.is_none()), (BodyLength::Unknown, true));
    assert_eq!(written_request(&head), fields.map(|(name, value)| pair(name, value)));
    let with_length = [&fields[..], &[("content-length", "0")]].concat();
    assert!(block(&with_length, Limits::default()).into_request(false, false).is_err());
    assert!(request("CONNECT", &[], false).is_err());
}

#[test]
fn responses_keep_the_length_that_is_true() {
    let head = request("HEAD", &[], true).unwrap();
    let wire = [(":status", "200"), ("content-length", "7")];
    let answer = response(&wire, true, &head).unwrap();
    assert_eq!(answer.length, BodyLength::None);
    assert!(written_response(&answer).contains(&pair("content-length", "7")));
    let get = RequestHead { method: Method::GET, ..head };
    assert_eq!(response(&wire, false, &get).unwrap().length, BodyLength::Known(7));
    let mut mine = ResponseHead::new(200, BodyLength::Known(3));
    mine.headers.append("Content-Length", "9");
    mine.headers.append("Connection", "close");
    mine.headers.append("X-A", "1");
    assert_eq!(
        written_response(&mine),
        [pair(":status", "200"), pair("x-a", "1"), pair("content-length", "3")]
    );
    for status in ["101", "600", "20", "2000", "abc"] {
        assert!(response(&[(":status", status)], false, &get).is_err(), "{status}");
    }
    assert!(matches!(response(&[(":status", "200"), (":path", "/")], false, &get), Err(Fault::Malformed(_))));
}

#[test]
fn trailers_cannot_carry_what_was_decided() {
    let fields =
        ["grpc-status", "content-length", "host", "x-request-id", "grpc-message"].map(|name| (name, "0"));
    let trailers = block(&fields, Limits::default()).into_trailers().unwrap();
    assert_eq!(trailers.len(), 2);
    let mut all = trailers;
    all.append("Content-Length", "0");
    let written = written(|encoder, out| fields_written::trailers(encoder, out, &all));
    assert_eq!(written, [pair("grpc-status", "0"), pair("grpc-message", "0")]);
    assert!(fields_written::has_trailers(&all));
}

#[test]
fn nothing_that_a_codec_could_misread_is_written() {
    let head = request("GET", &[], true).unwrap();
    let unwritable = |head: &RequestHead| {
        fields_written::request(&mut Encoder::new(), &mut BytesMut::new(), head).is_err()
    };
    assert!(!unwritable(&head));
    assert!(unwritable(&RequestHead { target: Bytes::from_static(b"/a b"), ..head.clone() }));
    assert!(unwritable(&RequestHead { authority: Bytes::from_static(b"a\rb"), ..head.clone() }));
    let mut headers = Headers::new();
    headers.push(Bytes::from_static(b"x"), Bytes::from_static(b"a\r\nb"));
    assert!(unwritable(&RequestHead { headers, ..head }));
}
