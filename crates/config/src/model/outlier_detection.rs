//! When a host is taken out of its cluster for a while.

use std::time::Duration;

/// `envoy.config.cluster.v3.OutlierDetection`, defaults resolved. Shares are in percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Time between sweeps: hosts return, and rates are judged, at a sweep.
    pub interval: Duration,
    /// A host is out for so long, times the number of its ejections.
    pub base_ejection_time: Duration,
    /// But not longer than that.
    pub max_ejection_time: Duration,
    /// Each ejection is longer by a random time up to this.
    pub max_ejection_time_jitter: Duration,
    /// Most of the hosts that may be out.
    pub max_ejection_percent: u32,
    /// One host may be out whatever the percentage says.
    pub always_eject_one_host: bool,
    /// Failures of our own side (connect, reset, timeout) are counted apart from the answers.
    pub split_local_origin: bool,
    /// Answers of 5xx in a row; 0 is off.
    pub consecutive_5xx: Consecutive,
    /// Answers of 502, 503 or 504 in a row; 0 is off.
    pub consecutive_gateway_failure: Consecutive,
    /// Failures of our own side in a row, when they are counted apart; 0 is off.
    pub consecutive_local_origin_failure: Consecutive,
    /// Hosts whose rate of success is far below the others'.
    pub success_rate: SuccessRate,
    /// Hosts whose rate of failure is above a limit.
    pub failure_percentage: FailurePercentage,
}

/// A number of failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consecutive {
    /// So many; 0 is off.
    pub threshold: u32,
    /// How likely the host is then ejected, in percent.
    pub enforcing: u32,
}

/// Statistical outliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    /// How likely an outlier is ejected, in percent.
    pub enforcing: u32,
    /// The same for failures of our own side.
    pub enforcing_local_origin: u32,
    /// Fewer hosts with enough requests are not compared.
    pub minimum_hosts: u32,
    /// Fewer requests in an interval say nothing.
    pub request_volume: u32,
    /// Standard deviations below the mean, in thousandths.
    pub deviations_thousandths: u32,
}

/// Absolute outliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePercentage {
    /// How likely an outlier is ejected, in percent.
    pub enforcing: u32,
    /// The same for failures of our own side.
    pub enforcing_local_origin: u32,
    /// The share of failures from which on a host is one.
    pub threshold: u32,
    /// Fewer hosts are not judged.
    pub minimum_hosts: u32,
    /// Fewer requests in an interval say nothing.
    pub request_volume: u32,
}
