//! Envoy's `outlier_detection.*` counters of one cluster, shown once its configuration asks for detection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::outlier::{Cause, Outliers};
use crate::telemetry::registry::Family;
use crate::telemetry::{Registry, families};

/// Counters; they are added to when a host is found to be an outlier, never by an ordinary request.
#[derive(Debug, Default)]
pub struct OutlierStats {
    shown: AtomicBool,
    enforced_total: Arc<AtomicU64>,
    overflow: Arc<AtomicU64>,
    detected: [Arc<AtomicU64>; 7],
    enforced: [Arc<AtomicU64>; 7],
}

impl OutlierStats {
    pub(super) fn detected(&self, cause: Cause) {
        self.detected[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn enforced(&self, cause: Cause) {
        self.enforced_total.fetch_add(1, Ordering::Relaxed);
        self.enforced[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn overflow(&self) {
        self.overflow.fetch_add(1, Ordering::Relaxed);
    }
}

/// The family of a cause: detected, enforced.
fn of(cause: Cause) -> (&'static Family, &'static Family) {
    match cause {
        Cause::Consecutive5xx => {
            (&families::OUTLIER_DETECTED_CONSECUTIVE_5XX, &families::OUTLIER_ENFORCED_CONSECUTIVE_5XX)
        }
        Cause::ConsecutiveGatewayFailure => (
            &families::OUTLIER_DETECTED_CONSECUTIVE_GATEWAY_FAILURE,
            &families::OUTLIER_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE,
        ),
        Cause::ConsecutiveLocalOriginFailure => (
            &families::OUTLIER_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
            &families::OUTLIER_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
        ),
        Cause::SuccessRate => {
            (&families::OUTLIER_DETECTED_SUCCESS_RATE, &families::OUTLIER_ENFORCED_SUCCESS_RATE)
        }
        Cause::SuccessRateLocalOrigin => (
            &families::OUTLIER_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE,
            &families::OUTLIER_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE,
        ),
        Cause::FailurePercentage => {
            (&families::OUTLIER_DETECTED_FAILURE_PERCENTAGE, &families::OUTLIER_ENFORCED_FAILURE_PERCENTAGE)
        }
        Cause::FailurePercentageLocalOrigin => (
            &families::OUTLIER_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
            &families::OUTLIER_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
        ),
    }
}

/// Shows the counters of a cluster, once.
pub(super) fn show(outliers: &Outliers, cluster: &str, registry: &Registry) {
    let stats = &outliers.stats;
    if stats.shown.swap(true, Ordering::AcqRel) {
        return;
    }
    let show = |family, cell: &Arc<AtomicU64>| {
        registry.shared_counter(family, vec![("envoy_cluster_name", cluster.to_owned())], cell);
    };
    show(&families::OUTLIER_EJECTIONS_ACTIVE, outliers.active_cell());
    show(&families::OUTLIER_EJECTIONS_ENFORCED, &stats.enforced_total);
    show(&families::OUTLIER_EJECTIONS_OVERFLOW, &stats.overflow);
    for cause in Cause::ALL {
        let (detected, enforced) = of(cause);
        show(detected, &stats.detected[cause as usize]);
        show(enforced, &stats.enforced[cause as usize]);
    }
}
