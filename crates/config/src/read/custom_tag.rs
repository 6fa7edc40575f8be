//! `envoy.type.tracing.v3.CustomTag`.

use super::format::read_format;
use super::name::{header_name, name, required_name};
use crate::context::{Context, Result};
use crate::model::{CustomTag, TagValue};
use protos::envoy::envoy::r#type::metadata::v3 as metadata;
use protos::envoy::envoy::r#type::tracing::v3 as pb;

/// Most tags of one list.
const LIMIT: usize = 100;

/// Reads tags: sorted by name, of each name one.
pub fn read_custom_tags(cx: &mut Context, tags: &[pb::CustomTag]) -> Result<Vec<CustomTag>> {
    let mut read: Vec<CustomTag> =
        cx.list("custom_tags", tags, LIMIT, read_custom_tag)?.into_iter().flatten().collect();
    read.sort_by(|left, right| left.tag.cmp(&right.tag));
    match read.windows(2).find(|pair| pair[0].tag == pair[1].tag) {
        None => Ok(read),
        Some(pair) => {
            let twice = format!("the tag {:?} stands there twice", pair[0].tag);
            Err(cx.refused_field("custom_tags", twice))
        }
    }
}

fn read_custom_tag(cx: &mut Context, message: &pb::CustomTag) -> Result<Option<CustomTag>> {
    use pb::custom_tag::{Environment, Header, Literal, Type};
    let pb::CustomTag { tag, r#type } = message;
    let tag = required_name(cx, "tag", tag)?;
    let value = match r#type {
        None => return Err(cx.refused(format!("the tag {tag:?} has no value, or one of an unknown kind"))),
        Some(Type::Literal(Literal { value })) => {
            TagValue::Literal(cx.field("literal", |cx| required_name(cx, "value", value))?)
        }
        Some(Type::Environment(Environment { name: variable, default_value })) => {
            cx.field("environment", |cx| {
                Ok(TagValue::Environment {
                    name: required_name(cx, "name", variable)?,
                    default: name(cx, "default_value", default_value)?,
                })
            })?
        }
        Some(Type::RequestHeader(Header { name: header, default_value })) => {
            cx.field("request_header", |cx| {
                Ok(TagValue::Header {
                    name: header_name(cx, "name", header, true)?,
                    default: name(cx, "default_value", default_value)?,
                })
            })?
        }
        Some(Type::Metadata(message)) => return cx.field("metadata", |cx| read_metadata(cx, tag, message)),
        Some(Type::Value(text)) => TagValue::Format(cx.field("value", |cx| read_format(cx, text))?),
    };
    Ok(Some(CustomTag { tag, value }))
}

/// No filter of this proxy leaves metadata with a request: what it would say is never there.
fn read_metadata(
    cx: &mut Context,
    tag: std::sync::Arc<str>,
    message: &pb::custom_tag::Metadata,
) -> Result<Option<CustomTag>> {
    let pb::custom_tag::Metadata { kind, metadata_key, default_value } = message;
    use metadata::metadata_kind::Kind;
    if let Some(metadata::MetadataKind { kind: Some(Kind::Route(_) | Kind::Cluster(_) | Kind::Host(_)) }) =
        kind
    {
        return Err(cx.refused_field("kind", "the metadata of routes, clusters and hosts is not read"));
    }
    let reason = "no filter leaves metadata with a request: only the default value is written";
    cx.report_set("kind", kind, reason);
    cx.report_set("metadata_key", metadata_key, reason);
    let default = name(cx, "default_value", default_value)?;
    Ok((!default.is_empty()).then_some(CustomTag { tag, value: TagValue::Literal(default) }))
}
