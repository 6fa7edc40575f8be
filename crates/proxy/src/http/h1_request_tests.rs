//! Tests of `h1_request`.

use super::*;
use crate::http::h1::Limits;
use crate::http::h1_scan::HeadScanner;

fn read_with(text: &str, rules: &RequestRules) -> Result<ParsedRequest, Refusal> {
    let end = HeadScanner::default().scan(text.as_bytes(), &Limits::default(), 1)?.unwrap();
    parse(Bytes::copy_from_slice(&text.as_bytes()[..end.length]), end, rules)
}

fn read(text: &str) -> Result<ParsedRequest, Refusal> {
    read_with(text, &RequestRules::default())
}

#[test]
fn keeps_order_and_letters() {
    let text = "POST /a?b=c HTTP/1.1\r\nX-Custom-CASE: One\r\nhOST: Shop:80\r\nx-empty:\r\nContent-Length: 4\r\n\r\n";
    let parsed = read(text).unwrap();
    let head = &parsed.head;
    assert_eq!((head.method.as_str(), head.scheme, &head.target[..]), ("POST", Scheme::Http, &b"/a?b=c"[..]));
    assert_eq!((&head.authority[..], head.length), (&b"Shop:80"[..], BodyLength::Known(4)));
    assert_eq!((head.path(), head.query()), (&b"/a"[..], Some(&b"b=c"[..])));
    let names: Vec<_> = head.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
    assert_eq!(names, ["X-Custom-CASE", "hOST", "x-empty", "Content-Length"]);
    assert_eq!(head.headers.get_str("x-empty"), Some(""));
    assert!(parsed.keep_alive && !parsed.expects_continue);
}

#[test]
fn fields_of_the_hop_are_gone() {
    let text = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop, Authorization\r\nX-Hop: 1\r\nAuthorization: b\r\n\
         Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nTE: gzip, trailers\r\n\
         Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let parsed = read(text).unwrap();
    let names: Vec<_> = parsed.head.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
    assert_eq!(names, ["Host", "Authorization", "TE", "Transfer-Encoding"]);
    assert_eq!(parsed.head.headers.get_str("te"), Some("trailers"));
    assert!(!parsed.keep_alive && parsed.expects_continue);
}

#[test]
fn http_10_closes_unless_asked_and_may_lack_a_host() {
    let rules = RequestRules {
        default_host_for_http_10: Some(Bytes::from_static(b"fallback")),
        ..Default::default()
    };
    assert!(!read("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap().keep_alive);
    assert!(read("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
    assert!(read("GET / HTTP/1.0\r\n\r\n").is_err());
    assert_eq!(read_with("GET / HTTP/1.0\r\n\r\n", &rules).unwrap().head.authority, "fallback");
    assert!(read_with("GET / HTTP/1.1\r\n\r\n", &rules).is_err());
}

#[test]
fn reads_the_forms_of_a_target() {
    for (line, authority, target) in [
        ("GET /", "h", "/"),
        ("GET http://other:8080/p?q", "other:8080", "/p?q"),
        ("GET HTTP://other", "other", "/"),
        ("GET http://other?q", "other", "/?q"),
        ("OPTIONS *", "h", "*"),
        ("OPTIONS http://other", "other", "*"),
        ("GET //double", "h", "//double"),
        ("GET http://[::1]:80/", "[::1]:80", "/"),
    ] {
        let head = read(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap().head;
        assert_eq!(
            (&head.authority[..], &head.target[..]),
            (authority.as_bytes(), target.as_bytes()),
            "{line}"
        );
    }
}

#[test]
fn refuses_odd_first_lines() {
    for line in [
        "GET * HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http:///p HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET http://a:99999/ HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "FOO / HTTP/1.1",
        "get / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "/ HTTP/1.1",
        "GET http:/a HTTP/1.1",
        "GET http://a\\b/ HTTP/1.1",
    ] {
        assert!(read(&format!("{line}\r\nHost: h\r\n\r\n")).is_err(), "{line:?}");
    }
    let rules = RequestRules { allow_custom_methods: true, ..Default::default() };
    assert!(read_with("FOO / HTTP/1.1\r\nHost: h\r\n\r\n", &rules).is_ok());
}

#[test]
fn refuses_odd_fields() {
    for field in [
        "X : a",
        ": a",
        "X\t: a",
        " X: a",
        "X: a\r\n b",
        "X: a\0b",
        "X: a\rb",
        "X",
        "X: \u{7f}",
        "H\u{e4}: a",
        "Host: b",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 1",
        "Transfer-Encoding: \tchunked",
        "Transfer-Encoding: chunked\t",
        "Content-Length:\t1",
        "X(: a",
        "\"X\": a",
    ] {
        assert!(read(&format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n")).is_err(), "{field:?}");
    }
    for host in
        ["", "Host:", "Host: a b", "Host: a,b", "Host: u@a", "Host: a/b", "Host: a\r\nHost: a", "Hos: a"]
    {
        let text = if host.is_empty() { String::new() } else { format!("{host}\r\n") };
        assert!(read(&format!("GET / HTTP/1.1\r\n{text}\r\n")).is_err(), "{host:?}");
    }
}

#[test]
fn old_versions_are_told_to_upgrade_where_they_are_not_spoken() {
    let rules = RequestRules { accept_http_10: false, ..Default::default() };
    for text in ["GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET /a\r\n\r\n"] {
        assert_eq!(read_with(text, &rules).unwrap_err(), Refusal::OldVersion, "{text:?}");
    }
    assert_eq!(Refusal::OldVersion.status(), 426);
    for text in ["GET /a b\r\n\r\n", "GET a\r\n\r\n", "g\u{e4} /\r\n\r\n"] {
        assert_eq!(read_with(text, &rules).unwrap_err().status(), 400, "{text:?}");
    }
    assert!(read_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &rules).is_ok());
}

#[test]
fn underscores_are_refused_or_dropped_in_names_only() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX_User: a\r\nx-b: c_d\r\n\r\n";
    let run = |underscores| read_with(text, &RequestRules { underscores, ..Default::default() });
    assert_eq!(run(Underscores::Allow).unwrap().head.headers.len(), 3);
    assert_eq!(run(Underscores::Reject).unwrap_err().details(Version::Http11), "http1.unexpected_underscore");
    let dropped = run(Underscores::Drop).unwrap().head.headers;
    assert!(dropped.len() == 2 && !dropped.contains("x_user") && dropped.contains("x-b"));
    let clean = "GET / HTTP/1.1\r\nHost: a\r\nx-b: c_d\r\n\r\n";
    let rules = RequestRules { underscores: Underscores::Reject, ..Default::default() };
    assert!(read_with(clean, &rules).is_ok());
}

#[test]
fn proxy_connection_can_close_and_nothing_else() {
    let run = |fields: &str| read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).unwrap();
    assert!(!run("Proxy-Connection: close").keep_alive);
    let named = run("Proxy-Connection: keep-alive, x-mine\r\nx-mine: 1");
    assert!(named.keep_alive && named.head.headers.contains("x-mine"));
}

#[test]
fn refusals_have_envoys_words() {
    for (text, details) in [
        ("GET / HTTP/1.1\r\n\r\n", "missing_host_header"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "http.invalid_authority"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "http1.invalid_url"),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "http1.invalid_url"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "http1.invalid_scheme"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "http1.codec_error"),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: \u{1}\r\n\r\n", "http1.invalid_characters"),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "path_normalization_failed"),
        ("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: gzip\r\n\r\n", "http1.invalid_transfer_encoding"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
            "http1.content_length_and_chunked_not_allowed",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().details(Version::Http11), details, "{text:?}");
    }
}

#[test]
fn connect_has_a_host_for_its_target_and_no_route() {
    let refused = |line: &str| read(&format!("CONNECT {line} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap_err();
    assert_eq!(refused("a:443"), Refusal::Tunnel);
    assert_eq!((refused("a:443").status(), refused("[::1]:443").status()), (404, 404));
    for target in ["/", "/a:443", "http://a:443/", "user@a:443", "a:99999", "a#b"] {
        assert_eq!(refused(target).status(), 400, "{target}");
    }
}
