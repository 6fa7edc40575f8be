//! Addresses and CIDR ranges.

use super::name::{name, required_name};
use crate::context::{Context, Result, refuse, report};
use crate::model::{Address, CidrRange};
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::google::protobuf::UInt32Value;
use std::net::{IpAddr, SocketAddr};

/// Reads an address. `names` says whether a DNS name may stand for the IP.
pub fn read_address(cx: &mut Context, message: &core::Address, names: bool) -> Result<Address> {
    let core::Address { address } = message;
    match address {
        Some(core::address::Address::SocketAddress(socket)) => {
            cx.field("socket_address", |cx| read_socket_address(cx, socket, names))
        }
        Some(core::address::Address::Pipe(pipe)) => cx.field("pipe", |cx| {
            let core::Pipe { path, mode } = pipe;
            let path = required_name(cx, "path", path)?;
            if path.len() > 107 {
                return Err(
                    cx.refused_field("path", "longer than 107 bytes, the limit of a Unix socket's path")
                );
            }
            if *mode > 0o777 {
                return Err(
                    cx.refused_field("mode", format!("{mode:o} is not a file mode between 0 and 777"))
                );
            }
            Ok(Address::Pipe { path, mode: *mode })
        }),
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            Err(cx.refused_field("envoy_internal_address", "internal listeners are not supported"))
        }
        None => Err(cx.refused("has neither socket_address nor pipe")),
    }
}

fn read_socket_address(cx: &mut Context, message: &core::SocketAddress, names: bool) -> Result<Address> {
    let core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = message;
    refuse!(cx, "only TCP is supported"; protocol);
    refuse!(cx, "custom resolvers are not supported: use the system's"; resolver_name);
    refuse!(cx, "other network namespaces are not supported"; network_namespace_filepath);
    report!(cx, "IPv4-mapped addresses are read as IPv4"; ipv4_compat);
    let port = match port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => read_port(cx, "port_value", *port)?,
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => {
            return Err(cx.refused_field("named_port", "named ports are not supported: use port_value"));
        }
        None => return Err(cx.refused_field("port_value", "is missing")),
    };
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(Address::Socket(SocketAddr::new(ip.to_canonical(), port)));
    }
    if !names {
        return Err(cx.refused_field("address", format!("{:?} is not an IP address", shorten(address))));
    }
    let host = required_name(cx, "address", address)?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.len() > 253 || !host.bytes().all(valid) {
        return Err(cx.refused_field(
            "address",
            format!("{:?} is neither an IP address nor a DNS name", shorten(address)),
        ));
    }
    Ok(Address::Name { host, port })
}

/// A TCP port; 0 is allowed (any free port).
pub fn read_port(cx: &mut Context, field: &str, port: u32) -> Result<u16> {
    u16::try_from(port).map_err(|_| cx.refused_field(field, format!("{port} is not a port")))
}

/// Reads a range of IPs; host bits are cut off.
pub fn read_cidr_range(cx: &mut Context, message: &core::CidrRange) -> Result<CidrRange> {
    let core::CidrRange { address_prefix, prefix_len } = message;
    let Ok(ip) = address_prefix.parse::<IpAddr>() else {
        let text = shorten(address_prefix).to_owned();
        return Err(cx.refused_field("address_prefix", format!("{text:?} is not an IP address")));
    };
    let length = prefix_len.as_ref().map_or(0, |UInt32Value { value }| *value);
    u8::try_from(length)
        .ok()
        .and_then(|length| CidrRange::new(ip, length).ok())
        .map(|range| range.trunc())
        .ok_or_else(|| cx.refused_field("prefix_len", format!("{length} is too long for {ip}")))
}

/// Reads a locality.
pub fn read_locality(cx: &mut Context, message: &Option<core::Locality>) -> Result<crate::model::Locality> {
    let Some(core::Locality { region, zone, sub_zone }) = message else { return Ok(Default::default()) };
    cx.field("locality", |cx| {
        Ok(crate::model::Locality {
            region: name(cx, "region", region)?,
            zone: name(cx, "zone", zone)?,
            sub_zone: name(cx, "sub_zone", sub_zone)?,
        })
    })
}

fn shorten(text: &str) -> &str {
    text.get(..64).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, port: u32) -> core::Address {
        let port_specifier = Some(core::socket_address::PortSpecifier::PortValue(port));
        let socket = core::SocketAddress { address: address.into(), port_specifier, ..Default::default() };
        core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
    }

    fn read(message: &core::Address, names: bool) -> Result<Address> {
        Context::read(|cx| read_address(cx, message, names)).map(|read| read.value)
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(read(&socket("127.0.0.1", 80), false).unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(read(&socket("::ffff:127.0.0.1", 80), false).unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(read(&socket("tulled", 80), true).unwrap().to_string(), "tulled:80");
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(read(&socket("tulled", 80), false).unwrap_err().path, "socket_address.address");
        assert_eq!(read(&socket("127.0.0.1", 65536), false).unwrap_err().path, "socket_address.port_value");
        assert!(read(&socket("a b", 80), true).is_err());
        assert!(read(&core::Address::default(), true).is_err());
    }

    #[test]
    fn ranges_lose_their_host_bits() {
        let message = |ip: &str, value| core::CidrRange {
            address_prefix: ip.into(),
            prefix_len: Some(UInt32Value { value }),
        };
        let range = |ip, length| Context::read(|cx| read_cidr_range(cx, &message(ip, length)));
        assert_eq!(range("10.1.2.3", 8).unwrap().value.to_string(), "10.0.0.0/8");
        assert_eq!(range("10.1.2.3", 33).unwrap_err().path, "prefix_len");
        assert_eq!(range("10.1.2", 8).unwrap_err().path, "address_prefix");
    }
}
