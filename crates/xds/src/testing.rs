//! A world of made-up resources, for the tests of this room.

use crate::resource::Resource;
use crate::server::{Answer, Wanted};
use protos::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message like every xDS resource: its name is field 1.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Thing {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub content: String,
}

/// Resources by type and name.
#[derive(Debug, Clone, Default)]
pub struct World {
    types: BTreeMap<String, BTreeMap<String, Arc<Resource>>>,
    /// Asked for, one entry per question.
    pub asked: Vec<String>,
    /// Nothing can be told yet.
    pub closed: bool,
}

impl World {
    /// Sets `name=content` pairs of a type; a pair without `=` removes the name.
    pub fn set(&mut self, type_url: &str, pairs: &[&str]) -> &mut Self {
        let resources = self.types.entry(type_url.to_owned()).or_default();
        for pair in pairs {
            match pair.split_once('=') {
                Some((name, content)) => {
                    resources.insert(name.to_owned(), Arc::new(thing(type_url, name, content)));
                }
                None => {
                    resources.remove(*pair);
                }
            }
        }
        self
    }

    pub fn answer(&mut self, type_url: &str, wanted: Wanted<'_>) -> Answer {
        self.asked.push(type_url.to_owned());
        if self.closed {
            return Answer::NotReady;
        }
        let Some(resources) = self.types.get(type_url) else { return Answer::UnknownType };
        Answer::Resources(match wanted {
            Wanted::All => resources.values().cloned().collect(),
            Wanted::Names(names) => names.iter().filter_map(|name| resources.get(name).cloned()).collect(),
        })
    }
}

pub fn thing(type_url: &str, name: &str, content: &str) -> Resource {
    let value = Thing { name: name.to_owned(), content: content.to_owned() }.encode_to_vec();
    let version = crate::resource::content_version(&value);
    Resource { name: name.to_owned(), version, any: protos::Any { type_url: type_url.to_owned(), value } }
}

/// `name=content` of a resource.
pub fn text(resource: &Resource) -> String {
    let thing = Thing::decode(resource.any.value.as_slice()).unwrap();
    format!("{}={}", thing.name, thing.content)
}

pub fn texts<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<String> {
    resources.into_iter().map(text).collect()
}

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}
