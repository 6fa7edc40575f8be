//! `AuthorizationPolicy` (security.istio.io): who may call what.

use serde::Deserialize;

use super::common::{PolicyTargetReference, WorkloadSelector};

/// The spec of an AuthorizationPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// Workloads it applies to; unset: all of the namespace (root namespace: of the mesh).
    pub selector: Option<WorkloadSelector>,
    /// Older spelling of one `targetRefs` entry.
    pub target_ref: Option<PolicyTargetReference>,
    /// Gateways or services it is attached to.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Any rule may match. `ALLOW` with none denies everything; one empty rule matches everything.
    pub rules: Vec<Rule>,
    /// What a match means.
    pub action: Action,
    /// Provider of a `CUSTOM` action.
    pub provider: Option<ExtensionProviderReference>,
}

/// What a match means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// Let it pass; with one such policy in place, what none allows is denied.
    #[default]
    Allow,
    /// Deny it; wins over `ALLOW`.
    Deny,
    /// Note it.
    Audit,
    /// Ask a provider.
    Custom,
}

/// Names an entry of MeshConfig's `extensionProviders`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProviderReference {
    /// Name of the provider.
    pub name: String,
}

/// One rule: some `from`, some `to` and every `when` must match; an absent part matches anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Sources; one must match.
    pub from: Vec<RuleFrom>,
    /// Operations; one must match.
    pub to: Vec<RuleTo>,
    /// Further conditions; all must hold.
    pub when: Vec<Condition>,
}

/// Wraps a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleFrom {
    /// The source.
    pub source: Option<Source>,
}

/// Wraps an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleTo {
    /// The operation.
    pub operation: Option<Operation>,
}

/// Who calls. Fields are ANDed; within a list one must match, of a `not` list none may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// `trust-domain/ns/NAMESPACE/sa/ACCOUNT` of the caller's certificate.
    pub principals: Vec<String>,
    /// None of these.
    pub not_principals: Vec<String>,
    /// `issuer/subject` of the caller's token.
    pub request_principals: Vec<String>,
    /// None of these.
    pub not_request_principals: Vec<String>,
    /// Namespace of the caller's certificate.
    pub namespaces: Vec<String>,
    /// None of these.
    pub not_namespaces: Vec<String>,
    /// Address of the connection: IP or CIDR.
    pub ip_blocks: Vec<String>,
    /// None of these.
    pub not_ip_blocks: Vec<String>,
    /// Address of the first client, as trusted proxies tell it.
    pub remote_ip_blocks: Vec<String>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<String>,
    /// `namespace/account` or `account` of the policy's namespace.
    pub service_accounts: Vec<String>,
    /// None of these.
    pub not_service_accounts: Vec<String>,
    /// Trust domain of the caller's certificate.
    pub trust_domains: Vec<String>,
    /// None of these.
    pub not_trust_domains: Vec<String>,
}

/// What is called. Fields are ANDed; within a list one must match, of a `not` list none may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// `Host` of the request, without case; a port is part of it.
    pub hosts: Vec<String>,
    /// None of these.
    pub not_hosts: Vec<String>,
    /// Ports of the workload, as text.
    pub ports: Vec<String>,
    /// None of these.
    pub not_ports: Vec<String>,
    /// HTTP methods.
    pub methods: Vec<String>,
    /// None of these.
    pub not_methods: Vec<String>,
    /// Normalised path without query.
    pub paths: Vec<String>,
    /// None of these.
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Attribute, such as `request.headers[x-user]`.
    pub key: String,
    /// One must match.
    pub values: Vec<String>,
    /// None may match.
    pub not_values: Vec<String>,
}
