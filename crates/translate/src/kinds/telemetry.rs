//! Telemetry: what a user must be told. What several come to is in [`crate::merge::telemetry`].

use api::Resource;
use api::kinds::telemetry::{ProviderRef, Telemetry};

use crate::merge::telemetry;
use crate::note::{About, Note};
use crate::world::World;

/// What a user must be told about a Telemetry.
pub fn verdict(world: &World, resource: &Resource<Telemetry>, notes: &mut Vec<Note>) {
    let meta = &resource.meta;
    let mut about = About::new("Telemetry", &meta.namespace, &meta.name, notes);
    let spec = &resource.spec;
    if telemetry::is_attached(spec) {
        let field = if spec.target_ref.is_some() { "spec.targetRef" } else { "spec.targetRefs" };
        about.warning(field, "only gateways and waypoints are targets; this version has sidecars only");
        return;
    }
    if spec.selector.as_ref().is_none_or(|it| it.match_labels.is_empty()) {
        let first = telemetry::wide(world, &meta.namespace).filter(|first| first.meta.name != meta.name);
        if let Some(first) = first {
            let reason =
                format!("Telemetry {} without selector comes first and counts alone", first.meta.name);
            about.warning("spec", reason);
            return;
        }
    }
    let tracing =
        spec.tracing.iter().enumerate().map(|(at, it)| (format!("spec.tracing[{at}]"), &it.providers));
    let metrics =
        spec.metrics.iter().enumerate().map(|(at, it)| (format!("spec.metrics[{at}]"), &it.providers));
    let logs = spec
        .access_logging
        .iter()
        .enumerate()
        .map(|(at, it)| (format!("spec.accessLogging[{at}]"), &it.providers));
    for (field, providers) in tracing.chain(metrics).chain(logs) {
        unknown(world, &field, providers, &mut about);
    }
}

/// Providers that nobody defined.
fn unknown(world: &World, field: &str, providers: &[ProviderRef], about: &mut About<'_>) {
    for (at, provider) in providers.iter().enumerate() {
        if world.mesh().provider(&provider.name).is_none() {
            let reason = format!(
                "no provider \"{}\" is among the mesh's extensionProviders: nothing is sent to it",
                provider.name
            );
            about.warning(format!("{field}.providers[{at}].name"), reason);
        }
    }
}
