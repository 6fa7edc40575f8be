//! The proxy's own answers in the form that a gRPC client reads: status 200, and the outcome in `grpc-status`.

use base::reason::grpc_of_http;
use bytes::Bytes;

use super::local_reply::LocalReply;
use crate::http::RequestHead;

/// Whether the request is gRPC: `application/grpc`, alone or with a format behind a `+`.
pub fn is_grpc(request: &RequestHead) -> bool {
    const KIND: &[u8] = b"application/grpc";
    let kind = request.headers.get("content-type");
    kind.is_some_and(|kind| kind.starts_with(KIND) && matches!(kind.get(KIND.len()), None | Some(b'+')))
}

/// The same answer for a gRPC client, as Envoy gives it: its text becomes `grpc-message`.
pub fn convert(reply: LocalReply) -> LocalReply {
    let mut reply = reply;
    let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
    reply.headers.set("content-type", "application/grpc");
    reply.headers.set("grpc-status", status.to_string());
    let text = std::mem::take(&mut reply.body);
    if !text.is_empty() {
        reply.headers.set("grpc-message", percent_encode(&text));
    }
    reply.status = 200;
    reply
}

/// The gRPC status that stands for an HTTP status: an answer without a gRPC status is never a success.
pub(super) const fn grpc_status(status: u16) -> u8 {
    match status {
        200..=299 => 2,
        status => grpc_of_http(status),
    }
}

/// Printable ASCII without `%` stays (gRPC over HTTP/2, "Status-Message").
fn percent_encode(text: &[u8]) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(*byte),
            _ => out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::deadlines::Passed;
    use crate::filter::testing::get;
    use base::Reason;

    #[test]
    fn tells_grpc_from_its_neighbours() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&get("/", &[("content-type", kind)])), expected, "{kind}");
        }
        assert!(!is_grpc(&get("/", &[])));
    }

    #[test]
    fn the_outcome_stands_in_the_head() {
        let reply = convert(LocalReply::new(
            Reason::NoHealthyUpstream,
            503,
            "no 100% healthy\nupstream\u{e9}",
            "no_healthy_upstream",
        ));
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        assert_eq!(reply.headers.get_str("grpc-status"), Some("14"));
        assert_eq!(reply.headers.get_str("grpc-message"), Some("no 100%25 healthy%0Aupstream%C3%A9"));
        assert_eq!(reply.headers.get_all("content-type").collect::<Vec<_>>(), [b"application/grpc"]);
        for (status, grpc) in
            [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (504, 14), (418, 2)]
        {
            assert_eq!(grpc_status(status), grpc);
        }
        assert!(!convert(LocalReply::no_route()).headers.contains("grpc-message"));
        let late = convert(Passed::Duration.reply(true));
        assert_eq!(late.headers.get_str("grpc-status"), Some("4"), "its deadline passed");
        assert_eq!(convert(Passed::Route.reply(true)).headers.get_str("grpc-status"), Some("14"));
    }
}
