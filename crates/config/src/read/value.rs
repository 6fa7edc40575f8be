//! `google.protobuf.Struct` as plain data.

use crate::context::{Context, Result};
use crate::model::Value;
use protos::envoy::google::protobuf as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Deepest nesting accepted.
const MAX_DEPTH: usize = 32;

/// Reads free-form metadata.
pub fn read_struct(cx: &mut Context, message: &pb::Struct) -> Result<BTreeMap<Arc<str>, Value>> {
    read_map(cx, message, 0)
}

fn read_map(cx: &mut Context, message: &pb::Struct, depth: usize) -> Result<BTreeMap<Arc<str>, Value>> {
    let pb::Struct { fields } = message;
    let read =
        |(key, value): (&String, &pb::Value)| Ok((key.as_str().into(), read_value(cx, value, depth + 1)?));
    fields.iter().map(read).collect()
}

fn read_value(cx: &mut Context, message: &pb::Value, depth: usize) -> Result<Value> {
    use pb::value::Kind;
    if depth > MAX_DEPTH {
        return Err(cx.refused(format!("nested deeper than {MAX_DEPTH}")));
    }
    let pb::Value { kind } = message;
    Ok(match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => Value::Number(*value),
        Some(Kind::StringValue(value)) => Value::String(value.as_str().into()),
        Some(Kind::ListValue(pb::ListValue { values })) => {
            Value::List(values.iter().map(|value| read_value(cx, value, depth + 1)).collect::<Result<_>>()?)
        }
        Some(Kind::StructValue(value)) => Value::Map(read_map(cx, value, depth)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_and_refuses_depth() {
        let text = pb::Value { kind: Some(pb::value::Kind::StringValue("istio".into())) };
        let message = pb::Struct { fields: [("tlsMode".to_owned(), text.clone())].into() };
        let read = Context::read(|cx| read_struct(cx, &message)).unwrap().value;
        assert_eq!(read.get("tlsMode").and_then(Value::as_str), Some("istio"));
        let mut deep = text;
        for _ in 0..40 {
            deep = pb::Value { kind: Some(pb::value::Kind::ListValue(pb::ListValue { values: vec![deep] })) };
        }
        let message = pb::Struct { fields: [("x".to_owned(), deep)].into() };
        assert!(Context::read(|cx| read_struct(cx, &message)).is_err());
    }
}
