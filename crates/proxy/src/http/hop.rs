//! Fields that concern one connection and end here (RFC 9110, section 7.6.1).

use bytes::Bytes;

use super::headers::Headers;
use super::refusal::Refusal;

/// What `connection` and the version say about the connection itself.
#[derive(Debug, Default)]
pub(crate) struct ConnectionFields {
    values: Vec<Bytes>,
}

impl ConnectionFields {
    /// Takes one `connection` field.
    pub(crate) fn push(&mut self, value: Bytes) {
        self.values.push(value);
    }

    fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.values
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|option| option.trim_ascii())
    }

    /// Whether `option` is among them.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options().any(|have| have.eq_ignore_ascii_case(option.as_bytes()))
    }

    /// Removes what the peer nominated as belonging to the connection, except the names that other hops rely on: a
    /// caller must not be able to take from a message what a proxy added or a policy checks. Names that only an attack
    /// nominates are refused, as Envoy does.
    pub(crate) fn strip(&self, headers: &mut Headers) -> Result<(), Refusal> {
        for option in self.options() {
            // What nearly every message says: such fields never came so far.
            if option.eq_ignore_ascii_case(b"close") || is_hop_by_hop(option) {
                continue;
            }
            if is_never_nominated(option) {
                return Err(Refusal::Malformed(
                    "connection nominates host, a pseudo-header or an x-forwarded field",
                ));
            }
            if option.is_empty() || is_protected(option) {
                continue;
            }
            if let Ok(name) = std::str::from_utf8(option) {
                headers.remove(name);
            }
        }
        Ok(())
    }
}

fn is_never_nominated(name: &[u8]) -> bool {
    const NAMES: [&str; 4] = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    name.starts_with(b":") || NAMES.iter().any(|have| name.eq_ignore_ascii_case(have.as_bytes()))
}

/// Fields that never cross a hop, whether or not `connection` names them.
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    let any = |names: &[&str]| names.iter().any(|have| name.eq_ignore_ascii_case(have.as_bytes()));
    match name.len() {
        7 => any(&["upgrade"]),
        10 => any(&["connection", "keep-alive"]),
        14 => any(&["http2-settings"]),
        16 => any(&["proxy-connection"]),
        _ => false,
    }
}

/// Names that `connection` cannot take away.
fn is_protected(name: &[u8]) -> bool {
    const PREFIXES: [&str; 5] = ["x-forwarded-", "x-envoy-", "x-istio-", "x-b3-", "x-tulle-"];
    const NAMES: [&str; 22] = [
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "x-request-id",
        "host",
        "transfer-encoding",
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "forwarded",
        "via",
        "te",
        "trailer",
        "x-real-ip",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "origin",
        "expect",
    ];
    let starts = |prefix: &&str| {
        name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
    };
    PREFIXES.iter().any(starts) || NAMES.iter().any(|have| name.eq_ignore_ascii_case(have.as_bytes()))
}

/// Whether a field may stand in a trailer section: nothing there may change framing, routing, identity or the
/// connection, since all of these were decided when the head was read (RFC 9110, section 6.5.1).
pub(crate) fn is_allowed_in_trailers(name: &[u8]) -> bool {
    !is_hop_by_hop(name) && !is_protected(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nominating(values: &[&'static str], headers: &mut Headers) -> Result<(), Refusal> {
        let mut fields = ConnectionFields::default();
        values.iter().for_each(|value| fields.push(Bytes::from_static(value.as_bytes())));
        fields.strip(headers)
    }

    #[test]
    fn nominated_fields_go_and_protected_ones_stay() {
        let names = [
            "X-Mine",
            "Authorization",
            "X-Forwarded-Client-Cert",
            "x-request-id",
            "X-Envoy-Peer-Metadata",
            "Other",
        ];
        let mut headers: Headers = names.iter().map(|name| (*name, "v")).collect();
        let values = [
            "close, x-mine ,authorization",
            " x-forwarded-client-CERT,X-Request-ID, x-envoy-peer-metadata,,",
        ];
        nominating(&values, &mut headers).unwrap();
        assert!(!headers.contains("x-mine"));
        assert_eq!(headers.len(), names.len() - 1);
    }

    #[test]
    fn what_only_an_attack_nominates_is_refused() {
        for value in
            ["host", "close, HOST", "x-forwarded-for", "X-Forwarded-Proto", ":path", "x-forwarded-host"]
        {
            assert!(nominating(&[value], &mut Headers::new()).is_err(), "{value}");
        }
    }

    #[test]
    fn trailers_cannot_carry_what_was_decided() {
        for name in
            ["Content-Length", "transfer-encoding", "Host", "authorization", "Connection", "x-forwarded-for"]
        {
            assert!(!is_allowed_in_trailers(name.as_bytes()), "{name}");
        }
        for name in ["grpc-status", "x-checksum", "Server-Timing"] {
            assert!(is_allowed_in_trailers(name.as_bytes()), "{name}");
        }
    }
}
