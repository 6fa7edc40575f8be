//! Envoy's substitution format strings.

use super::format_operator::{read_named_operator, takes_length};
use crate::context::{Context, Result};
use crate::model::{Format, Operator, Token};

/// The longest format accepted, in bytes.
const MAX_FORMAT: usize = 16 * 1024;

/// Parses a format string of a header or a tag: text with `%OPERATOR(ARGUMENT):LENGTH%`; `%%` is a per cent sign.
pub fn read_format(cx: &mut Context, text: &str) -> Result<Format> {
    let format = read_log_text(cx, text)?;
    let evaluates =
        |token: &Token| matches!(token, Token::Operator { operator: Operator::Expression(_), .. });
    if format.tokens.iter().any(evaluates) {
        return Err(cx.refused("%CEL% is for access logs: here are no expressions"));
    }
    Ok(format)
}

/// The same for an access log, which may have expressions.
pub(super) fn read_log_text(cx: &mut Context, text: &str) -> Result<Format> {
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
    let operator = read_named_operator(cx, name, argument)?;
    if max_length.is_some() && !takes_length(name) {
        return Err(fail(cx, "the operator takes no length"));
    }
    Ok((Token::Operator { operator, max_length }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GrpcStatusForm, HeaderSource, Moment, PathSource, Unit};

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
            "TRACE_ID",
            "SPAN_ID",
            "UNIQUE_ID",
            "ACCESS_LOG_TYPE",
            "CUSTOM_FLAGS",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_DIRECT_LOCAL_PORT",
            "UPSTREAM_PEER_URI_SAN",
            "UPSTREAM_LOCAL_URI_SAN",
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
    fn reads_operators_with_arguments() {
        let path = |query, source| Operator::Path { query, source };
        let all = (Moment::DownstreamReceiveBegin, Moment::DownstreamSendEnd);
        let header = |name: &str| HeaderSource { name: name.into(), alternative: None };
        for (text, operator) in [
            ("%PATH%", path(true, PathSource::OriginalOrPath)),
            ("%PATH(NQ)%", path(false, PathSource::OriginalOrPath)),
            ("%PATH(WQ:ORIG)%", path(true, PathSource::Original)),
            ("%PATH(NQ:PATH)%", path(false, PathSource::Path)),
            ("%QUERY_PARAM(a)%", Operator::QueryParam("a".into())),
            ("%QUERY_PARAMS(ORIG)%", Operator::QueryParams),
            ("%EMIT_TIME(%Y)%", Operator::EmitTime(Some("%Y".into()))),
            (
                "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
                Operator::CommonDuration(all.0, all.1, Unit::Microseconds),
            ),
            ("%REQUEST_HEADER(x)%", Operator::Request(header("x"))),
            ("%RESPONSE_HEADER(x)%", Operator::Response(header("x"))),
            ("%RESPONSE_TRAILER(x)%", Operator::Trailer(header("x"))),
            ("%REQUESTED_SERVER_NAME(SNI_ONLY)%", Operator::RequestedServerName),
        ] {
            assert_eq!(
                read(text).unwrap().tokens,
                [Token::Operator { operator, max_length: None }],
                "{text}"
            );
        }
        let cel = "%CEL(request.headers['a'] == 'b)' ? 'x' : 'y')%";
        assert!(read(cel).unwrap_err().reason.contains("access logs"));
        let token = &Context::read(|cx| read_log_text(cx, cel)).unwrap().value.tokens[0];
        assert!(
            matches!(token, Token::Operator { operator: Operator::Expression(it), .. } if it.text.ends_with("'y'"))
        );
        let read = Context::read(|cx| read_format(cx, "%DYNAMIC_METADATA(a:b)%")).unwrap();
        assert_eq!(read.value.tokens, [Token::Operator { operator: Operator::Never, max_length: None }]);
        assert!(read.notes[0].reason.contains("DYNAMIC_METADATA"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for bad in [
            "%TLS_JA3_FINGERPRINT%",
            "%CEL(request.%",
            "%PATH(XX)%",
            "%COMMON_DURATION(DS_RX_BEG:NEVER:ms)%",
            "%RESPONSE_CODE:2%",
            "%QUERY_PARAM%",
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
