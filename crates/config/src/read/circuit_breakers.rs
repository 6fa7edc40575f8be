//! `envoy.config.cluster.v3.CircuitBreakers`.

use crate::context::{Context, Result, number, report};
use crate::model::{CircuitBreakers, Priority, RetryBudget, Thresholds};
use protos::envoy::envoy::config::cluster::v3 as pb;
use protos::envoy::envoy::config::core::v3::RoutingPriority;

/// Most entries of one list: a priority can be named once.
const MAX_ENTRIES: usize = 16;

/// Reads the limits of a cluster. Of several entries for a priority the first counts, as in Envoy.
pub fn read_circuit_breakers(
    cx: &mut Context,
    message: &Option<pb::CircuitBreakers>,
) -> Result<CircuitBreakers> {
    let mut read = CircuitBreakers::default();
    let Some(pb::CircuitBreakers { thresholds, per_host_thresholds }) = message else { return Ok(read) };
    cx.field("circuit_breakers", |cx| {
        let all = cx.list("thresholds", thresholds, MAX_ENTRIES, read_thresholds)?;
        let of =
            |wanted| all.iter().find(|(priority, _)| *priority == wanted).map(|(_, limits)| limits.clone());
        read.default = of(Priority::Default).unwrap_or_default();
        read.high = of(Priority::High).unwrap_or_default();
        let hosts = cx.list("per_host_thresholds", per_host_thresholds, MAX_ENTRIES, read_host_thresholds)?;
        read.max_connections_per_host =
            hosts.iter().find(|(priority, _)| *priority == Priority::Default).and_then(|(_, limit)| *limit);
        Ok(read)
    })
}

/// `RoutingPriority`.
pub fn read_priority(cx: &mut Context, field: &str, value: i32) -> Result<Priority> {
    Ok(match cx.enumeration(field, value)? {
        RoutingPriority::Default => Priority::Default,
        RoutingPriority::High => Priority::High,
    })
}

fn read_thresholds(
    cx: &mut Context,
    message: &pb::circuit_breakers::Thresholds,
) -> Result<(Priority, Thresholds)> {
    let pb::circuit_breakers::Thresholds {
        priority,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = message;
    report!(cx, "there is one pool for each host"; max_connection_pools);
    let default = Thresholds::default();
    let limits = Thresholds {
        max_connections: number(max_connections).unwrap_or(default.max_connections),
        max_pending_requests: number(max_pending_requests).unwrap_or(default.max_pending_requests),
        max_requests: number(max_requests).unwrap_or(default.max_requests),
        max_retries: number(max_retries).unwrap_or(default.max_retries),
        retry_budget: read_budget(cx, retry_budget)?,
        track_remaining: *track_remaining,
    };
    Ok((read_priority(cx, "priority", *priority)?, limits))
}

fn read_budget(
    cx: &mut Context,
    message: &Option<pb::circuit_breakers::thresholds::RetryBudget>,
) -> Result<Option<RetryBudget>> {
    use pb::circuit_breakers::thresholds::RetryBudget as Message;
    let Some(Message { budget_percent, min_retry_concurrency, budget_interval }) = message else {
        return Ok(None);
    };
    cx.field("retry_budget", |cx| {
        report!(cx, "the budget is a share of the requests that run now"; budget_interval);
        let percent = budget_percent.as_ref().map_or(20.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&percent) {
            return Err(cx.refused_field("budget_percent", format!("{percent} is not between 0 and 100")));
        }
        Ok(Some(RetryBudget { percent, min_concurrency: number(min_retry_concurrency).unwrap_or(3) }))
    })
}

/// The one limit that Envoy takes for each host; the others are refused by it too.
fn read_host_thresholds(
    cx: &mut Context,
    message: &pb::circuit_breakers::Thresholds,
) -> Result<(Priority, Option<u32>)> {
    let pb::circuit_breakers::Thresholds {
        priority,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = message;
    let only = "a host has only max_connections";
    cx.refuse_set("max_pending_requests", max_pending_requests, only)?;
    cx.refuse_set("max_requests", max_requests, only)?;
    cx.refuse_set("max_retries", max_retries, only)?;
    cx.refuse_set("retry_budget", retry_budget, only)?;
    cx.refuse_set("max_connection_pools", max_connection_pools, only)?;
    report!(cx, "what is left of a host's limit is not tracked"; track_remaining);
    let read = read_priority(cx, "priority", *priority)?;
    if read == Priority::High {
        report!(cx, "the limit of the default priority stands for a host"; max_connections);
    }
    Ok((read, number(max_connections)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::r#type::v3::Percent;
    use protos::envoy::google::protobuf::UInt32Value;

    fn read(thresholds: pb::circuit_breakers::Thresholds) -> Result<CircuitBreakers> {
        let message = Some(pb::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
        Context::read(|cx| read_circuit_breakers(cx, &message)).map(|read| read.value)
    }

    #[test]
    fn defaults_are_envoys_and_each_priority_has_its_own() {
        let none = Context::read(|cx| read_circuit_breakers(cx, &None)).unwrap().value;
        assert_eq!((none.default.max_connections, none.high.max_retries), (1024, 3));
        let five = Some(UInt32Value { value: 5 });
        let high = read(pb::circuit_breakers::Thresholds {
            priority: RoutingPriority::High as i32,
            max_connections: five,
            ..Default::default()
        });
        let high = high.unwrap();
        assert_eq!((high.high.max_connections, high.default.max_connections), (5, 1024));
    }

    #[test]
    fn a_budget_is_a_percentage() {
        let of = |percent: Option<f64>| {
            let budget = pb::circuit_breakers::thresholds::RetryBudget {
                budget_percent: percent.map(|value| Percent { value }),
                ..Default::default()
            };
            read(pb::circuit_breakers::Thresholds { retry_budget: Some(budget), ..Default::default() })
        };
        let default = RetryBudget { percent: 20.0, min_concurrency: 3 };
        assert_eq!(of(None).unwrap().default.retry_budget, Some(default));
        for wrong in [-1.0, 100.5, f64::NAN] {
            assert!(of(Some(wrong)).unwrap_err().path.ends_with("retry_budget.budget_percent"), "{wrong}");
        }
    }

    #[test]
    fn a_host_has_only_connections() {
        let of = |one: pb::circuit_breakers::Thresholds| {
            let message = Some(pb::CircuitBreakers { per_host_thresholds: vec![one], ..Default::default() });
            Context::read(|cx| read_circuit_breakers(cx, &message)).map(|read| read.value)
        };
        let two = Some(UInt32Value { value: 2 });
        let connections = pb::circuit_breakers::Thresholds { max_connections: two, ..Default::default() };
        assert_eq!(of(connections).unwrap().max_connections_per_host, Some(2));
        let requests = pb::circuit_breakers::Thresholds { max_requests: two, ..Default::default() };
        assert_eq!(of(requests).unwrap_err().path, "circuit_breakers.per_host_thresholds[0].max_requests");
    }
}
