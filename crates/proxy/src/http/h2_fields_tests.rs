use super::*;

fn request(method: &str, uri: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn read(request: Request<()>, ended: bool) -> Result<RequestHead, Refusal> {
    read_request(request, ended, &Limits::default())
}

#[test]
fn a_request_is_read_and_written_the_same() {
    let fields = [("x-a", "1"), ("te", "trailers"), ("x-a", " 2\t"), ("content-length", "5")];
    let head = read(request("POST", "https://up:8080/p?q", &fields), false).unwrap();
    assert_eq!((&head.authority[..], &head.target[..]), (&b"up:8080"[..], &b"/p?q"[..]));
    assert_eq!((head.scheme, head.version), (Scheme::Https, Version::Http2));
    assert_eq!((head.length, head.upgrade.clone()), (BodyLength::Known(5), None));
    assert_eq!(head.headers.get_all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
    let written = write_request(&head).unwrap();
    assert_eq!(written.uri(), "https://up:8080/p?q");
    let count = written.headers().get_all("content-length").iter().count();
    assert_eq!(count, 1);
    assert_eq!(written.headers()["content-length"], "5");
    assert_eq!(written.headers()["te"], "trailers");
    assert!(!written.headers().contains_key("host"));
}

#[test]
fn crumbs_become_one_cookie() {
    let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
    let head = read(request("GET", "http://up/", &fields), true).unwrap();
    assert_eq!(head.headers.get_all("cookie").collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    assert_eq!(head.length, BodyLength::None);
}

#[test]
fn host_and_authority_agree_or_the_request_is_refused() {
    let head = read(request("GET", "http://Up:80/", &[("host", "up:80")]), true).unwrap();
    assert_eq!((&head.authority[..], head.headers.contains("host")), (&b"Up:80"[..], false));
    assert_eq!(&read(request("GET", "/", &[("host", "only")]), true).unwrap().authority[..], b"only");
    assert!(read(request("GET", "http://up/", &[("host", "other")]), true).is_err());
    assert!(read(request("GET", "http://up/", &[("host", "up"), ("host", "up")]), true).is_err());
    assert_eq!(read(request("GET", "/", &[]), true), Err(Refusal::NO_HOST));
    assert!(read(request("GET", "http://user@up/", &[]), true).is_err());
    assert!(read(request("GET", "/", &[("host", "a/b")]), true).is_err());
}

#[test]
fn what_belongs_to_an_http_1_connection_is_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "+5"),
        ("content-length", "5, 5"),
        ("content-length", "9223372036854775808"),
    ] {
        assert!(read(request("POST", "http://up/", &[(name, value)]), false).is_err(), "{name}: {value}");
    }
    let twice = [("content-length", "5"), ("content-length", "5")];
    assert!(read(request("POST", "http://up/", &twice), false).is_err());
    assert!(read(request("POST", "http://up/", &[("content-length", "5")]), true).is_err());
    assert!(read(request("TRACE", "http://up/", &[]), false).is_err());
    assert!(read(request("GET", "ftp://up/", &[]), true).is_err());
}

#[test]
fn heads_are_bounded() {
    let limits = Limits { max_headers_bytes: 100, max_headers_count: 2 };
    let long: String = "v".repeat(100);
    let mut large = request("GET", "http://up/", &[]);
    large.headers_mut().insert("x", HeaderValue::from_str(&long).unwrap());
    assert!(matches!(read_request(large, true, &limits), Err(Refusal::HeadTooLarge { limit: 100, .. })));
    let many = request("GET", "http://up/", &[("a", "1"), ("b", "2"), ("b", "3")]);
    assert!(matches!(read_request(many, true, &limits), Err(Refusal::TooManyHeaders { limit: 2, seen: 3 })));
    let fits = request("GET", "http://up/", &[("a", "1"), ("b", "2")]);
    assert!(read_request(fits, true, &limits).is_ok());
}

#[test]
fn an_extended_connect_is_an_upgrade_in_neutral_form() {
    let mut wire = request("CONNECT", "https://up/chat", &[("sec-websocket-version", "13")]);
    wire.extensions_mut().insert(Protocol::from_static("websocket"));
    let head = read(wire, false).unwrap();
    assert_eq!((head.method.clone(), head.length), (Method::GET, BodyLength::Unknown));
    assert_eq!(head.upgrade.as_deref(), Some(&b"websocket"[..]));
    assert_eq!(head.headers.get_str("upgrade"), Some("websocket"));
    let written = write_request(&head).unwrap();
    assert_eq!((written.method(), written.uri().path()), (&Method::CONNECT, "/chat"));
    assert_eq!(written.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
    assert!(!written.headers().contains_key("upgrade"));

    let accepted = Response::builder().status(200).body(()).unwrap();
    let accepted = read_response(accepted, false, &head, &Limits::default()).unwrap();
    assert_eq!((accepted.status, accepted.headers.get_str("upgrade")), (101, Some("websocket")));
    let wire = write_response(&accepted).unwrap();
    assert_eq!((wire.status().as_u16(), wire.headers().len()), (200, 0));
    let refused = Response::builder().status(403).body(()).unwrap();
    assert_eq!(read_response(refused, false, &head, &Limits::default()).unwrap().status, 403);
}

#[test]
fn connect_names_only_a_target() {
    let head = read(request("CONNECT", "db:5432", &[]), false).unwrap();
    assert_eq!((&head.authority[..], &head.target[..]), (&b"db:5432"[..], &b""[..]));
    assert_eq!((head.length, head.upgrade.is_none()), (BodyLength::Unknown, true));
    let written = write_request(&head).unwrap();
    assert_eq!(written.uri(), "db:5432");
    assert!(read(request("CONNECT", "db:5432", &[("content-length", "0")]), false).is_err());
}

#[test]
fn responses_keep_the_length_that_is_true() {
    let head = read(request("HEAD", "http://up/", &[]), true).unwrap();
    let limits = Limits::default();
    let wire = || Response::builder().status(200).header("content-length", "7").body(()).unwrap();
    let answer = read_response(wire(), true, &head, &limits).unwrap();
    assert_eq!(answer.length, BodyLength::None);
    assert_eq!(write_response(&answer).unwrap().headers()["content-length"], "7");
    let get = RequestHead { method: Method::GET, ..head };
    assert_eq!(read_response(wire(), false, &get, &limits).unwrap().length, BodyLength::Known(7));
    let mut mine = ResponseHead::new(200, BodyLength::Known(3));
    mine.headers.append("Content-Length", "9");
    mine.headers.append("Connection", "close");
    mine.headers.append("X-A", "1");
    let wire = write_response(&mine).unwrap();
    assert_eq!(
        (wire.headers().len(), &wire.headers()["content-length"]),
        (2, &HeaderValue::from_static("3"))
    );
    let switching = Response::builder().status(101).body(()).unwrap();
    assert!(read_response(switching, false, &get, &limits).is_err());
}

#[test]
fn trailers_cannot_carry_what_was_decided() {
    let mut wire = HeaderMap::new();
    for name in ["grpc-status", "content-length", "host", "x-request-id", "grpc-message"] {
        wire.insert(HeaderName::from_static(name), HeaderValue::from_static("0"));
    }
    let trailers = read_trailers(&wire, &Limits::default()).unwrap();
    assert_eq!(trailers.len(), 2);
    assert_eq!(write_trailers(&trailers).unwrap().len(), 2);
}

#[test]
fn nothing_that_a_codec_could_misread_is_written() {
    let head = read(request("GET", "http://up/", &[]), true).unwrap();
    let odd = RequestHead { target: Bytes::from_static(b"/a b"), ..head.clone() };
    assert!(write_request(&odd).is_err());
    let mut headers = Headers::new();
    headers.push(Bytes::from_static(b"x"), Bytes::from_static(b"a\r\nb"));
    assert!(write_request(&RequestHead { headers, ..head }).is_err());
}
