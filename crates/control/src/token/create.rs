//! Making a join token. Only who can write the data directory can do it: there is no way to ask for one over the network.

use std::path::Path;
use std::time::Duration;

use base::Spiffe;

use super::file::{self, Entry};
use super::store::TokenError;
use super::text::{ID_BYTES, SECRET_BYTES, Token};
use crate::ca::Authority;
use crate::ca::authority::sha256;
use crate::encoding::encode;
use crate::files;

/// Entries are kept for a day after their end, so that a late user is told "expired" and not "unknown".
const REMEMBERED: u64 = 24 * 3600;
const MOST_TOKENS: usize = 50_000;

/// What a new token is for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Namespace that its holder may claim.
    pub namespace: String,
    /// Service account that its holder may claim.
    pub service_account: String,
    /// How long it is good.
    pub lifetime: Duration,
    /// How often it may be used; `None`: as often as its holder wants.
    pub max_uses: Option<u64>,
}

/// Makes a token and writes its entry into the data directory. The secret is in the returned text only.
///
/// # Errors
/// The names do not form a SPIFFE id, are the control plane's own, the limits are zero, or the file cannot be written.
pub fn create(data: &Path, wanted: &NewToken, authority: &Authority) -> Result<Token, TokenError> {
    let identity = Spiffe::new(authority.trust_domain(), &wanted.namespace, &wanted.service_account)?;
    if crate::ca::control_identity(authority.trust_domain())? == identity {
        return Err(TokenError::Reserved(identity.to_string()));
    }
    if wanted.lifetime.as_secs() == 0 || wanted.max_uses == Some(0) {
        return Err(TokenError::NothingToGive);
    }
    files::data_directory(data)?;
    let token = Token {
        id: encode(&random::<ID_BYTES>()?),
        secret: random::<SECRET_BYTES>()?,
        pin: *authority.pin(),
    };
    let now = authority.clock().unix_seconds();
    let entry = Entry {
        id: token.id.clone(),
        secret_sha256: encode(&sha256(&token.secret)),
        namespace: wanted.namespace.clone(),
        service_account: wanted.service_account.clone(),
        expires: now.saturating_add(wanted.lifetime.as_secs()),
        max_uses: wanted.max_uses,
        uses: 0,
    };
    file::update(data, |entries| {
        entries.retain(|old| old.expires.saturating_add(REMEMBERED) > now);
        if entries.len() >= MOST_TOKENS {
            return Err(TokenError::TooMany(MOST_TOKENS));
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(token)
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0u8; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TokenError::NoRandomness)?;
    Ok(bytes)
}
