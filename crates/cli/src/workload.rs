//! A workload of a directory by its name, and the proxy that it would have.

use std::net::IpAddr;
use std::sync::Arc;

use api::{Resource, WorkloadEntry};
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::google::protobuf::{Struct, Value, value::Kind};
use translate::{ProxyNode, World};

use crate::Error;

/// The WorkloadEntry that `NAMESPACE/NAME` names; a name alone will do where only one namespace has it.
///
/// # Errors
/// There is none, or more than one: the text lists the candidates.
pub fn find<'w>(world: &'w World, named: &str) -> Result<&'w Arc<Resource<WorkloadEntry>>, Error> {
    let full = |it: &Resource<WorkloadEntry>| format!("{}/{}", it.meta.namespace, it.meta.name);
    let found: Vec<_> =
        world.workload_entries().filter(|it| it.meta.name == named || full(it) == named).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let names: Vec<String> = world.workload_entries().map(|it| full(it)).collect();
            Err(format!("no WorkloadEntry {named}; the directory has: {}", names.join(", ")).into())
        }
        several => {
            let names: Vec<String> = several.iter().map(|it| full(it)).collect();
            Err(format!("{named} is in several namespaces; say which: {}", names.join(", ")).into())
        }
    }
}

/// The WorkloadEntry that has an address.
pub fn at(world: &World, address: IpAddr) -> Option<&Arc<Resource<WorkloadEntry>>> {
    world.workload_entries().find(|it| it.spec.address.parse() == Ok(address))
}

/// The proxy beside a workload, as its `tulle-proxy` would describe itself.
///
/// # Errors
/// The entry cannot be a proxy's workload (no address).
pub fn proxy(entry: &Resource<WorkloadEntry>) -> Result<ProxyNode, Error> {
    let (namespace, name, address) = (&entry.meta.namespace, &entry.meta.name, &entry.spec.address);
    let labels = entry.spec.labels.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let fields = [
        ("NAMESPACE", text(namespace)),
        ("WORKLOAD_NAME", text(name)),
        ("SERVICE_ACCOUNT", text(&entry.spec.service_account)),
        ("LABELS", Value { kind: Some(Kind::StructValue(Struct { fields: labels })) }),
        ("INSTANCE_IPS", text(address)),
        ("INTERCEPTION_MODE", text("NONE")),
    ];
    let node = Node {
        id: format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        user_agent_name: "tulle-proxy".to_owned(),
        metadata: Some(Struct {
            fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }),
        ..Default::default()
    };
    Ok(ProxyNode::from_node(&node)?)
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}
