//! Envoy's substitution format strings.

use super::name::header_name;
use crate::context::{Context, Result};
use crate::model::{Format, GrpcStatusForm, HeaderSource, Operator, Token};
use std::sync::Arc;

/// The longest format accepted, in bytes.
const MAX_FORMAT: usize = 16 * 1024;

/// Parses a format string: text with `%OPERATOR(ARGUMENT):LENGTH%`; `%%` is a per cent sign.
pub fn read_format(cx: &mut Context, text: &str) -> Result<Format> {
    if text.len() > MAX_FORMAT {
        return Err(cx.refused(format!("{} bytes long, the limit is {MAX_FORMAT}", text.len())));
    }
    let mut tokens = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(position) = rest.find('%') {
        literal.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
        }
        let (token, after) = read_operator(cx, rest)?;
        tokens.push(token);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal.into()));
    }
    Ok(Format { tokens })
}

/// Reads one operator; `text` begins behind its first per cent sign. Returns what follows the second one.
fn read_operator<'a>(cx: &mut Context, text: &'a str) -> Result<(Token, &'a str)> {
    let shown: String = text.chars().take(48).collect();
    let fail = |cx: &mut Context, reason: &str| cx.refused(format!("%{shown}: {reason}"));
    let end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        // A time format has per cent signs of its own: the argument ends at a parenthesis before `%` or `:`.
        let close = inner
            .match_indices(')')
            .map(|(position, _)| position)
            .find(|position| matches!(inner.as_bytes().get(position + 1), Some(b'%' | b':')));
        let Some(close) = close else { return Err(fail(cx, "the argument has no end")) };
        argument = Some(&inner[..close]);
        rest = &inner[close + 1..];
    }
    let mut max_length = None;
    if let Some(after) = rest.strip_prefix(':') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(length) = after[..digits].parse::<usize>() else {
            return Err(fail(cx, "the length is not a number"));
        };
        max_length = Some(length);
        rest = &after[digits..];
    }
    let Some(rest) = rest.strip_prefix('%') else {
        return Err(fail(cx, "an operator ends with % (write %% for a per cent sign)"));
    };
    let operator = read_name(cx, name, argument)?;
    Ok((Token::Operator { operator, max_length }, rest))
}

fn read_name(cx: &mut Context, name: &str, argument: Option<&str>) -> Result<Operator> {
    let operator = match name {
        "START_TIME" => return Ok(Operator::StartTime(argument.map(Arc::from))),
        // As Envoy without an extension for request ids: the id that the request carries.
        "STREAM_ID" if argument.is_none() => {
            let name = Arc::from("x-request-id");
            return Ok(Operator::Request(HeaderSource { name, alternative: None }));
        }
        "REQ" => return Ok(Operator::Request(read_header(cx, name, argument)?)),
        "RESP" => return Ok(Operator::Response(read_header(cx, name, argument)?)),
        "TRAILER" => return Ok(Operator::Trailer(read_header(cx, name, argument)?)),
        "GRPC_STATUS" => return read_grpc_status(cx, argument),
        "ENVIRONMENT" => {
            let variable = argument.filter(|text| !text.is_empty());
            let variable =
                variable.ok_or_else(|| cx.refused("%ENVIRONMENT% needs the name of a variable"))?;
            return Ok(Operator::Environment(variable.into()));
        }
        "PROTOCOL" => Operator::Protocol,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Format> {
        Context::read(|cx| read_format(cx, text)).map(|read| read.value)
    }

    const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
        %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
        \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
        %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
        \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
        %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

    #[test]
    fn reads_istios_default() {
        let tokens = read(ISTIO).unwrap().tokens;
        assert_eq!(tokens.iter().filter(|token| matches!(token, Token::Operator { .. })).count(), 24);
        assert_eq!(tokens[0], Token::Literal("[".into()));
        let path = HeaderSource { name: "x-envoy-original-path".into(), alternative: Some(":path".into()) };
        assert!(tokens.contains(&Token::Operator { operator: Operator::Request(path), max_length: None }));
        assert_eq!(tokens.last(), Some(&Token::Literal("\n".into())));
    }

    #[test]
    fn reads_arguments_lengths_and_signs() {
        let tokens = read("100%% %START_TIME(%Y/%m/%d)% %REQ(x):10%").unwrap().tokens;
        assert_eq!(tokens[0], Token::Literal("100% ".into()));
        assert_eq!(
            tokens[1],
            Token::Operator { operator: Operator::StartTime(Some("%Y/%m/%d".into())), max_length: None }
        );
        assert!(matches!(tokens[3], Token::Operator { max_length: Some(10), .. }));
    }

    #[test]
    fn every_operator_of_a_header_is_the_one_of_its_name() {
        let header = || HeaderSource { name: "x".into(), alternative: None };
        for (text, operator) in [
            ("%REQ(x)%", Operator::Request(header())),
            ("%RESP(x)%", Operator::Response(header())),
            ("%TRAILER(x)%", Operator::Trailer(header())),
        ] {
            assert_eq!(read(text).unwrap().tokens, [Token::Operator { operator, max_length: None }]);
        }
    }

    #[test]
    fn reads_the_forms_of_a_grpc_status() {
        for (text, form) in [
            ("%GRPC_STATUS%", GrpcStatusForm::Camel),
            ("%GRPC_STATUS(CAMEL_STRING)%", GrpcStatusForm::Camel),
            ("%GRPC_STATUS(SNAKE_STRING)%", GrpcStatusForm::Snake),
            ("%GRPC_STATUS(NUMBER)%", GrpcStatusForm::Number),
            ("%GRPC_STATUS_NUMBER%", GrpcStatusForm::Number),
        ] {
            let operator = Operator::GrpcStatus(form);
            assert_eq!(read(text).unwrap().tokens, [Token::Operator { operator, max_length: None }]);
        }
    }

    /// Operators without an argument are called as their variants are.
    #[test]
    fn every_plain_operator_is_the_one_of_its_name() {
        for name in [
            "PROTOCOL",
            "RESPONSE_CODE",
            "RESPONSE_FLAGS",
            "RESPONSE_CODE_DETAILS",
            "CONNECTION_TERMINATION_DETAILS",
            "UPSTREAM_TRANSPORT_FAILURE_REASON",
            "BYTES_RECEIVED",
            "BYTES_SENT",
            "DURATION",
            "REQUEST_DURATION",
            "RESPONSE_DURATION",
            "RESPONSE_TX_DURATION",
            "UPSTREAM_HOST",
            "UPSTREAM_CLUSTER",
            "UPSTREAM_LOCAL_ADDRESS",
            "UPSTREAM_REQUEST_ATTEMPT_COUNT",
            "DOWNSTREAM_LOCAL_ADDRESS",
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_LOCAL_PORT",
            "DOWNSTREAM_REMOTE_ADDRESS",
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_PEER_URI_SAN",
            "DOWNSTREAM_LOCAL_URI_SAN",
            "DOWNSTREAM_PEER_SUBJECT",
            "DOWNSTREAM_TLS_VERSION",
            "REQUESTED_SERVER_NAME",
            "ROUTE_NAME",
            "VIRTUAL_HOST_NAME",
            "HOSTNAME",
        ] {
            let tokens = read(&format!("%{name}%")).unwrap().tokens;
            let [Token::Operator { operator, max_length: None }] = &tokens[..] else {
                panic!("%{name}% is {tokens:?}")
            };
            let called = format!("{operator:?}").to_lowercase();
            assert_eq!(called, name.replace('_', "").to_lowercase(), "%{name}%");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for bad in [
            "%DYNAMIC_METADATA(a:b)%",
            "%REQ%",
            "%REQ(a",
            "%PROTOCOL",
            "50% off",
            "%REQ(x):a%",
            "%PROTOCOL(x)%",
            "%GRPC_STATUS(x)%",
            "%GRPC_STATUS_NUMBER(x)%",
        ] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
