//! Prunes the descriptor set that `envoy-types` ships to the messages that Tulle reads or writes, so that
//! `json.rs` can turn them into JSON and back. The set is found through `cargo metadata`; nothing is copied into the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, OneofDescriptorProto,
};

/// Messages that travel inside an `Any` or are asked for by name; what their fields reach is kept with them.
const ROOTS: &[&str] = &[
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.VirtualHost",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.admin.v3.ConfigDump",
    "envoy.admin.v3.BootstrapConfigDump",
    "envoy.admin.v3.ListenersConfigDump",
    "envoy.admin.v3.ClustersConfigDump",
    "envoy.admin.v3.RoutesConfigDump",
    "envoy.admin.v3.EndpointsConfigDump",
    "envoy.admin.v3.SecretsConfigDump",
    "envoy.admin.v3.Clusters",
    "envoy.admin.v3.Listeners",
    "envoy.admin.v3.Certificates",
    "envoy.admin.v3.ServerInfo",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "envoy.extensions.filters.network.rbac.v3.RBAC",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.fault.v3.HTTPFault",
    "envoy.extensions.filters.http.cors.v3.Cors",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
    "envoy.config.trace.v3.OpenTelemetryConfig",
    "envoy.config.trace.v3.ZipkinConfig",
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig",
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig",
    "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.DynatraceResourceDetectorConfig",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "envoy.extensions.path.normalization.NONE",
    "google.protobuf.Struct",
    "google.protobuf.BoolValue",
    "google.protobuf.StringValue",
    "google.protobuf.Empty",
    "xds.type.v3.TypedStruct",
    "udpa.type.v1.TypedStruct",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let path = descriptor_set()?;
    println!("cargo::rerun-if-changed={}", path.display());
    let set = FileDescriptorSet::decode(std::fs::read(&path)?.as_slice())?;
    let mut pruned = prune(set);
    pruned.file.extend(istio_filters());
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, pruned.encode_to_vec())?;
    Ok(())
}

/// Where the `envoy-types` package keeps its descriptor set.
fn descriptor_set() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let manifest = format!("{}/Cargo.toml", std::env::var("CARGO_MANIFEST_DIR")?);
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--manifest-path", &manifest])
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "envoy-types"))
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata does not list envoy-types")?;
    let folder = PathBuf::from(package).parent().ok_or("envoy-types has no folder")?.to_owned();
    Ok(folder.join("src/generated/types.bin"))
}

/// Keeps the messages and enums that the roots reach, and the files that still hold something.
fn prune(set: FileDescriptorSet) -> FileDescriptorSet {
    let mut messages = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            index(&format!(".{}", file.package()), message, &mut messages);
        }
    }
    let mut kept = BTreeSet::new();
    let mut open: Vec<String> = ROOTS.iter().map(|root| format!(".{root}")).collect();
    while let Some(name) = open.pop() {
        if !kept.insert(name.clone()) {
            continue;
        }
        if let Some(message) = messages.get(&name) {
            open.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
            // A nested message or enum needs the message around it.
        }
        if let Some((outer, _)) = name.rsplit_once('.')
            && messages.contains_key(outer)
        {
            open.push(outer.to_owned());
        }
    }
    let mut files: Vec<FileDescriptorProto> =
        set.file.into_iter().map(|file| prune_file(file, &kept)).collect();
    let full: BTreeSet<String> = files
        .iter()
        .filter(|file| !file.message_type.is_empty() || !file.enum_type.is_empty())
        .map(|file| file.name().to_owned())
        .collect();
    files.retain(|file| full.contains(file.name()));
    for file in &mut files {
        file.dependency.retain(|dependency| full.contains(dependency));
        file.public_dependency.clear();
        file.weak_dependency.clear();
    }
    FileDescriptorSet { file: files }
}

fn index<'a>(
    prefix: &str,
    message: &'a DescriptorProto,
    messages: &mut BTreeMap<String, &'a DescriptorProto>,
) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        index(&name, nested, messages);
    }
    messages.insert(name, message);
}

fn prune_file(mut file: FileDescriptorProto, kept: &BTreeSet<String>) -> FileDescriptorProto {
    let package = format!(".{}", file.package());
    file.message_type.retain_mut(|message| prune_message(&package, message, kept));
    file.enum_type.retain(|item| kept.contains(&format!("{package}.{}", item.name())));
    file.service.clear();
    file.extension.clear();
    file.source_code_info = None;
    file.options = None;
    file
}

fn prune_message(prefix: &str, message: &mut DescriptorProto, kept: &BTreeSet<String>) -> bool {
    let name = format!("{prefix}.{}", message.name());
    message.nested_type.retain_mut(|nested| prune_message(&name, nested, kept));
    message.enum_type.retain(|item| kept.contains(&format!("{name}.{}", item.name())));
    message.extension.clear();
    kept.contains(&name)
}

/// Descriptors of Istio's two filters, which `istio.rs` declares by hand.
fn istio_filters() -> Vec<FileDescriptorProto> {
    let headers = message("IstioHeaders", vec![field("skip_external_clusters", 1, Type::Bool, None)]);
    let mut discovery = message(
        "DiscoveryMethod",
        vec![nested("istio_headers", 3, ".io.istio.http.peer_metadata.Config.IstioHeaders")],
    );
    let mut propagation = message(
        "PropagationMethod",
        vec![nested("istio_headers", 1, ".io.istio.http.peer_metadata.Config.IstioHeaders")],
    );
    for method in [&mut discovery, &mut propagation] {
        method
            .oneof_decl
            .push(OneofDescriptorProto { name: Some("method_specifier".to_owned()), options: None });
        method.field[0].oneof_index = Some(0);
    }
    let methods = [
        ("downstream_discovery", 1, "DiscoveryMethod"),
        ("upstream_discovery", 2, "DiscoveryMethod"),
        ("downstream_propagation", 3, "PropagationMethod"),
        ("upstream_propagation", 4, "PropagationMethod"),
    ];
    let mut fields: Vec<_> = methods
        .iter()
        .map(|(name, number, kind)| {
            repeated(nested(name, *number, &format!(".io.istio.http.peer_metadata.Config.{kind}")))
        })
        .collect();
    fields.push(field("shared_with_upstream", 5, Type::Bool, None));
    let mut config = message("Config", fields);
    config.nested_type = vec![headers, discovery, propagation];
    let mut dimensions = message(
        "DimensionsEntry",
        vec![field("key", 1, Type::String, None), field("value", 2, Type::String, None)],
    );
    dimensions.options = Some(prost_types::MessageOptions { map_entry: Some(true), ..Default::default() });
    let mut metric = message(
        "MetricConfig",
        vec![
            repeated(nested("dimensions", 1, ".stats.PluginConfig.MetricConfig.DimensionsEntry")),
            field("name", 2, Type::String, None),
            repeated(field("tags_to_remove", 3, Type::String, None)),
            field("match", 4, Type::String, None),
            field("drop", 5, Type::Bool, None),
        ],
    );
    metric.nested_type = vec![dimensions];
    let definition = message(
        "MetricDefinition",
        vec![
            field("name", 1, Type::String, None),
            field("value", 2, Type::String, None),
            field("type", 3, Type::Int32, None),
        ],
    );
    let mut stats = message(
        "PluginConfig",
        vec![
            field("disable_host_header_fallback", 6, Type::Bool, None),
            nested("tcp_reporting_duration", 7, ".google.protobuf.Duration"),
            repeated(nested("metrics", 8, ".stats.PluginConfig.MetricConfig")),
            repeated(nested("definitions", 9, ".stats.PluginConfig.MetricDefinition")),
            field("reporter", 10, Type::Int32, None),
            nested("rotation_interval", 11, ".google.protobuf.Duration"),
            nested("graceful_deletion_interval", 12, ".google.protobuf.Duration"),
        ],
    );
    // Their place does not matter on the wire; here each message has one file.
    stats.nested_type = vec![metric, definition];
    vec![
        file("tulle/peer_metadata.proto", "io.istio.http.peer_metadata", config, &[]),
        file("tulle/stats.proto", "stats", stats, &["google/protobuf/duration.proto"]),
    ]
}

fn file(name: &str, package: &str, content: DescriptorProto, dependencies: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some(package.to_owned()),
        message_type: vec![content],
        dependency: dependencies.iter().map(|&path| path.to_owned()).collect(),
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field, ..Default::default() }
}

fn nested(name: &str, number: i32, type_name: &str) -> FieldDescriptorProto {
    field(name, number, Type::Message, Some(type_name.to_owned()))
}

fn repeated(mut field: FieldDescriptorProto) -> FieldDescriptorProto {
    field.set_label(Label::Repeated);
    field
}

fn field(name: &str, number: i32, kind: Type, type_name: Option<String>) -> FieldDescriptorProto {
    let mut json_name = String::new();
    for (at, part) in name.split('_').enumerate() {
        match (at, part.split_at_checked(1)) {
            (1.., Some((first, rest))) => json_name.extend([first.to_uppercase().as_str(), rest]),
            _ => json_name.push_str(part),
        }
    }
    let mut field = FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        type_name,
        json_name: Some(json_name),
        ..Default::default()
    };
    field.set_label(Label::Optional);
    field.set_type(kind);
    field
}
