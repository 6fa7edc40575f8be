//! Offers to go on in another protocol: WebSocket, CONNECT, and whatever else `upgrade_configs` allow.

use base::Reason;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::model::{Forward, HttpConnectionManager, Upgrade};

use super::local_reply::LocalReply;
use crate::http::{Body, BodyLength, RequestHead};
use crate::telemetry::Random;

/// What a CONNECT is called in `upgrade_configs`.
const CONNECT: &[u8] = b"connect";

/// Decides about the offer of a request, if it makes one. Allowed is what the route allows, else what the connection
/// manager does; a CONNECT needs a route too. `route`: whether there is one, and where it sends to. On HTTP/1 an offer that is not allowed is dropped and the request answered without it (RFC 9110,
/// section 7.8); an extended CONNECT has no other meaning and is refused.
///
/// # Errors
/// The answer to a CONNECT or to an extended CONNECT that is not allowed.
pub fn decide(
    head: &mut RequestHead,
    body: &mut Body,
    config: &HttpConnectionManager,
    (has_route, forward): (bool, Option<&Forward>),
    random: &Random,
) -> Result<(), Box<LocalReply>> {
    let connect = head.is_connect();
    let protocol: &[u8] = match &head.upgrade {
        _ if connect => CONNECT,
        Some(protocol) => protocol,
        None => return Ok(()),
    };
    let asked = |upgrade: &&Upgrade| upgrade.kind.as_bytes().eq_ignore_ascii_case(protocol);
    let by_route = forward.and_then(|forward| forward.upgrades.iter().find(asked));
    let allowed =
        by_route.or_else(|| config.upgrades.iter().find(asked)).is_some_and(|upgrade| upgrade.enabled);
    if connect {
        return match (has_route, allowed) {
            (true, true) => Ok(()),
            (true, false) => {
                Err(Box::new(LocalReply::new(Reason::UpgradeRefused, 403, "", "upgrade_failed")))
            }
            (false, _) => Err(Box::new(LocalReply::no_route())),
        };
    }
    if allowed {
        if head.version.is_http2()
            && protocol.eq_ignore_ascii_case(b"websocket")
            && !head.headers.contains("sec-websocket-key")
        {
            // HTTP/2 does without one (RFC 8441, section 5); a server that is asked over HTTP/1 wants it.
            let mut key = [0; 16];
            key[..8].copy_from_slice(&random.next().to_be_bytes());
            key[8..].copy_from_slice(&random.next().to_be_bytes());
            head.headers.append("sec-websocket-key", STANDARD.encode(key));
        }
        return Ok(());
    }
    if head.version.is_http2() {
        return Err(Box::new(LocalReply::new(Reason::UpgradeRefused, 403, "", "upgrade_failed")));
    }
    head.upgrade = None;
    head.headers.remove("upgrade");
    head.length = BodyLength::None;
    *body = Body::empty();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{get, manager};
    use crate::http::Version;

    fn offer(version: Version, protocol: &'static str) -> RequestHead {
        let mut head = get("/chat", &[("upgrade", protocol)]);
        head.version = version;
        head.upgrade = Some(protocol.into());
        head.length = BodyLength::Unknown;
        head
    }

    fn run(head: &mut RequestHead, config: &HttpConnectionManager) -> Result<(), Box<LocalReply>> {
        decide(head, &mut Body::empty(), config, (true, None), &Random::seeded(1))
    }

    fn websocket(enabled: bool) -> HttpConnectionManager {
        let mut config = manager();
        config.upgrades = vec![Upgrade { kind: "websocket".into(), enabled }];
        config
    }

    #[test]
    fn a_connect_needs_a_route_and_a_permission() {
        for (has_route, allowed, status) in
            [(true, true, None), (true, false, Some(403)), (false, true, Some(404))]
        {
            let mut config = manager();
            config.upgrades = vec![Upgrade { kind: "connect".into(), enabled: allowed }];
            let mut head = get("", &[]);
            head.method = http::Method::CONNECT;
            let route = (has_route, None);
            let decided = decide(&mut head, &mut Body::empty(), &config, route, &Random::seeded(1));
            assert_eq!(decided.err().map(|reply| reply.status), status);
        }
    }

    #[test]
    fn what_is_not_allowed_is_dropped_or_refused() {
        for (version, enabled, protocol, kept, refused) in [
            (Version::Http11, true, "WebSocket", true, false),
            (Version::Http11, true, "TLS/1.2", false, false),
            (Version::Http11, false, "websocket", false, false),
            (Version::Http2, true, "websocket", true, false),
            (Version::Http2, true, "connect-udp", true, true),
        ] {
            let mut head = offer(version, protocol);
            let result = run(&mut head, &websocket(enabled));
            assert_eq!(result.is_err(), refused, "{protocol}");
            assert_eq!(
                (head.upgrade.is_some(), head.headers.contains("upgrade")),
                (kept, kept),
                "{protocol}"
            );
            assert_eq!(head.length == BodyLength::Unknown, kept);
        }
        let mut head = offer(Version::Http2, "websocket");
        run(&mut head, &websocket(true)).unwrap();
        assert_eq!(head.headers.get("sec-websocket-key").unwrap().len(), 24);
        let mut plain = get("/", &[]);
        run(&mut plain, &websocket(true)).unwrap();
        assert_eq!(plain, get("/", &[]));
    }
}
