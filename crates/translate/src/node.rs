//! The proxy that asks, as its xDS node describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::google::protobuf::{Struct, Value, value::Kind};

/// The most addresses that one workload may have.
const MAX_ADDRESSES: usize = 64;
/// The longest name accepted from a node, in bytes (a DNS name's limit).
const MAX_NAME: usize = 253;
/// The most labels that a node may carry.
const MAX_LABELS: usize = 256;

/// How traffic reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// The app's clients call the proxy's own addresses; listeners bind to their ports.
    None,
    /// The kernel redirects connections to the proxy.
    Redirect,
}

/// Which program asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `tulle-proxy`: gets the filters that only it knows.
    Tulle,
    /// Envoy, and everything else that speaks Envoy's xDS.
    Envoy,
    /// A gRPC library (`xds:///`).
    Grpc,
}

/// A proxy and the workload beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyNode {
    /// The whole node id.
    pub id: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name.
    pub workload: String,
    /// The workload's service account; empty when the node does not say.
    pub service_account: String,
    /// The workload's labels, as the node claims them.
    pub labels: BTreeMap<String, String>,
    /// The workload's own addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// How traffic reaches the proxy.
    pub interception: Interception,
    /// Which program asks.
    pub flavour: Flavour,
    /// Where the app listens when nothing is intercepted.
    pub app_address: IpAddr,
    /// Whether this proxy binds the loopback addresses of Services.
    pub bind_vips: bool,
    /// Name of the cluster, for telemetry.
    pub cluster_id: String,
    /// Name of the mesh, for telemetry.
    pub mesh_id: String,
    /// What the node calls its service (`node.cluster`), for telemetry.
    pub service_cluster: String,
}

/// Why a node is refused. The text names the field, the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeError {
    /// Path of the field in the xDS node.
    pub field: String,
    /// Its value, cut to 256 characters.
    pub value: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is \"{}\": {}", self.field, self.value, self.reason)
    }
}

impl std::error::Error for NodeError {}

fn refuse(field: &str, value: &str, reason: impl Into<String>) -> NodeError {
    NodeError { field: field.to_owned(), value: value.chars().take(256).collect(), reason: reason.into() }
}

impl ProxyNode {
    /// Reads an xDS node.
    ///
    /// # Errors
    /// A node whose id is not `sidecar~IP~WORKLOAD.NAMESPACE~DOMAIN`, that contradicts itself, or that asks for what
    /// is not served: gateways, redirected traffic.
    pub fn from_node(node: &Node) -> Result<ProxyNode, NodeError> {
        let fields = Fields(node.metadata.as_ref());
        let flavour = flavour(node, &fields)?;
        let (id_address, workload, id_namespace) = read_id(&node.id)?;
        let namespace = fields.text("NAMESPACE")?.unwrap_or_else(|| id_namespace.to_owned());
        if namespace != id_namespace {
            let reason = format!("the node id says namespace \"{id_namespace}\"; they must be equal");
            return Err(refuse("node.metadata.NAMESPACE", &namespace, reason));
        }
        let named = fields.text("WORKLOAD_NAME")?;
        Ok(ProxyNode {
            id: node.id.clone(),
            namespace,
            workload: named.unwrap_or_else(|| workload.to_owned()),
            service_account: fields.text("SERVICE_ACCOUNT")?.unwrap_or_default(),
            labels: fields.labels()?,
            addresses: addresses(id_address, &fields)?,
            interception: match flavour {
                // There is no proxy to which anything could be redirected.
                Flavour::Grpc => Interception::None,
                Flavour::Tulle | Flavour::Envoy => interception(&fields)?,
            },
            flavour,
            app_address: fields.address("TULLE_APP_ADDRESS")?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            bind_vips: fields.boolean("TULLE_BIND_VIPS")?.unwrap_or(true),
            cluster_id: fields.text("CLUSTER_ID")?.unwrap_or_else(|| "Kubernetes".to_owned()),
            mesh_id: fields.text("MESH_ID")?.unwrap_or_default(),
            service_cluster: node.cluster.chars().take(MAX_NAME).collect(),
        })
    }
}

fn flavour(node: &Node, fields: &Fields<'_>) -> Result<Flavour, NodeError> {
    let agent = node.user_agent_name.as_str();
    let is_grpc = agent.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("grpc"));
    match fields.text("GENERATOR")?.as_deref() {
        Some("grpc") => return Ok(Flavour::Grpc),
        Some(other) if is_grpc => {
            return Err(refuse("node.metadata.GENERATOR", other, "a gRPC library is served with \"grpc\""));
        }
        _ => {}
    }
    Ok(match agent {
        "tulle-proxy" => Flavour::Tulle,
        _ if is_grpc => Flavour::Grpc,
        _ => Flavour::Envoy,
    })
}

/// Address, workload and namespace of `sidecar~IP~WORKLOAD.NAMESPACE~DOMAIN`.
fn read_id(id: &str) -> Result<(IpAddr, &str, &str), NodeError> {
    let fail = |reason: &str| {
        refuse("node.id", id, format!("{reason}; expected sidecar~IP~WORKLOAD.NAMESPACE~DOMAIN"))
    };
    if id.len() > 4 * MAX_NAME {
        return Err(fail("the id is longer than 1012 bytes"));
    }
    let parts: Vec<&str> = id.split('~').collect();
    let [kind, address, name, _domain] = parts.as_slice() else {
        return Err(fail("the id does not have four parts"));
    };
    if *kind != "sidecar" {
        return Err(fail("only sidecars are served by this version (gateways and waypoints are not)"));
    }
    let address = address.parse().map_err(|_| fail("its second part is not an IP address"))?;
    let (workload, namespace) =
        name.rsplit_once('.').ok_or_else(|| fail("its third part is not WORKLOAD.NAMESPACE"))?;
    if workload.is_empty() || namespace.is_empty() {
        return Err(fail("its third part is not WORKLOAD.NAMESPACE"));
    }
    Ok((address, workload, namespace))
}

fn addresses(id_address: IpAddr, fields: &Fields<'_>) -> Result<Vec<IpAddr>, NodeError> {
    let mut all = vec![id_address];
    let listed = fields.long_text("INSTANCE_IPS")?.unwrap_or_default();
    for part in listed.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let reason = "it must be a list of IP addresses with commas between them";
        let address = part.parse().map_err(|_| refuse("node.metadata.INSTANCE_IPS", &listed, reason))?;
        if !all.contains(&address) {
            all.push(address);
        }
        if all.len() > MAX_ADDRESSES {
            let reason = format!("a workload has at most {MAX_ADDRESSES} addresses");
            return Err(refuse("node.metadata.INSTANCE_IPS", &listed, reason));
        }
    }
    Ok(all)
}

fn interception(fields: &Fields<'_>) -> Result<Interception, NodeError> {
    const FIELD: &str = "node.metadata.INTERCEPTION_MODE";
    match fields.text("INTERCEPTION_MODE")?.as_deref() {
        Some("NONE") => Ok(Interception::None),
        Some(mode @ ("REDIRECT" | "TPROXY")) => {
            Err(refuse(FIELD, mode, "redirected traffic is not served by this version; set NONE"))
        }
        None => Err(refuse(FIELD, "", "absent means REDIRECT, which this version does not serve; set NONE")),
        Some(other) => Err(refuse(FIELD, other, "it must be NONE or REDIRECT")),
    }
}

/// The node's metadata, read with bounds.
struct Fields<'a>(Option<&'a Struct>);

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.and_then(|fields| fields.fields.get(key))
    }

    fn long_text(&self, key: &str) -> Result<Option<String>, NodeError> {
        match self.get(key).and_then(|value| value.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => Ok(None),
            Some(Kind::StringValue(text)) => Ok((!text.is_empty()).then(|| text.clone())),
            Some(_) => Err(refuse(&format!("node.metadata.{key}"), "", "it must be a string")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, NodeError> {
        let text = self.long_text(key)?;
        match text {
            Some(text) if text.len() > MAX_NAME => {
                Err(refuse(&format!("node.metadata.{key}"), &text, "it is longer than 253 bytes"))
            }
            text => Ok(text),
        }
    }

    fn address(&self, key: &str) -> Result<Option<IpAddr>, NodeError> {
        let field = format!("node.metadata.{key}");
        let parse = |text: String| text.parse().map_err(|_| refuse(&field, &text, "it is not an IP address"));
        self.text(key)?.map(parse).transpose()
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, NodeError> {
        if let Some(Kind::BoolValue(value)) = self.get(key).and_then(|value| value.kind.as_ref()) {
            return Ok(Some(*value));
        }
        match self.text(key)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(refuse(&format!("node.metadata.{key}"), other, "it must be true or false")),
        }
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, NodeError> {
        let fields = match self.get("LABELS").and_then(|value| value.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => return Ok(BTreeMap::new()),
            Some(Kind::StructValue(fields)) => fields,
            Some(_) => return Err(refuse("node.metadata.LABELS", "", "it must be an object of strings")),
        };
        if fields.fields.len() > MAX_LABELS {
            return Err(refuse(
                "node.metadata.LABELS",
                "",
                format!("a workload has at most {MAX_LABELS} labels"),
            ));
        }
        let label = |(key, value): (&String, &Value)| match &value.kind {
            Some(Kind::StringValue(text)) if text.len() <= MAX_NAME && key.len() <= 2 * MAX_NAME => {
                Ok((key.clone(), text.clone()))
            }
            _ => Err(refuse(
                &format!("node.metadata.LABELS[{key}]"),
                "",
                "it must be a string of at most 253 bytes",
            )),
        };
        fields.fields.iter().map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{struct_of, structure, text};

    fn node(id: &str, agent: &str, metadata: &[(&str, &str)]) -> Node {
        let fields = metadata.iter().map(|(key, value)| (*key, text(value)));
        Node {
            id: id.to_owned(),
            user_agent_name: agent.to_owned(),
            metadata: Some(struct_of(fields)),
            ..Default::default()
        }
    }

    const ID: &str = "sidecar~127.10.0.1~payment-1.production~production.svc.cluster.local";

    #[test]
    fn a_whole_node_is_read() {
        let mut input = node(
            ID,
            "tulle-proxy",
            &[
                ("NAMESPACE", "production"),
                ("WORKLOAD_NAME", "payment-stable"),
                ("SERVICE_ACCOUNT", "payment"),
                ("INSTANCE_IPS", "127.10.0.1, 127.10.0.9"),
                ("INTERCEPTION_MODE", "NONE"),
                ("TULLE_APP_ADDRESS", "127.10.1.1"),
                ("TULLE_BIND_VIPS", "false"),
            ],
        );
        let labels = structure(struct_of([("app", text("payment"))]));
        input.metadata.as_mut().unwrap().fields.insert("LABELS".to_owned(), labels);
        let node = ProxyNode::from_node(&input).unwrap();
        assert_eq!((node.namespace.as_str(), node.workload.as_str()), ("production", "payment-stable"));
        assert_eq!(node.addresses.len(), 2);
        assert_eq!(node.app_address.to_string(), "127.10.1.1");
        assert_eq!(node.labels["app"], "payment");
        assert!(!node.bind_vips);
        assert_eq!(node.flavour, Flavour::Tulle);
    }

    #[test]
    fn what_is_missing_has_defaults() {
        let node = ProxyNode::from_node(&node(ID, "envoy", &[("INTERCEPTION_MODE", "NONE")])).unwrap();
        assert_eq!(
            (node.workload.as_str(), node.app_address.to_string()),
            ("payment-1", "127.0.0.1".to_owned())
        );
        assert!(node.bind_vips);
        assert_eq!(node.flavour, Flavour::Envoy);
    }

    #[test]
    fn grpc_needs_no_interception_mode() {
        for (agent, metadata) in
            [("gRPC C-core linux", vec![]), ("grpc-java", vec![]), ("", vec![("GENERATOR", "grpc")])]
        {
            let node = ProxyNode::from_node(&node(ID, agent, &metadata)).unwrap();
            assert_eq!((node.flavour, node.interception), (Flavour::Grpc, Interception::None), "{agent}");
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        let none = ("INTERCEPTION_MODE", "NONE");
        for (id, agent, metadata, field) in [
            ("nonsense", "envoy", vec![none], "node.id"),
            ("router~127.0.0.1~a.b~d", "envoy", vec![none], "node.id"),
            ("sidecar~here~a.b~d", "envoy", vec![none], "node.id"),
            ("sidecar~127.0.0.1~ab~d", "envoy", vec![none], "node.id"),
            (ID, "gRPC Go", vec![("GENERATOR", "api")], "node.metadata.GENERATOR"),
            (ID, "envoy", vec![], "node.metadata.INTERCEPTION_MODE"),
            (ID, "envoy", vec![("INTERCEPTION_MODE", "REDIRECT")], "node.metadata.INTERCEPTION_MODE"),
            (ID, "envoy", vec![none, ("NAMESPACE", "other")], "node.metadata.NAMESPACE"),
            (ID, "envoy", vec![none, ("INSTANCE_IPS", "1,2")], "node.metadata.INSTANCE_IPS"),
            (ID, "envoy", vec![none, ("TULLE_BIND_VIPS", "maybe")], "node.metadata.TULLE_BIND_VIPS"),
            (ID, "envoy", vec![none, ("LABELS", "x")], "node.metadata.LABELS"),
        ] {
            let error = ProxyNode::from_node(&node(id, agent, &metadata)).unwrap_err();
            assert_eq!(error.field, field, "{id} {agent} {metadata:?}");
        }
    }
}
