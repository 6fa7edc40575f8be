//! Reading the bootstrap file.

use std::path::Path;

use config::model;
use config::{NotActing, Read};
use protos::Message;
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::json::Pool;

/// The largest bootstrap, in bytes.
const MAX_BOOTSTRAP: u64 = 64 << 20;

/// A bootstrap as it came and as it is understood.
pub struct Loaded {
    /// The message, for `/config_dump` and the node.
    pub message: Bootstrap,
    /// The model.
    pub model: model::Bootstrap,
    /// Fields that do nothing.
    pub notes: Vec<NotActing>,
}

/// Reads a bootstrap: `.json`, `.pb`/`.binpb`/`.binary` by name, everything else as YAML, of which JSON is a part.
///
/// # Errors
/// File, path and reason.
pub fn load(path: &Path) -> Result<Loaded, String> {
    let fail = |reason: String| format!("{}: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_BOOTSTRAP {
        return Err(fail(format!("{size} bytes, more than the limit of {MAX_BOOTSTRAP}")));
    }
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let message = parse(path.extension().and_then(|extension| extension.to_str()), &bytes).map_err(fail)?;
    let Read { value: model, notes } =
        config::read_bootstrap(&message).map_err(|refused| fail(refused.to_string()))?;
    Ok(Loaded { message, model, notes })
}

fn parse(extension: Option<&str>, bytes: &[u8]) -> Result<Bootstrap, String> {
    if matches!(extension, Some("pb" | "binpb" | "binary" | "pb_binary")) {
        return Bootstrap::decode(bytes).map_err(|error| format!("not a binary Envoy bootstrap: {error}"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"))?;
    // The pool is dropped here: a running proxy does not keep descriptors.
    let pool = Pool::load().map_err(|error| error.to_string())?;
    let parsed = if extension == Some("json") { pool.from_json(text) } else { pool.from_yaml(text) };
    parsed.map_err(|error| error.to_string())
}
