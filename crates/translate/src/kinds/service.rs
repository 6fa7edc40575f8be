//! Services: names, ports and their protocols, and which workloads they select.

use std::net::IpAddr;
use std::sync::Arc;

use api::Resource;
use api::kinds::common::IntOrString;
use api::kinds::service::{Service, ServicePort, ServiceType, TransportProtocol};
use api::kinds::workload_entry::WorkloadEntry;

use crate::host;
use crate::kinds::workload_entry;
use crate::merge::Labels;
use crate::note::{About, Note};
use crate::world::World;

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in clear text, also gRPC.
    Http2,
    /// A protocol that is passed through as it is.
    Tcp,
    /// UDP or SCTP: never proxied.
    Datagram,
    /// The port does not say.
    Unknown,
}

impl Protocol {
    /// Whether traffic to the port is carried at all.
    pub fn is_proxied(self) -> bool {
        self != Protocol::Datagram
    }

    /// Whether requests are routed; a port that does not say is taken as HTTP.
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2 | Protocol::Unknown)
    }
}

/// Ports that are TCP when nothing else is said: their servers speak first.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// Protocol of a port: `appProtocol`, else its name; of both the part before the first `-` counts.
pub fn protocol(port: &ServicePort) -> Protocol {
    if port.protocol != TransportProtocol::Tcp {
        return Protocol::Datagram;
    }
    let declared = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => "http2",
        Some("kubernetes.io/ws") => "http",
        Some("kubernetes.io/wss") => "https",
        Some(other) => other,
        None => port.name.as_str(),
    };
    let declared = declared.to_ascii_lowercase();
    // `grpc-web` is the one name with a dash of its own.
    let first = if declared == "grpc-web" || declared.starts_with("grpc-web-") {
        "grpc-web"
    } else {
        declared.split('-').next().unwrap_or_default()
    };
    match first {
        "http" | "grpc-web" => Protocol::Http,
        "http2" | "grpc" => Protocol::Http2,
        "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" => Protocol::Tcp,
        "udp" => Protocol::Datagram,
        _ if SERVER_FIRST.contains(&port.port) => Protocol::Tcp,
        _ => Protocol::Unknown,
    }
}

/// Full name of a Service.
pub fn fqdn(service: &Resource<Service>) -> String {
    host::service_fqdn(&service.meta.name, &service.meta.namespace)
}

/// The port with this number.
pub fn port(service: &Service, number: u16) -> Option<&ServicePort> {
    service.ports.iter().find(|port| port.port == number)
}

/// Whether a Service selects a workload with these labels; one without selector selects none.
pub fn selects(service: &Service, labels: &Labels) -> bool {
    !service.selector.is_empty() && service.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The workloads that a Service selects, in its own namespace.
pub fn workloads<'w>(
    world: &'w World,
    service: &'w Resource<Service>,
) -> impl Iterator<Item = &'w Arc<Resource<WorkloadEntry>>> {
    let objects = world.namespace(&service.meta.namespace);
    let all = objects.into_iter().flat_map(|objects| objects.workload_entries.values());
    let selector = &service.spec.selector;
    all.filter(|entry| !selector.is_empty() && workload_entry::has_labels(entry, selector))
}

/// The port of a workload behind a Service port: the workload's own map beats `targetPort`, which beats the number.
pub fn target_port(port: &ServicePort, workload: &WorkloadEntry) -> Option<u16> {
    let named = |name: &str| workload.ports.get(name).and_then(|number| u16::try_from(*number).ok());
    if let Some(number) = named(&port.name) {
        return Some(number);
    }
    match &port.target_port {
        Some(IntOrString::Int(0)) | None => Some(port.port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::Name(name)) => named(name),
    }
}

/// The addresses of a Service on which a proxy without redirection may listen: those of 127.0.0.0/8.
pub fn loopback_addresses(service: &Service) -> Vec<IpAddr> {
    let parsed = service.virtual_addresses().into_iter().filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.filter(|address| matches!(address, IpAddr::V4(v4) if v4.is_loopback())).collect()
}

/// What a user must be told about a Service.
pub fn verdict(world: &World, service: &Resource<Service>, notes: &mut Vec<Note>) {
    let mut about = About::new("Service", &service.meta.namespace, &service.meta.name, notes);
    let spec = &service.spec;
    if spec.service_type == ServiceType::ExternalName {
        about.info("spec.externalName", "external names are not served yet");
    }
    if spec.selector.is_empty() && spec.service_type != ServiceType::ExternalName {
        about.warning("spec.selector", "the Service selects no workload, so calls to it are answered 503");
    }
    if !spec.session_affinity.is_empty() && spec.session_affinity != "None" {
        about.info(
            "spec.sessionAffinity",
            "session affinity does not act inside the mesh; use consistentHash",
        );
    }
    if spec.is_headless() && spec.service_type != ServiceType::ExternalName {
        let reason = "a headless Service has no address that a proxy without redirection could listen on; \
                      this Service is reached through the HTTP proxy port";
        about.info("spec.clusterIP", reason);
    } else if !spec.virtual_addresses().is_empty() && loopback_addresses(spec).is_empty() {
        let reason = "proxies without redirection listen only on addresses of 127.0.0.0/8; \
                      this Service is reached through the HTTP proxy port";
        about.info("spec.clusterIP", reason);
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{i}]");
        match protocol(port) {
            Protocol::Http | Protocol::Http2 => {}
            Protocol::Tcp => {
                if loopback_addresses(spec).is_empty() && spec.service_type != ServiceType::ExternalName {
                    let reason =
                        "a TCP port is reached on an address of 127.0.0.0/8 only, and the Service has none";
                    about.warning(field, reason);
                }
            }
            Protocol::Datagram => about.info(field, "UDP and SCTP are never proxied"),
            Protocol::Unknown => about.info(
                format!("{field}.name"),
                "the protocol is not declared: tulle-proxy finds it out from the first bytes, Envoy takes it as HTTP/1.1; \
                 name the port http-… or set appProtocol",
            ),
        }
        // Only a name can be missing; a number needs no look at every workload.
        if !matches!(port.target_port, Some(IntOrString::Name(_))) {
            continue;
        }
        let unresolved = |entry: &&Arc<Resource<WorkloadEntry>>| target_port(port, &entry.spec).is_none();
        if let Some(entry) = workloads(world, service).find(unresolved) {
            let reason =
                format!("WorkloadEntry {} has no port of this name and is left out", entry.meta.name);
            about.warning(format!("spec.ports[{i}].targetPort"), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, number: u16) -> ServicePort {
        ServicePort { name: name.to_owned(), port: number, ..Default::default() }
    }

    #[test]
    fn the_protocol_comes_from_app_protocol_then_from_the_name() {
        for (name, number, expected) in [
            ("http", 80, Protocol::Http),
            ("http-web", 80, Protocol::Http),
            ("grpc-web", 80, Protocol::Http),
            ("grpc-web-x", 80, Protocol::Http),
            ("grpc", 80, Protocol::Http2),
            ("http2-x", 80, Protocol::Http2),
            ("tcp-db", 80, Protocol::Tcp),
            ("https", 443, Protocol::Tcp),
            ("httpd", 80, Protocol::Unknown),
            ("", 8080, Protocol::Unknown),
            ("", 3306, Protocol::Tcp),
        ] {
            assert_eq!(protocol(&named(name, number)), expected, "{name}:{number}");
        }
        for (declared, expected) in [
            ("http", Protocol::Http),
            ("HTTP-web", Protocol::Http),
            ("kubernetes.io/h2c", Protocol::Http2),
            ("kubernetes.io/wss", Protocol::Tcp),
            ("example.com/own", Protocol::Unknown),
        ] {
            let port = ServicePort { app_protocol: Some(declared.to_owned()), ..named("tcp", 80) };
            assert_eq!(protocol(&port), expected, "{declared}");
        }
        let port = ServicePort { protocol: TransportProtocol::Udp, ..named("http", 80) };
        assert_eq!(protocol(&port), Protocol::Datagram);
    }

    #[test]
    fn the_workloads_port_map_beats_target_port_beats_the_number() {
        let mut port = named("http", 80);
        let mut workload = WorkloadEntry::default();
        assert_eq!(target_port(&port, &workload), Some(80));
        port.target_port = Some(IntOrString::Int(8080));
        assert_eq!(target_port(&port, &workload), Some(8080));
        workload.ports.insert("http".to_owned(), 9090);
        assert_eq!(target_port(&port, &workload), Some(9090));
        port = ServicePort { target_port: Some(IntOrString::Name("web".to_owned())), ..named("x", 80) };
        assert_eq!(target_port(&port, &workload), None);
        workload.ports.insert("web".to_owned(), 7070);
        assert_eq!(target_port(&port, &workload), Some(7070));
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let labels = Labels::from([("app".to_owned(), "a".to_owned())]);
        let mut service = Service::default();
        assert!(!selects(&service, &labels));
        service.selector.insert("app".to_owned(), "a".to_owned());
        assert!(selects(&service, &labels));
        service.selector.insert("version".to_owned(), "v1".to_owned());
        assert!(!selects(&service, &labels));
    }
}
