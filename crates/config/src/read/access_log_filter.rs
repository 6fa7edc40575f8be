//! `envoy.config.accesslog.v3.AccessLogFilter`.

use super::expression::read_expression;
use super::header_matcher::read_header_matcher;
use super::route_match::millionths;
use crate::context::{Context, Result, report};
use crate::model::{AccessLogFilter, Comparison, ComparisonOperator};
use protos::envoy::envoy::config::accesslog::v3::{self as pb, access_log_filter::FilterSpecifier};
use protos::envoy::envoy::config::core::v3::RuntimeUInt32;
use protos::envoy::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use std::sync::Arc;

/// Most parts of an `and` or `or`, and most flags or statuses.
const LIMIT: usize = 64;
/// How deep `and` and `or` may stand in one another.
const DEPTH: usize = 8;
/// Envoy's short flags, as configuration may name them.
const FLAGS: [&str; 29] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR",
];

/// Reads a filter.
pub fn read_access_log_filter(cx: &mut Context, message: &pb::AccessLogFilter) -> Result<AccessLogFilter> {
    read(cx, message, DEPTH)
}

fn read(cx: &mut Context, message: &pb::AccessLogFilter, depth: usize) -> Result<AccessLogFilter> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.refused(format!("filters stand in one another more than {DEPTH} deep")));
    };
    let pb::AccessLogFilter { filter_specifier } = message;
    let Some(filter) = filter_specifier else { return Err(cx.refused("is empty: it says nothing")) };
    match filter {
        FilterSpecifier::StatusCodeFilter(pb::StatusCodeFilter { comparison }) => cx
            .field("status_code_filter", |cx| {
                Ok(AccessLogFilter::StatusCode(read_comparison(cx, comparison)?))
            }),
        FilterSpecifier::DurationFilter(pb::DurationFilter { comparison }) => {
            cx.field("duration_filter", |cx| Ok(AccessLogFilter::Duration(read_comparison(cx, comparison)?)))
        }
        FilterSpecifier::NotHealthCheckFilter(pb::NotHealthCheckFilter {}) => {
            Ok(AccessLogFilter::NotHealthCheck)
        }
        FilterSpecifier::RuntimeFilter(runtime) => cx.field("runtime_filter", |cx| read_sample(cx, runtime)),
        FilterSpecifier::AndFilter(pb::AndFilter { filters }) => cx.field("and_filter", |cx| {
            let parts = cx.list("filters", filters, LIMIT, |cx, filter| read(cx, filter, depth))?;
            Ok(AccessLogFilter::And(parts))
        }),
        FilterSpecifier::OrFilter(pb::OrFilter { filters }) => cx.field("or_filter", |cx| {
            let parts = cx.list("filters", filters, LIMIT, |cx, filter| read(cx, filter, depth))?;
            Ok(AccessLogFilter::Or(parts))
        }),
        FilterSpecifier::HeaderFilter(pb::HeaderFilter { header }) => cx.field("header_filter", |cx| {
            let header = cx.required("header", header)?;
            cx.field("header", |cx| Ok(AccessLogFilter::Header(read_header_matcher(cx, header)?)))
        }),
        FilterSpecifier::ResponseFlagFilter(pb::ResponseFlagFilter { flags }) => {
            cx.field("response_flag_filter", |cx| read_flags(cx, flags))
        }
        FilterSpecifier::GrpcStatusFilter(filter) => {
            cx.field("grpc_status_filter", |cx| read_statuses(cx, filter))
        }
        FilterSpecifier::ExtensionFilter(filter) => {
            cx.field("extension_filter", |cx| read_extension(cx, filter))
        }
        FilterSpecifier::TraceableFilter(_)
        | FilterSpecifier::MetadataFilter(_)
        | FilterSpecifier::LogTypeFilter(_) => {
            Err(cx.refused("traceable, metadata and log type filters are not supported"))
        }
    }
}

fn read_extension(cx: &mut Context, message: &pb::ExtensionFilter) -> Result<AccessLogFilter> {
    let pb::ExtensionFilter { name, config_type } = message;
    let Some(pb::extension_filter::ConfigType::TypedConfig(any)) = config_type else {
        return Err(cx.refused_field("typed_config", format!("is missing (filter {name:?})")));
    };
    cx.field("typed_config", |cx| {
        if any.type_url != protos::any::type_url::<ExpressionFilter>() {
            let reason =
                format!("the filter {name:?} ({}) is not supported: use an expression", any.type_url);
            return Err(cx.refused(reason));
        }
        let message = cx.open(any)?;
        let ExpressionFilter { expression, cel_config } = &message;
        report!(cx, "what it would switch on is on"; cel_config);
        let expression = cx.field("expression", |cx| read_expression(cx, expression))?;
        Ok(AccessLogFilter::Expression(expression))
    })
}

fn read_comparison(cx: &mut Context, message: &Option<pb::ComparisonFilter>) -> Result<Comparison> {
    let pb::ComparisonFilter { op, value } = cx.required("comparison", message)?;
    cx.field("comparison", |cx| {
        let operator = match cx.enumeration("op", *op)? {
            pb::comparison_filter::Op::Eq => ComparisonOperator::Equal,
            pb::comparison_filter::Op::Ge => ComparisonOperator::GreaterOrEqual,
            pb::comparison_filter::Op::Le => ComparisonOperator::LessOrEqual,
            pb::comparison_filter::Op::Ne => ComparisonOperator::NotEqual,
        };
        let RuntimeUInt32 { default_value, runtime_key } = cx.required("value", value)?;
        report!(cx, "there is no runtime: the default value stands"; runtime_key);
        Ok(Comparison { operator, value: *default_value })
    })
}

fn read_sample(cx: &mut Context, message: &pb::RuntimeFilter) -> Result<AccessLogFilter> {
    let pb::RuntimeFilter { runtime_key, percent_sampled, use_independent_randomness } = message;
    report!(cx, "there is no runtime: the percentage stands"; runtime_key);
    // Without a percentage Envoy takes none where the runtime says nothing.
    let millionths = match percent_sampled {
        Some(percent) => cx.field("percent_sampled", |cx| millionths(cx, percent))?,
        None => 0,
    };
    Ok(AccessLogFilter::Sample { millionths, independent: *use_independent_randomness })
}

fn read_flags(cx: &mut Context, flags: &[String]) -> Result<AccessLogFilter> {
    let flags = cx.list("flags", flags, LIMIT, |cx, flag| {
        if !FLAGS.contains(&flag.as_str()) {
            return Err(cx.refused(format!("{flag:?} is no response flag")));
        }
        Ok(Arc::from(flag.as_str()))
    })?;
    Ok(AccessLogFilter::ResponseFlag(flags))
}

fn read_statuses(cx: &mut Context, message: &pb::GrpcStatusFilter) -> Result<AccessLogFilter> {
    let pb::GrpcStatusFilter { statuses, exclude } = message;
    let statuses = cx.list("statuses", statuses, LIMIT, |cx, status| {
        u8::try_from(*status)
            .ok()
            .filter(|status| *status <= 16)
            .ok_or_else(|| cx.refused(format!("{status} is no gRPC status")))
    })?;
    Ok(AccessLogFilter::GrpcStatus { statuses, exclude: *exclude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::r#type::v3::FractionalPercent;

    fn of(filter: FilterSpecifier) -> Result<AccessLogFilter> {
        let message = pb::AccessLogFilter { filter_specifier: Some(filter) };
        Context::read(|cx| read_access_log_filter(cx, &message)).map(|read| read.value)
    }

    fn status(op: i32, default_value: u32) -> FilterSpecifier {
        let value = Some(RuntimeUInt32 { default_value, runtime_key: String::new() });
        FilterSpecifier::StatusCodeFilter(pb::StatusCodeFilter {
            comparison: Some(pb::ComparisonFilter { op, value }),
        })
    }

    #[test]
    fn reads_each_kind() {
        let at_least = Comparison { operator: ComparisonOperator::GreaterOrEqual, value: 500 };
        assert_eq!(of(status(1, 500)).unwrap(), AccessLogFilter::StatusCode(at_least));
        assert!(at_least.holds(500) && at_least.holds(503) && !at_least.holds(499));
        let percent_sampled = Some(FractionalPercent { numerator: 5, denominator: 0 });
        let runtime = pb::RuntimeFilter { percent_sampled, ..Default::default() };
        let sample = AccessLogFilter::Sample { millionths: 50_000, independent: false };
        assert_eq!(of(FilterSpecifier::RuntimeFilter(runtime)).unwrap(), sample);
        let part = || pb::AccessLogFilter { filter_specifier: Some(status(0, 404)) };
        let or = of(FilterSpecifier::OrFilter(pb::OrFilter { filters: vec![part(), part()] })).unwrap();
        assert!(matches!(or, AccessLogFilter::Or(parts) if parts.len() == 2));
        let flags = |flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            of(FilterSpecifier::ResponseFlagFilter(pb::ResponseFlagFilter { flags }))
        };
        assert_eq!(flags(&["NR"]).unwrap(), AccessLogFilter::ResponseFlag(vec!["NR".into()]));
        assert!(flags(&["XX"]).unwrap_err().path.ends_with("flags[0]"));
        let grpc = pb::GrpcStatusFilter { statuses: vec![14], exclude: true };
        let expected = AccessLogFilter::GrpcStatus { statuses: vec![14], exclude: true };
        assert_eq!(of(FilterSpecifier::GrpcStatusFilter(grpc)).unwrap(), expected);
    }

    fn extension(message: &ExpressionFilter) -> FilterSpecifier {
        let any = protos::any::pack(message);
        FilterSpecifier::ExtensionFilter(pb::ExtensionFilter {
            name: "cel".to_owned(),
            config_type: Some(pb::extension_filter::ConfigType::TypedConfig(any)),
        })
    }

    #[test]
    fn an_expression_is_read_or_refused_at_its_place() {
        let written = |text: &str| ExpressionFilter { expression: text.to_owned(), cel_config: None };
        let read = of(extension(&written("response.code >= 400"))).unwrap();
        assert!(matches!(read, AccessLogFilter::Expression(it) if &*it.text == "response.code >= 400"));
        let refused = of(extension(&written("response.code >= "))).unwrap_err();
        assert!(refused.path.ends_with("extension_filter.typed_config.expression"), "{}", refused.path);
        assert!(refused.reason.contains("at position 17"), "{}", refused.reason);
        assert!(of(FilterSpecifier::ExtensionFilter(pb::ExtensionFilter::default())).is_err());
    }

    #[test]
    fn refuses_what_it_could_not_decide_and_what_has_no_end() {
        let log_type = FilterSpecifier::LogTypeFilter(pb::LogTypeFilter::default());
        assert!(of(log_type).unwrap_err().reason.contains("not supported"));
        let mut deep = status(0, 1);
        for _ in 0..DEPTH {
            let filters = vec![pb::AccessLogFilter { filter_specifier: Some(deep) }];
            deep = FilterSpecifier::AndFilter(pb::AndFilter { filters });
        }
        assert!(of(deep).unwrap_err().reason.contains("deep"));
    }
}
