//! `HttpConnectionManager.Tracing`, and the tracing and decorator of a route.

use super::address::read_cidr_range;
use super::custom_tag::read_custom_tags;
use super::format::read_format;
use super::name::required_name;
use super::tracer::read_tracer;
use crate::context::{Context, Result, flag, number, report};
use crate::model::{
    CidrRange, Decorator, Format, Fraction, RequestIdOptions, RouteTracing, Sampling, Tracing,
};
use protos::any::type_url;
use protos::envoy::envoy::config::route::v3 as route;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use protos::envoy::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use protos::envoy::envoy::r#type::v3 as pb_type;

/// Envoy's default of `max_path_tag_length`.
const PATH: u32 = 256;

/// Reads the tracing of a connection manager.
pub fn read_tracing(
    cx: &mut Context,
    message: &Option<hcm::http_connection_manager::Tracing>,
) -> Result<Option<Tracing>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("tracing", |cx| {
        let hcm::http_connection_manager::Tracing {
            client_sampling,
            random_sampling,
            overall_sampling,
            verbose,
            max_path_tag_length,
            custom_tags,
            provider,
            spawn_upstream_span,
            operation,
            upstream_operation,
            no_context_propagation,
        } = message;
        let provider = match provider {
            Some(provider) => Some(cx.field("provider", |cx| read_tracer(cx, provider))?),
            None => None,
        };
        Ok(Some(Tracing {
            sampling: Sampling {
                client: read_percent(cx, "client_sampling", client_sampling)?,
                random: read_percent(cx, "random_sampling", random_sampling)?,
                overall: read_percent(cx, "overall_sampling", overall_sampling)?,
            },
            verbose: *verbose,
            max_path_tag_length: number(max_path_tag_length).unwrap_or(PATH) as usize,
            custom_tags: read_custom_tags(cx, custom_tags)?,
            provider,
            spawn_upstream_span: flag(spawn_upstream_span, false),
            operation: read_operation(cx, "operation", operation)?,
            upstream_operation: read_operation(cx, "upstream_operation", upstream_operation)?,
            no_context_propagation: *no_context_propagation,
        }))
    })
}

/// Hundredths of a per cent, rounded, as Envoy.
fn read_percent(cx: &mut Context, field: &str, message: &Option<pb_type::Percent>) -> Result<Fraction> {
    let Some(pb_type::Percent { value }) = message else { return Ok(Fraction::ALL) };
    if !(0.0..=100.0).contains(value) {
        return Err(cx.refused_field(field, format!("{value} is not between 0 and 100")));
    }
    Ok(Fraction { numerator: (value * 100.0).round() as u32, denominator: 10_000 })
}

fn read_fraction(
    cx: &mut Context,
    field: &str,
    message: &Option<pb_type::FractionalPercent>,
) -> Result<Fraction> {
    use pb_type::fractional_percent::DenominatorType;
    let Some(pb_type::FractionalPercent { numerator, denominator }) = message else {
        return Ok(Fraction::ALL);
    };
    let denominator = cx.field(field, |cx| cx.enumeration("denominator", *denominator))?;
    let denominator = match denominator {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Ok(Fraction { numerator: *numerator, denominator })
}

fn read_operation(cx: &mut Context, field: &str, text: &str) -> Result<Option<Format>> {
    if text.is_empty() { Ok(None) } else { cx.field(field, |cx| read_format(cx, text)).map(Some) }
}

/// Reads the tracing of a route.
pub fn read_route_tracing(
    cx: &mut Context,
    message: &Option<route::Tracing>,
) -> Result<Option<RouteTracing>> {
    let Some(message) = message else { return Ok(None) };
    cx.field("tracing", |cx| {
        let route::Tracing {
            client_sampling,
            random_sampling,
            overall_sampling,
            custom_tags,
            operation,
            upstream_operation,
        } = message;
        Ok(Some(RouteTracing {
            sampling: Sampling {
                client: read_fraction(cx, "client_sampling", client_sampling)?,
                random: read_fraction(cx, "random_sampling", random_sampling)?,
                overall: read_fraction(cx, "overall_sampling", overall_sampling)?,
            },
            custom_tags: read_custom_tags(cx, custom_tags)?,
            operation: read_operation(cx, "operation", operation)?,
            upstream_operation: read_operation(cx, "upstream_operation", upstream_operation)?,
        }))
    })
}

/// Reads the decorator of a route.
pub fn read_decorator(cx: &mut Context, message: &Option<route::Decorator>) -> Result<Option<Decorator>> {
    let Some(route::Decorator { operation, propagate }) = message else { return Ok(None) };
    cx.field("decorator", |cx| {
        let operation = required_name(cx, "operation", operation)?;
        Ok(Some(Decorator { operation, propagate: flag(propagate, true) }))
    })
}

/// Reads the extension that makes request ids.
pub fn read_request_id(
    cx: &mut Context,
    message: &Option<hcm::RequestIdExtension>,
) -> Result<RequestIdOptions> {
    let mut options = RequestIdOptions::default();
    let Some(hcm::RequestIdExtension { typed_config }) = message else { return Ok(options) };
    cx.field("request_id_extension", |cx| {
        let Some(any) = typed_config else { return Ok(options) };
        cx.field("typed_config", |cx| {
            if any.type_url != type_url::<UuidRequestIdConfig>() {
                cx.note("the request id is a UUID");
                return Ok(options);
            }
            let UuidRequestIdConfig { pack_trace_reason, use_request_id_for_trace_sampling } =
                cx.open(any)?;
            options.pack_trace_reason = flag(&pack_trace_reason, true);
            options.samples_traces = flag(&use_request_id_for_trace_sampling, true);
            Ok(options)
        })
    })
}

/// Most ranges of internal addresses.
const LIMIT: usize = 1000;

/// Reads which addresses may force a trace.
pub fn read_internal_addresses(
    cx: &mut Context,
    message: &Option<hcm::http_connection_manager::InternalAddressConfig>,
) -> Result<Vec<CidrRange>> {
    let Some(message) = message else { return Ok(Vec::new()) };
    cx.field("internal_address_config", |cx| {
        let hcm::http_connection_manager::InternalAddressConfig { unix_sockets, cidr_ranges } = message;
        report!(cx, "there are no Unix sockets"; unix_sockets);
        if !cidr_ranges.is_empty() {
            cx.note("these addresses may force a trace; no other x-envoy header of theirs is believed");
        }
        cx.list("cidr_ranges", cidr_ranges, LIMIT, read_cidr_range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tracing: hcm::http_connection_manager::Tracing) -> Result<crate::Read<Option<Tracing>>> {
        Context::read(|cx| read_tracing(cx, &Some(tracing)))
    }

    #[test]
    fn defaults_are_envoys() {
        let tracing = read(Default::default()).unwrap().value.unwrap();
        assert_eq!(tracing.sampling.random, Fraction::ALL);
        assert_eq!(tracing.max_path_tag_length, 256);
        assert!(tracing.provider.is_none() && !tracing.spawn_upstream_span && !tracing.verbose);
    }

    #[test]
    fn a_share_is_of_ten_thousand() {
        let percent = |value| Some(pb_type::Percent { value });
        let with = |value| hcm::http_connection_manager::Tracing {
            random_sampling: percent(value),
            ..Default::default()
        };
        let random = |value| read(with(value)).map(|read| read.value.unwrap().sampling.random);
        assert_eq!(random(0.01).unwrap().numerator, 1);
        assert_eq!(random(1.0).unwrap().numerator, 100);
        for bad in [-1.0, 100.1, f64::NAN] {
            assert_eq!(random(bad).unwrap_err().path, "tracing.random_sampling");
        }
        let one = random(1.0).unwrap();
        assert!(one.takes(20_099) && !one.takes(100));
    }
}
