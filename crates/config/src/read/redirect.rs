//! `RedirectAction` and `DirectResponseAction`: what the proxy answers itself.

use super::address::read_port;
use super::data_source::{Data, read_data_source};
use super::route_action::{check_path, read_host, read_path_rewrite};
use crate::context::{Context, Result, refuse};
use crate::model::{DirectResponse, PathRewrite, Redirect};
use protos::envoy::envoy::config::route::v3 as pb;
use std::sync::Arc;

/// Reads a redirect.
pub fn read_redirect(cx: &mut Context, message: &pb::RedirectAction) -> Result<Redirect> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = message;
    let status = match cx.enumeration("response_code", *response_code)? {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    let scheme: Option<Arc<str>> = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            let lower = scheme.to_ascii_lowercase();
            if !matches!(lower.as_str(), "http" | "https") {
                return Err(cx.refused_field("scheme_redirect", "is neither http nor https"));
            }
            Some(lower.into())
        }
    };
    let (mut path, mut path_rewrite) = (None, PathRewrite::Keep);
    match path_rewrite_specifier {
        None => {}
        Some(PathRewriteSpecifier::PathRedirect(text)) => {
            check_path(cx, "path_redirect", text)?;
            path = Some(Arc::from(text.as_str())).filter(|path: &Arc<str>| !path.is_empty());
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            path_rewrite = read_path_rewrite(cx, prefix, &None)?
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            path_rewrite = read_path_rewrite(cx, "", &Some(rewrite.clone()))?;
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return Err(
                cx.refused_field("path_rewrite", "is not supported: use path_redirect or prefix_rewrite")
            );
        }
    }
    let host =
        if host_redirect.is_empty() { None } else { Some(read_host(cx, "host_redirect", host_redirect)?) };
    let port = Some(read_port(cx, "port_redirect", *port_redirect)?).filter(|port| *port != 0);
    Ok(Redirect { status, scheme, host, port, path, path_rewrite, strip_query: *strip_query })
}

/// Reads an answer; `limit` bounds its body, in bytes.
pub fn read_direct_response(
    cx: &mut Context,
    message: &pb::DirectResponseAction,
    limit: usize,
) -> Result<DirectResponse> {
    let pb::DirectResponseAction { status, body, body_format } = message;
    refuse!(cx, "formatted bodies are not supported"; body_format);
    let status = match u16::try_from(*status) {
        Ok(status @ 200..=599) => status,
        _ => return Err(cx.refused_field("status", format!("{status} is not between 200 and 599"))),
    };
    let body = match body {
        None => Arc::from([]),
        Some(source) => match read_data_source(cx, "body", source)? {
            Data::Inline(bytes) if bytes.len() > limit => {
                let reason = format!(
                    "{} bytes, the limit is {limit} (max_direct_response_body_size_bytes)",
                    bytes.len()
                );
                return Err(cx.refused_field("body", reason));
            }
            Data::Inline(bytes) => bytes,
            Data::File(_) => {
                return Err(cx.refused_field("body", "files are not supported here: write the body inline"));
            }
        },
    };
    Ok(DirectResponse { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};

    #[test]
    fn reads_redirects() {
        let mut message = pb::RedirectAction {
            host_redirect: "example.com".into(),
            response_code: 3,
            scheme_rewrite_specifier: Some(pb::redirect_action::SchemeRewriteSpecifier::HttpsRedirect(true)),
            ..Default::default()
        };
        let read = |message: &pb::RedirectAction| {
            Context::read(|cx| read_redirect(cx, message)).map(|read| read.value)
        };
        let value = read(&message).unwrap();
        assert_eq!((value.status, value.scheme.as_deref(), value.port), (307, Some("https"), None));
        message.host_redirect = "example.com/path".into();
        assert_eq!(read(&message).unwrap_err().path, "host_redirect");
        message.port_redirect = 65_536;
        message.host_redirect.clear();
        assert_eq!(read(&message).unwrap_err().path, "port_redirect");
    }

    #[test]
    fn reads_direct_responses() {
        let read = |status, text: &str| {
            let specifier = Some(Specifier::InlineString(text.into()));
            let body = Some(DataSource { watched_directory: None, specifier });
            let message = pb::DirectResponseAction { status, body, body_format: None };
            Context::read(|cx| read_direct_response(cx, &message, 4))
        };
        assert_eq!(&*read(502, "no").unwrap().value.body, b"no");
        assert_eq!(read(100, "").unwrap_err().path, "status");
        assert_eq!(read(200, "hello").unwrap_err().path, "body");
    }
}
