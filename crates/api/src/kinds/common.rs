//! Messages that several kinds share: string matches, percentages, selectors, references.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// How a text must look. Istio's `StringMatch`: one of `exact`, `prefix`, `regex`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StringMatchFields")]
pub enum StringMatch {
    /// `{}`: the value only has to be present (header and query parameter matches).
    #[default]
    Present,
    /// Equal, with case.
    Exact(String),
    /// Starts with these characters (no path segments: `/foo` matches `/foobar`).
    Prefix(String),
    /// The whole text matches this RE2 expression.
    Regex(String),
}

#[derive(Deserialize, Default)]
#[serde(rename = "StringMatch", rename_all = "camelCase", default)]
struct StringMatchFields {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

impl TryFrom<StringMatchFields> for StringMatch {
    type Error = &'static str;
    fn try_from(fields: StringMatchFields) -> Result<Self, Self::Error> {
        match (fields.exact, fields.prefix, fields.regex) {
            (None, None, None) => Ok(StringMatch::Present),
            (Some(text), None, None) => Ok(StringMatch::Exact(text)),
            (None, Some(text), None) => Ok(StringMatch::Prefix(text)),
            (None, None, Some(text)) => Ok(StringMatch::Regex(text)),
            _ => Err("more than one of exact, prefix, regex is given: keep one"),
        }
    }
}

/// A share in percent, 0 to 100, fractions allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// 0.0 to 100.0.
    pub value: f64,
}

/// A port by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u32,
}

/// Workloads by label (`istio.type.v1beta1.WorkloadSelector`); empty selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Every one of these must be a label of the workload, with exactly this value.
    pub match_labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// Whether a workload with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// The resource a policy is attached to (Gateway API style).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTargetReference {
    /// API group; empty for core.
    pub group: String,
    /// Kind, such as `Gateway` or `Service`.
    pub kind: String,
    /// Name of the resource.
    pub name: String,
    /// Namespace; only the policy's own is allowed.
    pub namespace: String,
}

/// Kubernetes' `LabelSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be equal.
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions; all must hold.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One condition of a [`LabelSelector`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// Values for `In` and `NotIn`.
    pub values: Vec<String>,
}

/// A port number or the name of a port (Kubernetes' `IntOrString`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    Name(String),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a name")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(number))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::Name(name.to_string()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
