//! One line about a denied request that names the user's AuthorizationPolicies. Limited: a flood of denied requests
//! must not become a flood of lines.

use std::cell::Cell;
use std::time::{Duration, Instant};

use config::model::{RbacAction, RbacRules};

/// Lines per [`PERIOD`] and worker.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// Policies named in one line.
const NAMED: usize = 5;

/// Decides which lines are written.
#[derive(Debug, Default)]
pub struct DenialLog {
    period: Cell<Option<Instant>>,
    written: Cell<u32>,
    suppressed: Cell<u64>,
}

impl DenialLog {
    /// Whether a line may be written now; with it, how many were left out since the last one.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        if self.period.get().is_none_or(|start| now.saturating_duration_since(start) >= PERIOD) {
            self.period.set(Some(now));
            self.written.set(0);
        }
        if self.written.get() >= LINES {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.written.set(self.written.get() + 1);
        Some(self.suppressed.take())
    }
}

/// Envoy's details of a denial; one word in a log line.
pub fn details(policy: Option<&str>) -> String {
    let details = format!("rbac_access_denied_matched_policy[{}]", policy.unwrap_or("none"));
    details.replace(|c: char| c.is_whitespace() || c.is_control(), "_")
}

/// Why a request was denied, in the names of the user's resources. `matched`: the policy that denied it.
pub fn explain(rules: &RbacRules, matched: Option<&str>) -> String {
    match (rules.action, matched) {
        (RbacAction::Deny, Some(name)) => match parse(name) {
            Some((policy, rule)) => format!("rule {rule} of AuthorizationPolicy {policy} denies it"),
            None => format!("the policy {name} denies it"),
        },
        _ => {
            let mut names: Vec<String> = Vec::new();
            for policy in &rules.policies {
                let name = parse(&policy.name).map_or_else(|| policy.name.to_string(), |(name, _)| name);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            if names.is_empty() {
                return "an AuthorizationPolicy without rules allows nothing".to_owned();
            }
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("no rule of AuthorizationPolicy {}{more} allows it", names.join(", "))
        }
    }
}

/// `ns[production]-policy[payment-callers]-rule[0]` as `production/payment-callers` and `0`.
fn parse(name: &str) -> Option<(String, &str)> {
    let rest = name.strip_prefix("ns[")?;
    let (namespace, rest) = rest.split_once("]-policy[")?;
    let (policy, rest) = rest.split_once("]-rule[")?;
    Some((format!("{namespace}/{policy}"), rest.strip_suffix(']')?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::Policy;

    fn rules(action: RbacAction, names: &[&str]) -> RbacRules {
        let policy = |name: &&str| Policy { name: (*name).into(), permissions: vec![], principals: vec![] };
        RbacRules { action, policies: names.iter().map(policy).collect() }
    }

    #[test]
    fn names_the_users_resources() {
        let two = [
            "ns[production]-policy[payment-callers]-rule[0]",
            "ns[production]-policy[payment-callers]-rule[1]",
        ];
        assert_eq!(
            explain(&rules(RbacAction::Allow, &two), None),
            "no rule of AuthorizationPolicy production/payment-callers allows it"
        );
        assert_eq!(
            explain(&rules(RbacAction::Deny, &two), Some(two[1])),
            "rule 1 of AuthorizationPolicy production/payment-callers denies it"
        );
        assert_eq!(explain(&rules(RbacAction::Deny, &["mine"]), Some("mine")), "the policy mine denies it");
        assert_eq!(
            explain(&rules(RbacAction::Allow, &[]), None),
            "an AuthorizationPolicy without rules allows nothing"
        );
    }

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_number() {
        let (log, start) = (DenialLog::default(), Instant::now());
        let written = (0..1_000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(log.admit(start + PERIOD), Some(990));
    }
}
