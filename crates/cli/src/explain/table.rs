//! The answer for people.

use std::fmt::{self, Write};

use super::report::{Destination, Explanation};
use super::source::Source;

/// The answer as a short tree.
pub fn render(explanation: &Explanation) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = tree(explanation, &mut text);
    text
}

fn tree(explanation: &Explanation, out: &mut String) -> fmt::Result {
    writeln!(out, "{} from {} to {}", explanation.request, explanation.from, explanation.to)?;
    writeln!(out, "  listener   {}", explanation.listener)?;
    if let Some(route) = &explanation.route {
        writeln!(
            out,
            "  route      {}[{}]: {}{}",
            route.virtual_host,
            route.position,
            route.action,
            at(&route.source)
        )?;
        for condition in &route.conditions {
            writeln!(out, "    if       {condition}")?;
        }
        if let Some(rewritten) = &route.rewritten {
            writeln!(out, "    sent as  {rewritten}")?;
        }
        if let Some(location) = route.answers.as_ref().and_then(|answers| answers.location.as_ref()) {
            writeln!(out, "    to       {location}")?;
        }
        writeln!(out, "    timeout  {}", route.timeout)?;
        writeln!(out, "    retries  {}", route.retries)?;
    }
    for destination in &explanation.destinations {
        branch(destination, out)?;
    }
    let mark = if explanation.outcome.ok { "ok" } else { "fails" };
    let code = explanation.outcome.reason.map(|code| format!(" ({code})")).unwrap_or_default();
    writeln!(out, "  {mark}: {}{code}", explanation.outcome.text)?;
    for difference in &explanation.differences {
        writeln!(out, "  differs  {difference}")?;
    }
    Ok(())
}

fn branch(destination: &Destination, out: &mut String) -> fmt::Result {
    writeln!(out, "  {:>6.2} %   {}, {}", destination.share, destination.cluster, destination.balancing)?;
    for limit in &destination.limits {
        writeln!(out, "    limit    {limit}")?;
    }
    for rule in &destination.rules {
        writeln!(out, "    rule     {}{}", rule.resource, place(rule))?;
    }
    for endpoint in &destination.endpoints {
        let workload = if endpoint.workload.is_empty() { "unknown" } else { &endpoint.workload };
        let mode = if endpoint.mode.is_empty() { String::new() } else { format!(", {}", endpoint.mode) };
        let health =
            if endpoint.health.is_empty() { String::new() } else { format!(", {}", endpoint.health) };
        writeln!(out, "    endpoint {} {workload}: {}{mode}{health}", endpoint.address, endpoint.transport)?;
        let mark = if endpoint.verdict.allowed { "allowed" } else { "denied" };
        writeln!(out, "      {mark}: {}", endpoint.verdict.reason)?;
        for source in &endpoint.verdict.sources {
            writeln!(out, "        {}{}", source.resource, place(source))?;
        }
    }
    Ok(())
}

fn at(source: &Option<Source>) -> String {
    source.as_ref().map(|it| format!("  {}{}", it.resource, place(it))).unwrap_or_default()
}

fn place(source: &Source) -> String {
    if source.place.is_empty() { String::new() } else { format!(" ({})", source.place) }
}
