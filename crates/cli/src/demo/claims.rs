//! What the demo claims, one file a claim. Each is measured on the running mesh, and so is its negative twin: the same
//! probe with the rule removed or the identity wrong must come out the other way.

use serde::Serialize;
use serde_json::Value;

use crate::Error;

pub mod broken_edit;
pub mod canary_header;
pub mod canary_share;
pub mod ejection;
pub mod identities;
pub mod live_edit;
pub mod overflow;
pub mod plaintext;
pub mod rotation;
pub mod stranger;
pub mod without_control;

/// A claim and what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// Stable name.
    pub name: &'static str,
    /// Whether the claim and its twin came out as they must.
    pub ok: bool,
    /// The numbers.
    pub measured: Value,
    /// The same in words.
    #[serde(skip)]
    pub said: String,
}

/// What a measurement found: whether it holds, the numbers, the words.
pub(super) type Found = Result<(bool, Value, String), Error>;

/// A claim from its measurement; one that could not be measured does not hold.
pub(super) fn claim(name: &'static str, found: Found) -> Claim {
    match found {
        Ok((ok, measured, said)) => Claim { name, ok, measured, said },
        Err(error) => Claim {
            name,
            ok: false,
            measured: serde_json::json!({"error": error.to_string()}),
            said: format!("{name}: could not be measured: {error}"),
        },
    }
}
