//! `envoy.config.route.v3.RouteMatch`.

use super::header_matcher::read_header_matcher;
use super::query_matcher::read_query_matcher;
use super::string_matcher::read_regex;
use crate::context::{Context, Result, flag, refuse, report};
use crate::model::{PathMatch, RouteMatch};
use protos::envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use protos::envoy::envoy::config::route::v3 as pb;
use protos::envoy::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use std::sync::Arc;

/// Most conditions of one kind.
const LIMIT: usize = 256;

/// Reads the conditions of a route.
pub fn read_route_match(cx: &mut Context, message: &pb::RouteMatch) -> Result<RouteMatch> {
    use pb::route_match::PathSpecifier;
    let pb::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = message;
    refuse!(cx, "is not supported yet: the route would take other requests than it says";
        cookies, tls_context, dynamic_metadata, filter_state);
    let case_sensitive = flag(case_sensitive, true);
    let path = match path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => {
            PathMatch::Prefix(read_path(cx, "prefix", prefix, case_sensitive)?)
        }
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(read_path(cx, "path", path, case_sensitive)?),
        Some(PathSpecifier::SafeRegex(regex)) => {
            PathMatch::Regex(cx.field("safe_regex", |cx| read_regex(cx, regex))?)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            let prefix = read_path(cx, "path_separated_prefix", prefix, case_sensitive)?;
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                let reason = format!("{prefix:?} must begin with a slash and not end with one");
                return Err(cx.refused_field("path_separated_prefix", reason));
            }
            PathMatch::SeparatedPrefix(prefix)
        }
        Some(PathSpecifier::ConnectMatcher(pb::route_match::ConnectMatcher {})) => PathMatch::Connect,
        Some(PathSpecifier::PathMatchPolicy(extension)) => {
            let reason = format!("the path matcher {:?} is not supported", extension.name);
            return Err(cx.refused_field("path_match_policy", reason));
        }
        None => return Err(cx.refused_field("path_specifier", "is missing, or of a kind that is not known")),
    };
    Ok(RouteMatch {
        path,
        case_sensitive,
        headers: cx.list("headers", headers, LIMIT, read_header_matcher)?,
        query_parameters: cx.list("query_parameters", query_parameters, LIMIT, read_query_matcher)?,
        grpc: grpc.is_some(),
        runtime_fraction: read_fraction(cx, runtime_fraction)?,
    })
}

/// The text is in lower case when case does not count, so that a match folds one side only.
fn read_path(cx: &mut Context, field: &str, text: &str, case_sensitive: bool) -> Result<Arc<str>> {
    if text.len() > 8192 {
        return Err(cx.refused_field(field, "longer than 8192 bytes"));
    }
    // A path with a query can never match: the query is cut off before.
    if text.contains(['?', '#']) {
        return Err(cx.refused_field(
            field,
            format!("{text:?} has a query or fragment, which is never part of a path"),
        ));
    }
    Ok(if case_sensitive { text.into() } else { text.to_ascii_lowercase().into() })
}

fn read_fraction(cx: &mut Context, message: &Option<RuntimeFractionalPercent>) -> Result<Option<u32>> {
    let Some(RuntimeFractionalPercent { default_value, runtime_key }) = message else { return Ok(None) };
    cx.field("runtime_fraction", |cx| {
        report!(cx, "there is no runtime: the default value stands"; runtime_key);
        let fraction = cx.required("default_value", default_value)?;
        cx.field("default_value", |cx| millionths(cx, fraction)).map(Some)
    })
}

/// A share in millionths.
pub fn millionths(cx: &mut Context, message: &FractionalPercent) -> Result<u32> {
    let FractionalPercent { numerator, denominator } = message;
    let factor = match cx.enumeration("denominator", *denominator)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Ok(numerator.saturating_mul(factor).min(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::route_match::PathSpecifier;
    use protos::envoy::google::protobuf::BoolValue;

    fn read(
        path: PathSpecifier,
        change: impl FnOnce(&mut pb::RouteMatch),
    ) -> Result<crate::Read<RouteMatch>> {
        let mut message = pb::RouteMatch { path_specifier: Some(path), ..Default::default() };
        change(&mut message);
        Context::read(|cx| read_route_match(cx, &message))
    }

    #[test]
    fn reads_paths_and_fractions() {
        let value = read(PathSpecifier::Path("/Admin".into()), |message| {
            message.case_sensitive = Some(BoolValue { value: false });
            let default_value = Some(FractionalPercent { numerator: 5, denominator: 0 });
            message.runtime_fraction =
                Some(RuntimeFractionalPercent { default_value, runtime_key: "x".into() });
        })
        .unwrap();
        assert_eq!(value.value.path, PathMatch::Exact("/admin".into()));
        assert_eq!(value.value.runtime_fraction, Some(50_000));
        assert_eq!(value.notes[0].path, "runtime_fraction.runtime_key");
    }

    #[test]
    fn reads_a_connect_matcher() {
        let connect = read(PathSpecifier::ConnectMatcher(Default::default()), |_| ()).unwrap();
        assert_eq!((connect.value.path, connect.notes.len()), (PathMatch::Connect, 0));
    }

    #[test]
    fn refuses_conditions_that_it_cannot_test() {
        let refused =
            read(PathSpecifier::Prefix("/".into()), |message| message.cookies = vec![Default::default()]);
        assert_eq!(refused.unwrap_err().path, "cookies");
        assert_eq!(read(PathSpecifier::Prefix("/a?b".into()), |_| ()).unwrap_err().path, "prefix");
        assert!(read(PathSpecifier::PathSeparatedPrefix("/a/".into()), |_| ()).is_err());
    }
}
