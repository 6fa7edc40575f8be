//! What our proxy logs where nobody said anything about access logs: what went wrong, what was slow, and a sample of the
//! rest. `docs/access-logs.md` tells users about it.

use api::MeshConfig;
use api::kinds::mesh_config::Variable;
use protos::envoy::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ComparisonFilter, DurationFilter, GrpcStatusFilter, OrFilter,
    ResponseFlagFilter, RuntimeFilter, StatusCodeFilter, access_log_filter::FilterSpecifier,
    comparison_filter::Op, grpc_status_filter::Status,
};
use protos::envoy::envoy::config::core::v3::RuntimeUInt32;
use protos::envoy::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use super::access_log::{file, text_format};

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

/// Statuses from here on are failures.
const FAILURE: u32 = 400;
/// Milliseconds from which a request is slow; as long as for `tulle why`.
const SLOW: u32 = 1_000;
/// A line for people: when, what came of it, who asked for what, how long, and why it failed.
const REQUEST: &str = concat!(
    "%START_TIME% %RESPONSE_CODE% %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %DURATION%ms ",
    "reason=%TULLE_REASON% blame=%TULLE_BLAME% hop=%TULLE_HOP% peer=\"%TULLE_PEER%\" flags=%RESPONSE_FLAGS% ",
    "details=%RESPONSE_CODE_DETAILS% grpc=%GRPC_STATUS% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% ",
    "bytes=%BYTES_RECEIVED%/%BYTES_SENT% from=%DOWNSTREAM_REMOTE_ADDRESS% to=%UPSTREAM_HOST% ",
    "cluster=\"%UPSTREAM_CLUSTER_RAW%\" route=\"%ROUTE_NAME%\" agent=\"%REQ(USER-AGENT)%\" id=%REQ(X-REQUEST-ID)%",
);
/// The same of a connection.
const CONNECTION: &str = concat!(
    "%START_TIME% tcp %DOWNSTREAM_LOCAL_ADDRESS% %DURATION%ms ",
    "reason=%TULLE_REASON% blame=%TULLE_BLAME% peer=\"%TULLE_PEER%\" flags=%RESPONSE_FLAGS% ",
    "details=\"%CONNECTION_TERMINATION_DETAILS%\" tls=\"%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "bytes=%BYTES_RECEIVED%/%BYTES_SENT% from=%DOWNSTREAM_REMOTE_ADDRESS% to=%UPSTREAM_HOST% ",
    "cluster=\"%UPSTREAM_CLUSTER_RAW%\" sni=\"%REQUESTED_SERVER_NAME%\"",
);

/// The log; `None` where a variable switches it off.
pub fn access_log(mesh: &MeshConfig, traffic: Traffic) -> Option<AccessLog> {
    let sample = match mesh.access_log_sample() {
        Variable::Unset | Variable::Malformed => 10_000,
        Variable::Off => return None,
        Variable::Millionths(sample) => sample,
    };
    let mut parts = vec![
        FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter::default()),
        FilterSpecifier::RuntimeFilter(RuntimeFilter {
            // The request's id decides, so that the proxies on the way agree.
            percent_sampled: Some(FractionalPercent {
                numerator: sample,
                denominator: DenominatorType::Million.into(),
            }),
            ..Default::default()
        }),
    ];
    let text = match traffic {
        Traffic::Tcp => CONNECTION,
        Traffic::Http => {
            let status = StatusCodeFilter { comparison: at_least(FAILURE) };
            let duration = DurationFilter { comparison: at_least(SLOW) };
            let call = GrpcStatusFilter { statuses: vec![Status::Ok.into()], exclude: true };
            parts.push(FilterSpecifier::StatusCodeFilter(status));
            parts.push(FilterSpecifier::DurationFilter(duration));
            parts.push(FilterSpecifier::GrpcStatusFilter(call));
            REQUEST
        }
    };
    let filters = parts.into_iter().map(|part| AccessLogFilter { filter_specifier: Some(part) }).collect();
    let filter = AccessLogFilter { filter_specifier: Some(FilterSpecifier::OrFilter(OrFilter { filters })) };
    Some(AccessLog { filter: Some(filter), ..file("/dev/stdout", Some(text_format(text, true)), false) })
}

fn at_least(value: u32) -> Option<ComparisonFilter> {
    let value = Some(RuntimeUInt32 { default_value: value, runtime_key: String::new() });
    Some(ComparisonFilter { op: Op::Ge.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(sample: &str) -> MeshConfig {
        let mut mesh = MeshConfig::default();
        let variables = &mut mesh.default_config.get_or_insert_default().proxy_metadata;
        variables.insert("TULLE_ACCESS_LOG_SAMPLE".to_owned(), sample.to_owned());
        mesh
    }

    fn sampled(mesh: &MeshConfig, traffic: Traffic) -> Option<u32> {
        let filter = access_log(mesh, traffic)?.filter?;
        let Some(FilterSpecifier::OrFilter(or)) = filter.filter_specifier else { panic!() };
        or.filters.iter().find_map(|part| match &part.filter_specifier {
            Some(FilterSpecifier::RuntimeFilter(filter)) => {
                filter.percent_sampled.map(|share| share.numerator)
            }
            _ => None,
        })
    }

    #[test]
    fn a_variable_says_how_many_successes_are_logged() {
        assert_eq!(sampled(&MeshConfig::default(), Traffic::Http), Some(10_000));
        assert_eq!(sampled(&mesh("0"), Traffic::Tcp), Some(0));
        assert_eq!(sampled(&mesh("2.5"), Traffic::Http), Some(25_000));
        assert_eq!(sampled(&mesh("100"), Traffic::Http), Some(1_000_000));
        assert_eq!(sampled(&mesh("off"), Traffic::Http), None);
        for wrong in ["101", "-1", "x", "NaN", ""] {
            assert_eq!(sampled(&mesh(wrong), Traffic::Http), Some(10_000), "{wrong}");
        }
    }
}
