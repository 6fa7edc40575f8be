//! One document: which kind it is, its metadata, its typed spec, its validation.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::collector::Collector;
use crate::decode::{self, Finding, Null};
use crate::limits;
use crate::object::{Kind, Object, ObjectMeta, Resource};
use crate::origin::{Origin, Position, Positions};
use crate::parse::problem;
use crate::path::{self};
use crate::problem::Level;
use crate::report::Report;
use crate::text::{closest, did_you_mean, one_of, quote};
use crate::tree::{Entry, Node, Value};
use crate::validate;

/// What all documents of a file share.
pub struct Place<'a> {
    /// The file.
    pub file: Arc<str>,
    /// Namespace of a resource that names none.
    pub default_namespace: &'a str,
}

/// Reads one document into `found`; the items of a `List` one by one.
pub fn read(node: &Node, place: &Place<'_>, found: &mut Collector) {
    if node.is_null() {
        return;
    }
    match list_items(node) {
        Some(items) => items.iter().for_each(|item| read_resource(item, place, found)),
        None => read_resource(node, place, found),
    }
}

/// The items, when this is a `List` of `v1`. One without items is no list, and refused further on.
fn list_items(node: &Node) -> Option<&[Node]> {
    if text(node.get("kind")?)? != "List" || text(node.get("apiVersion")?)? != "v1" {
        return None;
    }
    match &node.get("items")?.value.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// The text of a scalar that is not null.
fn text(entry: &Entry) -> Option<&str> {
    match &entry.value.value {
        Value::Scalar(text, _) if !entry.value.is_null() => Some(text),
        _ => None,
    }
}

fn read_resource(node: &Node, place: &Place<'_>, found: &mut Collector) {
    if found.is_full() {
        return;
    }
    let refuse = |found: &mut Collector, at: Position, message: &str, suggestion: &str| {
        found.problem(problem(&place.file, at, message.into(), Some(suggestion.into())));
    };
    if !matches!(node.value, Value::Map(_)) {
        return refuse(
            found,
            node.at,
            "a resource is a map, and this is not",
            "start with apiVersion: and kind:",
        );
    }
    let Some(kind) = node.get("kind").and_then(text) else {
        return refuse(found, node.at, "the resource has no kind", "add kind: and apiVersion:");
    };
    let Some(version) = node.get("apiVersion").and_then(text) else {
        return refuse(found, node.at, "the resource has no apiVersion", "add apiVersion:");
    };
    if kind == "List" && version == "v1" {
        return refuse(
            found,
            node.at,
            "this List has no items, or stands inside of another",
            "give it a list of items",
        );
    }
    let head = Head::new(node, place, kind, version);
    match head.recognise() {
        Ok(kind) => head.read(kind, found),
        Err((level, field, message, suggestion)) => {
            let mut report = head.report();
            report.add(level, field, message, suggestion);
            found.problems(report.into_problems());
        }
    }
}

/// What is known of a document before its kind is understood.
struct Head<'a> {
    node: &'a Node,
    kind: &'a str,
    version: &'a str,
    name: &'a str,
    namespace: &'a str,
    origin: Origin,
}

type Unrecognised = (Level, &'static str, String, Option<String>);

impl<'a> Head<'a> {
    fn new(node: &'a Node, place: &'a Place<'_>, kind: &'a str, version: &'a str) -> Self {
        let meta = |key| node.get("metadata").and_then(|entry| entry.value.get(key)).and_then(text);
        let namespace = meta("namespace").unwrap_or(place.default_namespace);
        let origin = Origin::new(place.file.clone(), node.at, positions(node));
        Head { node, kind, version, name: meta("name").unwrap_or_default(), namespace, origin }
    }

    fn report(&self) -> Report<'_> {
        let namespace = if self.kind == Kind::Namespace.as_str() { "" } else { self.namespace };
        Report::new(self.kind, namespace, self.name, &self.origin)
    }

    /// The kind, or what to say of one that is not read.
    fn recognise(&self) -> Result<Kind, Unrecognised> {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let group =
            |version: &str| version.split_once('/').map_or(String::new(), |(group, _)| group.to_string());
        let Some(kind) = Kind::parse(self.kind) else {
            let message = format!("kind {} is not read by Tulle yet: ignored", quote(self.kind));
            let near = closest(self.kind, known.iter().copied()).and_then(Kind::parse);
            let misspelt = near.filter(|near| {
                near.api_versions().iter().any(|version| group(version) == group(self.version))
            });
            return Err(match misspelt {
                Some(near) => (Level::Warning, "kind", message, Some(format!("did you mean \"{near}\"?"))),
                None => (Level::Info, "kind", message, None),
            });
        };
        let versions = kind.api_versions();
        if versions.contains(&self.version) {
            return Ok(kind);
        }
        let own = group(versions[0]);
        if group(self.version) == own {
            let message =
                format!("{kind} of {} is not known; expected {}", quote(self.version), one_of(versions));
            return Err((
                Level::Error,
                "apiVersion",
                message,
                did_you_mean(self.version, versions.iter().copied()),
            ));
        }
        // Other projects have kinds of the same name (a Service of Knative, a VirtualService of App Mesh).
        let message = format!("{kind} of {} is not read by Tulle yet: ignored", quote(self.version));
        match did_you_mean(self.version, versions.iter().copied()) {
            Some(suggestion) => Err((Level::Warning, "apiVersion", message, Some(suggestion))),
            None => Err((Level::Info, "apiVersion", message, None)),
        }
    }

    fn read(&self, kind: Kind, found: &mut Collector) {
        match kind {
            Kind::Service => self.typed(found, Object::Service, validate::service),
            Kind::Namespace => self.typed(found, Object::Namespace, |_, _| ()),
            Kind::WorkloadEntry => self.typed(found, Object::WorkloadEntry, validate::workload_entry),
            Kind::VirtualService => self.typed(found, Object::VirtualService, validate::virtual_service),
            Kind::DestinationRule => self.typed(found, Object::DestinationRule, validate::destination_rule),
            Kind::PeerAuthentication => {
                self.typed(found, Object::PeerAuthentication, validate::peer_authentication)
            }
            Kind::AuthorizationPolicy => {
                self.typed(found, Object::AuthorizationPolicy, validate::authorization_policy);
            }
            Kind::Telemetry => self.typed(found, Object::Telemetry, validate::telemetry),
        }
    }

    /// Reads metadata and spec, validates them, and keeps the resource when nothing refuses it.
    fn typed<S: DeserializeOwned + Default>(
        &self,
        found: &mut Collector,
        wrap: fn(Arc<Resource<S>>) -> Object,
        validate: fn(&Resource<S>, &mut Report<'_>),
    ) {
        let mut report = self.report();
        let mut findings = self.unknown_top_level();
        let meta = self.part::<ObjectMeta>("metadata", Null::Absent, &mut findings);
        let null = if self.kind == Kind::AuthorizationPolicy.as_str() { Null::Refused } else { Null::Absent };
        let spec = self.part::<S>("spec", null, &mut findings);
        // A misspelt field is missing where it belongs: validation would only tell that again.
        let readable = findings.is_empty();
        for finding in findings {
            report.add_at(Level::Error, &finding.field, finding.at, finding.message, finding.suggestion);
        }
        if let (Some(mut meta), Some(spec), true) = (meta, spec, readable) {
            let cluster_wide = self.kind == Kind::Namespace.as_str();
            meta.namespace = if cluster_wide { String::new() } else { self.namespace.to_string() };
            let resource = Resource { meta, spec, origin: self.origin.clone() };
            validate::metadata(&resource.meta, cluster_wide, &mut report);
            validate(&resource, &mut report);
            if !report.has_errors() {
                found.object(wrap(Arc::new(resource)));
            }
        }
        found.problems(report.into_problems());
    }

    /// One part of the document, or what is wrong with it; absent means default.
    fn part<T: DeserializeOwned + Default>(
        &self,
        field: &str,
        null: Null,
        findings: &mut Vec<Finding>,
    ) -> Option<T> {
        let Some(entry) = self.node.get(field).filter(|entry| !entry.value.is_null()) else {
            return Some(T::default());
        };
        match decode::decode(&entry.value, field, null) {
            Ok(value) => Some(value),
            Err(mut wrong) => {
                findings.append(&mut wrong);
                None
            }
        }
    }

    fn unknown_top_level(&self) -> Vec<Finding> {
        // `status` is written by control planes and copied with the resource; nobody asks for anything with it.
        const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
        let Value::Map(entries) = &self.node.value else { return Vec::new() };
        let unknown = entries.iter().filter(|entry| !KNOWN.contains(&&*entry.key));
        unknown
            .take(limits::PROBLEMS)
            .map(|entry| Finding {
                field: path::key("", &entry.key),
                at: entry.at,
                message: format!("unknown field {}", quote(&entry.key)),
                suggestion: did_you_mean(&entry.key, KNOWN),
            })
            .collect()
    }
}

/// Places of all fields of a document, in the order of the file.
pub fn positions(node: &Node) -> Positions {
    let mut written = Vec::new();
    collect(node, &mut String::new(), &mut written);
    Positions::new(written)
}

fn collect(node: &Node, path: &mut String, written: &mut Vec<(Box<str>, Position)>) {
    let length = path.len();
    let mut child = |path: &mut String, at: Position, node: &Node| {
        if path.len() <= limits::PATH_BYTES {
            written.push((path.as_str().into(), at));
            collect(node, path, written);
        }
        path.truncate(length);
    };
    match &node.value {
        Value::Scalar(..) => {}
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                path::push_index(path, index);
                child(path, item.at, item);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                path::push_key(path, &entry.key);
                child(path, entry.at, &entry.value);
            }
        }
    }
}
