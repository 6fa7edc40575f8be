//! What proxies of the mesh tell each other about a failure: whether the program has seen the request, whether it was
//! retried, and where, why and towards whom it failed. It travels in a header that is believed only from a verified peer
//! of the mesh and given only to one.
//!
//! `unprocessed,retried,reason=connection-refused,hop=default/payment-1,peer=127.0.0.1:8080`

use base::Reason;
use bytes::Bytes;

use super::retry::Marks;
use crate::http::Headers;
use crate::telemetry::record::Told;

/// The longest name of a hop or peer, in bytes.
const LONGEST: usize = 256;

/// What a verified peer said about its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// What decides about a retry.
    pub marks: Marks,
    /// Why it failed, and where.
    pub failure: Option<(Reason, Box<Told>)>,
}

impl Said {
    /// What the header says. A part that is unknown or malformed says nothing.
    pub fn read(headers: &Headers) -> Said {
        let value = headers.get(Marks::HEADER).unwrap_or_default();
        let (mut reason, mut hop, mut peer) = (None, None, None);
        for part in value.split(|byte| *byte == b',') {
            let Ok(part) = std::str::from_utf8(part.trim_ascii()) else { continue };
            match part.split_once('=') {
                Some(("reason", code)) => reason = Reason::of_code(code),
                Some(("hop", name)) => hop = word(name),
                Some(("peer", name)) => peer = word(name),
                _ => {}
            }
        }
        let failure = reason.zip(hop).map(|(reason, hop)| {
            let told = Told { hop: hop.into(), peer: peer.unwrap_or_default().into() };
            (reason, Box::new(told))
        });
        Said { marks: Marks::read(headers), failure }
    }
}

/// The header's value; `None`: nothing to say.
pub fn text(marks: Marks, failure: Option<(Reason, &str, Option<&str>)>) -> Option<Bytes> {
    let said = marks.text();
    let Some((reason, hop, peer)) = failure else {
        return said.map(|said| Bytes::from_static(said.as_bytes()));
    };
    let mut text = String::with_capacity(128);
    if let Some(said) = said {
        text.push_str(said);
        text.push(',');
    }
    text.push_str("reason=");
    text.push_str(reason.code());
    for (key, name) in [(",hop=", Some(hop)), (",peer=", peer)] {
        if let Some(name) = name {
            text.push_str(key);
            text.extend(name.chars().take(LONGEST).map(|it| if is_plain(it) { it } else { '_' }));
        }
    }
    Some(text.into())
}

fn word(name: &str) -> Option<&str> {
    (!name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain)).then_some(name)
}

/// Characters of workload names, addresses and SPIFFE ids.
fn is_plain(it: char) -> bool {
    it.is_ascii_alphanumeric() || "-._~:/@[]%|".contains(it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Said {
        Said::read(&[(Marks::HEADER, value.to_owned())].into_iter().collect())
    }

    #[test]
    fn what_is_written_is_read() {
        let marks = Marks { unprocessed: true, retried: false };
        let failure = (Reason::ConnectRefused, "n/payment-1", Some("127.0.0.1:8080"));
        let text = text(marks, Some(failure)).unwrap();
        assert_eq!(text, "unprocessed,reason=connection-refused,hop=n/payment-1,peer=127.0.0.1:8080");
        let said = read(std::str::from_utf8(&text).unwrap());
        assert_eq!(said.marks, marks);
        let (reason, told) = said.failure.unwrap();
        assert_eq!(
            (reason, &*told.hop, &*told.peer),
            (Reason::ConnectRefused, "n/payment-1", "127.0.0.1:8080")
        );
    }

    #[test]
    fn what_is_not_known_or_could_not_stand_in_a_line_says_nothing() {
        for value in ["", "reason=nonsense,hop=a/b", "reason=timeout", "reason=timeout,hop=a\tb", "hop=a/b"] {
            assert_eq!(read(value).failure, None, "{value}");
        }
        assert_eq!(read(&format!("reason=timeout,hop={}", "x".repeat(LONGEST + 1))).failure, None);
        let said = read("reason=timeout,hop=a/b,peer=\u{1b}[2J");
        assert_eq!(said.failure.unwrap().1.peer, "".into());
        let text = text(Marks::default(), Some((Reason::Timeout, "a,b=c\u{e9}", None))).unwrap();
        assert_eq!(text, "reason=timeout,hop=a_b_c_");
    }
}
