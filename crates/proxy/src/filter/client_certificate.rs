//! `x-forwarded-client-cert`: what the next hop is told about the client's certificate, in Envoy's form.

use std::fmt::Write;

use config::model::{ClientCertDetails, ForwardClientCert};

use crate::http::Headers;
use crate::tls::{Peer, Session};

/// The header.
pub const HEADER: &str = "x-forwarded-client-cert";

/// Rewrites the header. What a client says about itself is kept only where the configuration says so and the client
/// proved its identity (except for `AlwaysForwardOnly`, which trusts the network).
pub fn apply(
    headers: &mut Headers,
    mode: ForwardClientCert,
    details: ClientCertDetails,
    session: Option<&Session>,
) {
    if mode == ForwardClientCert::AlwaysForwardOnly {
        return;
    }
    let proved = session.and_then(|session| session.peer.as_deref().map(|peer| (session, peer)));
    let Some((session, peer)) = proved else {
        headers.remove(HEADER);
        return;
    };
    match mode {
        ForwardClientCert::Sanitize => {
            headers.remove(HEADER);
        }
        ForwardClientCert::ForwardOnly | ForwardClientCert::AlwaysForwardOnly => {}
        ForwardClientCert::SanitizeSet => headers.set(HEADER, element(details, session, peer)),
        ForwardClientCert::AppendForward => {
            let mut all: Vec<u8> = headers.get_all(HEADER).collect::<Vec<_>>().join(&b","[..]);
            if !all.is_empty() {
                all.push(b',');
            }
            all.extend_from_slice(element(details, session, peer).as_bytes());
            headers.set(HEADER, all);
        }
    }
}

/// `By=…;Hash=…;Subject="…";URI=…;DNS=…`.
fn element(details: ClientCertDetails, session: &Session, peer: &Peer) -> String {
    let mut text = String::new();
    if let Some(by) = &session.local_uri {
        text.push_str("By=");
        text.push_str(by);
        text.push(';');
    }
    text.push_str("Hash=");
    text.push_str(&peer.hash);
    if details.subject {
        // Writing to a String cannot fail.
        let _ = write!(text, ";Subject=\"{}\"", peer.subject.replace('\\', "\\\\").replace('"', "\\\""));
    }
    let mut names = |key: &str, names: &[String]| {
        for name in names {
            let _ = write!(text, ";{key}={}", quoted(name));
        }
    };
    if details.uri {
        names("URI", &peer.uri_sans);
    }
    if details.dns {
        names("DNS", &peer.dns_sans);
    }
    if details.uri && peer.uri_sans.is_empty() {
        // Envoy writes the key also when there is no name.
        text.push_str(";URI=");
    }
    text
}

/// A name that holds a separator must not end its element.
fn quoted(name: &str) -> String {
    if name.contains([',', ';', '=', '"']) {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, Leaf};
    use std::sync::Arc;

    const DETAILS: ClientCertDetails =
        ClientCertDetails { subject: true, cert: false, chain: false, dns: true, uri: true };

    fn session(peer: bool) -> Session {
        let leaf = Leaf::new(&["spiffe://cluster.local/ns/a/sa/b"]).dns("b.local").organization("O;\"x\"");
        let leaf = Authority::new("root").issue(leaf);
        let peer = peer.then(|| Arc::new(Peer::parse(&leaf.chain[0]).unwrap()));
        let local_uri = Some("spiffe://cluster.local/ns/a/sa/own".into());
        Session { peer, local_uri, sni: None, alpn: None, version: "TLSv1.3" }
    }

    fn run(mode: ForwardClientCert, session: Option<&Session>) -> Option<String> {
        let mut headers: Headers = [("X-Forwarded-Client-Cert", "forged")].into_iter().collect();
        apply(&mut headers, mode, DETAILS, session);
        assert!(headers.get_all(HEADER).count() <= 1);
        headers.get_str(HEADER).map(str::to_owned)
    }

    #[test]
    fn without_a_verified_certificate_nothing_of_it_passes() {
        use ForwardClientCert::*;
        for mode in [Sanitize, ForwardOnly, AppendForward, SanitizeSet] {
            assert_eq!(run(mode, None), None, "{mode:?}");
            assert_eq!(run(mode, Some(&session(false))), None, "{mode:?}");
        }
        assert_eq!(run(AlwaysForwardOnly, None).as_deref(), Some("forged"));
    }

    #[test]
    fn a_verified_certificate_is_told_as_envoy_tells_it() {
        let session = session(true);
        let hash = &session.peer.as_ref().unwrap().hash;
        let own = format!(
            "By=spiffe://cluster.local/ns/a/sa/own;Hash={hash};Subject=\"O=O\\\\;\\\\\\\"x\\\\\\\"\";\
             URI=spiffe://cluster.local/ns/a/sa/b;DNS=b.local"
        );
        assert_eq!(run(ForwardClientCert::SanitizeSet, Some(&session)), Some(own.clone()));
        assert_eq!(run(ForwardClientCert::AppendForward, Some(&session)), Some(format!("forged,{own}")));
        assert_eq!(run(ForwardClientCert::ForwardOnly, Some(&session)).as_deref(), Some("forged"));
        assert_eq!(run(ForwardClientCert::Sanitize, Some(&session)), None);
    }
}
