//! The tokens that a running `tulled` accepts. New ones, and those that were taken out, are noticed without a restart:
//! every token that is shown makes it look whether the file has changed.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Spiffe, SpiffeError};

use super::file::{self, Entry};
use super::text::{NotAToken, Token};
use crate::ca::Authority;
use crate::ca::authority::sha256;
use crate::encoding::decode;
use crate::files::FileError;
use crate::timestamp::{from_unix_seconds, rfc3339};

/// What the holder of a token may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Public name of the token.
    pub id: String,
    /// Whose certificate its holder may get.
    pub identity: Spiffe,
}

/// Why a token gives nothing, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a token's text.
    #[error(transparent)]
    NotAToken(#[from] NotAToken),
    /// Made for another mesh.
    #[error(
        "join token {0} was made for another root certificate; make one with `tulled token create` in this mesh's data directory"
    )]
    OtherRoot(String),
    /// Not in the file, or with another secret: the two are not told apart for the caller.
    #[error("join token {0} is not known here; make a new one with `tulled token create`")]
    Unknown(String),
    /// Past its end.
    #[error("join token {id} for \"{identity}\" expired at {at}; make a new one with `tulled token create`")]
    Expired {
        /// Public name.
        id: String,
        /// Whose it was.
        identity: String,
        /// When.
        at: String,
    },
    /// No use is left.
    #[error(
        "join token {id} for \"{identity}\" was good for {max_uses} use(s), and all are used up; make a new one with `tulled token create`"
    )]
    UsedUp {
        /// Public name.
        id: String,
        /// Whose it was.
        identity: String,
        /// How many there were.
        max_uses: u64,
    },
    /// The names do not form an identity.
    #[error(transparent)]
    Identity(#[from] SpiffeError),
    /// The control plane's identity.
    #[error("\"{0}\" is the control plane's own identity; no token is made for it")]
    Reserved(String),
    /// A lifetime or a number of uses of zero.
    #[error("a token needs a lifetime of at least 1 s and at least 1 use")]
    NothingToGive,
    /// The file is full.
    #[error("there are {0} tokens already; wait until some have expired, or use longer-lived ones")]
    TooMany(usize),
    /// The system's source of randomness failed.
    #[error("the system gave no random bytes")]
    NoRandomness,
    /// The token file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The tokens of a data directory.
#[derive(Debug)]
pub struct Tokens {
    data: PathBuf,
    authority: Arc<Authority>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<String, Entry>,
    seen: Option<Fingerprint>,
}

/// Tells one version of the file from the next: every write makes a new inode.
type Fingerprint = (u64, u64, i64, i64);

impl Tokens {
    /// The tokens of `data`; the file is read when the first one is shown.
    pub fn new(data: PathBuf, authority: Arc<Authority>) -> Tokens {
        Tokens { data, authority, known: Mutex::default() }
    }

    /// Whom a token speaks for. Uses nothing up.
    ///
    /// # Errors
    /// It is malformed, unknown, of another mesh, expired or used up; or the file cannot be read.
    pub fn check(&self, text: &str) -> Result<Grant, TokenError> {
        let token: Token = text.parse()?;
        if token.pin != *self.authority.pin() {
            return Err(TokenError::OtherRoot(token.id));
        }
        let entry = self.entry(&token.id)?;
        let expected = decode::<32>(&entry.secret_sha256).unwrap_or_default();
        let equal = aws_lc_rs::constant_time::verify_slices_are_equal(&sha256(&token.secret), &expected);
        if equal.is_err() {
            return Err(TokenError::Unknown(token.id));
        }
        self.usable(&entry)
    }

    /// Counts one use of a token that [`Tokens::check`] accepted; a token without a limit is not counted.
    ///
    /// # Errors
    /// It was used up, has expired or was removed meanwhile; or the file cannot be written.
    pub fn use_once(&self, id: &str) -> Result<(), TokenError> {
        if self.entry(id)?.max_uses.is_none() {
            return Ok(());
        }
        file::update(&self.data, |entries| {
            let entry = entries
                .iter_mut()
                .find(|entry| entry.id == id)
                .ok_or_else(|| TokenError::Unknown(id.to_owned()))?;
            self.usable(entry)?;
            entry.uses += 1;
            Ok(())
        })
    }

    fn usable(&self, entry: &Entry) -> Result<Grant, TokenError> {
        let identity = Spiffe::new(self.authority.trust_domain(), &entry.namespace, &entry.service_account)?;
        if self.authority.clock().unix_seconds() >= entry.expires {
            let at = rfc3339(from_unix_seconds(i64::try_from(entry.expires).unwrap_or(i64::MAX)));
            return Err(TokenError::Expired { id: entry.id.clone(), identity: identity.to_string(), at });
        }
        match entry.max_uses {
            Some(max_uses) if entry.uses >= max_uses => {
                Err(TokenError::UsedUp { id: entry.id.clone(), identity: identity.to_string(), max_uses })
            }
            _ => Ok(Grant { id: entry.id.clone(), identity }),
        }
    }

    /// The entry of an id. The file is read again only when it has changed, so a token costs one `stat`.
    fn entry(&self, id: &str) -> Result<Entry, TokenError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = std::fs::metadata(file::path(&self.data)).ok();
        let seen = metadata.map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec()));
        if seen != known.seen || seen.is_none() {
            let entries = file::read(&self.data)?;
            known.entries = entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
            known.seen = seen;
        }
        known.entries.get(id).cloned().ok_or_else(|| TokenError::Unknown(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::create::{NewToken, create};
    use super::*;
    use crate::testing::TestClock;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    struct Fixture {
        data: tempfile::TempDir,
        clock: Arc<TestClock>,
        authority: Arc<Authority>,
        tokens: Tokens,
    }

    fn fixture() -> Fixture {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let authority = Arc::new(Authority::create(data.path(), "cluster.local", clock.clone()).unwrap());
        let tokens = Tokens::new(data.path().to_owned(), authority.clone());
        Fixture { data, clock, authority, tokens }
    }

    fn wanted(max_uses: Option<u64>) -> NewToken {
        NewToken {
            namespace: "production".to_owned(),
            service_account: "payment".to_owned(),
            lifetime: Duration::from_secs(60),
            max_uses,
        }
    }

    #[test]
    fn a_token_speaks_for_one_identity_until_it_expires() {
        let f = fixture();
        let token = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        let file = file::path(f.data.path());
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(!written.contains(&crate::encoding::encode(&token.secret)), "the secret was stored");
        let grant = f.tokens.check(&token.to_string()).unwrap();
        assert_eq!(grant.identity.to_string(), "spiffe://cluster.local/ns/production/sa/payment");
        f.tokens.use_once(&grant.id).unwrap();
        f.clock.advance(Duration::from_secs(59));
        f.tokens.check(&token.to_string()).unwrap();
        f.clock.advance(Duration::from_secs(1));
        let error = f.tokens.check(&token.to_string()).unwrap_err().to_string();
        assert!(error.contains("expired at") && error.contains("sa/payment"), "{error}");
    }

    #[test]
    fn a_token_made_while_running_is_noticed() {
        let f = fixture();
        let first = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        f.tokens.check(&first.to_string()).unwrap();
        let second = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        f.tokens.check(&second.to_string()).unwrap();
        f.tokens.check(&first.to_string()).unwrap();
    }

    #[test]
    fn a_token_that_is_taken_out_of_the_file_is_good_no_more() {
        let f = fixture();
        let first = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        let second = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        f.tokens.check(&first.to_string()).unwrap();
        file::update(f.data.path(), |entries| {
            entries.retain(|entry| entry.id != first.id);
            Ok::<_, TokenError>(())
        })
        .unwrap();
        assert!(matches!(f.tokens.check(&first.to_string()), Err(TokenError::Unknown(_))));
        f.tokens.check(&second.to_string()).unwrap();
        std::fs::remove_file(file::path(f.data.path())).unwrap();
        assert!(matches!(f.tokens.check(&second.to_string()), Err(TokenError::Unknown(_))));
    }

    #[test]
    fn strangers_get_nothing() {
        let f = fixture();
        let token = create(f.data.path(), &wanted(None), &f.authority).unwrap();
        let wrong_secret = Token { secret: [0; 32], ..token.clone() };
        let wrong_id = Token { id: crate::encoding::encode(&[0; 9]), ..token.clone() };
        for bad in [wrong_secret, wrong_id] {
            assert!(matches!(f.tokens.check(&bad.to_string()), Err(TokenError::Unknown(_))));
        }
        let other_root = Token { pin: [0; 32], ..token.clone() };
        assert!(matches!(f.tokens.check(&other_root.to_string()), Err(TokenError::OtherRoot(_))));
        assert!(matches!(f.tokens.check("Bearer x"), Err(TokenError::NotAToken(_))));
        std::fs::set_permissions(file::path(f.data.path()), std::fs::Permissions::from_mode(0o644)).unwrap();
        let fresh = Tokens::new(f.data.path().to_owned(), f.authority.clone());
        assert!(fresh.check(&token.to_string()).unwrap_err().to_string().contains("chmod 0600"));
    }

    #[test]
    fn uses_are_counted_across_restarts() {
        let f = fixture();
        let token = create(f.data.path(), &wanted(Some(2)), &f.authority).unwrap().to_string();
        for _ in 0..2 {
            let tokens = Tokens::new(f.data.path().to_owned(), f.authority.clone());
            let grant = tokens.check(&token).unwrap();
            tokens.use_once(&grant.id).unwrap();
        }
        let error = f.tokens.check(&token).unwrap_err();
        assert!(matches!(error, TokenError::UsedUp { max_uses: 2, .. }), "{error}");
    }

    #[test]
    fn nonsense_is_not_made() {
        let f = fixture();
        let make = |wanted: NewToken| create(f.data.path(), &wanted, &f.authority);
        assert!(make(NewToken { namespace: "a/b".into(), ..wanted(None) }).is_err());
        assert!(make(NewToken { lifetime: Duration::ZERO, ..wanted(None) }).is_err());
        assert!(make(wanted(Some(0))).is_err());
        let own =
            NewToken { namespace: "istio-system".into(), service_account: "tulled".into(), ..wanted(None) };
        assert!(matches!(make(own), Err(TokenError::Reserved(_))));
    }

    #[test]
    fn expired_entries_are_forgotten_after_a_day() {
        let f = fixture();
        create(f.data.path(), &wanted(None), &f.authority).unwrap();
        f.clock.advance(Duration::from_secs(2 * 24 * 3600));
        create(f.data.path(), &wanted(None), &f.authority).unwrap();
        assert_eq!(file::read(f.data.path()).unwrap().len(), 1);
    }
}
