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
    /// The HTTP filters of the proxy.
    Filter,
}

impl Room {
    /// All of them.
    pub const ALL: [Room; 4] = [Room::Translate, Room::Config, Room::Decide, Room::Filter];

    /// Folder of its sources.
    fn folder(self) -> &'static str {
        match self {
            Room::Translate => "crates/translate/src",
            Room::Config => "crates/config/src",
            Room::Decide => "crates/decide/src",
            Room::Filter => "crates/proxy/src/filter",
        }
    }

    /// Words for `cargo test`.
    pub fn tests(self) -> &'static [&'static str] {
        match self {
            Room::Translate => &["-p", "translate"],
            Room::Config => &["-p", "config"],
            Room::Decide => &["-p", "decide"],
            Room::Filter => &["-p", "proxy", "--lib"],
        }
    }

    /// Whether a file, relative to the root, holds rules of the room, and not its tests.
    pub fn holds(self, file: &Path) -> bool {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let is_test = name.ends_with("tests.rs") || name.contains("tests_") || name == "testing.rs";
        file.starts_with(self.folder()) && name.ends_with(".rs") && !is_test
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}
