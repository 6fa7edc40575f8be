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
    let decode = |bytes: &[u8]| {
        Bootstrap::decode(bytes).map_err(|error| format!("not a binary Envoy bootstrap: {error}"))
    };
    if matches!(extension, Some("pb" | "binpb" | "binary" | "pb_binary")) {
        return decode(bytes);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"))?.to_owned();
    let is_json = extension == Some("json");
    // On a thread of its own: the allocator gives the memory of a thread back when it ends, and descriptors weigh more
    // than everything else in an idle proxy.
    let parsing = runtime::thread::spawn("bootstrap", move || {
        let pool = Pool::load()?;
        let message: Bootstrap = if is_json { pool.from_json(&text)? } else { pool.from_yaml(&text)? };
        Ok(message.encode_to_vec())
    });
    let parsed =
        parsing.map_err(|error| error.to_string())?.join().map_err(|_| "the parser panicked".to_owned())?;
    let bytes = parsed.map_err(|error: protos::json::JsonError| error.to_string())?;
    decode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_bootstrap_say_the_same() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let file = place.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            file
        };
        let yaml = "node: {id: a, cluster: b}\nadmin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}\n";
        let json = r#"{"node": {"id": "a", "cluster": "b"},
            "admin": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": 1}}}}"#;
        let from_yaml = load(&write("a.yaml", yaml.as_bytes())).unwrap();
        let from_json = load(&write("a.json", json.as_bytes())).unwrap();
        let from_binary = load(&write("a.pb", &from_yaml.message.encode_to_vec())).unwrap();
        assert_eq!(&*from_yaml.model.node.id, "a");
        assert_eq!(from_yaml.model, from_json.model);
        assert_eq!(from_yaml.model, from_binary.model);
        for (name, bytes, reason) in [
            ("bad.yaml", &b"node: ["[..], "bad.yaml"),
            ("latin.yaml", &b"node: {id: \xff}"[..], "not UTF-8"),
            ("bad.pb", &b"\xff\xff"[..], "not a binary Envoy bootstrap"),
        ] {
            let error = load(&write(name, bytes)).err().unwrap();
            assert!(error.contains(reason) && error.contains(name), "{error}");
        }
    }
}
