//! `envoy.config.core.v3.Metadata`: the namespaces that are acted on, and a note for the others.

use super::value::read_struct;
use crate::context::{Context, Result};
use crate::model::Value;
use protos::envoy::envoy::config::core::v3 as core;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the metadata of the namespaces in `known`; others are reported.
pub fn read_metadata(
    cx: &mut Context,
    message: &Option<core::Metadata>,
    known: &[&str],
) -> Result<BTreeMap<Arc<str>, Value>> {
    let mut out = BTreeMap::new();
    let Some(core::Metadata { filter_metadata, typed_filter_metadata }) = message else { return Ok(out) };
    cx.field("metadata", |cx| {
        let sorted: BTreeMap<_, _> = filter_metadata.iter().collect();
        for (namespace, value) in sorted {
            cx.entry("filter_metadata", namespace, |cx| {
                if known.contains(&namespace.as_str()) {
                    out.insert(namespace.as_str().into(), Value::Map(read_struct(cx, value)?));
                } else {
                    cx.note("nothing reads this metadata");
                }
                Ok(())
            })?;
        }
        cx.report_set("typed_filter_metadata", typed_filter_metadata, "nothing reads this metadata");
        Ok(out)
    })
}

/// The text fields of one namespace.
pub fn texts(metadata: &BTreeMap<Arc<str>, Value>, namespace: &str) -> BTreeMap<Arc<str>, Arc<str>> {
    let Some(Value::Map(map)) = metadata.get(namespace) else { return BTreeMap::new() };
    let text = |(key, value): (&Arc<str>, &Value)| match value {
        Value::String(text) => Some((key.clone(), text.clone())),
        _ => None,
    };
    map.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_known_and_reports_the_rest() {
        let filter_metadata =
            [("tulle".to_owned(), Default::default()), ("other".to_owned(), Default::default())].into();
        let message = Some(core::Metadata { filter_metadata, ..Default::default() });
        let read = Context::read(|cx| read_metadata(cx, &message, &["tulle"])).unwrap();
        assert!(read.value.contains_key("tulle") && !read.value.contains_key("other"));
        assert_eq!(read.notes[0].path, "metadata.filter_metadata[\"other\"]");
        assert_eq!(read.notes.len(), 1);
    }
}
