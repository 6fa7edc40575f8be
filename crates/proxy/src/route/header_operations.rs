//! The header changes that routes ask for, applied to a head.

use std::borrow::Cow;

use bytes::Bytes;
use config::model::{Format, HeaderAction, HeaderOperations, Operator, Token};

use crate::http::{Headers, RequestHead};
use crate::telemetry::log_value::{LogContext, LogValue, of_target, path_header};
use crate::telemetry::start_time::Seconds;

/// What the values of added headers may name.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// The request as it goes upstream.
    pub request: &'a RequestHead,
    /// The exchange so far.
    pub context: LogContext<'a>,
}

/// Applies removals, then additions in order.
pub fn apply(operations: &HeaderOperations, headers: &mut Headers, values: Option<Values<'_>>) {
    for name in &operations.remove {
        headers.remove(name);
    }
    for add in &operations.add {
        let value = evaluate(&add.value, headers, values);
        if value.is_empty() && !add.keep_empty {
            continue;
        }
        let name = || Bytes::copy_from_slice(add.name.as_bytes());
        match add.action {
            HeaderAction::AppendIfExistsOrAdd => headers.append(name(), value),
            HeaderAction::AddIfAbsent if headers.contains(&add.name) => {}
            HeaderAction::AddIfAbsent => headers.append(name(), value),
            HeaderAction::OverwriteIfExistsOrAdd => headers.set(name(), value),
            HeaderAction::OverwriteIfExists if headers.contains(&add.name) => headers.set(name(), value),
            HeaderAction::OverwriteIfExists => {}
        }
    }
}

/// The value of a format; what is missing is empty. `headers` are those being changed.
pub fn evaluate(format: &Format, headers: &Headers, values: Option<Values<'_>>) -> Bytes {
    if let [Token::Literal(text)] = format.tokens.as_slice() {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let mut all = Vec::new();
    for token in &format.tokens {
        match token {
            Token::Literal(text) => all.extend_from_slice(text.as_bytes()),
            Token::Operator { operator, max_length } => {
                let start = all.len();
                operator_value(operator, headers, values, &mut all);
                all.truncate(max_length.map_or(all.len(), |limit| all.len().min(start + limit)));
            }
        }
    }
    all.into()
}

fn operator_value(operator: &Operator, headers: &Headers, values: Option<Values<'_>>, out: &mut Vec<u8>) {
    let mut header = |find: &dyn Fn(&str) -> Option<Bytes>, source: &config::model::HeaderSource| {
        let found = find(&source.name).or_else(|| source.alternative.as_deref().and_then(find));
        out.extend_from_slice(found.as_deref().unwrap_or_default());
    };
    match operator {
        Operator::Request(source) => {
            let find = |name: &str| values.and_then(|values| request_value(values.request, name));
            header(&find, source);
        }
        Operator::Response(source) => header(&|name| headers.get_bytes(name), source),
        operator => match values.map(|values| of_request(operator, values)) {
            None | Some(LogValue::Missing) => {}
            Some(LogValue::Untrusted(bytes)) => out.extend_from_slice(&bytes),
            Some(value) => value.write_text(out, None, &mut Seconds::default()),
        },
    }
}

fn of_request<'a>(operator: &'a Operator, values: Values<'a>) -> LogValue<'a> {
    let Some((name, alternative)) = path_header(operator) else { return values.context.value(operator, 0) };
    let find = |name| request_value(values.request, name);
    match find(name).or_else(|| alternative.and_then(find)) {
        Some(target) => of_target(operator, LogValue::Untrusted(Cow::Owned(target.to_vec()))),
        None => LogValue::Missing,
    }
}

fn request_value(head: &RequestHead, name: &str) -> Option<Bytes> {
    match name {
        ":method" => Some(Bytes::copy_from_slice(head.method.as_str().as_bytes())),
        ":path" => Some(head.target.clone()),
        ":authority" | "host" => Some(head.authority.clone()),
        ":scheme" => Some(Bytes::from_static(head.scheme.as_str().as_bytes())),
        name => head.headers.get_bytes(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::HeaderAdd;

    fn add(name: &str, value: &str, action: HeaderAction) -> HeaderAdd {
        let value = Format { tokens: vec![Token::Literal(value.into())] };
        HeaderAdd { name: name.into(), value, action, keep_empty: false }
    }

    #[test]
    fn removals_come_first_and_each_action_does_what_it_says() {
        let mut headers: Headers = [("A", "1"), ("B", "2"), ("C", "3")].into_iter().collect();
        let operations = HeaderOperations {
            remove: vec!["a".into()],
            add: vec![
                add("a", "new", HeaderAction::OverwriteIfExists),
                add("b", "more", HeaderAction::AppendIfExistsOrAdd),
                add("c", "x", HeaderAction::OverwriteIfExistsOrAdd),
                add("c", "y", HeaderAction::AddIfAbsent),
                add("d", "z", HeaderAction::AddIfAbsent),
                add("e", "", HeaderAction::AddIfAbsent),
            ],
        };
        apply(&operations, &mut headers, None);
        let text: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{:?}={:?}", Bytes::copy_from_slice(n), Bytes::copy_from_slice(v)))
            .collect();
        assert_eq!(text, [r#"b"B"=b"2""#, r#"b"C"=b"x""#, r#"b"b"=b"more""#, r#"b"d"=b"z""#]);
    }
}
