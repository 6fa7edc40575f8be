//! How a cluster picks a host.

use crate::context::{Context, Result, number, refuse, report};
use crate::model::LbPolicy;
use protos::envoy::envoy::config::cluster::v3::cluster as pb;

/// Reads the policy with its own configuration.
pub fn read_lb_policy(cx: &mut Context, policy: i32, config: &Option<pb::LbConfig>) -> Result<LbPolicy> {
    let policy = match cx.enumeration("lb_policy", policy)? {
        pb::LbPolicy::RoundRobin => LbPolicy::RoundRobin,
        pb::LbPolicy::LeastRequest => LbPolicy::LeastRequest { choices: 2 },
        pb::LbPolicy::Random => LbPolicy::Random,
        other => {
            let reason = format!(
                "{} is not supported yet: use ROUND_ROBIN, LEAST_REQUEST or RANDOM",
                other.as_str_name()
            );
            return Err(cx.refused_field("lb_policy", reason));
        }
    };
    match config {
        None => Ok(policy),
        Some(pb::LbConfig::LeastRequestLbConfig(config)) => cx.field("least_request_lb_config", |cx| {
            let pb::LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config } = config;
            report!(cx, "there is no slow start yet"; slow_start_config);
            report!(cx, "the bias is 1"; active_request_bias);
            let choices = number(choice_count).unwrap_or(2);
            if !(2..=1000).contains(&choices) {
                return Err(cx.refused_field("choice_count", format!("{choices} is not between 2 and 1000")));
            }
            match policy {
                LbPolicy::LeastRequest { .. } => Ok(LbPolicy::LeastRequest { choices }),
                other => {
                    cx.note("belongs to another lb_policy");
                    Ok(other)
                }
            }
        }),
        Some(pb::LbConfig::RoundRobinLbConfig(pb::RoundRobinLbConfig { slow_start_config })) => {
            cx.field("round_robin_lb_config", |cx| {
                report!(cx, "there is no slow start yet"; slow_start_config);
                Ok(policy)
            })
        }
        Some(
            pb::LbConfig::RingHashLbConfig(_)
            | pb::LbConfig::MaglevLbConfig(_)
            | pb::LbConfig::OriginalDstLbConfig(_),
        ) => {
            cx.field("lb_config", |cx| cx.note("belongs to another lb_policy"));
            Ok(policy)
        }
    }
}

/// Envoy's default of `healthy_panic_threshold`, in percent.
const PANIC: u32 = 50;

/// Reads `CommonLbConfig`: the share of healthy hosts, in percent, below which health is ignored. Nothing else of it
/// acts yet, and none of it may change who is called beyond what health says.
pub fn read_common_lb(cx: &mut Context, message: &Option<pb::CommonLbConfig>) -> Result<u32> {
    let Some(message) = message else { return Ok(PANIC) };
    cx.field("common_lb_config", |cx| {
        let pb::CommonLbConfig {
            healthy_panic_threshold,
            update_merge_window,
            ignore_new_hosts_until_first_hc,
            close_connections_on_host_set_change,
            consistent_hashing_lb_config,
            override_host_status,
            locality_config_specifier,
        } = message;
        report!(cx, "updates act at once"; update_merge_window);
        report!(cx, "health is what the control plane says"; ignore_new_hosts_until_first_hc);
        report!(cx, "no policy of a cluster uses a hash yet"; consistent_hashing_lb_config);
        report!(cx, "hosts are not overridden"; override_host_status);
        report!(cx, "localities are not preferred yet"; locality_config_specifier);
        refuse!(cx, "connections outlive other hosts' changes"; close_connections_on_host_set_change);
        match healthy_panic_threshold {
            None => Ok(PANIC),
            // Envoy rounds as well.
            Some(percent) if (0.0..=100.0).contains(&percent.value) => Ok(percent.value.round() as u32),
            Some(_) => Err(cx.refused_field("healthy_panic_threshold", "is not a percentage")),
        }
    })
}
