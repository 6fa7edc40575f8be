//! Requests and responses of ADS, without the difference between its two dialects, and their four wire forms.

use crate::resource::Resource;
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::service::discovery::v3::{
    self as discovery, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use protos::envoy::google::rpc::Status as RpcStatus;
use std::collections::BTreeMap;
use std::sync::Arc;

/// gRPC's INVALID_ARGUMENT, the code of a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// The wildcard name: every resource that the server thinks the client should have.
pub const WILDCARD: &str = "*";

/// Which of the two forms of ADS a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `DeltaAggregatedResources`: what changed.
    Delta,
    /// `StreamAggregatedResources`: the whole set of each type.
    StateOfTheWorld,
}

/// The names of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Delta: added to and taken from the subscription.
    Change {
        /// New names.
        subscribe: Vec<String>,
        /// Names no longer wanted.
        unsubscribe: Vec<String>,
    },
    /// State of the world: the whole subscription.
    Whole(Vec<String>),
}

/// What a client says: a subscription, an answer to a response, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Who asks; present in the first request of a stream.
    pub node: Option<Node>,
    /// Which type it is about.
    pub type_url: String,
    /// The subscription.
    pub names: Names,
    /// Delta, first request of a type: what the client still holds from an earlier stream, name to version.
    pub known: BTreeMap<String, String>,
    /// State of the world: the version last accepted.
    pub version: String,
    /// The response that is answered; empty when none is.
    pub nonce: String,
    /// Why the response was refused.
    pub refusal: Option<String>,
}

impl Request {
    /// A request without names, nonce or refusal.
    pub fn new(type_url: &str, names: Names) -> Self {
        Request {
            node: None,
            type_url: type_url.to_owned(),
            names,
            known: BTreeMap::new(),
            version: String::new(),
            nonce: String::new(),
            refusal: None,
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The type of every resource in it.
    pub type_url: String,
    /// Version of the whole set that the client holds afterwards.
    pub version: String,
    /// Name of this response, for the answer.
    pub nonce: String,
    /// New and changed resources; in state of the world possibly the full set.
    pub resources: Vec<Arc<Resource>>,
    /// Delta: names that no longer exist, or never did.
    pub removed: Vec<String>,
}

fn refusal_of(error: Option<RpcStatus>) -> Option<String> {
    error.map(
        |status| if status.message.is_empty() { format!("code {}", status.code) } else { status.message },
    )
}

fn status_of(refusal: Option<String>) -> Option<RpcStatus> {
    refusal.map(|message| RpcStatus { code: INVALID_ARGUMENT, message, details: Vec::new() })
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        Request {
            node: request.node,
            type_url: request.type_url,
            names: Names::Change {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
            },
            known: request.initial_resource_versions.into_iter().collect(),
            version: String::new(),
            nonce: request.response_nonce,
            refusal: refusal_of(request.error_detail),
        }
    }
}

impl From<Request> for DeltaDiscoveryRequest {
    fn from(request: Request) -> Self {
        let (subscribe, unsubscribe) = match request.names {
            Names::Change { subscribe, unsubscribe } => (subscribe, unsubscribe),
            Names::Whole(names) => (names, Vec::new()),
        };
        DeltaDiscoveryRequest {
            node: request.node,
            type_url: request.type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            initial_resource_versions: request.known.into_iter().collect(),
            response_nonce: request.nonce,
            error_detail: status_of(request.refusal),
            ..Default::default()
        }
    }
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        Request {
            node: request.node,
            type_url: request.type_url,
            names: Names::Whole(request.resource_names),
            known: BTreeMap::new(),
            version: request.version_info,
            nonce: request.response_nonce,
            refusal: refusal_of(request.error_detail),
        }
    }
}

impl From<Request> for DiscoveryRequest {
    fn from(request: Request) -> Self {
        let names = match request.names {
            Names::Change { subscribe, .. } => subscribe,
            Names::Whole(names) => names,
        };
        DiscoveryRequest {
            version_info: request.version,
            node: request.node,
            resource_names: names,
            type_url: request.type_url,
            response_nonce: request.nonce,
            error_detail: status_of(request.refusal),
            ..Default::default()
        }
    }
}

impl From<Response> for DeltaDiscoveryResponse {
    fn from(response: Response) -> Self {
        let resources = response
            .resources
            .iter()
            .map(|resource| discovery::Resource {
                name: resource.name.clone(),
                version: resource.version.clone(),
                resource: Some(resource.any.clone()),
                ..Default::default()
            })
            .collect();
        DeltaDiscoveryResponse {
            system_version_info: response.version,
            resources,
            type_url: response.type_url,
            removed_resources: response.removed,
            nonce: response.nonce,
            ..Default::default()
        }
    }
}

impl From<Response> for DiscoveryResponse {
    fn from(response: Response) -> Self {
        DiscoveryResponse {
            version_info: response.version,
            resources: response.resources.iter().map(|resource| resource.any.clone()).collect(),
            type_url: response.type_url,
            nonce: response.nonce,
            ..Default::default()
        }
    }
}

/// A response as a client received it, before its resources are looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The type it is about.
    pub type_url: String,
    /// Version of the set.
    pub version: String,
    /// Name of this response.
    pub nonce: String,
    /// Its resources; `Err` tells what is wrong with one.
    pub resources: Vec<Result<Resource, String>>,
    /// Names that do not exist.
    pub removed: Vec<String>,
}

impl From<DeltaDiscoveryResponse> for Received {
    fn from(response: DeltaDiscoveryResponse) -> Self {
        let mut removed = response.removed_resources;
        let mut resources = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            match resource.resource {
                Some(any) => {
                    resources.push(checked(&response.type_url, resource.name, resource.version, any))
                }
                // A resource without a message says "this name is known, and there is nothing behind it".
                None => removed.push(resource.name),
            }
        }
        Received {
            type_url: response.type_url,
            version: response.system_version_info,
            nonce: response.nonce,
            resources,
            removed,
        }
    }
}

impl From<DiscoveryResponse> for Received {
    fn from(response: DiscoveryResponse) -> Self {
        let type_url = &response.type_url;
        let resources =
            response.resources.into_iter().enumerate().map(|(index, any)| unwrapped(type_url, index, any));
        Received {
            resources: resources.collect(),
            type_url: response.type_url,
            version: response.version_info,
            nonce: response.nonce,
            removed: Vec::new(),
        }
    }
}

fn checked(type_url: &str, name: String, version: String, any: protos::Any) -> Result<Resource, String> {
    if any.type_url != type_url {
        return Err(format!(
            "resource {name:?} has type {:?} in a response of type {type_url:?}",
            any.type_url
        ));
    }
    Ok(Resource { name, version, any })
}

/// A state-of-the-world resource: bare, or wrapped in `envoy.service.discovery.v3.Resource`.
fn unwrapped(type_url: &str, index: usize, any: protos::Any) -> Result<Resource, String> {
    if any.type_url == protos::any::type_url::<discovery::Resource>() {
        let wrapper: discovery::Resource =
            protos::any::open(&any).map_err(|error| format!("resources[{index}]: {error}"))?;
        let inner = wrapper
            .resource
            .ok_or_else(|| format!("resources[{index}] ({:?}): wrapper is empty", wrapper.name))?;
        let version = crate::resource::content_version(&inner.value);
        return checked(type_url, wrapper.name, version, inner);
    }
    let name = crate::resource::name_of(&any.value)
        .ok_or_else(|| format!("resources[{index}]: field 1, the name, is missing or not a string"))?;
    let version = crate::resource::content_version(&any.value);
    checked(type_url, name, version, any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{CLUSTER, LISTENER};
    use protos::envoy::envoy::config::cluster::v3::Cluster;

    fn cluster(name: &str) -> protos::Any {
        protos::any::pack(&Cluster { name: name.to_owned(), ..Default::default() })
    }

    #[test]
    fn delta_requests_survive_the_wire() {
        let request = Request {
            known: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
            nonce: "7".to_owned(),
            refusal: Some("bad".to_owned()),
            ..Request::new(
                CLUSTER,
                Names::Change { subscribe: vec!["a".to_owned()], unsubscribe: vec!["b".to_owned()] },
            )
        };
        assert_eq!(Request::from(DeltaDiscoveryRequest::from(request.clone())), request);
    }

    #[test]
    fn a_resource_of_another_type_is_named() {
        let response = DiscoveryResponse {
            type_url: LISTENER.to_owned(),
            resources: vec![cluster("x")],
            ..Default::default()
        };
        let received = Received::from(response);
        assert!(
            received.resources[0]
                .as_ref()
                .is_err_and(|text| text.contains("\"x\"") && text.contains("Cluster"))
        );
    }

    #[test]
    fn wrapped_resources_are_opened() {
        let wrapper = discovery::Resource {
            name: "alias".to_owned(),
            resource: Some(cluster("x")),
            ..Default::default()
        };
        let response = DiscoveryResponse {
            type_url: CLUSTER.to_owned(),
            resources: vec![protos::any::pack(&wrapper), cluster("y")],
            ..Default::default()
        };
        let names: Vec<_> =
            Received::from(response).resources.into_iter().map(|resource| resource.map(|r| r.name)).collect();
        assert_eq!(names, [Ok("alias".to_owned()), Ok("y".to_owned())]);
    }

    #[test]
    fn a_delta_resource_without_message_counts_as_absent() {
        let response = DeltaDiscoveryResponse {
            type_url: CLUSTER.to_owned(),
            resources: vec![discovery::Resource { name: "x".to_owned(), ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(Received::from(response).removed, ["x"]);
    }
}
