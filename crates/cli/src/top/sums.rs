//! What `tulled` tells of requests, summed up by service, route or pair of workloads.

use std::collections::BTreeMap;

use protos::observe::slot_end;
use serde_json::Value;

/// What rows are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The service that was asked for.
    Service,
    /// The route that took it.
    Route,
    /// Caller and called.
    Peer,
}

impl By {
    /// All of them, in the order in which they are shown.
    pub const ALL: [By; 3] = [By::Service, By::Route, By::Peer];

    /// The head of the first column.
    pub fn title(self) -> &'static str {
        match self {
            By::Service => "SERVICE",
            By::Route => "ROUTE",
            By::Peer => "CALLER → CALLED",
        }
    }

    fn name(self, sum: &Value) -> String {
        let text = |key: &str| sum[key].as_str().unwrap_or_default();
        match self {
            By::Service => text("service").to_owned(),
            By::Route => text("route").to_owned(),
            By::Peer if text("direction") == "inbound" => format!("{} → {}", text("peer"), text("proxy")),
            By::Peer => format!("{} → {}", text("proxy"), text("peer")),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Sum {
    requests: u64,
    failures: u64,
    durations: BTreeMap<usize, u64>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Service, route or pair.
    pub name: String,
    /// `inbound`: as the called one's proxy saw it; `outbound`: as the caller's did.
    pub direction: String,
    /// How many ended.
    pub requests: u64,
    /// How many of them with 5xx or without an answer.
    pub failures: u64,
    /// How many a second.
    pub rps: f64,
    /// The part that did not fail.
    pub success: f64,
    /// Half took no longer, milliseconds.
    pub p50: f64,
    /// 99 % took no longer, milliseconds.
    pub p99: f64,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// For how long.
    pub seconds: f64,
    /// By how many proxies.
    pub proxies: u64,
    /// Proxies that do not count, and why.
    pub refusals: Vec<String>,
    sums: [BTreeMap<(String, String), Sum>; 3],
}

impl Sums {
    /// From here on it counts.
    pub fn begin(&mut self) {
        *self = Sums { refusals: std::mem::take(&mut self.refusals), ..Sums::default() };
    }

    /// Adds one line of `tulled`.
    pub fn add(&mut self, line: &Value) {
        self.seconds += line["seconds"].as_f64().unwrap_or_default();
        self.proxies = line["watching"].as_u64().unwrap_or_default();
        let refused = line["refused"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.refusals.extend(refused.map(str::to_owned));
        for sum in line["sums"].as_array().into_iter().flatten() {
            let direction = sum["direction"].as_str().unwrap_or_default();
            for (by, sums) in By::ALL.into_iter().zip(&mut self.sums) {
                sums.entry((by.name(sum), direction.to_owned())).or_default().add(sum);
            }
        }
    }

    /// Rows, the busiest first.
    pub fn rows(&self, by: By) -> Vec<Row> {
        let position = By::ALL.iter().position(|it| *it == by).unwrap_or_default();
        let row =
            |((name, direction), sum): (&(String, String), &Sum)| sum.row(name, direction, self.seconds);
        let mut rows: Vec<Row> = self.sums[position].iter().map(row).collect();
        rows.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
        rows
    }
}

impl Sum {
    fn add(&mut self, sum: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        self.requests += number(&sum["requests"]);
        self.failures += number(&sum["failures"]);
        let list = |key: &str| sum[key].as_array().map(Vec::as_slice).unwrap_or_default();
        for (slot, count) in list("slots").iter().zip(list("counts")) {
            let slot = usize::try_from(number(slot)).unwrap_or(usize::MAX);
            if slot < protos::observe::SLOTS {
                *self.durations.entry(slot).or_default() += number(count);
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    fn row(&self, name: &str, direction: &str, seconds: f64) -> Row {
        let requests = self.requests as f64;
        Row {
            name: name.to_owned(),
            direction: direction.to_owned(),
            requests: self.requests,
            failures: self.failures,
            rps: if seconds > 0.0 { requests / seconds } else { 0.0 },
            success: if self.requests > 0 { 1.0 - self.failures as f64 / requests } else { 1.0 },
            p50: self.quantile(50),
            p99: self.quantile(99),
        }
    }

    /// The duration that so many percent do not exceed, in milliseconds; at most an eighth too long.
    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    fn quantile(&self, percent: u64) -> f64 {
        let all: u64 = self.durations.values().sum();
        let wanted = (all * percent).div_ceil(100);
        let mut below = 0;
        for (slot, count) in &self.durations {
            below += count;
            if below >= wanted {
                return slot_end(*slot) as f64 / 1_000.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::observe::slot_of;
    use serde_json::json;

    #[test]
    fn quantiles_are_at_most_an_eighth_too_long() {
        let mut sum = Sum::default();
        for milliseconds in 1..=100u64 {
            *sum.durations.entry(slot_of(milliseconds * 1_000)).or_default() += 1;
        }
        let (p50, p99) = (sum.quantile(50), sum.quantile(99));
        assert!((50.0..57.0).contains(&p50) && (99.0..112.0).contains(&p99), "{p50} {p99}");
        assert!(Sum::default().quantile(99).abs() < 0.001);
    }

    #[test]
    fn the_same_request_is_seen_from_both_sides() {
        let one = |proxy: &str, direction: &str, peer: &str| {
            json!({"proxy": proxy, "direction": direction, "service": "s", "route": "r", "peer": peer,
                   "requests": 4, "failures": 1, "slots": [], "counts": []})
        };
        let mut sums = Sums::default();
        let line = json!({"watching": 2, "seconds": 2.0, "refused": ["n/c: no"],
                          "sums": [one("n/a", "outbound", "n/b"), one("n/b", "inbound", "n/a")]});
        sums.add(&line);
        let names: Vec<_> = sums.rows(By::Peer).into_iter().map(|row| (row.name, row.direction)).collect();
        assert_eq!(names[0].0, "n/a → n/b");
        assert_eq!((names.len(), &names[1].0), (2, &names[0].0));
        let row = &sums.rows(By::Service)[0];
        assert!((row.rps - 2.0).abs() < 0.001 && (row.success - 0.75).abs() < 0.001);
        assert_eq!(sums.refusals, ["n/c: no"]);
    }
}
