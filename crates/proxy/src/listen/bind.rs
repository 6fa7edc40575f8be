//! Binding: one socket for each worker (SO_REUSEPORT), after an exclusive bind has shown that nobody else has the
//! address. Without that, two processes would share a port silently, and each get half of the connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use config::model::Address;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Accept queue where the configuration names none.
const BACKLOG: i32 = 1024;

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// The address.
    pub address: String,
    /// Why, and the remedy where it is known.
    pub reason: String,
}

fn fail(address: &impl ToString, error: &io::Error) -> BindError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process (or another listener) has it: see `ss -ltnp`, stop that one or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that IP address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    };
    BindError { address: address.to_string(), reason: format!("{error}{remedy}") }
}

/// Binds `count` sockets that share one address. Port 0 takes a free port, the same for all.
///
/// # Errors
/// The address is taken, or not ours.
pub fn tcp(address: SocketAddr, count: usize, backlog: Option<u32>) -> Result<Vec<TcpListener>, BindError> {
    let backlog = backlog.map_or(BACKLOG, |size| i32::try_from(size).unwrap_or(i32::MAX));
    let probe = open(address, false).and_then(|socket| bind(&socket, address).map(|()| socket));
    let probe = probe.map_err(|error| fail(&address, &error))?;
    // Listening finds the conflicts that binding with SO_REUSEADDR does not.
    probe.listen(1).map_err(|error| fail(&address, &error))?;
    let bound = probe.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(address);
    drop(probe);
    let each = |_| {
        let socket = open(bound, true)?;
        bind(&socket, bound)?;
        socket.listen(backlog)?;
        Ok(TcpListener::from(socket))
    };
    (0..count.max(1)).map(each).collect::<io::Result<Vec<_>>>().map_err(|error| fail(&address, &error))
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&SockAddr::from(address))
}

/// The address of a listener that is to be bound.
///
/// # Errors
/// It is not an IP address.
pub fn socket_address(address: &Address) -> Result<SocketAddr, BindError> {
    address.socket().ok_or_else(|| BindError {
        address: address.to_string(),
        reason: "listeners are bound to IP addresses only; Unix sockets are for the admin server".to_owned(),
    })
}

/// Binds a Unix socket. A left-over socket file that nobody listens on is replaced.
///
/// # Errors
/// Somebody listens there, or the directory cannot be written.
pub fn unix(path: &str) -> Result<std::os::unix::net::UnixListener, BindError> {
    let file = Path::new(path);
    let is_socket = std::fs::symlink_metadata(file).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(file).is_err() {
        std::fs::remove_file(file).map_err(|error| fail(&path, &error))?;
    }
    let listener = std::os::unix::net::UnixListener::bind(file).map_err(|error| fail(&path, &error))?;
    listener.set_nonblocking(true).map_err(|error| fail(&path, &error))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_one_owner() {
        let first = tcp("127.0.0.1:0".parse().unwrap(), 2, None).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(first[1].local_addr().unwrap(), address);
        let error = tcp(address, 1, None).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("ss -ltnp"), "{error}");
        drop(first);
        tcp(address, 1, None).unwrap();
    }

    #[test]
    fn a_foreign_address_is_named() {
        let error = tcp("192.0.2.1:4000".parse().unwrap(), 1, None).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:4000") && error.contains("does not have that IP"), "{error}");
    }

    #[test]
    fn a_left_over_socket_file_is_replaced_and_a_live_one_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("admin.sock");
        let path = path.to_str().unwrap();
        let first = unix(path).unwrap();
        assert!(unix(path).is_err());
        drop(first);
        unix(path).unwrap();
    }
}
