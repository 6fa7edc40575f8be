//! Bounds of what is read; input beyond them is refused, not truncated.

/// Bytes of one file: 8 MiB. Kubernetes keeps single resources below 1.5 MiB.
pub const FILE_BYTES: usize = 8 * 1024 * 1024;
/// Levels of nesting; the deepest Istio resource has about 15.
pub const DEPTH: usize = 64;
/// Values of one document.
pub const NODES: usize = 1_000_000;
/// Values that anchors and aliases of one document may copy.
pub const COPIED_NODES: usize = 100_000;
/// Documents of one file.
pub const DOCUMENTS: usize = 20_000;
/// Problems that are listed for one file.
pub const PROBLEMS: usize = 500;
/// Problems of type that are listed for one document.
pub const TYPE_PROBLEMS: usize = 50;
/// Bytes of a field path whose place is kept; of a longer one the parent's place is told.
pub const PATH_BYTES: usize = 256;
