//! Which answers outlier detection counts as errors: `HttpProtocolOptions.outlier_detection.error_matcher`.

use super::header_matcher::read_header_matcher;
use crate::context::{Context, Result, report};
use crate::model::{HeaderMatch, HeaderMatcher, StringMatch};
use protos::envoy::envoy::config::common::matcher::v3 as matcher;
use protos::envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::OutlierDetection;
use std::sync::Arc;

/// Statuses that an answer can have.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;
/// Most rules of one list, and of lists in lists.
const MAX_RULES: usize = 1024;
const MAX_DEPTH: usize = 8;

/// The statuses that are errors, in order; `None`: those from 500 on.
///
/// What looks at more than the status is reported: 5xx count then.
pub fn read_error_statuses(
    cx: &mut Context,
    message: &Option<OutlierDetection>,
) -> Result<Option<Arc<[u16]>>> {
    let Some(OutlierDetection { error_matcher }) = message else { return Ok(None) };
    let Some(predicate) = error_matcher else { return Ok(None) };
    cx.field("outlier_detection", |cx| {
        let statuses = cx.field("error_matcher", |cx| read_predicate(cx, predicate, MAX_DEPTH))?;
        if statuses.is_none() {
            report!(cx, "only conditions on :status are known here: answers of 5xx count as errors"; error_matcher);
        }
        Ok(statuses.map(Into::into))
    })
}

/// `None`: something in it is no condition on the status.
fn read_predicate(
    cx: &mut Context,
    message: &matcher::MatchPredicate,
    depth: usize,
) -> Result<Option<Vec<u16>>> {
    use matcher::match_predicate::Rule;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.refused(format!("more than {MAX_DEPTH} rules stand in one another")));
    };
    let all = || STATUSES.collect::<Vec<_>>();
    Ok(match &message.rule {
        Some(Rule::AnyMatch(any)) => Some(if *any { all() } else { Vec::new() }),
        Some(Rule::NotMatch(not)) => {
            let not = cx.field("not_match", |cx| read_predicate(cx, not, depth))?;
            not.map(|not| all().into_iter().filter(|status| !not.contains(status)).collect())
        }
        Some(Rule::OrMatch(set)) => {
            let sets = cx.field("or_match", |cx| read_set(cx, set, depth))?;
            let any = |status: &u16, sets: &[Vec<u16>]| sets.iter().any(|set| set.contains(status));
            sets.map(|sets| all().into_iter().filter(|status| any(status, &sets)).collect())
        }
        Some(Rule::AndMatch(set)) => {
            let sets = cx.field("and_match", |cx| read_set(cx, set, depth))?;
            let every = |status: &u16, sets: &[Vec<u16>]| sets.iter().all(|set| set.contains(status));
            sets.map(|sets| all().into_iter().filter(|status| every(status, &sets)).collect())
        }
        Some(Rule::HttpResponseHeadersMatch(matcher::HttpHeadersMatch { headers })) => {
            let read = cx.field("http_response_headers_match", |cx| {
                cx.list("headers", headers, MAX_RULES, read_header_matcher)
            })?;
            let conditions: Option<Vec<_>> = read.iter().map(on_status).collect();
            conditions.map(|conditions| {
                all().into_iter().filter(|status| conditions.iter().all(|it| it(*status))).collect()
            })
        }
        Some(
            Rule::HttpRequestHeadersMatch(_)
            | Rule::HttpRequestTrailersMatch(_)
            | Rule::HttpResponseTrailersMatch(_)
            | Rule::HttpRequestGenericBodyMatch(_)
            | Rule::HttpResponseGenericBodyMatch(_),
        ) => None,
        None => return Err(cx.refused("names no rule")),
    })
}

fn read_set(
    cx: &mut Context,
    set: &matcher::match_predicate::MatchSet,
    depth: usize,
) -> Result<Option<Vec<Vec<u16>>>> {
    let matcher::match_predicate::MatchSet { rules } = set;
    let sets = cx.list("rules", rules, MAX_RULES, |cx, rule| read_predicate(cx, rule, depth))?;
    Ok(sets.into_iter().collect())
}

/// The condition as one on the status.
fn on_status(matcher: &HeaderMatcher) -> Option<Box<dyn Fn(u16) -> bool + '_>> {
    let invert = matcher.invert;
    let condition: Box<dyn Fn(u16) -> bool + '_> = match &matcher.condition {
        _ if &*matcher.name != ":status" => return None,
        HeaderMatch::Present(present) => Box::new(move |_| *present),
        HeaderMatch::Range { start, end } => {
            Box::new(move |status| (*start..*end).contains(&i64::from(status)))
        }
        HeaderMatch::Value(value) => match &value.pattern {
            StringMatch::Exact(text) => Box::new(move |status| status.to_string() == **text),
            StringMatch::Prefix(text) => Box::new(move |status| status.to_string().starts_with(&**text)),
            _ => return None,
        },
    };
    Some(Box::new(move |status| condition(status) != invert))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matcher::MatchPredicate;
    use matcher::match_predicate::{MatchSet, Rule};
    use protos::envoy::envoy::config::route::v3::{
        HeaderMatcher as Message, header_matcher::HeaderMatchSpecifier as Specifier,
    };
    use protos::envoy::envoy::r#type::v3::Int64Range;

    fn header(name: &str, specifier: Specifier) -> MatchPredicate {
        let header =
            Message { name: name.into(), header_match_specifier: Some(specifier), ..Default::default() };
        MatchPredicate {
            rule: Some(Rule::HttpResponseHeadersMatch(matcher::HttpHeadersMatch { headers: vec![header] })),
        }
    }

    fn exact(text: &str) -> MatchPredicate {
        header(":status", Specifier::ExactMatch(text.into()))
    }

    fn read(predicate: MatchPredicate) -> (Option<Arc<[u16]>>, usize) {
        let message = Some(OutlierDetection { error_matcher: Some(predicate) });
        let read = Context::read(|cx| read_error_statuses(cx, &message)).unwrap();
        (read.value, read.notes.len())
    }

    #[test]
    fn conditions_on_the_status_become_statuses() {
        let or = |rules| MatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) };
        assert_eq!(read(or(vec![exact("429"), exact("503")])), (Some([429, 503].into()), 0));
        let range = header(":status", Specifier::RangeMatch(Int64Range { start: 500, end: 503 }));
        assert_eq!(read(range).0.unwrap()[..], [500, 501, 502]);
        let prefix = header(":status", Specifier::PrefixMatch("59".into()));
        let not = MatchPredicate { rule: Some(Rule::NotMatch(Box::new(exact("591")))) };
        let and = Rule::AndMatch(MatchSet { rules: vec![prefix, not] });
        assert_eq!(read(MatchPredicate { rule: Some(and) }).0.unwrap().len(), 9);
        assert_eq!(read(MatchPredicate { rule: Some(Rule::AnyMatch(true)) }).0.unwrap().len(), 500);
    }

    #[test]
    fn what_looks_at_more_is_reported_and_what_is_no_rule_refused() {
        assert_eq!(read(header("x", Specifier::ExactMatch("y".into()))), (None, 1));
        let empty = Some(OutlierDetection { error_matcher: Some(MatchPredicate { rule: None }) });
        let error = Context::read(|cx| read_error_statuses(cx, &empty)).unwrap_err();
        assert_eq!(error.path, "outlier_detection.error_matcher");
        let mut deep = exact("429");
        for _ in 0..MAX_DEPTH {
            deep = MatchPredicate { rule: Some(Rule::NotMatch(Box::new(deep))) };
        }
        let deep = Some(OutlierDetection { error_matcher: Some(deep) });
        assert!(Context::read(|cx| read_error_statuses(cx, &deep)).is_err());
    }
}
