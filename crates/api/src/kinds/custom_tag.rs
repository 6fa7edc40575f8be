//! Tags of spans, in Telemetry and in a proxy's configuration.

use serde::Deserialize;

/// Where the value of a tag comes from; exactly one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// A fixed text.
    pub literal: Option<Literal>,
    /// A variable of the proxy's environment.
    pub environment: Option<NameWithDefault>,
    /// A header of the request.
    pub header: Option<NameWithDefault>,
    /// A format of access logs (`%REQ(:METHOD)%`).
    pub formatter: Option<Literal>,
}

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Literal {
    /// The text.
    pub value: String,
}

/// A variable or header with what counts when it is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NameWithDefault {
    /// Its name.
    pub name: String,
    /// Its value when it is absent; empty: no tag.
    pub default_value: String,
}
