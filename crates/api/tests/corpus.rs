//! Real configuration: the project's own examples, and Istio's from outside the project: what upstream accepts is accepted, what it rejects is rejected.
//! Where the corpus is absent the tests pass and say so.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::{Kind, Level, Parsed};

/// The corpus beside the workspace, where there is one.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no corpus at {}", path.display());
    None
}

/// All YAML files below a directory, in order.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
}

fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all
}

/// The document without its `_err` note, which is not part of the resource.
fn without_note(document: &str) -> String {
    let mut kept = String::new();
    let mut in_note = false;
    for line in document.lines() {
        in_note = line.starts_with("_err") || (in_note && line.starts_with([' ', '\t']));
        if !in_note {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn kind_of(document: &str) -> Option<Kind> {
    let name = document.lines().find_map(|line| line.strip_prefix("kind: "))?;
    Kind::parse(name.trim())
}

fn errors(parsed: &Parsed) -> Vec<String> {
    let errors = parsed.problems.iter().filter(|problem| problem.level == Level::Error);
    errors.map(ToString::to_string).collect()
}

#[test]
fn the_examples_of_the_project_are_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut found = Vec::new();
    files(&examples, &mut found);
    for file in &found {
        let (name, bytes) = (file.display().to_string(), std::fs::read(file).expect("a file"));
        let problems = if name.ends_with("/mesh.yaml") {
            api::parse_mesh_config(&name, &bytes).1
        } else {
            api::parse(&name, &bytes, "default").problems
        };
        assert!(problems.is_empty(), "{problems:?}");
    }
    assert!(!found.is_empty());
}

#[test]
fn crd_validation() {
    let Some(corpus) = corpus() else { return };
    let mut found = Vec::new();
    files(&corpus.join("crd-validation"), &mut found);
    let (mut judged, mut skipped, mut wrong) = (0, 0, Vec::new());
    for file in found {
        let name = file.display().to_string();
        let valid = name.ends_with("-valid.yaml");
        for document in documents(&std::fs::read_to_string(&file).expect("text")) {
            if kind_of(&document).is_none() {
                skipped += 1;
                continue;
            }
            judged += 1;
            let parsed = api::parse(&name, without_note(&document).as_bytes(), "default");
            let errors = errors(&parsed);
            if errors.is_empty() != valid || parsed.objects.is_empty() == valid {
                wrong.push(format!("{name}: expected valid={valid}: {errors:?}\n{document}"));
            }
        }
    }
    println!("crd-validation: {judged} documents judged, {skipped} of kinds not read skipped");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(judged > 0);
}

/// Inputs of the corpus that Kubernetes or Istio would refuse too, or that are no resources: the file's end and why.
const WRONG: [(&str, &str); 11] = [
    ("spire-base.yaml", "values of a Helm chart, no resource"),
    ("spire-east.yaml", "values of a Helm chart, no resource"),
    ("spire-west.yaml", "values of a Helm chart, no resource"),
    ("meshnetworks.yaml", "settings of mesh networks, no resource"),
    ("rule-websocket-route.yaml", "websocketUpgrade was removed from VirtualService long ago"),
    ("condition-analyzer.yaml", "a Service without ports"),
    ("deployment-multi-service.yaml", "protocol: HTTP in a Service"),
    ("service-no-port-name-system-namespace.yaml", "two ports without names in a Service"),
    ("k8sgateway-selector.yaml", "a Telemetry with a selector and a targetRef, which the CRD refuses"),
    ("virtualservice_destinationhosts.yaml", "protocol: HTTP in a Service, a destination without host"),
    ("virtualservice_route_rule_no_effects_ingress.yaml", "protocol: HTTP in a Service"),
];

/// Whether the file holds the settings of a mesh rather than resources.
fn is_mesh_config(name: &str) -> bool {
    (name.ends_with("meshconfig.yaml") && !name.ends_with("no-meshconfig.yaml"))
        || name.ends_with("mesh-cfg.yaml")
}

#[test]
fn samples_and_rule_configs_are_accepted() {
    let Some(corpus) = corpus() else { return };
    let mut found = Vec::new();
    for folder in ["samples", "route-and-rule-configs", "authz", "peer-authn-ambient", "analyzers"] {
        files(&corpus.join(folder), &mut found);
    }
    // Expected results beside the inputs are of other kinds.
    let input = |path: &PathBuf| {
        let text = path.display().to_string();
        !(text.contains("/authz/") || text.contains("/peer-authn-ambient/")) || text.ends_with("-in.yaml")
    };
    found.retain(input);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let (mut ignored, mut refused, mut settings, mut wrong) = (0, 0, 0, Vec::new());
    for file in &found {
        let name = file.strip_prefix(&corpus).expect("within the corpus").display().to_string();
        let bytes = std::fs::read(file).expect("a file");
        if is_mesh_config(&name) {
            settings += 1;
            let (config, problems) = api::parse_mesh_config(&name, &bytes);
            wrong.extend(problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string));
            assert!(config.is_some() || !wrong.is_empty());
            continue;
        }
        let parsed = api::parse(&name, &bytes, "default");
        for object in &parsed.objects {
            *kinds.entry(object.kind().to_string()).or_default() += 1;
        }
        ignored += parsed.problems.iter().filter(|problem| problem.level == Level::Info).count();
        let errors = errors(&parsed);
        match WRONG.iter().find(|(end, _)| name.ends_with(end)) {
            Some((_, reason)) if errors.is_empty() => {
                wrong.push(format!("{name} is accepted, though: {reason}"))
            }
            Some(_) => refused += 1,
            None => wrong.extend(errors),
        }
    }
    println!(
        "corpus: {} files ({refused} rightly refused, {settings} mesh settings), {kinds:?}, {ignored} resources of kinds not read",
        found.len()
    );
    assert!(wrong.is_empty(), "{} errors:\n{}", wrong.len(), wrong.join("\n"));
    assert!(kinds.values().sum::<usize>() > 100);
}
