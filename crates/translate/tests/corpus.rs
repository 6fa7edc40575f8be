//! An external check: AuthorizationPolicies with the Envoy RBAC that Istio makes of them, and PeerAuthentications with
//! what they deny. The files are no part of this repository; where they are not there, nothing is checked.
//!
//! Both sides are brought to one plain text per rule (what may call, what may be called) and these are compared: the
//! meaning is compared, not the shape.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking, its helpers too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use api::MeshConfig;
use api::kinds::peer_authentication::MutualTlsMode;
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use protos::envoy::google::protobuf::Struct;
use protos::json::Pool;
use serde_json::{Value, json};
use translate::kinds::authorization_policy;
use translate::{Change, ProxyNode, Scope, World, merge};

fn corpus(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus").join(folder);
    path.is_dir().then_some(path)
}

/// The World of a file, or why it is not read.
fn world(path: &Path, mesh: MeshConfig) -> Result<World, String> {
    let parsed = api::parse("in.yaml", &fs::read(path).unwrap(), "foo");
    match parsed.problems.iter().find(|problem| problem.is_error()) {
        Some(problem) => Err(problem.to_string()),
        None => {
            let changes: Vec<Change> = parsed.objects.into_iter().map(Change::Apply).collect();
            Ok(World::empty(mesh).with(&changes))
        }
    }
}

fn httpbin(pool: &Pool) -> ProxyNode {
    let node = json!({
        "id": "sidecar~127.10.0.2~httpbin.foo~foo.svc.cluster.local",
        "user_agent_name": "tulle-proxy",
        "metadata": {
            "NAMESPACE": "foo", "WORKLOAD_NAME": "httpbin", "SERVICE_ACCOUNT": "httpbin",
            "INSTANCE_IPS": "127.10.0.2", "INTERCEPTION_MODE": "NONE",
            "LABELS": {"app": "httpbin", "version": "v1"}
        }
    });
    let node: Node = pool.from_json(&node.to_string()).unwrap();
    ProxyNode::from_node(&node).unwrap()
}

/// Rules by action and name, each in the plain form.
type Plain = BTreeMap<String, String>;

fn plain_rules(rules: &Value, into: &mut Plain) {
    let action = rules["action"].as_str().unwrap_or("ALLOW");
    for (name, policy) in rules["policies"].as_object().into_iter().flatten() {
        let side = |list: &str| {
            let all: BTreeSet<String> = policy[list].as_array().unwrap().iter().map(plain).collect();
            join("or", all)
        };
        let (callers, calls) = (side("principals"), side("permissions"));
        // A rule that nothing can match says nothing.
        if callers != "not any" && calls != "not any" {
            into.insert(format!("{action} {name}"), format!("from {callers} to {calls}"));
        }
    }
    into.entry(format!("{action} at all")).or_default();
}

fn join(word: &str, mut parts: BTreeSet<String>) -> String {
    if word == "and" {
        parts.remove("any");
    }
    match parts.len() {
        0 => "any".to_owned(),
        1 => parts.pop_first().unwrap(),
        _ => format!("({})", parts.into_iter().collect::<Vec<_>>().join(&format!(" {word} "))),
    }
}

/// The parts of an "and", those of "and"s inside it too.
fn conjuncts(value: &Value, into: &mut BTreeSet<String>) {
    for (key, inner) in [("and_rules", "rules"), ("and_ids", "ids")] {
        if let Some(list) = value[key][inner].as_array() {
            list.iter().for_each(|it| conjuncts(it, into));
            return;
        }
    }
    into.insert(plain(value));
}

/// A principal or a permission in the plain form.
fn plain(value: &Value) -> String {
    let (key, inner) = value.as_object().unwrap().iter().next().unwrap();
    match key.as_str() {
        "any" => "any".to_owned(),
        "and_rules" | "and_ids" => {
            let mut parts = BTreeSet::new();
            conjuncts(value, &mut parts);
            join("and", parts)
        }
        "or_rules" | "or_ids" => {
            let list = inner["rules"].as_array().or_else(|| inner["ids"].as_array()).unwrap();
            join("or", list.iter().map(plain).collect())
        }
        "not_rule" | "not_id" => format!("not {}", plain(inner)),
        "authenticated" => format!("peer {}", identity(&inner["principal_name"])),
        "header" => {
            let name = inner["name"].as_str().unwrap().to_ascii_lowercase();
            format!("header {name} {}{}", inner["present_match"], inner["string_match"])
        }
        _ => format!("{key} {inner}"),
    }
}

/// What is asked of a peer's identity: Istio writes with expressions what is also a prefix, a suffix or a part.
fn identity(matcher: &Value) -> String {
    let unescaped = |text: &str| text.replace('\\', "");
    if let Some(regex) = matcher["safe_regex"]["regex"].as_str() {
        if regex == ".+" {
            return "starts spiffe://".to_owned();
        }
        if let Some(part) = regex.strip_prefix(".*").and_then(|it| it.strip_suffix(".*")) {
            return format!("has {}", unescaped(part));
        }
        if let Some(end) = regex.strip_prefix("spiffe://.*") {
            return format!("ends {}", unescaped(end));
        }
        if let Some(start) = regex.strip_suffix("[^/]*/.*") {
            return format!("starts {}", unescaped(start));
        }
    }
    for (key, word) in [("contains", "has"), ("suffix", "ends"), ("prefix", "starts"), ("exact", "is")] {
        if let Some(text) = matcher[key].as_str() {
            return format!("{word} {text}");
        }
    }
    matcher.to_string()
}

/// What a file of Istio's expects, in the plain form; `None` where it speaks of other filters.
fn expected(path: &Path, pool: &Pool) -> Option<Plain> {
    let text = fs::read_to_string(path).unwrap();
    let filter: HttpFilter = pool.from_yaml(&text).ok()?;
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return None };
    let json = pool.any_to_json(any).ok()?;
    let mut found = Plain::new();
    if json["rules"].is_object() {
        plain_rules(&json["rules"], &mut found);
    }
    Some(found)
}

fn made(world: &World, node: &ProxyNode, pool: &Pool) -> Plain {
    let rules = authorization_policy::rules(&Scope::new(world, node));
    let mut found = Plain::new();
    for rbac in [rules.deny, rules.allow].into_iter().flatten() {
        plain_rules(&pool.to_json(&rbac).unwrap(), &mut found);
    }
    found
}

#[test]
fn policies_mean_what_istio_makes_of_them() {
    let Some(folder) = corpus("authz") else { return };
    let pool = Pool::load().unwrap();
    let node = httpbin(&pool);
    let cases: Value = serde_json::from_str(&fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
    let (mut checked, mut skipped, mut failures) = (0, Vec::new(), Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let proto = case["proto"].as_str().unwrap();
        if proto != "http" || case.get("meshConfig").is_some() || name.starts_with("audit") {
            skipped.push(format!("{name}: TCP, CUSTOM and AUDIT do not act yet"));
            continue;
        }
        let aliases = case["trustDomainAliases"].as_array().into_iter().flatten();
        let mesh = MeshConfig {
            trust_domain: case["trustDomain"].as_str().unwrap_or("cluster.local").to_owned(),
            trust_domain_aliases: aliases.map(|it| it.as_str().unwrap().to_owned()).collect(),
            ..Default::default()
        };
        let world = match world(&folder.join(proto).join(case["input"].as_str().unwrap()), mesh) {
            Ok(world) => world,
            Err(reason) => {
                skipped.push(format!("{name}: {reason}"));
                continue;
            }
        };
        let ours = made(&world, &node, &pool);
        let mut theirs = Plain::new();
        for file in case["want"].as_array().unwrap() {
            theirs.extend(expected(&folder.join(proto).join(file.as_str().unwrap()), &pool).unwrap());
        }
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for rule in names {
            let (our, their) = (ours.get(rule), theirs.get(rule));
            if their.is_some_and(|it| it.contains("jwt_authn")) {
                // Tokens are not verified yet: a rule that allows by them must be gone.
                assert!(
                    our.is_none_or(|it| !rule.starts_with("ALLOW") || !it.contains("jwt")),
                    "{name} {rule}"
                );
                skipped.push(format!("{name}: {rule} asks for a token"));
            } else if our == their {
                checked += 1;
            } else {
                failures.push(format!("{name} {rule}\n  Istio {their:?}\n  here  {our:?}"));
            }
        }
    }
    println!("{checked} rules checked, {} skipped:\n{}", skipped.len(), skipped.join("\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked > 0, "nothing was compared");
}

/// Whether a port is denied to plain text by the policy that Istio's ambient mode makes.
fn denies_plain_text(policy: &Value, port: f64) -> bool {
    let has = |matched: &Value, key: &str| {
        matched[key].as_array().is_some_and(|it| it.iter().any(|it| it.as_f64() == Some(port)))
    };
    let holds = |matched: &Value| {
        matched["principals"].is_null()
            && (matched["destinationPorts"].is_null() || has(matched, "destinationPorts"))
            && !has(matched, "notDestinationPorts")
    };
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    all(&policy["groups"])
        .iter()
        .any(|group| all(&group["rules"]).iter().all(|rule| all(&rule["matches"]).iter().any(holds)))
}

#[test]
fn peer_authentications_close_the_ports_that_istio_closes() {
    let Some(folder) = corpus("peer-authn-ambient") else { return };
    let labels = merge::Labels::from([("app".to_owned(), "a".to_owned())]);
    let pool = Pool::load().unwrap();
    let (mut checked, mut skipped, mut failures) = (Vec::new(), 0, Vec::new());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for input in files {
        let name = input.file_name().unwrap().to_string_lossy().into_owned();
        let Some(case) = name.strip_suffix("-in.yaml").filter(|it| it.starts_with("peer-authn")) else {
            continue;
        };
        let world = world(&input, MeshConfig::default()).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let output = fs::read_to_string(folder.join(format!("{case}.yaml"))).unwrap_or_default();
        if output.trim().is_empty() {
            // Strict on every port: Istio has a policy for that which is not in the files.
            skipped += 1;
            continue;
        }
        let policy: Struct = pool.from_yaml(&output).unwrap();
        let policy = pool.to_json(&policy).unwrap();
        for port in [8080u16, 9090, 1234] {
            let strict = merge::mutual_tls_mode(&world, "foo", &labels, port) == MutualTlsMode::Strict;
            if strict != denies_plain_text(&policy, f64::from(port)) {
                failures.push(format!("{case} port {port}: here STRICT is {strict}"));
            }
        }
        checked.push(case.to_owned());
    }
    println!("{} sets checked, {skipped} skipped: {}", checked.len(), checked.join(", "));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!checked.is_empty(), "nothing was compared");
}
