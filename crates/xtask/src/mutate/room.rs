//! The rooms whose rules can be taken out, and the tests that must notice.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;

/// A room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Room {
    /// Istio's resources to xDS.
    Translate,
    /// Envoy's messages to the model.
    Config,
    /// Routes, paths, policies.
    Decide,
    /// The control plane.
    Control,
    /// ADS, client and server.
    Xds,
    /// The HTTP filters of the proxy.
    Filter,
    /// The codecs of the proxy.
    Http,
    /// Calls, pools and hosts of the proxy.
    Upstream,
    /// Listeners and connections of the proxy.
    Listen,
    /// TCP through the proxy.
    Tcp,
}

impl Room {
    /// All of them.
    pub const ALL: [Room; 10] = [
        Room::Translate,
        Room::Config,
        Room::Decide,
        Room::Control,
        Room::Xds,
        Room::Filter,
        Room::Http,
        Room::Upstream,
        Room::Listen,
        Room::Tcp,
    ];

    /// The crate.
    pub fn package(self) -> &'static str {
        match self {
            Room::Translate => "translate",
            Room::Config => "config",
            Room::Decide => "decide",
            Room::Control => "control",
            Room::Xds => "xds",
            Room::Filter | Room::Http | Room::Upstream | Room::Listen | Room::Tcp => "proxy",
        }
    }

    /// Folder of its sources.
    fn folder(self) -> &'static str {
        match self {
            Room::Translate => "crates/translate/src",
            Room::Config => "crates/config/src",
            Room::Decide => "crates/decide/src",
            Room::Control => "crates/control/src",
            Room::Xds => "crates/xds/src",
            Room::Filter => "crates/proxy/src/filter",
            Room::Http => "crates/proxy/src/http",
            Room::Upstream => "crates/proxy/src/upstream",
            Room::Listen => "crates/proxy/src/listen",
            Room::Tcp => "crates/proxy/src/tcp",
        }
    }

    /// Whether what it does can be seen from outside the proxy, so that the differential cases may notice.
    pub fn is_seen_outside(self) -> bool {
        !matches!(self, Room::Translate | Room::Control | Room::Xds)
    }

    /// Whether a file, relative to the root, holds rules of the room, and not its tests.
    pub fn holds(self, file: &Path) -> bool {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let folder = |name: &str| file.components().any(|part| part.as_os_str() == name);
        let is_test = name.ends_with("tests.rs")
            || name.contains("tests_")
            || matches!(name.as_ref(), "testing.rs" | "fuzzing.rs" | "loopback.rs")
            || folder("testing");
        file.starts_with(self.folder()) && name.ends_with(".rs") && !is_test
    }
}

/// The module of a file, as the names of its tests begin: `http::h1_decode`.
pub fn module(file: &Path) -> Option<String> {
    let inside = file.components().skip_while(|part| part.as_os_str() != "src").skip(1);
    let mut parts: Vec<String> = inside.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let last = parts.pop()?;
    match last.strip_suffix(".rs")? {
        "mod" | "lib" | "main" => {}
        name => parts.push(name.to_owned()),
    }
    (!parts.is_empty()).then(|| parts.join("::"))
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_module() {
        let module = |path: &str| module(Path::new(path));
        assert_eq!(module("crates/proxy/src/http/h1_decode.rs").as_deref(), Some("http::h1_decode"));
        assert_eq!(module("crates/proxy/src/tcp/mod.rs").as_deref(), Some("tcp"));
        assert_eq!(module("crates/decide/src/lib.rs"), None);
    }

    #[test]
    fn tests_hold_no_rules() {
        assert!(Room::Http.holds(Path::new("crates/proxy/src/http/head.rs")));
        for file in ["crates/proxy/src/http/h1_server_tests.rs", "crates/proxy/src/http/fuzzing.rs"] {
            assert!(!Room::Http.holds(Path::new(file)), "{file}");
        }
        assert!(!Room::Control.holds(Path::new("crates/control/src/testing/mod.rs")));
    }
}
