//! Every resource of the users gets one of three answers: accepted, accepted with notes, refused.

use std::collections::BTreeMap;

use api::{Key, Kind, Level, Origin, Problem, Resource};
use serde::Serialize;
use translate::world::{ByName, NamespaceObjects};
use translate::{Note, Severity, World};

use crate::source::{Effect, Reported};

/// The answers, as `/debug/config` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// One for each resource; a refused version of a resource that serves stands once, as refused.
    pub resources: Vec<ResourceVerdict>,
    /// What concerns a file rather than a resource.
    pub files: Vec<FileMessage>,
}

/// The answer to one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceVerdict {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// File that it stands in.
    pub file: String,
    /// Line on which its document starts, or of its first problem where it was refused.
    pub line: u32,
    /// The answer.
    pub verdict: Verdict,
    /// What serves in its place; absent unless it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<&'static str>,
    /// Why.
    pub messages: Vec<Message>,
}

/// One of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It serves as written.
    Accepted,
    /// It serves, and a named part of it does not act, or acts otherwise.
    AcceptedWithNotes,
    /// It does not serve.
    Refused,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `error`, `warning` or `info`.
    pub level: &'static str,
    /// Line; 0 where there is none.
    pub line: u32,
    /// Column; 0 where there is none.
    pub column: u32,
    /// Path of the field.
    pub field: String,
    /// What is to be said.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// A reason that concerns a whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileMessage {
    /// The file.
    pub file: String,
    /// What serves in the place of what it should give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<&'static str>,
    /// The reason.
    #[serde(flatten)]
    pub message: Message,
}

/// Kind, namespace, name and, for a second resource of that key, its file.
type Place = (String, String, String, String);

/// The verdicts on what serves in `world`, on what was refused, and on what is noted.
pub fn verdicts(world: &World, problems: &[Reported], notes: &[Note]) -> Verdicts {
    let mut resources: BTreeMap<Place, ResourceVerdict> = BTreeMap::new();
    for (key, origin) in objects(world) {
        let verdict = ResourceVerdict {
            kind: key.kind.to_string(),
            namespace: key.namespace,
            name: key.name,
            file: origin.file().to_owned(),
            line: origin.line(),
            verdict: Verdict::Accepted,
            serving: None,
            messages: Vec::new(),
        };
        resources.insert(place(&verdict), verdict);
    }
    for note in notes {
        add_note(&mut resources, world, note);
    }
    let mut files = Vec::new();
    for reported in problems {
        let serving = reported.effect.map(Effect::text);
        let problem = &reported.problem;
        if problem.kind.is_empty() || (problem.name.is_empty() && problem.kind != "MeshConfig") {
            let file = problem.file.clone();
            files.push(FileMessage { file, serving, message: message(problem) });
            continue;
        }
        let refused = ResourceVerdict {
            kind: problem.kind.clone(),
            namespace: problem.namespace.clone(),
            name: problem.name.clone(),
            file: problem.file.clone(),
            line: problem.line,
            verdict: Verdict::AcceptedWithNotes,
            serving: None,
            messages: Vec::new(),
        };
        let entry = resources.entry(place(&refused)).or_insert(refused);
        entry.messages.push(message(problem));
        if problem.is_error() {
            (entry.verdict, entry.serving) = (Verdict::Refused, serving);
        } else if entry.verdict == Verdict::Accepted {
            entry.verdict = Verdict::AcceptedWithNotes;
        }
    }
    Verdicts { resources: resources.into_values().collect(), files }
}

fn place(verdict: &ResourceVerdict) -> Place {
    (verdict.kind.clone(), verdict.namespace.clone(), verdict.name.clone(), verdict.file.clone())
}

fn message(problem: &Problem) -> Message {
    Message {
        level: problem.level.as_str(),
        line: problem.line,
        column: problem.column,
        field: problem.field.clone(),
        message: problem.message.clone(),
        suggestion: problem.suggestion.clone(),
    }
}

fn add_note(resources: &mut BTreeMap<Place, ResourceVerdict>, world: &World, note: &Note) {
    let Some((key, origin)) = key_of(note).and_then(|key| origin(world, &key).map(|origin| (key, origin)))
    else {
        return;
    };
    let place = (key.kind.to_string(), key.namespace, key.name, origin.file().to_owned());
    if let Some(verdict) = resources.get_mut(&place) {
        verdict.verdict = Verdict::AcceptedWithNotes;
        let (line, column) = origin.nearest(&note.field);
        let level = match note.severity {
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warning,
        };
        verdict.messages.push(Message {
            level: level.as_str(),
            line,
            column,
            field: note.field.clone(),
            message: note.reason.clone(),
            suggestion: None,
        });
    }
}

/// The resource that a note is about; `None`: it is about something else, such as a proxy.
pub fn key_of(note: &Note) -> Option<Key> {
    let kind = Kind::parse(note.kind)?;
    Some(Key { kind, namespace: note.namespace.clone(), name: note.name.clone() })
}

/// Where a resource of the World was written.
pub fn origin<'a>(world: &'a World, key: &Key) -> Option<&'a Origin> {
    fn of<'a, S>(resources: &'a ByName<S>, name: &str) -> Option<&'a Origin> {
        resources.get(name).map(|resource| &resource.origin)
    }
    let namespace = if key.kind == Kind::Namespace { &key.name } else { &key.namespace };
    let objects = world.namespace(namespace)?;
    let name = key.name.as_str();
    match key.kind {
        Kind::Namespace => objects.namespace.as_ref().map(|resource| &resource.origin),
        Kind::Service => of(&objects.services, name),
        Kind::WorkloadEntry => of(&objects.workload_entries, name),
        Kind::VirtualService => of(&objects.virtual_services, name),
        Kind::DestinationRule => of(&objects.destination_rules, name),
        Kind::PeerAuthentication => of(&objects.peer_authentications, name),
        Kind::AuthorizationPolicy => of(&objects.authorization_policies, name),
        Kind::Telemetry => of(&objects.telemetries, name),
    }
}

/// Every resource of the World with its place.
pub fn objects(world: &World) -> Vec<(Key, &Origin)> {
    world.namespaces().flat_map(|(_, objects)| of_namespace(objects)).collect()
}

fn of_namespace(objects: &NamespaceObjects) -> Vec<(Key, &Origin)> {
    fn add<'a, S>(
        kind: Kind,
        resources: impl Iterator<Item = &'a std::sync::Arc<Resource<S>>>,
        out: &mut Vec<(Key, &'a Origin)>,
    ) where
        S: 'a,
    {
        out.extend(resources.map(|resource| {
            let meta = &resource.meta;
            (Key { kind, namespace: meta.namespace.clone(), name: meta.name.clone() }, &resource.origin)
        }));
    }
    let mut out = Vec::new();
    add(Kind::Namespace, objects.namespace.iter(), &mut out);
    add(Kind::Service, objects.services.values(), &mut out);
    add(Kind::WorkloadEntry, objects.workload_entries.values(), &mut out);
    add(Kind::VirtualService, objects.virtual_services.values(), &mut out);
    add(Kind::DestinationRule, objects.destination_rules.values(), &mut out);
    add(Kind::PeerAuthentication, objects.peer_authentications.values(), &mut out);
    add(Kind::AuthorizationPolicy, objects.authorization_policies.values(), &mut out);
    add(Kind::Telemetry, objects.telemetries.values(), &mut out);
    out
}
