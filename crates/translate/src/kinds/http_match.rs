//! Matches of VirtualService HTTP rules: which hold for a client at all, and Envoy's form of the rest.

use api::kinds::common::StringMatch;
use api::kinds::virtual_service::HttpMatchRequest;
use protos::envoy::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use protos::envoy::envoy::r#type::matcher::v3::StringMatcher;

use crate::kinds::sendable;
use crate::scope::Scope;
use crate::values;

/// Beginning of a header name that stands for a claim of a verified token.
const CLAIMS: &str = "@request.auth.claims";
/// Keys of `headers` that Istio ignores: they have fields of their own.
const PSEUDO: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Whether a match can hold for requests of this client on this Service port: what is known before a request comes.
pub fn applies(condition: &HttpMatchRequest, scope: &Scope<'_>, port: u16) -> bool {
    if sendable::path_defect(condition).is_some() {
        return false;
    }
    if unsupported_header(condition).is_some()
        || condition.port.is_some_and(|wanted| wanted != u32::from(port))
    {
        return false;
    }
    if !condition.gateways.is_empty() {
        // Source conditions count only for matches without gateways, as in Istio.
        return condition.gateways.iter().any(|gateway| gateway == "mesh");
    }
    let labels_match =
        condition.source_labels.iter().all(|(key, value)| scope.labels.get(key) == Some(value));
    labels_match && (condition.source_namespace.is_empty() || condition.source_namespace == scope.namespace())
}

/// A header condition that sidecars cannot evaluate; its match never holds.
pub fn unsupported_header(condition: &HttpMatchRequest) -> Option<&str> {
    let names = condition.headers.keys().chain(condition.without_headers.keys());
    names.map(String::as_str).find(|name| name.starts_with(CLAIMS))
}

/// Envoy's form of a match; `None` matches every request.
pub fn route_match(condition: Option<&HttpMatchRequest>) -> RouteMatch {
    let mut result =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let Some(condition) = condition else { return result };
    match &condition.uri {
        None | Some(StringMatch::Present) => {}
        Some(StringMatch::Prefix(prefix)) if prefix.is_empty() => {}
        Some(StringMatch::Exact(path)) => result.path_specifier = Some(PathSpecifier::Path(path.clone())),
        Some(StringMatch::Prefix(prefix)) => {
            result.path_specifier = Some(PathSpecifier::Prefix(prefix.clone()))
        }
        Some(StringMatch::Regex(regex)) => {
            result.path_specifier = Some(PathSpecifier::SafeRegex(values::regex_matcher(regex)));
        }
    }
    let is_regex = matches!(condition.uri, Some(StringMatch::Regex(_)));
    if condition.ignore_uri_case && !is_regex {
        result.case_sensitive = values::boolean(false);
    }
    let pseudo = [
        (":method", &condition.method),
        (":scheme", &condition.scheme),
        (":authority", &condition.authority),
    ];
    for (name, matcher) in pseudo {
        if let Some(matcher) = matcher {
            result.headers.push(header(name, matcher, false));
        }
    }
    for (name, matcher) in &condition.headers {
        if !PSEUDO.contains(&name.as_str()) {
            result.headers.push(header(name, matcher, false));
        }
    }
    for (name, matcher) in &condition.without_headers {
        if !PSEUDO.contains(&name.as_str()) {
            result.headers.push(header(name, matcher, true));
        }
    }
    result.query_parameters =
        condition.query_params.iter().map(|(name, it)| query_parameter(name, it)).collect();
    result
}

/// Whether every request matches, so that no later route can be reached.
pub fn is_catch_all(it: &RouteMatch) -> bool {
    let any_path = match &it.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path && it.headers.is_empty() && it.query_parameters.is_empty()
}

/// Envoy's matcher of a text; `None` where anything will do.
fn string_matcher(matcher: &StringMatch) -> Option<StringMatcher> {
    match matcher {
        StringMatch::Present => None,
        StringMatch::Exact(value) => Some(values::exact(value)),
        StringMatch::Prefix(value) => (!value.is_empty()).then(|| values::prefix(value)),
        StringMatch::Regex(value) => (!value.is_empty() && value != "*").then(|| values::regex(value)),
    }
}

fn header(name: &str, matcher: &StringMatch, without: bool) -> HeaderMatcher {
    let specifier = match string_matcher(matcher) {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
    };
    HeaderMatcher {
        name: name.to_owned(),
        invert_match: without,
        // A request without the header does not have the value: `withoutHeaders` lets it pass.
        treat_missing_header_as_empty: without && matches!(specifier, HeaderMatchSpecifier::StringMatch(_)),
        header_match_specifier: Some(specifier),
    }
}

fn query_parameter(name: &str, matcher: &StringMatch) -> QueryParameterMatcher {
    let specifier = match string_matcher(matcher) {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
    };
    QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}
