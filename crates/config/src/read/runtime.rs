//! `envoy.config.bootstrap.v3.LayeredRuntime`: the settings of its static layers that act.

use super::value::read_struct;
use crate::context::{Context, Result};
use crate::model::{RuntimeSettings, Value};
use protos::envoy::envoy::config::bootstrap::v3 as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most layers.
const LIMIT: usize = 64;
const MAX_CONNECTIONS: &str = "overload.global_downstream_max_connections";
const PASS_OVER: &str = "tulle.upstream.pass_over_unreachable_hosts";
/// What stands before and after the name of a listener.
const LISTENER: (&str, &str) = ("envoy.resource_limits.listener.", ".connection_limit");

const STATIC_ONLY: &str = "settings come from static layers only";

/// Reads the runtime; a later layer overrides the ones before.
pub fn read_runtime(cx: &mut Context, message: &Option<pb::LayeredRuntime>) -> Result<RuntimeSettings> {
    let mut settings = RuntimeSettings::default();
    let Some(pb::LayeredRuntime { layers }) = message else { return Ok(settings) };
    cx.field("layered_runtime", |cx| {
        if layers.is_empty() {
            cx.note("has no layer");
        }
        cx.list("layers", layers, LIMIT, |cx, layer| read_layer(cx, layer, &mut settings))
    })?;
    Ok(settings)
}

fn read_layer(cx: &mut Context, message: &pb::RuntimeLayer, settings: &mut RuntimeSettings) -> Result<()> {
    use pb::runtime_layer::LayerSpecifier;
    let pb::RuntimeLayer { name: _, layer_specifier } = message;
    match layer_specifier {
        Some(LayerSpecifier::StaticLayer(values)) => cx.field("static_layer", |cx| {
            let values = read_struct(cx, values)?;
            let mut flat = BTreeMap::new();
            if values.is_empty() {
                cx.note("sets nothing");
            }
            flatten("", &values, &mut flat);
            flat.into_iter().try_for_each(|(key, value)| set(cx, &key, value, settings))
        }),
        Some(LayerSpecifier::DiskLayer(_)) => {
            cx.field("disk_layer", |cx| cx.note(STATIC_ONLY));
            Ok(())
        }
        Some(LayerSpecifier::AdminLayer(_)) => {
            cx.field("admin_layer", |cx| cx.note(STATIC_ONLY));
            Ok(())
        }
        Some(LayerSpecifier::RtdsLayer(_)) => {
            cx.field("rtds_layer", |cx| cx.note(STATIC_ONLY));
            Ok(())
        }
        None => Err(cx.refused("has no layer_specifier")),
    }
}

/// Maps within maps say the same as names with dots.
fn flatten<'a>(prefix: &str, values: &'a BTreeMap<Arc<str>, Value>, flat: &mut BTreeMap<String, &'a Value>) {
    for (key, value) in values {
        let key = if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
        match value {
            Value::Map(inner) => flatten(&key, inner, flat),
            value => {
                flat.insert(key, value);
            }
        }
    }
}

fn set(cx: &mut Context, key: &str, value: &Value, settings: &mut RuntimeSettings) -> Result<()> {
    let listener = key.strip_prefix(LISTENER.0).and_then(|rest| rest.strip_suffix(LISTENER.1));
    match (key, listener) {
        (MAX_CONNECTIONS, _) => settings.max_connections = Some(count(cx, key, value)?),
        (PASS_OVER, _) => settings.pass_over_unreachable_hosts = truth(cx, key, value)?,
        (_, Some(name)) => {
            settings.listener_connections.insert(name.into(), count(cx, key, value)?);
        }
        // Istio writes several that concern features of Envoy.
        _ => cx.field(key, |cx| cx.note("is no runtime setting that acts")),
    }
    Ok(())
}

fn count(cx: &mut Context, key: &str, value: &Value) -> Result<u64> {
    let number = match value {
        Value::Number(number) if *number >= 0.0 && *number <= 2f64.powi(53) && number.fract() == 0.0 => {
            Some(*number as u64)
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| cx.refused_field(key, "is not a number of connections"))
}

fn truth(cx: &mut Context, key: &str, value: &Value) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if matches!(&**text, "true" | "false") => Ok(&**text == "true"),
        _ => Err(cx.refused_field(key, "is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::{Struct, Value as PbValue, value::Kind};

    fn value(kind: Kind) -> PbValue {
        PbValue { kind: Some(kind) }
    }

    fn layer(fields: Vec<(&str, PbValue)>) -> pb::RuntimeLayer {
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let specifier = pb::runtime_layer::LayerSpecifier::StaticLayer(Struct { fields });
        pb::RuntimeLayer { name: "static".to_owned(), layer_specifier: Some(specifier) }
    }

    fn read(layers: Vec<pb::RuntimeLayer>) -> Result<crate::Read<RuntimeSettings>> {
        Context::read(|cx| read_runtime(cx, &Some(pb::LayeredRuntime { layers })))
    }

    #[test]
    fn limits_and_the_switch_are_read_flat_or_nested_and_the_last_layer_decides() {
        let inner = [("connection_limit".to_owned(), value(Kind::NumberValue(7.0)))].into();
        let nested = value(Kind::StructValue(Struct { fields: inner }));
        let first = layer(vec![
            ("overload.global_downstream_max_connections", value(Kind::StringValue("50000".to_owned()))),
            ("envoy.resource_limits.listener.in.connection_limit", value(Kind::NumberValue(5.0))),
            ("envoy.resource_limits.listener.out", nested),
        ]);
        let second = layer(vec![
            ("envoy.resource_limits.listener.in.connection_limit", value(Kind::NumberValue(6.0))),
            ("tulle.upstream.pass_over_unreachable_hosts", value(Kind::BoolValue(false))),
            ("envoy.reloadable_features.x", value(Kind::BoolValue(true))),
        ]);
        let read = read(vec![first, second]).unwrap();
        let wanted = RuntimeSettings {
            max_connections: Some(50_000),
            listener_connections: [("in".into(), 6), ("out".into(), 7)].into(),
            pass_over_unreachable_hosts: false,
        };
        assert_eq!(read.value, wanted);
        let notes: Vec<_> = read.notes.iter().map(|note| &*note.path).collect();
        assert_eq!(notes, ["layered_runtime.layers[1].static_layer.envoy.reloadable_features.x"]);
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_place() {
        for wrong in [Kind::NumberValue(-1.0), Kind::NumberValue(1.5), Kind::BoolValue(true)] {
            let refused = read(vec![layer(vec![(MAX_CONNECTIONS, value(wrong))])]).unwrap_err();
            let path = format!("layered_runtime.layers[0].static_layer.{MAX_CONNECTIONS}");
            assert_eq!((&*refused.path, &*refused.reason), (&*path, "is not a number of connections"));
        }
        let refused = read(vec![layer(vec![(PASS_OVER, value(Kind::NumberValue(1.0)))])]).unwrap_err();
        assert!(refused.path.ends_with(PASS_OVER));
        assert!(read(vec![pb::RuntimeLayer::default()]).is_err());
    }
}
