//! `envoy.config.route.v3.QueryParameterMatcher`.

use super::name::required_name;
use super::string_matcher::read_string_matcher;
use crate::context::{Context, Result};
use crate::model::QueryMatcher;
use protos::envoy::envoy::config::route::v3 as route;

/// Reads a condition on a query parameter.
pub fn read_query_matcher(cx: &mut Context, message: &route::QueryParameterMatcher) -> Result<QueryMatcher> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier;
    let route::QueryParameterMatcher { name, query_parameter_match_specifier } = message;
    let name = required_name(cx, "name", name)?;
    Ok(match query_parameter_match_specifier {
        None => QueryMatcher { name, value: None, present: true },
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => {
            QueryMatcher { name, value: None, present: *present }
        }
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            let value = Some(cx.field("string_match", |cx| read_string_matcher(cx, matcher))?);
            QueryMatcher { name, value, present: true }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_presence_and_refuses_no_name() {
        let mut message =
            route::QueryParameterMatcher { name: "v".into(), query_parameter_match_specifier: None };
        let read = Context::read(|cx| read_query_matcher(cx, &message)).unwrap();
        assert_eq!(read.value, QueryMatcher { name: "v".into(), value: None, present: true });
        message.name.clear();
        assert_eq!(Context::read(|cx| read_query_matcher(cx, &message)).unwrap_err().path, "name");
    }
}
