//! `envoy.config.cluster.v3.OutlierDetection`.

use crate::context::{Context, Result, answers, flag, number, refuse, report};
use crate::model::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};
use protos::envoy::envoy::config::cluster::v3 as pb;
use protos::envoy::google::protobuf as wrapped;
use std::time::Duration;

/// Envoy's default of `interval`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Envoy's default of `base_ejection_time`.
const BASE: Duration = Duration::from_secs(30);
/// Envoy's default of `max_ejection_time`.
const MAX: Duration = Duration::from_secs(300);

/// Reads when hosts are ejected.
pub fn read_outlier_detection(cx: &mut Context, message: &pb::OutlierDetection) -> Result<OutlierDetection> {
    answers! { cx, message => pb::OutlierDetection {
        act {
            consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
            enforcing_success_rate, success_rate_minimum_hosts, success_rate_request_volume,
            success_rate_stdev_factor, consecutive_gateway_failure, enforcing_consecutive_gateway_failure,
            split_external_local_origin_errors, consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure, enforcing_local_origin_success_rate,
            failure_percentage_threshold, enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts,
            failure_percentage_request_volume, max_ejection_time, max_ejection_time_jitter,
            always_eject_one_host, successful_active_health_check_uneject_host, detect_degraded_hosts,
        }
        refuse "extensions of outlier detection are not supported" { monitors }
    }}
    report!(cx, "no health checks are made"; successful_active_health_check_uneject_host);
    cx.report_set(
        "detect_degraded_hosts",
        &flag(detect_degraded_hosts, false),
        "x-envoy-degraded is not read",
    );
    let interval = positive(cx, "interval", interval, INTERVAL)?;
    let base_ejection_time = positive(cx, "base_ejection_time", base_ejection_time, BASE)?;
    let max_ejection_time =
        positive(cx, "max_ejection_time", max_ejection_time, MAX.max(base_ejection_time))?;
    if max_ejection_time < base_ejection_time {
        return Err(cx.refused_field("max_ejection_time", "is shorter than base_ejection_time"));
    }
    Ok(OutlierDetection {
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: cx
            .duration("max_ejection_time_jitter", max_ejection_time_jitter)?
            .unwrap_or_default(),
        max_ejection_percent: percent(cx, "max_ejection_percent", max_ejection_percent, 10)?,
        always_eject_one_host: flag(always_eject_one_host, false),
        split_local_origin: *split_external_local_origin_errors,
        consecutive_5xx: consecutive(
            cx,
            consecutive_5xx,
            ("enforcing_consecutive_5xx", enforcing_consecutive_5xx, 100),
        )?,
        consecutive_gateway_failure: consecutive(
            cx,
            consecutive_gateway_failure,
            ("enforcing_consecutive_gateway_failure", enforcing_consecutive_gateway_failure, 0),
        )?,
        consecutive_local_origin_failure: consecutive(
            cx,
            consecutive_local_origin_failure,
            ("enforcing_consecutive_local_origin_failure", enforcing_consecutive_local_origin_failure, 100),
        )?,
        success_rate: SuccessRate {
            enforcing: percent(cx, "enforcing_success_rate", enforcing_success_rate, 100)?,
            enforcing_local_origin: percent(
                cx,
                "enforcing_local_origin_success_rate",
                enforcing_local_origin_success_rate,
                100,
            )?,
            minimum_hosts: number(success_rate_minimum_hosts).unwrap_or(5),
            request_volume: number(success_rate_request_volume).unwrap_or(100),
            deviations_thousandths: number(success_rate_stdev_factor).unwrap_or(1900),
        },
        failure_percentage: FailurePercentage {
            enforcing: percent(cx, "enforcing_failure_percentage", enforcing_failure_percentage, 0)?,
            enforcing_local_origin: percent(
                cx,
                "enforcing_failure_percentage_local_origin",
                enforcing_failure_percentage_local_origin,
                0,
            )?,
            threshold: percent(cx, "failure_percentage_threshold", failure_percentage_threshold, 85)?,
            minimum_hosts: number(failure_percentage_minimum_hosts).unwrap_or(5),
            request_volume: number(failure_percentage_request_volume).unwrap_or(50),
        },
    })
}

/// Five in a row, and how likely that leads to an ejection: field, value and default.
fn consecutive(
    cx: &mut Context,
    threshold: &Option<wrapped::UInt32Value>,
    (field, enforcing, default): (&str, &Option<wrapped::UInt32Value>, u32),
) -> Result<Consecutive> {
    let enforcing = percent(cx, field, enforcing, default)?;
    Ok(Consecutive { threshold: number(threshold).unwrap_or(5), enforcing })
}

fn positive(
    cx: &mut Context,
    name: &str,
    value: &Option<wrapped::Duration>,
    default: Duration,
) -> Result<Duration> {
    match cx.duration(name, value)? {
        Some(Duration::ZERO) => Err(cx.refused_field(name, "is 0: it must be longer")),
        given => Ok(given.unwrap_or(default)),
    }
}

fn percent(cx: &mut Context, name: &str, value: &Option<wrapped::UInt32Value>, default: u32) -> Result<u32> {
    match number(value).unwrap_or(default) {
        percent @ 0..=100 => Ok(percent),
        more => Err(cx.refused_field(name, format!("{more} is not a percentage"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut pb::OutlierDetection)) -> Result<crate::Read<OutlierDetection>> {
        let mut message = pb::OutlierDetection::default();
        change(&mut message);
        Context::read(|cx| read_outlier_detection(cx, &message))
    }

    #[test]
    fn defaults_are_envoys() {
        let read = read(|_| ()).unwrap();
        assert!(read.notes.is_empty());
        let value = read.value;
        assert_eq!(
            (value.interval, value.base_ejection_time, value.max_ejection_time),
            (INTERVAL, BASE, MAX)
        );
        assert_eq!(value.consecutive_5xx, Consecutive { threshold: 5, enforcing: 100 });
        assert_eq!(value.consecutive_gateway_failure, Consecutive { threshold: 5, enforcing: 0 });
        assert_eq!((value.max_ejection_percent, value.always_eject_one_host), (10, false));
    }

    #[test]
    fn the_longest_ejection_is_never_shorter_than_the_first() {
        let seconds = |seconds| Some(wrapped::Duration { seconds, nanos: 0 });
        let long = read(|message| message.base_ejection_time = seconds(400)).unwrap().value;
        assert_eq!(long.max_ejection_time, Duration::from_secs(400));
        let refused = read(|message| message.max_ejection_time = seconds(20)).unwrap_err();
        assert_eq!(refused.path, "max_ejection_time");
        assert_eq!(read(|message| message.interval = seconds(0)).unwrap_err().path, "interval");
    }

    #[test]
    fn refuses_what_is_no_percentage_and_reports_what_does_nothing() {
        let over = Some(wrapped::UInt32Value { value: 101 });
        let refused = read(|message| message.max_ejection_percent = over).unwrap_err();
        assert_eq!(refused.path, "max_ejection_percent");
        let on = Some(wrapped::BoolValue { value: true });
        let notes = read(|message| {
            message.detect_degraded_hosts = on;
            message.successful_active_health_check_uneject_host = on;
        });
        assert_eq!(notes.unwrap().notes.len(), 2);
    }
}
