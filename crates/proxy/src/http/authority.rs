//! Checks of hosts and ports (RFC 3986, section 3.2), without user information.

/// Whether `authority` is `host` or `host:port`: a registered name, an IPv4 address or an IPv6 address in brackets.
/// Commas are refused although the grammar has them: a list of two hosts looks like one host with a comma.
pub(crate) fn is_valid(authority: &[u8]) -> bool {
    let (host, port) = match authority {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let address = &rest[..end];
            let digits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if address.len() < 2 || !address.contains(&b':') || !address.iter().all(digits) {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (address, port),
                _ => return false,
            }
        }
        _ => match memchr::memchr(b':', authority) {
            Some(colon) => (&authority[..colon], &authority[colon + 1..]),
            None => (authority, &b""[..]),
        },
    };
    let is_host_byte = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            )
    };
    let host_ok = authority.first() == Some(&b'[') || host.iter().all(is_host_byte);
    !host.is_empty() && host_ok && is_port(port)
}

/// Whether a valid authority names a port.
pub(crate) fn has_port(authority: &[u8]) -> bool {
    let host = authority.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    authority[host..].iter().position(|byte| *byte == b':').is_some_and(|at| host + at + 1 < authority.len())
}

/// Empty, or a number from 0 to 65535.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65535
}

#[cfg(test)]
mod tests {
    use super::{has_port, is_valid};

    #[test]
    fn tells_whether_there_is_a_port() {
        for (authority, has) in
            [("a:1", true), ("a", false), ("a:", false), ("[::1]", false), ("[::1]:9", true)]
        {
            assert_eq!(has_port(authority.as_bytes()), has, "{authority}");
        }
    }

    #[test]
    fn tells_hosts_from_tricks() {
        for good in ["a", "a:1", "a.b.c:65535", "127.0.0.1:80", "[::1]", "[::1]:80", "a:", "a_b", "xn--a"] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:1:2",
            "user@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a b",
            "a,b",
            "[::1",
            "[]",
            "[a.b]",
            "[::1]x",
            "a\tb",
            "\u{e4}",
            "[::1]:99999",
            "a\"b",
            "<a>",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }
}
