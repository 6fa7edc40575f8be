//! Traces: what Telemetry and MeshConfig come to for one workload and one side.
//!
//! Of several blocks the later ones override field by field; tags are replaced as a whole; only the first provider of a
//! list counts. Without Telemetry and default providers the older fields of MeshConfig decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Resource;
use api::kinds::custom_tag::CustomTag;
use api::kinds::extension_provider::ExtensionProvider;
use api::kinds::mesh_config::{MeshConfig, Provider};
use api::kinds::proxy_config;
use api::kinds::telemetry::{Telemetry, WorkloadMode};

/// Per cent of requests that are traced where nobody says.
const SAMPLING: f64 = 1.0;

/// What is traced on one side of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedTracing<'w> {
    /// Who gets the spans.
    pub provider: TracingProvider<'w>,
    /// Per cent of the requests that nobody sampled before.
    pub sampling: f64,
    /// Tags by name.
    pub custom_tags: BTreeMap<&'w str, &'w CustomTag>,
    /// The request's id decides with.
    pub use_request_id: bool,
    /// Istio's own tags.
    pub istio_tags: bool,
    /// The context is not sent on.
    pub no_context_propagation: bool,
    /// Bytes of the path in a tag, where somebody says.
    pub max_path_tag_length: Option<u32>,
}

/// Who gets the spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TracingProvider<'w> {
    /// An extension provider.
    Extension(&'w ExtensionProvider),
    /// `host:port` of `defaultConfig.tracing.zipkin`.
    Zipkin(&'w str),
}

/// What holds on one side; `side` is `Client` or `Server`. `None`: nothing is traced.
pub fn tracing<'w>(
    mesh: &'w MeshConfig,
    telemetries: &[&'w Arc<Resource<Telemetry>>],
    side: WorkloadMode,
) -> Option<MergedTracing<'w>> {
    let older = mesh.default_config.as_ref().and_then(|it| it.tracing.as_ref());
    let defaults = mesh.default_tracing_providers();
    let blocks: Vec<_> = telemetries.iter().flat_map(|it| &it.spec.tracing).collect();
    if blocks.is_empty() && defaults.is_empty() {
        return older.filter(|_| mesh.enable_tracing()).and_then(legacy);
    }
    let find = |name: &str| match mesh.provider(name) {
        Some(Provider::Defined(provider)) => Some(provider),
        _ => None,
    };
    let mut provider = defaults.first().and_then(|name| find(name));
    let (mut disabled, mut sampling, mut tags) = (false, None, None);
    let (mut use_request_id, mut istio_tags, mut no_context_propagation) = (true, true, false);
    for block in blocks.iter().filter(|it| it.selector.unwrap_or_default().mode.includes(side)) {
        if let Some(first) = block.providers.first() {
            provider = find(&first.name);
        }
        disabled = block.disable_span_reporting.unwrap_or(disabled);
        sampling = block.random_sampling_percentage.or(sampling);
        use_request_id = block.use_request_id_for_trace_sampling.unwrap_or(use_request_id);
        istio_tags = block.enable_istio_tags.unwrap_or(istio_tags);
        no_context_propagation = block.disable_context_propagation.unwrap_or(no_context_propagation);
        if !block.custom_tags.is_empty() {
            tags = Some(&block.custom_tags);
        }
    }
    let provider = provider.filter(|_| !disabled)?;
    let of_provider = match (&provider.zipkin, &provider.opentelemetry) {
        (Some(zipkin), _) => zipkin.max_tag_length,
        (_, Some(otel)) => otel.max_tag_length,
        (None, None) => return None,
    };
    let tags = tags.or(older.map(|older| &older.custom_tags));
    Some(MergedTracing {
        provider: TracingProvider::Extension(provider),
        sampling: sampling.unwrap_or_else(|| older.map_or(SAMPLING, older_sampling)),
        custom_tags: tags.map(by_name).unwrap_or_default(),
        use_request_id,
        istio_tags,
        no_context_propagation,
        max_path_tag_length: of_provider.filter(|length| *length != 0).or(older.and_then(older_length)),
    })
}

/// What `defaultConfig.tracing` says alone: nothing where it names no collector.
fn legacy(older: &proxy_config::Tracing) -> Option<MergedTracing<'_>> {
    let address = older.zipkin.as_ref().map(|zipkin| zipkin.address.as_str()).filter(|it| !it.is_empty())?;
    Some(MergedTracing {
        provider: TracingProvider::Zipkin(address),
        sampling: older_sampling(older),
        custom_tags: by_name(&older.custom_tags),
        use_request_id: true,
        istio_tags: older.enable_istio_tags.unwrap_or(true),
        no_context_propagation: false,
        max_path_tag_length: older_length(older),
    })
}

/// 0 means that nothing is said, and what is above 100 means Istio's default.
fn older_sampling(older: &proxy_config::Tracing) -> f64 {
    if older.sampling > 0.0 && older.sampling <= 100.0 { older.sampling } else { SAMPLING }
}

fn older_length(older: &proxy_config::Tracing) -> Option<u32> {
    Some(older.max_path_tag_length).filter(|length| *length != 0)
}

fn by_name(tags: &BTreeMap<String, CustomTag>) -> BTreeMap<&str, &CustomTag> {
    tags.iter().map(|(name, tag)| (name.as_str(), tag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{labels, world};
    use crate::world::Change;

    const PROVIDERS: &str = "extensionProviders: [{name: a, opentelemetry: {service: otel, port: 4317, maxTagLength: 99}}, {name: b, zipkin: {service: zipkin, port: 9411}}]";

    /// What the client's side comes to, in short.
    fn merged(mesh: &str, all: &[(&str, &str)], side: WorkloadMode) -> Option<String> {
        let texts: Vec<String> = all
            .iter()
            .map(|(place, tracing)| {
                let (namespace, name) = place.split_once('/').unwrap();
                format!(
                    "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{tracing: {tracing}}}\n"
                )
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (mesh, problems) = api::parse_mesh_config("mesh.yaml", format!("{{{mesh}}}").as_bytes());
        assert!(!problems.iter().any(api::Problem::is_error), "{problems:?}");
        let world = world(&texts).with(&[Change::Mesh(mesh.unwrap().into())]);
        let found =
            super::super::telemetry::telemetries(&world, "production", &labels(&[("app", "payment")]));
        let it = tracing(world.mesh(), &found, side)?;
        let provider = match it.provider {
            TracingProvider::Extension(provider) => &provider.name,
            TracingProvider::Zipkin(address) => address,
        };
        let tags: Vec<&str> = it.custom_tags.keys().copied().collect();
        let off = if it.istio_tags { "" } else { " bare" };
        let length = it.max_path_tag_length.unwrap_or_default();
        Some(format!("{provider} {}% {length} {}{off}", it.sampling, tags.join("+")))
    }

    #[test]
    fn the_lower_level_overrides_field_by_field() {
        let mesh = (
            "istio-system/m",
            "[{providers: [{name: a}], randomSamplingPercentage: 10, customTags: {x: {literal: {value: y}}}}]",
        );
        let own = ("production/n", "[{customTags: {z: {literal: {value: y}}}, enableIstioTags: false}]");
        let client = |all: &[(&str, &str)]| merged(PROVIDERS, all, WorkloadMode::Client);
        assert_eq!(client(&[mesh]).unwrap(), "a 10% 99 x");
        assert_eq!(client(&[mesh, own]).unwrap(), "a 10% 99 z bare");
        assert_eq!(client(&[mesh, ("production/n", "[{providers: [{name: b}]}]")]).unwrap(), "b 10% 0 x");
        assert_eq!(client(&[mesh, ("production/n", "[{disableSpanReporting: true}]")]), None);
        assert_eq!(client(&[own]), None, "nobody is named");
        assert_eq!(client(&[]), None);
        let defaults = format!("{PROVIDERS}, defaultProviders: {{tracing: [b]}}");
        assert_eq!(merged(&defaults, &[], WorkloadMode::Server).unwrap(), "b 1% 0 ");
    }

    #[test]
    fn a_block_may_hold_on_one_side() {
        let both = (
            "istio-system/m",
            "[{providers: [{name: a}]}, {match: {mode: SERVER}, randomSamplingPercentage: 0}]",
        );
        assert_eq!(merged(PROVIDERS, &[both], WorkloadMode::Client).unwrap(), "a 1% 99 ");
        assert_eq!(merged(PROVIDERS, &[both], WorkloadMode::Server).unwrap(), "a 0% 99 ");
    }

    #[test]
    fn older_fields_count_where_nothing_else_is_said() {
        let older = "defaultConfig: {tracing: {zipkin: {address: 'zipkin.istio-system:9411'}, sampling: 7, maxPathTagLength: 33}}";
        let client = |mesh: &str| merged(mesh, &[], WorkloadMode::Client);
        assert_eq!(client(older).unwrap(), "zipkin.istio-system:9411 7% 33 ");
        assert_eq!(client(&format!("{older}, enableTracing: false")), None);
        assert_eq!(client("defaultConfig: {tracing: {sampling: 7}}"), None);
        let with = format!("{older}, {PROVIDERS}");
        let block = ("production/n", "[{providers: [{name: b}]}]");
        assert_eq!(merged(&with, &[block], WorkloadMode::Client).unwrap(), "b 7% 33 ");
    }
}
