//! A connection that began in HTTP/1.

use super::*;

#[tokio::test]
async fn a_connection_that_began_in_http_1_answers_its_first_request_on_stream_1() {
    let first = |path: &'static str| {
        let mut head = crate::filter::testing::get(path, &[]);
        head.version = crate::http::Version::Http2;
        Upgraded { head, settings: Bytes::from_static(b"\0\x04\0\0\xff\xff"), read: bytes::BytesMut::new() }
    };
    for (greets, expected) in [(true, &["GET /first 0 0", "GET / 0 0"][..]), (false, &[])] {
        let recorder = Recorder::default();
        let (mut near, far) = duplex(64 * 1024);
        let ((_drain, watch), options) = (Drain::new(), options());
        let talking = async {
            if greets {
                let frames = [wire(4, 0, 0, b""), wire(1, 5, 3, HEAD)].concat();
                near.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frames].concat()).await.unwrap();
                let mut answers = Vec::new();
                // The end of a stream on its DATA.
                while [1, 3]
                    .iter()
                    .any(|stream| !answers.windows(9).any(|frame| frame == [0, 0, 2, 0, 1, 0, 0, 0, *stream]))
                {
                    assert!(near.read_buf(&mut answers).await.unwrap() > 0);
                }
            } else {
                near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            }
            drop(near);
        };
        let serving = serve_upgraded(far, first("/first"), &recorder, &options, &watch);
        let (served, ()) = tokio::join!(serving, talking);
        assert_eq!(served.is_ok(), greets);
        assert_eq!(*recorder.seen.borrow(), expected);
    }
}
