//! The one canonical form of a path: routes, policies and the application all see it.

use std::borrow::Cow;

use config::model::HttpConnectionManager;
use decide::{Canonical, PathOptions, canonical_path};

use crate::http::RequestHead;

/// A path that is not served as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCanonical {
    /// It has no canonical form.
    Refused,
    /// It must be asked for in this form.
    Redirect(Vec<u8>),
}

/// Makes the target canonical as the configuration says. The query is never touched.
///
/// # Errors
/// The path has no canonical form, or must be asked for in another form.
pub fn apply(head: &mut RequestHead, config: &HttpConnectionManager) -> Result<(), NotCanonical> {
    let options = PathOptions {
        normalize: config.normalize_path,
        merge_slashes: config.merge_slashes,
        escaped_slashes: config.escaped_slashes,
    };
    let changed = match canonical_path(&head.target, options) {
        Canonical::Forward(Cow::Borrowed(_)) => return Ok(()),
        Canonical::Forward(Cow::Owned(target)) => target,
        Canonical::Redirect(location) => {
            return Err(NotCanonical::Redirect(location));
        }
        Canonical::Refused(reason) => {
            tracing::debug!(reason, "the path was refused");
            return Err(NotCanonical::Refused);
        }
    };
    head.target = changed.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{get, manager};
    use config::model::EscapedSlashes;

    fn run(
        target: &'static str,
        edit: impl FnOnce(&mut HttpConnectionManager),
    ) -> Result<String, NotCanonical> {
        let mut config = manager();
        edit(&mut config);
        let mut head = get(target, &[]);
        match apply(&mut head, &config) {
            Ok(()) => Ok(String::from_utf8(head.target.to_vec()).unwrap()),
            Err(not) => Err(not),
        }
    }

    #[test]
    fn istios_base_normalization() {
        for (sent, seen) in [
            ("/admin", "/admin"),
            ("/admin?x=/../%41", "/admin?x=/../%41"),
            ("/a/../admin", "/admin"),
            ("/a/./b/..", "/a/"),
            ("/%61dmin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/..//admin", "//admin"),
            ("/\\admin", "//admin"),
            ("/a\\..\\admin", "/admin"),
            ("/../../..", "/"),
            ("/a%2Fb%5cc%zz%", "/a%2Fb%5cc%zz%"),
            ("//admin", "//admin"),
            ("*", "*"),
        ] {
            assert_eq!(run(sent, |_| {}).as_deref(), Ok(seen), "{sent}");
        }
        assert_eq!(run("/admin%00", |_| {}), Err(NotCanonical::Refused));
        assert_eq!(run("/admin#x", |_| {}), Err(NotCanonical::Refused));
        assert_eq!(run("/a/../b", |config| config.normalize_path = false).as_deref(), Ok("/a/../b"));
    }

    #[test]
    fn slashes_are_merged_and_unescaped_where_asked() {
        let merge = |config: &mut HttpConnectionManager| config.merge_slashes = true;
        assert_eq!(run("//a///b//", merge).as_deref(), Ok("/a/b/"));
        let mode = |mode| {
            move |config: &mut HttpConnectionManager| {
                config.merge_slashes = true;
                config.escaped_slashes = mode;
            }
        };
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::UnescapeAndForward)).as_deref(), Ok("/admin"));
        assert_eq!(run("/a%5C..%2fadmin", mode(EscapedSlashes::UnescapeAndForward)).as_deref(), Ok("/admin"));
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::Reject)), Err(NotCanonical::Refused));
        let redirect = NotCanonical::Redirect("/admin".into());
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::UnescapeAndRedirect)), Err(redirect));
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::Keep)).as_deref(), Ok("/%2fadmin"));
    }
}
