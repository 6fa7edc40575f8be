//! What a sealed snapshot says: the accepted resources of the last good configuration as they came, and whose they are.
//! Reading it is reading bytes from outside, although a seal guards them: bounded, and whole or not at all.

use std::time::SystemTime;

use protos::Any;
use protos::Message as _;
use xds::{Resource, order};

use super::kept::Kept;

/// The most resources of one snapshot.
const MAX_RESOURCES: usize = 200_000;

/// The resource types of a snapshot, in the order in which they are taken: what is named before what names it.
pub const TYPES: [&str; 4] = [order::CLUSTER, order::ENDPOINT, order::LISTENER, order::ROUTE];

/// Whose a snapshot is and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Node id and cluster.
    pub node: String,
    /// SHA-256 of the trust bundle's certificates, in lower-case hex.
    pub bundle: String,
}

/// The content of a sealed snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Content {
    /// Of [`Origin`].
    #[prost(string, tag = "1")]
    pub node: String,
    /// Of [`Origin`].
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Seconds since the epoch.
    #[prost(uint64, tag = "3")]
    pub saved: u64,
    /// In no order.
    #[prost(message, repeated, tag = "4")]
    pub resources: Vec<Saved>,
}

/// One accepted resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Saved {
    /// Its type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The server's version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// The message.
    #[prost(bytes = "vec", tag = "4")]
    pub value: Vec<u8>,
}

/// Why a snapshot with a good seal is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Not a message.
    #[error("its content cannot be read: {0}")]
    Malformed(String),
    /// Another node's.
    #[error("it was made by the node \"{found}\", and this is \"{own}\"")]
    OtherNode {
        /// The snapshot's.
        found: String,
        /// Ours.
        own: String,
    },
    /// More resources than a proxy can have.
    #[error("it has {0} resources, more than the limit of {MAX_RESOURCES}")]
    TooMany(usize),
    /// A type that is never saved.
    #[error("it has a resource of the type \"{0}\", which this program does not save")]
    Type(String),
    /// One name twice.
    #[error("it has two resources of the type {0} that are called \"{1}\"")]
    Twice(&'static str, String),
}

impl Content {
    /// The accepted resources now; `None` when a server has sent none.
    pub fn of(kept: &Kept, origin: &Origin, at: SystemTime) -> Option<Content> {
        let mut resources = Vec::new();
        for type_url in TYPES {
            for (name, entry) in kept.of_type(type_url) {
                if let Some(any) = entry.any.filter(|_| !entry.is_static) {
                    let (type_url, version) = (type_url.to_owned(), entry.version);
                    resources.push(Saved { type_url, name, version, value: any.value });
                }
            }
        }
        let saved = ::tls::error::unix(at);
        let Origin { node, bundle } = origin.clone();
        (!resources.is_empty()).then_some(Content { node, bundle, saved, resources })
    }

    /// Reads the content of a sealed file.
    ///
    /// # Errors
    /// It is malformed, too large, or another node's.
    pub fn read(bytes: &[u8], own: &str) -> Result<Content, ContentError> {
        let content = Content::decode(bytes).map_err(|error| ContentError::Malformed(error.to_string()))?;
        if content.node != own {
            let found = content.node.chars().take(256).collect();
            return Err(ContentError::OtherNode { found, own: own.to_owned() });
        }
        if content.resources.len() > MAX_RESOURCES {
            return Err(ContentError::TooMany(content.resources.len()));
        }
        let mut names = std::collections::BTreeSet::new();
        for resource in &content.resources {
            let Some(type_url) = TYPES.into_iter().find(|known| *known == resource.type_url) else {
                return Err(ContentError::Type(resource.type_url.chars().take(256).collect()));
            };
            if !names.insert((type_url, resource.name.as_str())) {
                return Err(ContentError::Twice(order::short_name(type_url), resource.name.clone()));
            }
        }
        Ok(content)
    }

    /// The resources by type, in the order of [`TYPES`].
    pub fn by_type(self) -> Vec<(&'static str, Vec<Resource>)> {
        let mut list: Vec<(&'static str, Vec<Resource>)> =
            TYPES.iter().map(|type_url| (*type_url, Vec::new())).collect();
        for Saved { type_url, name, version, value } in self.resources {
            if let Some((known, of_type)) = list.iter_mut().find(|(known, _)| *known == type_url) {
                let any = Any { type_url: (*known).to_owned(), value };
                of_type.push(Resource { name, version, any });
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(resources: &[(&str, &str)]) -> Content {
        let saved = |(type_url, name): &(&str, &str)| Saved {
            type_url: (*type_url).to_owned(),
            name: (*name).to_owned(),
            version: "1".to_owned(),
            value: vec![1, 2],
        };
        Content {
            node: "node".to_owned(),
            bundle: "b".to_owned(),
            saved: 7,
            resources: resources.iter().map(saved).collect(),
        }
    }

    #[test]
    fn what_was_accepted_comes_back_and_static_or_refused_resources_do_not() {
        let kept = Kept::default();
        let any = |type_url: &str| Any { type_url: type_url.to_owned(), value: vec![1] };
        let at = SystemTime::UNIX_EPOCH;
        let origin = Origin { node: "node".to_owned(), bundle: "b".to_owned() };
        kept.accepted("static", "", any(order::CLUSTER), true, at);
        kept.refused(order::CLUSTER, "bad", "2", "no", at);
        assert_eq!(Content::of(&kept, &origin, at), None);
        kept.accepted("a", "1", any(order::CLUSTER), false, at);
        kept.accepted("l", "3", any(order::LISTENER), false, at);
        kept.refused(order::LISTENER, "l", "4", "no", at);
        let content = Content::of(&kept, &origin, at).unwrap();
        let read = Content::read(&content.encode_to_vec(), "node").unwrap();
        assert_eq!(read, content);
        let list = read.by_type();
        let names: Vec<(&str, Vec<&str>)> = list
            .iter()
            .map(|(type_url, all)| {
                (order::short_name(type_url), all.iter().map(|r| r.version.as_str()).collect())
            })
            .collect();
        assert_eq!(names, [("cds", vec!["1"]), ("eds", vec![]), ("lds", vec!["3"]), ("rds", vec![])]);
    }

    #[test]
    fn another_nodes_malformed_and_doubled_contents_are_refused() {
        let read = |content: &Content, own: &str| Content::read(&content.encode_to_vec(), own).unwrap_err();
        let error = read(&content(&[]), "other").to_string();
        assert!(error.contains("\"node\"") && error.contains("\"other\""), "{error}");
        let twice = content(&[(order::CLUSTER, "a"), (order::CLUSTER, "a")]);
        assert!(matches!(read(&twice, "node"), ContentError::Twice(_, name) if name == "a"));
        let strange = content(&[("type.googleapis.com/x", "a")]);
        assert!(matches!(read(&strange, "node"), ContentError::Type(_)));
        assert!(matches!(Content::read(&[0xff, 0xff], "node"), Err(ContentError::Malformed(_))));
    }
}
