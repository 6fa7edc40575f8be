//! The operators of Envoy's substitution format.

use super::expression::read_expression;
use super::name::header_name;
use crate::context::{Context, Result};
use crate::model::{GrpcStatusForm, HeaderSource, Moment, Operator, PathSource, Unit};
use std::sync::Arc;

/// Reads an operator by its name.
pub(super) fn read_named_operator(cx: &mut Context, name: &str, argument: Option<&str>) -> Result<Operator> {
    let operator = match name {
        "START_TIME" => return Ok(Operator::StartTime(argument.map(Arc::from))),
        // As Envoy without an extension for request ids: the id that the request carries.
        "STREAM_ID" if argument.is_none() => {
            let name = Arc::from("x-request-id");
            return Ok(Operator::Request(HeaderSource { name, alternative: None }));
        }
        "EMIT_TIME" => return Ok(Operator::EmitTime(argument.map(Arc::from))),
        "REQ" | "REQUEST_HEADER" => return Ok(Operator::Request(read_header(cx, name, argument)?)),
        "RESP" | "RESPONSE_HEADER" => return Ok(Operator::Response(read_header(cx, name, argument)?)),
        "TRAILER" | "RESPONSE_TRAILER" => return Ok(Operator::Trailer(read_header(cx, name, argument)?)),
        "QUERY_PARAM" => {
            let parameter = argument.filter(|text| !text.is_empty());
            let parameter =
                parameter.ok_or_else(|| cx.refused("%QUERY_PARAM% needs the name of a parameter"))?;
            return Ok(Operator::QueryParam(parameter.into()));
        }
        "QUERY_PARAMS" if matches!(argument, None | Some("ORIG")) => return Ok(Operator::QueryParams),
        "PATH" => return read_path(cx, argument),
        "COMMON_DURATION" => return read_common_duration(cx, argument),
        "CEL" => {
            let text = argument.ok_or_else(|| cx.refused("%CEL% needs an expression"))?;
            return Ok(Operator::Expression(read_expression(cx, text)?));
        }
        "REQUESTED_SERVER_NAME" if argument == Some("SNI_ONLY") => return Ok(Operator::RequestedServerName),
        "DYNAMIC_METADATA"
        | "METADATA"
        | "CLUSTER_METADATA"
        | "UPSTREAM_METADATA"
        | "FILTER_STATE"
        | "UPSTREAM_FILTER_STATE"
        | "VIRTUAL_CLUSTER_NAME" => {
            cx.note(format!("%{name}% has never a value here and is written as a missing one"));
            return Ok(Operator::Never);
        }
        "GRPC_STATUS" => return read_grpc_status(cx, argument),
        "ENVIRONMENT" => {
            let variable = argument.filter(|text| !text.is_empty());
            let variable =
                variable.ok_or_else(|| cx.refused("%ENVIRONMENT% needs the name of a variable"))?;
            return Ok(Operator::Environment(variable.into()));
        }
        "PROTOCOL" => Operator::Protocol,
        "ACCESS_LOG_TYPE" => Operator::AccessLogType,
        "TRACE_ID" => Operator::TraceId,
        "SPAN_ID" => Operator::SpanId,
        "UNIQUE_ID" => Operator::UniqueId,
        "CUSTOM_FLAGS" => Operator::CustomFlags,
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS" => Operator::DownstreamDirectLocalAddress,
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::DownstreamDirectLocalAddressWithoutPort,
        "DOWNSTREAM_DIRECT_LOCAL_PORT" => Operator::DownstreamDirectLocalPort,
        "UPSTREAM_PEER_URI_SAN" => Operator::UpstreamPeerUriSan,
        "UPSTREAM_LOCAL_URI_SAN" => Operator::UpstreamLocalUriSan,
        "UPSTREAM_HOST_NAME" => Operator::UpstreamHost,
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Operator::UpstreamRemoteAddressWithoutPort,
        "GRPC_STATUS_NUMBER" => Operator::GrpcStatus(GrpcStatusForm::Number),
        "RESPONSE_CODE" => Operator::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Operator::ResponseFlags,
        "RESPONSE_FLAGS_LONG" => Operator::ResponseFlagsLong,
        "CONNECTION_TERMINATION_DETAILS" => Operator::ConnectionTerminationDetails,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamTransportFailureReason,
        "BYTES_RECEIVED" => Operator::BytesReceived,
        "BYTES_SENT" => Operator::BytesSent,
        "DURATION" => Operator::Duration,
        "REQUEST_DURATION" => Operator::RequestDuration,
        "RESPONSE_DURATION" => Operator::ResponseDuration,
        "RESPONSE_TX_DURATION" => Operator::ResponseTxDuration,
        "UPSTREAM_HOST" => Operator::UpstreamHost,
        "UPSTREAM_REMOTE_ADDRESS" => Operator::UpstreamHost,
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::UpstreamRemoteAddressWithoutPort,
        "UPSTREAM_REMOTE_PORT" => Operator::UpstreamRemotePort,
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::UpstreamLocalAddressWithoutPort,
        "UPSTREAM_LOCAL_PORT" => Operator::UpstreamLocalPort,
        "DOWNSTREAM_REMOTE_PORT" => Operator::DownstreamRemotePort,
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => Operator::DownstreamDirectRemotePort,
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Operator::DownstreamTransportFailureReason,
        "REQUEST_HEADERS_BYTES" => Operator::RequestHeadersBytes,
        "RESPONSE_HEADERS_BYTES" => Operator::ResponseHeadersBytes,
        "TULLE_REASON" => Operator::TulleReason,
        "TULLE_BLAME" => Operator::TulleBlame,
        "TULLE_HOP" => Operator::TulleHop,
        "TULLE_PEER" => Operator::TullePeer,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocalAddress,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::UpstreamRequestAttemptCount,
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Operator::DownstreamLocalPort,
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Operator::DownstreamDirectRemoteAddress,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::DownstreamDirectRemoteAddressWithoutPort,
        "DOWNSTREAM_PEER_URI_SAN" => Operator::DownstreamPeerUriSan,
        "DOWNSTREAM_LOCAL_URI_SAN" => Operator::DownstreamLocalUriSan,
        "DOWNSTREAM_PEER_SUBJECT" => Operator::DownstreamPeerSubject,
        "DOWNSTREAM_TLS_VERSION" => Operator::DownstreamTlsVersion,
        "REQUESTED_SERVER_NAME" => Operator::RequestedServerName,
        "ROUTE_NAME" => Operator::RouteName,
        "VIRTUAL_HOST_NAME" => Operator::VirtualHostName,
        "HOSTNAME" => Operator::Hostname,
        _ => {
            let shown: String = name.chars().take(64).collect();
            return Err(
                cx.refused(format!("the operator %{shown}% is not supported: take it out of the format"))
            );
        }
    };
    match argument {
        None => Ok(operator),
        Some(_) => Err(cx.refused(format!("the operator %{name}% takes no argument"))),
    }
}

fn read_grpc_status(cx: &mut Context, argument: Option<&str>) -> Result<Operator> {
    let form = match argument {
        None | Some("CAMEL_STRING") => GrpcStatusForm::Camel,
        Some("SNAKE_STRING") => GrpcStatusForm::Snake,
        Some("NUMBER") => GrpcStatusForm::Number,
        Some(_) => {
            let reason = "the argument of %GRPC_STATUS% is CAMEL_STRING, SNAKE_STRING or NUMBER";
            return Err(cx.refused(reason));
        }
    };
    Ok(Operator::GrpcStatus(form))
}

fn read_header(cx: &mut Context, operator: &str, argument: Option<&str>) -> Result<HeaderSource> {
    let Some(argument) = argument else {
        return Err(cx.refused(format!("the operator %{operator}% needs a header name")));
    };
    let (first, second) = match argument.split_once('?') {
        Some((first, second)) => (first, Some(second)),
        None => (argument, None),
    };
    let name = header_name(cx, operator, first, true)?;
    let alternative = second.map(|name| header_name(cx, operator, name, true)).transpose()?;
    Ok(HeaderSource { name, alternative })
}

fn read_path(cx: &mut Context, argument: Option<&str>) -> Result<Operator> {
    let (form, source) = match argument {
        None => ("WQ", "ORIG_OR_PATH"),
        Some(argument) => argument.split_once(':').unwrap_or((argument, "ORIG_OR_PATH")),
    };
    let source = match source {
        "PATH" => PathSource::Path,
        "ORIG" => PathSource::Original,
        "ORIG_OR_PATH" => PathSource::OriginalOrPath,
        _ => return Err(cx.refused("the path of %PATH% is PATH, ORIG or ORIG_OR_PATH")),
    };
    match form {
        "WQ" => Ok(Operator::Path { query: true, source }),
        "NQ" => Ok(Operator::Path { query: false, source }),
        _ => Err(cx.refused("the form of %PATH% is WQ or NQ")),
    }
}

fn read_common_duration(cx: &mut Context, argument: Option<&str>) -> Result<Operator> {
    let parts: Vec<&str> = argument.unwrap_or_default().split(':').collect();
    let [from, to, unit] = parts[..] else {
        return Err(cx.refused("%COMMON_DURATION% is written as %COMMON_DURATION(FROM:TO:UNIT)%"));
    };
    let moment = |cx: &Context, text: &str| match text {
        "DS_RX_BEG" => Ok(Moment::DownstreamReceiveBegin),
        "DS_RX_END" => Ok(Moment::DownstreamReceiveEnd),
        "US_TX_BEG" => Ok(Moment::UpstreamSendBegin),
        "US_RX_BEG" => Ok(Moment::UpstreamReceiveBegin),
        "DS_TX_END" => Ok(Moment::DownstreamSendEnd),
        _ => Err(cx.refused("the moments are DS_RX_BEG, DS_RX_END, US_TX_BEG, US_RX_BEG and DS_TX_END")),
    };
    let unit = match unit {
        "ms" => Unit::Milliseconds,
        "us" => Unit::Microseconds,
        "ns" => Unit::Nanoseconds,
        _ => return Err(cx.refused("the unit of %COMMON_DURATION% is ms, us or ns")),
    };
    Ok(Operator::CommonDuration(moment(cx, from)?, moment(cx, to)?, unit))
}

/// Whether an operator may have a length behind it. Envoy refuses it for the others.
pub(super) fn takes_length(name: &str) -> bool {
    matches!(
        name,
        "REQ"
            | "REQUEST_HEADER"
            | "RESP"
            | "RESPONSE_HEADER"
            | "TRAILER"
            | "RESPONSE_TRAILER"
            | "QUERY_PARAM"
            | "QUERY_PARAMS"
            | "PATH"
            | "CEL"
            | "ENVIRONMENT"
            | "DYNAMIC_METADATA"
            | "METADATA"
            | "CLUSTER_METADATA"
            | "UPSTREAM_METADATA"
            | "FILTER_STATE"
            | "UPSTREAM_FILTER_STATE"
    )
}
