//! The join token `tulle1.<id>.<secret>.<SHA-256 of the root's SubjectPublicKeyInfo>`: what a machine needs to join,
//! including the pin that replaces trust on first use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::pin::RootPin;

/// The longest token accepted, in bytes.
const MAX_TOKEN: usize = 1024;

/// A parsed join token. Its `Debug` form hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    id: String,
    pin: RootPin,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({}, root {})", self.id, self.pin)
    }
}

impl JoinToken {
    /// Parses the text of a token file; white space around it is ignored.
    ///
    /// # Errors
    /// What is wrong with it, without the secret.
    pub fn parse(text: &str) -> Result<JoinToken, String> {
        let text = text.trim();
        if text.len() > MAX_TOKEN {
            return Err(format!("{} bytes; a join token has at most {MAX_TOKEN}", text.len()));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [version, id, secret, pin] = parts.as_slice() else {
            return Err(format!(
                "{} parts separated by dots where a join token has 4 (tulle1.ID.SECRET.ROOT); make one with `tulle token create`",
                parts.len()
            ));
        };
        if *version != "tulle1" {
            return Err(format!(
                "starts with \"{}\", and this program knows \"tulle1\"",
                version.chars().take(16).collect::<String>()
            ));
        }
        for part in [id, secret] {
            if part.is_empty() || URL_SAFE_NO_PAD.decode(part).is_err() {
                return Err("a part is empty or not base64url without padding".to_owned());
            }
        }
        let pin = URL_SAFE_NO_PAD.decode(pin).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let pin = RootPin(pin.ok_or("the last part is not the SHA-256 of a root key (32 bytes, base64url)")?);
        Ok(JoinToken { text: text.to_owned(), id: (*id).to_owned(), pin })
    }

    /// The whole token, for the `authorization` header; only sent to a server whose root matches [`JoinToken::pin`].
    pub fn bearer(&self) -> &str {
        &self.text
    }

    /// The public part that names the token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The pinned root key.
    pub fn pin(&self) -> RootPin {
        self.pin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_token_and_hides_its_secret() {
        let pin = URL_SAFE_NO_PAD.encode([7; 32]);
        let token = JoinToken::parse(&format!(" tulle1.aWQ.c2VjcmV0.{pin}\n")).unwrap();
        assert_eq!((token.id(), token.pin()), ("aWQ", RootPin([7; 32])));
        assert!(!format!("{token:?}").contains("c2VjcmV0"));
        assert!(token.bearer().ends_with(&pin));
    }

    #[test]
    fn refuses_everything_else() {
        let pin = URL_SAFE_NO_PAD.encode([7; 32]);
        for bad in [
            String::new(),
            format!("tulle2.aWQ.c2VjcmV0.{pin}"),
            "tulle1.aWQ.c2VjcmV0".to_owned(),
            "tulle1.aWQ.c2VjcmV0.AAAA".to_owned(),
            format!("tulle1..c2VjcmV0.{pin}"),
            format!("tulle1.aWQ.c2V jcmV0.{pin}"),
            format!("tulle1.aWQ.{}.{pin}", "A".repeat(2000)),
        ] {
            assert!(JoinToken::parse(&bad).is_err(), "{bad:?} was accepted");
        }
    }
}
