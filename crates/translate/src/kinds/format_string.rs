//! Format strings that a proxy would refuse: it takes a listener or a route configuration whole or not at all.

use base::expression::{Attribute, parse};

/// Operators of format strings that take no argument.
const OPERATORS: [&str; 67] = [
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
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
    "UPSTREAM_CLUSTER_RAW",
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
    "START_TIME",
    "EMIT_TIME",
    "ACCESS_LOG_TYPE",
    "TRACE_ID",
    "SPAN_ID",
    "UNIQUE_ID",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "PATH",
    "QUERY_PARAMS",
    "VIRTUAL_CLUSTER_NAME",
    "STREAM_ID",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "REQUEST_HEADERS_BYTES",
    "RESPONSE_HEADERS_BYTES",
    "TULLE_REASON",
    "TULLE_BLAME",
    "TULLE_HOP",
    "TULLE_PEER",
];

/// Operators with a length behind them.
const WITH_LENGTH: [&str; 16] = [
    "REQ",
    "REQUEST_HEADER",
    "RESP",
    "RESPONSE_HEADER",
    "TRAILER",
    "RESPONSE_TRAILER",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "PATH",
    "CEL",
    "ENVIRONMENT",
    "DYNAMIC_METADATA",
    "METADATA",
    "CLUSTER_METADATA",
    "UPSTREAM_METADATA",
    "FILTER_STATE",
];

/// Why the format string of a header or a tag is refused; `None` when it is accepted.
pub fn defect(text: &str) -> Option<String> {
    if text.contains("%CEL(") {
        return Some("%CEL% is for access logs: here are no expressions".to_owned());
    }
    log_defect(text)
}

/// The same of an access log, which may have expressions.
pub fn log_defect(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = rest.get(at + 1..)?;
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        let Some(Ending { argument, length, rest: after }) = end_of_operator(after) else {
            return Some(format!("%{name} has no closing %"));
        };
        let known = match argument {
            Some(argument) => argument_is_known(name, argument),
            None => OPERATORS.contains(&name),
        };
        if !known || (length && !WITH_LENGTH.contains(&name)) {
            return Some(format!(
                "%{name}% is not an operator that proxies know (write %% for a per cent sign)"
            ));
        }
        rest = after;
    }
    None
}

fn argument_is_known(name: &str, argument: &str) -> bool {
    match name {
        "REQ"
        | "REQUEST_HEADER"
        | "RESP"
        | "RESPONSE_HEADER"
        | "TRAILER"
        | "RESPONSE_TRAILER"
        | "START_TIME"
        | "EMIT_TIME"
        | "ENVIRONMENT"
        | "QUERY_PARAM"
        | "DYNAMIC_METADATA"
        | "METADATA"
        | "CLUSTER_METADATA"
        | "UPSTREAM_METADATA"
        | "FILTER_STATE"
        | "UPSTREAM_FILTER_STATE" => true,
        "QUERY_PARAMS" => argument == "ORIG",
        "REQUESTED_SERVER_NAME" => argument == "SNI_ONLY",
        "GRPC_STATUS" => matches!(argument, "CAMEL_STRING" | "SNAKE_STRING" | "NUMBER"),
        "PATH" => {
            let (form, source) = argument.split_once(':').unwrap_or((argument, "ORIG_OR_PATH"));
            matches!(form, "WQ" | "NQ") && matches!(source, "PATH" | "ORIG" | "ORIG_OR_PATH")
        }
        "COMMON_DURATION" => {
            let parts: Vec<&str> = argument.split(':').collect();
            let moment =
                |it: &str| matches!(it, "DS_RX_BEG" | "DS_RX_END" | "US_TX_BEG" | "US_RX_BEG" | "DS_TX_END");
            matches!(parts[..], [from, to, "ms" | "us" | "ns"] if moment(from) && moment(to))
        }
        "CEL" => expression_is_sound(argument),
        _ => false,
    }
}

/// Whether a proxy evaluates it.
fn expression_is_sound(text: &str) -> bool {
    let pattern = |pattern: &str| {
        let compiled = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
        compiled.map(drop).map_err(|error| error.to_string())
    };
    let Ok(parsed) = parse(text, &pattern) else { return false };
    let mut sound = true;
    parsed.root.attributes(&mut |attribute| sound &= !matches!(attribute, Attribute::Whole(_)));
    sound
}

/// How an operator ends.
struct Ending<'a> {
    argument: Option<&'a str>,
    length: bool,
    rest: &'a str,
}

/// What follows an operator's name, up to its closing `%`.
fn end_of_operator(text: &str) -> Option<Ending<'_>> {
    let (argument, text) = match text.strip_prefix('(') {
        None => (None, text),
        Some(inner) => {
            let close = inner.match_indices(')').map(|(at, _)| at);
            let mut ends = close.filter(|at| matches!(inner.as_bytes().get(at + 1), Some(b'%' | b':')));
            let end = ends.next().filter(|end| *end > 0)?;
            (inner.get(..end), inner.get(end + 1..)?)
        }
    };
    let (length, text) = match text.strip_prefix(':') {
        None => (false, text),
        Some(length) => {
            let rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
            (true, (rest.len() < length.len()).then_some(rest)?)
        }
    };
    Some(Ending { argument, length, rest: text.strip_prefix('%')? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_known_operators_are_accepted() {
        for text in [
            "",
            "plain",
            "100%%",
            "%PROTOCOL% %REQ(X-A?:PATH):20% %START_TIME% %START_TIME(%Y/%m/%d)%",
            "%UPSTREAM_HOST%",
            "%GRPC_STATUS% %GRPC_STATUS(NUMBER)% %PATH(NQ)% %QUERY_PARAM(a):3% %DYNAMIC_METADATA(a:b)%",
            "%CEL(request.method == 'GET' ? 'a' : 'b')% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
        ] {
            assert_eq!(log_defect(text), None, "{text}");
        }
    }

    #[test]
    fn all_other_formats_are_not() {
        for text in [
            "50% off",
            "%CEL(request.)%",
            "%CEL(size(request.headers))%",
            "%PATH(XX)%",
            "%RESPONSE_CODE:2%",
            "%TLS_JA3_FINGERPRINT%",
            "%PROTOCOL",
            "%REQ%",
            "%REQ(a",
            "%PROTOCOL(x)%",
            "%REQ()%",
            "%REQ(x):a%",
        ] {
            assert!(log_defect(text).is_some(), "{text}");
        }
    }

    #[test]
    fn headers_have_no_expressions() {
        assert!(defect("%CEL(request.method)%").is_some() && defect("%REQ(a)%").is_none());
    }
}
