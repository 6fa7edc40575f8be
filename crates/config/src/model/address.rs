//! Where a socket is bound or connected.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// An address of a listener, an endpoint or the admin server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// IP and port.
    Socket(SocketAddr),
    /// A DNS name and port (`STRICT_DNS` endpoints only).
    Name {
        /// The name to resolve.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// A Unix domain socket.
    Pipe {
        /// Path; a leading `@` means the abstract namespace.
        path: Arc<str>,
        /// File mode of a bound socket; 0 leaves the umask's.
        mode: u32,
    },
}

impl Address {
    /// The IP and port, if it is one.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Address::Socket(address) => Some(*address),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Pipe { path, .. } => write!(f, "unix://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_address_has_an_ip_and_a_port() {
        let known: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(Address::Socket(known).socket(), Some(known));
        assert_eq!(Address::Name { host: "a".into(), port: 80 }.socket(), None);
        assert_eq!(Address::Pipe { path: "/a".into(), mode: 0 }.socket(), None);
    }
}
