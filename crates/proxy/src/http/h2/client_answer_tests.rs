//! Answers that are written frame by frame, as a host that means harm would.

use super::*;

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

/// `name: value` that is not kept by the receiver.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        match text.len() {
            short @ ..127 => field.push(short as u8),
            long => {
                field.push(0x7f);
                let mut rest = long - 127;
                while rest >= 128 {
                    field.push((rest % 128) as u8 | 0x80);
                    rest /= 128;
                }
                field.push(rest as u8);
            }
        }
        field.extend_from_slice(text);
    }
    field
}

/// What becomes of a request that the host answers with those frames (kind, flags, payload).
async fn answered(frames: &[(u8, u8, &[u8])]) -> Result<(u16, Result<usize, Reason>), SendError> {
    answered_within(OPTIONS, frames).await
}

async fn answered_within(
    options: Options,
    frames: &[(u8, u8, &[u8])],
) -> Result<(u16, Result<usize, Reason>), SendError> {
    let (client, mut raw, _keep) = Raw::connect(options, &[]).await;
    let head = get();
    let serve = async {
        let (_, stream) = raw.next(HEADERS).await;
        for (kind, flags, payload) in frames {
            raw.write(*kind, *flags, stream, payload).await;
        }
    };
    let (answer, ()) = tokio::join!(send(&client, &head, Body::empty()), serve);
    let (response, mut body) = answer?;
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(Frame::Data(data)) => bytes += data.len(),
            Ok(Frame::Trailers(_)) => {}
            Err(error) => return Ok((response.status, Err(error.reason))),
        }
    }
    Ok((response.status, Ok(bytes)))
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_refused_however_it_comes() {
    local(async {
        let many: Vec<u8> =
            (0..75).flat_map(|index| literal(format!("x-{index}").as_bytes(), &[b'a'; 1000])).collect();
        let one = literal(b"x-big", &[b'a'; 75_000]);
        for fields in [many, one] {
            let block = [STATUS_200, &fields].concat();
            for end_stream in [0, 1] {
                let pieces: Vec<_> = block.chunks(16_384).collect();
                let last = pieces.len() - 1;
                let frames: Vec<_> = pieces
                    .iter()
                    .enumerate()
                    .map(|(index, piece)| {
                        let kind = if index == 0 { HEADERS } else { CONTINUATION };
                        let ends = if index == last { 4 } else { 0 };
                        (kind, ends | if index == 0 { end_stream } else { 0 }, *piece)
                    })
                    .collect();
                let error = answered(&frames).await.unwrap_err();
                assert_eq!(error.reason, Reason::UpstreamProtocol, "{error}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_protocol_error_that_the_host_names_is_one() {
    local(async {
        for (code, reason) in [(1, Reason::UpstreamProtocol), (2, Reason::UpstreamResetStream)] {
            let error = answered(&[(RST_STREAM, 0, &[0, 0, 0, code])]).await.unwrap_err();
            assert_eq!((error.reason, error.safe_to_retry), (reason, false), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_content_has_none() {
    local(async {
        for status in [204, 304] {
            let block = literal(b":status", format!("{status}").as_bytes());
            let empty = answered(&[(HEADERS, 4, &block), (DATA, 0, b""), (DATA, 1, b"")]).await.unwrap();
            assert_eq!(empty, (status, Ok(0)));
            for frames in [&[(DATA, 1, &b"smuggled"[..])][..], &[(DATA, 0, b""), (DATA, 0, b"s")]] {
                let error = answered(&[&[(HEADERS, 4, &block[..])], frames].concat()).await.unwrap_err();
                assert_eq!((error.reason, error.safe_to_retry), (Reason::UpstreamProtocol, false), "{error}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_just_within_the_limits_passes_and_ends() {
    local(async {
        let limits = Limits { max_headers_bytes: 80 * 1024, max_headers_count: 100 };
        let block = [STATUS_200, &literal(b"x-big", &[b'a'; 75_000])].concat();
        let pieces: Vec<_> = block.chunks(16_384).collect();
        let mut frames: Vec<_> = pieces.iter().map(|piece| (CONTINUATION, 0, *piece)).collect();
        frames[0].0 = HEADERS;
        frames[pieces.len() - 1].1 = 4;
        frames.push((DATA, 1, b"ok"));
        let options = Options { limits, stream_window: 256 * 1024, ..OPTIONS };
        assert_eq!(answered_within(options, &frames).await.unwrap(), (200, Ok(2)));
    })
    .await;
}

#[tokio::test]
async fn pseudo_fields_of_requests_and_in_trailers_are_the_hosts_fault() {
    local(async {
        let path = literal(b":path", b"/other");
        let bad = [STATUS_200, &path].concat();
        let bad_trailers = [path.clone(), literal(b"x-sum", b"1")].concat();
        let trailers = literal(b"x-sum", b"1");
        for (head, trailers, expected) in [
            (STATUS_200, &trailers[..], "whole"),
            (STATUS_200, &bad_trailers, "pseudo-headers in trailers"),
            (STATUS_200, STATUS_200, "pseudo-headers in trailers"),
            (&bad, &trailers, "pseudo-headers of a request in a response"),
        ] {
            let (client, mut raw, _keep) = Raw::connect(OPTIONS, &[]).await;
            let request = get();
            let serve = async {
                let (_, stream) = raw.next(HEADERS).await;
                for (kind, flags, payload) in [(HEADERS, 4, head), (DATA, 0, b"ok"), (HEADERS, 5, trailers)] {
                    raw.write(kind, flags, stream, payload).await;
                }
            };
            let (answer, ()) = tokio::join!(send(&client, &request, Body::empty()), serve);
            let ended = match answer {
                Err(error) => {
                    assert_eq!(error.reason, Reason::UpstreamProtocol);
                    error.detail.into_owned()
                }
                Ok((_, mut body)) => loop {
                    match body.frame().await {
                        Some(Ok(_)) => {}
                        None => break "whole".to_owned(),
                        Some(Err(error)) => {
                            assert_eq!(error.reason, Reason::UpstreamProtocol);
                            break error.detail.into_owned();
                        }
                    }
                },
            };
            assert!(ended.contains(expected), "{ended} instead of {expected}");
        }
    })
    .await;
}
