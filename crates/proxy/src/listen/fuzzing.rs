//! Entry points for fuzzers: any bytes may go in, and properties that must hold for all bytes are asserted.
//!
//! * nothing panics;
//! * the verdict on bytes that come at once equals the verdict on the same bytes one by one;
//! * bytes after the verdict do not change it.

use config::model::TlsInspector;

use super::client_hello;
use super::inspect::{Inspection, Inspectors, Objection, Seen};

/// The verdict of `look` on each longer beginning of `data`, up to the first that is one.
fn one_by_one<V>(data: &[u8], mut look: impl FnMut(&[u8]) -> Option<V>) -> Option<V> {
    (1..=data.len()).find_map(|length| look(data.get(..length).unwrap_or_default()))
}

/// Reads bytes as a ClientHello.
pub fn client_hello(data: &[u8]) {
    for limit in [256, 16 * 1024] {
        let verdict =
            |reading: client_hello::Reading| (reading != client_hello::Reading::Partial).then_some(reading);
        let whole = verdict(client_hello::Reader::new(limit).read(data));
        let mut reader = client_hello::Reader::new(limit);
        let pieces = one_by_one(data, |bytes| verdict(reader.read(bytes)));
        assert_eq!(whole, pieces, "the verdict depends on the arrival");
        if let Some(client_hello::Reading::Whole(hello)) = &whole {
            let name = hello.server_name.as_deref().unwrap_or("x");
            assert!(
                !name.is_empty() && !name.contains('\0') && !name.contains(|c: char| c.is_ascii_uppercase())
            );
            assert!(hello.protocols.iter().all(|name| !name.is_empty()));
        }
    }
}

/// Reads bytes as the beginning of a connection, with each set of inspectors.
pub fn protocol_detection(data: &[u8]) {
    let short = TlsInspector { max_client_hello_size: 256, close_on_parsing_errors: true };
    for (tls, http) in [
        (Some(TlsInspector::default()), true),
        (Some(TlsInspector::default()), false),
        (Some(short), true),
        (None, true),
    ] {
        let inspectors = Inspectors { tls, http };
        let whole = Inspection::new(inspectors).look(data).transpose();
        let mut inspection = Inspection::new(inspectors);
        let pieces = one_by_one(data, |bytes| inspection.look(bytes).transpose());
        assert_eq!(whole, pieces, "the verdict depends on the arrival");
        check(data, inspectors, whole.as_ref());
    }
}

fn check(data: &[u8], inspectors: Inspectors, verdict: Option<&Result<Seen, Objection>>) {
    let Some(verdict) = verdict else { return };
    let mut longer = data.to_vec();
    longer.extend_from_slice(b"GET / HTTP/1.1\r\n\x16\x03\x01");
    let again = Inspection::new(inspectors).look(&longer).transpose();
    assert_eq!(again.as_ref(), Some(verdict), "later bytes changed the verdict");
    if let Ok(seen) = verdict {
        assert!(!seen.tls || data.first() == Some(&0x16), "TLS without its first byte");
        assert!(seen.tls || seen.sni.is_none() && seen.alpn.len() <= usize::from(inspectors.http));
    }
}
