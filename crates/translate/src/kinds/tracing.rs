//! Tracing providers: what a user must be told.

use api::kinds::extension_provider::HttpHeader;

use crate::note::{About, Note};
use crate::world::World;
use crate::xds::tracer;

/// What a user must be told about the mesh's tracing providers.
pub fn verdict(world: &World, notes: &mut Vec<Note>) {
    let mesh = world.mesh();
    let mut about = About::new("MeshConfig", "", "mesh", notes);
    let mut service = |field: String, name: &str, port: u32| {
        if !tracer::is_known(world, name, port) {
            let reason =
                format!("no Service \"{name}\" with port {port} is in the mesh: no span is sent to it");
            about.warning(field, reason);
        }
    };
    for (at, provider) in mesh.extension_providers.iter().enumerate() {
        let field = |rest: &str| format!("extensionProviders[{at}].{rest}");
        if let Some(zipkin) = &provider.zipkin {
            service(field("zipkin.service"), &zipkin.service, zipkin.port);
        }
        if let Some(otel) = &provider.opentelemetry {
            service(field("opentelemetry.service"), &otel.service, otel.port);
        }
    }
    let older =
        mesh.default_config.as_ref().and_then(|it| it.tracing.as_ref()).and_then(|it| it.zipkin.as_ref());
    if let Some((name, port)) = older.and_then(|it| it.address.rsplit_once(':')) {
        service("defaultConfig.tracing.zipkin.address".to_owned(), name, port.parse().unwrap_or_default());
    }
    for (at, provider) in mesh.extension_providers.iter().enumerate() {
        let zipkin = provider.zipkin.iter().map(|it| ("zipkin.headers", &it.headers));
        let otel = provider.opentelemetry.iter();
        let http = otel
            .clone()
            .filter_map(|it| it.http.as_ref())
            .map(|it| ("opentelemetry.http.headers", &it.headers));
        let grpc = otel.filter_map(|it| it.grpc.as_ref());
        let grpc = grpc.map(|it| ("opentelemetry.grpc.initialMetadata", &it.initial_metadata));
        for (field, headers) in zipkin.chain(http).chain(grpc) {
            without_value(&format!("extensionProviders[{at}].{field}"), headers, &mut about);
        }
    }
}

fn without_value(field: &str, headers: &[HttpHeader], about: &mut About<'_>) {
    for (at, header) in headers.iter().enumerate().filter(|(_, header)| header.value.is_none()) {
        let reason = format!("\"{}\" has no value of its own and is not sent: write value", header.name);
        about.warning(format!("{field}[{at}]"), reason);
    }
}
