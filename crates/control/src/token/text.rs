//! The text of a join token: `tulle1.<token id>.<secret>.<sha256 of the root's SubjectPublicKeyInfo>`, base64url without
//! padding. Opaque to its users.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{decode, encode};

const PREFIX: &str = "tulle1";
/// Bytes of a token id.
pub const ID_BYTES: usize = 9;
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
const LONGEST: usize = 256;

/// A join token. Its `Debug` form hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Public name of the token; it may be logged.
    pub id: String,
    /// The secret.
    pub secret: [u8; SECRET_BYTES],
    /// SHA-256 of the root's SubjectPublicKeyInfo: whom the holder may trust at its first contact.
    pub pin: [u8; 32],
}

/// A text that is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: {0}; expected tulle1.ID.SECRET.ROOT as `tulled token create` printed it")]
pub struct NotAToken(pub &'static str);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, encode(&self.secret), encode(&self.pin))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.(secret).{}", self.id, encode(&self.pin))
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Token, NotAToken> {
        if text.len() > LONGEST {
            return Err(NotAToken("it is too long"));
        }
        let mut parts = text.split('.');
        let mut next = || parts.next().unwrap_or_default();
        let (prefix, id, secret, pin) = (next(), next(), next(), next());
        if prefix != PREFIX {
            return Err(NotAToken("it does not begin with tulle1."));
        }
        if parts.next().is_some() {
            return Err(NotAToken("it has more than four parts"));
        }
        if decode::<ID_BYTES>(id).is_none() {
            return Err(NotAToken("its id is damaged"));
        }
        let secret = decode(secret).ok_or(NotAToken("its secret is damaged"))?;
        let pin = decode(pin).ok_or(NotAToken("its root is damaged"))?;
        Ok(Token { id: id.to_owned(), secret, pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_hides_its_secret() {
        let token = Token { id: encode(&[7; ID_BYTES]), secret: [9; 32], pin: [1; 32] };
        let text = token.to_string();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&encode(&[9; 32])));
        for bad in
            ["", "tulle2", "tulle1.a.b.c", &text[..text.len() - 1], &format!("{text}.x"), &"x".repeat(300)]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad:?} was accepted");
        }
    }
}
