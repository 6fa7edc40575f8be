//! Small parts of Envoy's JSON.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::tls::clock_text;
use crate::tls::error::unix;

/// `core.v3.Address`.
pub fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A timestamp.
pub fn time(at: SystemTime) -> Value {
    Value::String(clock_text(unix(at)))
}

/// Hides what must not be shown: private keys and passwords, wherever they stand.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if matches!(name.as_str(), "private_key" | "privateKey" | "password" | "inline_key") {
                    *field = json!({"inline_string": "[redacted]"});
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_at_any_depth() {
        let mut value =
            json!({"a": [{"tls_certificates": [{"private_key": {"inline_string": "SECRET"}, "x": 1}]}]});
        redact(&mut value);
        let text = value.to_string();
        assert!(!text.contains("SECRET") && text.contains("[redacted]") && text.contains("\"x\":1"));
    }
}
