//! No field is ignored in silence: each field of each message that is read is set to another value, one at a time; the
//! reader must then refuse or report that field by its name, or read something else than before.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use config::{Read, Refused};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use protos::Message;
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::json::Pool;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;

/// Fields, by the end of their path, whose every value means the same here, with the reason.
const SAME: [(&str, &str); 11] = [
    ("thresholds.priority", "an entry without limits says the defaults, which are those of both priorities"),
    (".set_node_on_first_message_only", "the node is always sent in the first message only"),
    (".filters.name", "a label: the type URL decides"),
    (".listener_filters.name", "a label: the type URL decides"),
    (".access_log.name", "a label: the type URL decides"),
    (".transport_socket.name", "a label: the type URL decides"),
    (".provider.name", "a label: the type URL decides"),
    (".tracing.http.name", "a label: the type URL decides"),
    (".resource_detectors.name", "a label: the type URL decides"),
    (".http_filters.is_optional", "matters for unknown filters only; has a test of its own"),
    (
        ".route_config.max_direct_response_body_size_bytes",
        "a bound: seen in the route configuration's own walk",
    ),
];
/// Fields that are answered by a refusal of another field, with the reason.
const ELSEWHERE: [(&str, &str); 1] = [(
    "RouteConfiguration.max_direct_response_body_size_bytes",
    "a bound: the body that is too long is refused",
)];
/// Values of enumerations that say what another one, or nothing, says as well.
const SYNONYMS: [(&str, &str); 8] = [
    ("transport_api_version", "AUTO"),
    ("transport_api_version", "V3"),
    ("resource_api_version", "AUTO"),
    ("resource_api_version", "V3"),
    ("api_type", "AGGREGATED_DELTA_GRPC"),
    ("path_with_escaped_slashes_action", "KEEP_UNCHANGED"),
    ("tls_minimum_protocol_version", "TLSv1_2"),
    ("tls_maximum_protocol_version", "TLSv1_3"),
];
/// Deepest walk.
const MAX_DEPTH: usize = 24;

/// What a reader says of a message.
#[derive(Debug, PartialEq)]
enum Answer {
    Refused(String),
    Accepted { value: String, notes: Vec<String> },
}

type Reader<'a> = dyn Fn(&DynamicMessage) -> Answer + 'a;

fn reader<M: Message + prost::Name + Default, T: Debug>(
    read: impl Fn(&M) -> Result<Read<T>, Refused>,
) -> impl Fn(&DynamicMessage) -> Answer {
    move |message| match read(&message.transcode_to::<M>().expect("the same message")) {
        Err(refused) => Answer::Refused(refused.path),
        Ok(Read { value, notes }) => {
            let notes = notes.into_iter().map(|note| note.path).collect();
            Answer::Accepted { value: format!("{value:?}"), notes }
        }
    }
}

struct Walk<'a> {
    read: &'a Reader<'a>,
    pool: &'a Pool,
    seen: BTreeSet<String>,
    silent: Vec<String>,
    answered: usize,
    /// Entries of the two lists without which the walk would fail.
    needed: BTreeSet<&'static str>,
}

impl Walk<'_> {
    /// Walks the fields of a message; `rebuild` puts a changed copy of it back into its root.
    fn message(
        &mut self,
        message: &DynamicMessage,
        place: &str,
        types: &[String],
        rebuild: &dyn Fn(DynamicMessage) -> DynamicMessage,
    ) {
        let name = message.descriptor().full_name().to_owned();
        if types.len() > MAX_DEPTH || types.iter().filter(|other| **other == name).count() > 1 {
            return;
        }
        let mut types = types.to_vec();
        types.push(name);
        let before = (self.read)(&rebuild(message.clone()));
        for field in message.descriptor().fields() {
            let path = format!("{place}.{}", field.name());
            if let Some((entry, _)) = SAME.iter().chain(&ELSEWHERE).find(|(end, _)| path.ends_with(end)) {
                if !self.is_answered(message, &field, &before, rebuild) {
                    self.needed.insert(entry);
                }
                continue;
            }
            let present = message.has_field(&field);
            if self.seen.insert(path.clone()) && !self.is_answered(message, &field, &before, rebuild) {
                let Kind::Message(kind) = field.kind() else {
                    self.silent.push(path.clone());
                    continue;
                };
                // The presence of an empty message says nothing: its fields do.
                if kind.fields().len() == 0 || field.is_map() || is_wrapper(kind.full_name()) {
                    self.silent.push(path.clone());
                }
            } else {
                self.answered += 1;
            }
            if present || !self.is_answered_as_a_whole(message, &field, &before, rebuild) {
                self.inner(message, &field, present, &path, &types, rebuild);
            }
        }
    }

    fn is_answered(
        &self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        before: &Answer,
        rebuild: &dyn Fn(DynamicMessage) -> DynamicMessage,
    ) -> bool {
        let answered = |value: Option<Value>| {
            let mut changed = message.clone();
            match value {
                Some(value) => changed.set_field(field, value),
                None => changed.clear_field(field),
            }
            is_answer(field, before, &(self.read)(&rebuild(changed)))
        };
        if let (Kind::Enum(kind), false) = (field.kind(), field.is_list()) {
            // Every value of an enumeration has a meaning of its own.
            let current = message.get_field(field).as_enum_number();
            let values = kind.values().filter(|value| {
                Some(value.number()) != current && !SYNONYMS.contains(&(field.name(), value.name()))
            });
            return values.into_iter().all(|value| answered(Some(Value::EnumNumber(value.number()))));
        }
        let cleared = message.has_field(field).then_some(None);
        other_values(field).into_iter().map(Some).chain(cleared).any(answered)
    }

    /// Whether the mere presence of a message is refused or reported: then its fields need no answer of their own.
    fn is_answered_as_a_whole(
        &self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        before: &Answer,
        rebuild: &dyn Fn(DynamicMessage) -> DynamicMessage,
    ) -> bool {
        let notes = |answer: &Answer| match answer {
            Answer::Refused(_) => usize::MAX,
            Answer::Accepted { notes, .. } => notes.len(),
        };
        matches!(field.kind(), Kind::Message(_))
            && other_values(field).into_iter().all(|value| {
                let mut changed = message.clone();
                changed.set_field(field, value);
                let after = (self.read)(&rebuild(changed));
                matches!(after, Answer::Refused(_)) || notes(&after) > notes(before)
            })
    }

    /// Steps into the messages of a field; into an empty one where there is none.
    fn inner(
        &mut self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        present: bool,
        path: &str,
        types: &[String],
        rebuild: &dyn Fn(DynamicMessage) -> DynamicMessage,
    ) {
        let Kind::Message(kind) = field.kind() else { return };
        if is_wrapper(kind.full_name()) || field.is_map() && !present {
            return;
        }
        let with = |value: Value| {
            let mut changed = message.clone();
            changed.set_field(field, value);
            rebuild(changed)
        };
        let current = message.get_field(field).into_owned();
        match current {
            Value::Message(one) if kind.full_name() == "google.protobuf.Any" => {
                self.any(&one, path, types, &|any| with(Value::Message(any)));
            }
            Value::Message(one) => self.message(&one, path, types, &|one| with(Value::Message(one))),
            Value::List(items) if items.is_empty() => {
                let empty = DynamicMessage::new(kind);
                self.message(&empty, path, types, &|one| with(Value::List(vec![Value::Message(one)])));
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let Value::Message(one) = item else { continue };
                    self.message(one, path, types, &|one| {
                        let mut items = items.clone();
                        items[index] = Value::Message(one);
                        with(Value::List(items))
                    });
                }
            }
            Value::Map(entries) => {
                for (key, entry) in &entries {
                    let put = |one: DynamicMessage| {
                        let mut entries: HashMap<MapKey, Value> = entries.clone();
                        entries.insert(key.clone(), Value::Message(one));
                        with(Value::Map(entries))
                    };
                    match entry {
                        Value::Message(any) if any.descriptor().full_name() == "google.protobuf.Any" => {
                            self.any(any, path, types, &put);
                        }
                        Value::Message(one) => self.message(one, path, types, &put),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn any(
        &mut self,
        any: &DynamicMessage,
        path: &str,
        types: &[String],
        rebuild: &dyn Fn(DynamicMessage) -> DynamicMessage,
    ) {
        let url = any
            .get_field_by_name("type_url")
            .and_then(|url| url.as_str().map(str::to_owned))
            .unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        let bytes =
            any.get_field_by_name("value").and_then(|bytes| bytes.as_bytes().cloned()).unwrap_or_default();
        // An Any that the base does not have is of no kind yet.
        let Some(kind) = self.pool.descriptor(name) else { return };
        let inside = DynamicMessage::decode(kind, bytes).expect("the base is well formed");
        self.message(&inside, &format!("{path}<{name}>"), types, &|inside| {
            let mut any = any.clone();
            any.set_field_by_name("value", Value::Bytes(inside.encode_to_vec().into()));
            rebuild(any)
        });
    }
}

/// Whether what is said after a change is about the field: its name is told, or the model differs. An alternative of a
/// oneof may be refused where it stands.
fn is_answer(field: &FieldDescriptor, before: &Answer, after: &Answer) -> bool {
    let names = |path: &String| path.contains(field.name()) || field.containing_oneof().is_some();
    match (before, after) {
        (_, Answer::Refused(path)) => names(path),
        (Answer::Refused(_), Answer::Accepted { .. }) => true,
        (
            Answer::Accepted { value: old_value, notes: old },
            Answer::Accepted { value: new_value, notes: new },
        ) => {
            let come = new.iter().filter(|note| !old.contains(note));
            let gone = old.iter().filter(|note| !new.contains(note));
            old_value != new_value || come.chain(gone).any(names)
        }
    }
}

fn is_wrapper(name: &str) -> bool {
    ["google.protobuf.Duration", "google.protobuf.Struct", "google.protobuf.Value"].contains(&name)
        || (name.starts_with("google.protobuf.") && name.ends_with("Value"))
}

/// Values that a field does not have by default.
fn other_values(field: &FieldDescriptor) -> Vec<Value> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return vec![] };
        let value = Value::default_value_for_field(&entry.map_entry_value_field());
        return vec![Value::Map([(MapKey::String("other".to_owned()), value)].into())];
    }
    let one = match field.kind() {
        Kind::Bool => vec![Value::Bool(true), Value::Bool(false)],
        Kind::String => vec![Value::String("other".to_owned()), Value::String("/other".to_owned())],
        Kind::Bytes => vec![Value::Bytes(bytes::Bytes::from_static(b"other"))],
        Kind::Double => vec![Value::F64(7.0)],
        Kind::Float => vec![Value::F32(7.0)],
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => vec![Value::I32(7)],
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => vec![Value::I64(7)],
        Kind::Uint32 | Kind::Fixed32 => vec![Value::U32(7)],
        Kind::Uint64 | Kind::Fixed64 => vec![Value::U64(7)],
        Kind::Enum(kind) => kind.values().map(|value| Value::EnumNumber(value.number())).collect(),
        Kind::Message(kind) if kind.full_name() == "google.protobuf.Duration" => {
            let mut duration = DynamicMessage::new(kind);
            duration.set_field_by_name("seconds", Value::I64(7));
            vec![Value::Message(duration)]
        }
        Kind::Message(kind) if kind.full_name() == "google.protobuf.Struct" => {
            let text = r#"{"other": "other"}"#;
            let mut reader = serde_json::Deserializer::from_str(text);
            vec![Value::Message(DynamicMessage::deserialize(kind, &mut reader).expect("a struct"))]
        }
        Kind::Message(kind) if is_wrapper(kind.full_name()) && kind.get_field_by_name("value").is_some() => {
            let inner = kind.get_field_by_name("value").expect("a wrapper has a value");
            let wrap = |value| {
                let mut wrapper = DynamicMessage::new(kind.clone());
                wrapper.set_field(&inner, value);
                Value::Message(wrapper)
            };
            other_values(&inner).into_iter().map(wrap).collect()
        }
        Kind::Message(kind) => vec![Value::Message(DynamicMessage::new(kind))],
    };
    if field.is_list() { one.into_iter().map(|value| Value::List(vec![value])).collect() } else { one }
}

fn check<M: Message + prost::Name + Default, T: Debug>(
    json: &str,
    read: impl Fn(&M) -> Result<Read<T>, Refused>,
    enough: usize,
) -> BTreeSet<&'static str> {
    let pool = Pool::load().expect("descriptors");
    let base: M = pool.from_json(json).expect("the base is JSON of the message");
    let kind = pool.descriptor(&M::full_name()).expect("the pool knows the message");
    let base = DynamicMessage::decode(kind, base.encode_to_vec().as_slice()).expect("the same message");
    let read = reader(read);
    match read(&base) {
        Answer::Accepted { .. } => {}
        refused => panic!("the base is not accepted: {refused:?}"),
    }
    let mut walk = Walk {
        read: &read,
        pool: &pool,
        seen: BTreeSet::new(),
        silent: Vec::new(),
        answered: 0,
        needed: BTreeSet::new(),
    };
    walk.message(&base, M::NAME, &[], &|message| message);
    assert!(walk.silent.is_empty(), "{} silent fields:\n{}", walk.silent.len(), walk.silent.join("\n"));
    assert!(walk.answered >= enough, "only {} fields were walked", walk.answered);
    walk.needed
}

fn listener() -> BTreeSet<&'static str> {
    check::<Listener, _>(include_str!("bases/listener.json"), config::read_listener, 400)
}

fn routes() -> BTreeSet<&'static str> {
    check::<RouteConfiguration, _>(include_str!("bases/routes.json"), config::read_route_configuration, 200)
}

fn cluster() -> BTreeSet<&'static str> {
    check::<Cluster, _>(include_str!("bases/cluster.json"), config::read_cluster, 150)
}

fn endpoints() -> BTreeSet<&'static str> {
    check::<ClusterLoadAssignment, _>(include_str!("bases/endpoints.json"), config::read_load_assignment, 35)
}

fn bootstrap() -> BTreeSet<&'static str> {
    check::<Bootstrap, _>(include_str!("bases/bootstrap.json"), config::read_bootstrap, 80)
}

#[test]
fn every_field_of_every_message_is_answered() {
    let needed: BTreeSet<&str> =
        [listener(), routes(), cluster(), endpoints(), bootstrap()].into_iter().flatten().collect();
    let idle: Vec<&str> = SAME
        .iter()
        .chain(&ELSEWHERE)
        .map(|(entry, _)| *entry)
        .filter(|entry| !needed.contains(entry))
        .collect();
    assert!(idle.is_empty(), "exceptions that nothing needs any more: {idle:?}");
}

#[test]
fn a_silent_field_is_found() {
    let silent = |_: &ClusterLoadAssignment| Ok(Read { value: (), notes: vec![] });
    let base = include_str!("bases/endpoints.json");
    let found = std::panic::catch_unwind(|| check::<ClusterLoadAssignment, _>(base, silent, 0));
    let message = *found.expect_err("a reader that reads nothing").downcast::<String>().expect("a message");
    assert!(message.contains("ClusterLoadAssignment.cluster_name"), "{message}");
}
