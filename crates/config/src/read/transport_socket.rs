//! `TransportSocket`: plaintext or TLS.

use super::downstream_tls::read_downstream_tls;
use super::upstream_tls::read_upstream_tls;
use crate::context::{Context, Result};
use crate::model::{DownstreamTls, TransportSocket};
use protos::any::type_url;
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use protos::envoy::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext,
};
use std::sync::Arc;

/// Reads the socket of a filter chain; `None` is plaintext.
pub fn read_downstream_socket(
    cx: &mut Context,
    message: &Option<core::TransportSocket>,
) -> Result<Option<DownstreamTls>> {
    with_config(cx, message, |cx, any| {
        if any.type_url == type_url::<DownstreamTlsContext>() {
            let message: DownstreamTlsContext = cx.open(any)?;
            Ok(Some(read_downstream_tls(cx, &message)?))
        } else {
            check_raw_buffer(cx, any).map(|()| None)
        }
    })
    .map(Option::flatten)
}

/// Reads the socket of a cluster.
pub fn read_upstream_socket(
    cx: &mut Context,
    message: &Option<core::TransportSocket>,
) -> Result<TransportSocket> {
    with_config(cx, message, |cx, any| {
        if any.type_url == type_url::<UpstreamTlsContext>() {
            let message: UpstreamTlsContext = cx.open(any)?;
            Ok(TransportSocket::Tls(Arc::new(read_upstream_tls(cx, &message)?)))
        } else {
            check_raw_buffer(cx, any).map(|()| TransportSocket::RawBuffer)
        }
    })
    .map(|socket| socket.unwrap_or(TransportSocket::RawBuffer))
}

fn with_config<T>(
    cx: &mut Context,
    message: &Option<core::TransportSocket>,
    read: impl FnOnce(&mut Context, &protos::Any) -> Result<T>,
) -> Result<Option<T>> {
    let Some(core::TransportSocket { name, config_type }) = message else { return Ok(None) };
    cx.field("transport_socket", |cx| match config_type {
        Some(core::transport_socket::ConfigType::TypedConfig(any)) => {
            cx.field("typed_config", |cx| read(cx, any)).map(Some)
        }
        // The one socket that needs no configuration; any other without one must not become plaintext.
        None if name == "envoy.transport_sockets.raw_buffer" => Ok(None),
        None => Err(cx.refused_field("typed_config", format!("is missing (transport socket {name:?})"))),
    })
}

fn check_raw_buffer(cx: &mut Context, any: &protos::Any) -> Result<()> {
    if any.type_url == type_url::<RawBuffer>() {
        let RawBuffer {} = cx.open(any)?;
        return Ok(());
    }
    Err(cx.refused(format!("the transport socket {} is not supported: use tls or raw_buffer", any.type_url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nameless_socket_is_not_plaintext() {
        let read = |name: &str| {
            let message = Some(core::TransportSocket { name: name.into(), config_type: None });
            Context::read(|cx| read_upstream_socket(cx, &message)).map(|read| read.value)
        };
        assert_eq!(read("envoy.transport_sockets.raw_buffer").unwrap(), TransportSocket::RawBuffer);
        assert_eq!(read("envoy.transport_sockets.tls").unwrap_err().path, "transport_socket.typed_config");
        assert_eq!(
            Context::read(|cx| read_upstream_socket(cx, &None)).unwrap().value,
            TransportSocket::RawBuffer
        );
        let any = protos::Any { type_url: "type.googleapis.com/x.Alts".into(), value: Vec::new() };
        let config_type = Some(core::transport_socket::ConfigType::TypedConfig(any));
        let message = Some(core::TransportSocket { name: "alts".into(), config_type });
        assert!(Context::read(|cx| read_downstream_socket(cx, &message)).is_err());
    }
}
