use super::*;
use crate::testing::{labels, world};
use crate::world::Change;

fn telemetry(place: &str, rest: &str) -> String {
    let (namespace, name) = place.split_once('/').unwrap();
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {rest}\n"
    )
}

/// A World with Telemetries and settings of the mesh.
fn with_mesh(all: &[(&str, &str)], mesh: &str) -> World {
    let texts: Vec<String> = all.iter().map(|(place, rest)| telemetry(place, rest)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (mesh, problems) = api::parse_mesh_config("mesh.yaml", mesh.as_bytes());
    assert!(!problems.iter().any(api::Problem::is_error), "{problems:?}");
    world(&texts).with(&[Change::Mesh(mesh.unwrap().into())])
}

fn in_force(world: &World) -> Vec<&Arc<Resource<Telemetry>>> {
    telemetries(world, "production", &labels(&[("app", "payment")]))
}

#[test]
fn the_mesh_then_the_namespace_then_the_workload() {
    let world = with_mesh(
        &[
            ("production/workload", "{selector: {matchLabels: {app: payment}}}"),
            ("production/other", "{selector: {matchLabels: {app: other}}}"),
            ("production/attached", "{targetRefs: [{kind: Gateway, name: g}]}"),
            ("production/b", "{}"),
            ("production/a", "{}"),
            ("istio-system/mesh", "{}"),
            ("istio-system/selective", "{selector: {matchLabels: {app: payment}}}"),
            ("elsewhere/c", "{}"),
        ],
        "{}",
    );
    let names: Vec<&str> = in_force(&world).iter().map(|it| it.meta.name.as_str()).collect();
    assert_eq!(names, ["mesh", "a", "workload"]);
    let of_the_root = telemetries(&world, "istio-system", &labels(&[("app", "payment")]));
    assert_eq!(of_the_root.iter().map(|it| it.meta.name.as_str()).collect::<Vec<_>>(), ["mesh", "selective"]);
}

fn merged(all: &[(&str, &str)], mesh: &str, side: WorkloadMode) -> Vec<String> {
    let world = with_mesh(all, mesh);
    let found = in_force(&world);
    let merged = metrics(world.mesh(), &found, side);
    let shown = merged.iter().map(|(provider, it)| {
        let overrides = it.overrides.iter().map(|(name, change)| {
            let tags: Vec<String> =
                change.tags.iter().map(|(tag, value)| format!("{tag}={}", value.value)).collect();
            format!("{name}{}{tags:?}", if change.disabled { "!" } else { "" })
        });
        let overrides: Vec<String> = overrides.collect();
        format!("{provider}{} {}", if it.disabled { "!" } else { "" }, overrides.join(" "))
    });
    shown.collect()
}

const CLIENT: WorkloadMode = WorkloadMode::Client;
const SERVER: WorkloadMode = WorkloadMode::Server;

#[test]
fn without_telemetry_the_default_providers_count() {
    assert_eq!(merged(&[], "{}", CLIENT), ["prometheus "]);
    assert_eq!(merged(&[], "{defaultProviders: {metrics: []}}", CLIENT), Vec::<String>::new());
    assert_eq!(merged(&[], "{defaultProviders: {metrics: [a, b]}}", CLIENT), ["a ", "b "]);
    assert_eq!(merged(&[("production/a", "{metrics: [{}]}")], "{}", SERVER), ["prometheus "]);
}

#[test]
fn overrides_add_up_from_level_to_level() {
    let mesh = "{metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {a: {value: '1'}, b: {value: '2'}}}]}]}";
    let namespace = "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, tagOverrides: {b: {value: '3'}}}, {match: {metric: REQUEST_SIZE}, disabled: true}]}]}";
    let all = [("istio-system/m", mesh), ("production/n", namespace)];
    assert_eq!(merged(&all, "{}", CLIENT), ["prometheus request_bytes![] requests_total[\"a=1\", \"b=3\"]"]);
    assert_eq!(merged(&all, "{}", SERVER), ["prometheus request_bytes![] requests_total[\"a=1\", \"b=2\"]"]);
}

#[test]
fn providers_below_replace_those_above() {
    let all = [
        ("istio-system/m", "{metrics: [{providers: [{name: prometheus}], overrides: [{disabled: true}]}]}"),
        ("production/n", "{metrics: [{providers: [{name: other}]}]}"),
    ];
    assert_eq!(merged(&all, "{}", CLIENT), ["other "]);
}

#[test]
fn what_is_disabled_whole_stays_so_until_one_metric_is_enabled() {
    let off = ("istio-system/m", "{metrics: [{overrides: [{disabled: true}]}]}");
    assert_eq!(merged(&[off], "{}", CLIENT), ["prometheus! "]);
    let server =
        "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}, disabled: false}]}]}";
    let all = [off, ("production/n", server)];
    assert_eq!(merged(&all, "{}", CLIENT), ["prometheus! "]);
    assert_eq!(merged(&all, "{}", SERVER), ["prometheus requests_total[]"]);
}

fn logs(all: &[(&str, &str)], mesh: &str, side: WorkloadMode) -> Option<Vec<String>> {
    let world = with_mesh(all, mesh);
    let found = in_force(&world);
    let merged = access_logging(world.mesh(), &found, side)?;
    let shown = merged.iter().map(|(provider, it)| {
        let filter = it.filter.map(|filter| filter.expression.as_str()).unwrap_or_default();
        format!("{provider}{} {filter}", if it.disabled { "!" } else { "" })
    });
    Some(shown.collect())
}

#[test]
fn access_logs_by_provider() {
    assert_eq!(logs(&[], "{}", CLIENT), None);
    assert_eq!(logs(&[("production/a", "{metrics: [{}]}")], "{}", CLIENT), None);
    assert_eq!(
        logs(&[], "{defaultProviders: {accessLogging: [envoy]}}", CLIENT),
        Some(vec!["envoy ".into()])
    );
    let mesh =
        ("istio-system/m", "{accessLogging: [{providers: [{name: envoy}], filter: {expression: 'true'}}]}");
    assert_eq!(logs(&[mesh], "{}", CLIENT), Some(vec!["envoy true".into()]));
    let off = ("production/n", "{accessLogging: [{disabled: true, match: {mode: CLIENT}}]}");
    assert_eq!(logs(&[mesh, off], "{}", CLIENT), Some(vec!["envoy! ".into()]));
    assert_eq!(logs(&[mesh, off], "{}", SERVER), Some(vec!["envoy true".into()]));
    let other = ("production/n", "{accessLogging: [{providers: [{name: other}]}]}");
    assert_eq!(logs(&[mesh, other], "{}", CLIENT), Some(vec!["other ".into()]));
    let narrower = ("production/n", "{accessLogging: [{filter: {expression: '!false'}}]}");
    assert_eq!(logs(&[mesh, narrower], "{}", CLIENT), Some(vec!["envoy !false".into()]));
}
