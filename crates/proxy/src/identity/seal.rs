//! A sealed file: bytes under a MAC whose key comes from the workload's private key. It guards against torn writes and
//! against whoever cannot read the state directory, and claims no more.
//!
//! Layout: `TULLSEAL`, format (u32, big endian), number of seals (u8), each seal (32 bytes, HMAC-SHA-256 over everything
//! but the seals), then the content. Two seals while the private key is being replaced: whichever key survives a crash,
//! the file opens.

use aws_lc_rs::hmac;

/// Format of the layout; a file of another one is refused.
pub const FORMAT: u32 = 1;
/// The largest content, in bytes.
pub const MAX_CONTENT: usize = 64 << 20;
/// The largest sealed file, in bytes.
pub const MAX_FILE: usize = MAX_CONTENT + HEAD + MAX_SEALS * SEAL;

const MAGIC: &[u8; 8] = b"TULLSEAL";
const HEAD: usize = MAGIC.len() + 4 + 1;
const SEAL: usize = 32;
const MAX_SEALS: usize = 2;

/// The MAC key of one private key. Its `Debug` form shows nothing.
#[derive(Clone)]
pub struct SealKey(hmac::Key);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

/// Why a sealed file is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a sealed file at all.
    #[error("it is not a sealed file of tulle-proxy")]
    NotSealed,
    /// Cut off.
    #[error("it is torn: {0} bytes are less than its head says")]
    Torn(usize),
    /// More than anybody writes.
    #[error("it has {0} bytes, more than the limit of {MAX_FILE}")]
    TooLarge(usize),
    /// Written by an older or a newer program.
    #[error("it has format {0}, and this program knows format {FORMAT}")]
    Format(u32),
    /// Another key, or other bytes.
    #[error(
        "its seal was not made with this workload's key: it was changed, is torn, or belongs to another workload"
    )]
    Seal,
}

impl SealKey {
    /// The key that belongs to a private key (its PKCS #8 form): HKDF-SHA-256 in HMAC's two steps (RFC 5869).
    pub fn of(private_key: &[u8]) -> SealKey {
        let salt = hmac::Key::new(hmac::HMAC_SHA256, b"tulle-proxy sealed file");
        let extracted = hmac::sign(&salt, private_key);
        let expand = hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref());
        let expanded = hmac::sign(&expand, b"seal 1\x01");
        SealKey(hmac::Key::new(hmac::HMAC_SHA256, expanded.as_ref()))
    }

    fn seal(&self, content: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(MAGIC);
        context.update(&FORMAT.to_be_bytes());
        context.update(content);
        context.sign()
    }
}

/// Seals content with one key or two.
pub fn seal(content: &[u8], keys: &[&SealKey]) -> Vec<u8> {
    let keys = keys.get(..MAX_SEALS).unwrap_or(keys);
    let mut file = Vec::with_capacity(HEAD + keys.len() * SEAL + content.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT.to_be_bytes());
    file.push(u8::try_from(keys.len()).unwrap_or(0));
    for key in keys {
        file.extend_from_slice(key.seal(content).as_ref());
    }
    file.extend_from_slice(content);
    file
}

/// The content of a sealed file.
///
/// # Errors
/// Why it is not trusted. Nothing of it may then be used.
pub fn open<'a>(file: &'a [u8], key: &SealKey) -> Result<&'a [u8], SealError> {
    if file.len() > MAX_FILE {
        return Err(SealError::TooLarge(file.len()));
    }
    let torn = SealError::Torn(file.len());
    let rest = file.strip_prefix(MAGIC).ok_or(match MAGIC.starts_with(file) {
        true => torn,
        false => SealError::NotSealed,
    })?;
    let (format, rest) = rest.split_first_chunk::<4>().ok_or(torn)?;
    let format = u32::from_be_bytes(*format);
    if format != FORMAT {
        return Err(SealError::Format(format));
    }
    let (count, rest) = rest.split_first().ok_or(torn)?;
    let count = usize::from(*count);
    if count == 0 || count > MAX_SEALS {
        return Err(SealError::Seal);
    }
    let (seals, content) = rest.split_at_checked(count * SEAL).ok_or(torn)?;
    let wanted = key.seal(content);
    let good = |seal: &[u8]| aws_lc_rs::constant_time::verify_slices_are_equal(seal, wanted.as_ref()).is_ok();
    if seals.chunks_exact(SEAL).any(good) { Ok(content) } else { Err(SealError::Seal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_its_key_only() {
        let (own, other) = (SealKey::of(b"own"), SealKey::of(b"other"));
        let file = seal(b"content", &[&own]);
        assert_eq!(open(&file, &own), Ok(&b"content"[..]));
        assert_eq!(open(&file, &other), Err(SealError::Seal));
        let both = seal(b"content", &[&own, &other]);
        assert_eq!((open(&both, &own), open(&both, &other)), (Ok(&b"content"[..]), Ok(&b"content"[..])));
        assert_eq!(open(&both, &SealKey::of(b"third")), Err(SealError::Seal));
        assert_eq!(open(&seal(b"content", &[]), &own), Err(SealError::Seal));
    }

    #[test]
    fn every_torn_and_every_changed_file_is_refused() {
        let key = SealKey::of(b"own");
        let file = seal(b"some content", &[&key]);
        for length in 0..file.len() {
            assert!(open(&file[..length], &key).is_err(), "{length} bytes were accepted");
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(open(&changed, &key).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = file.clone();
        longer.push(0);
        assert_eq!(open(&longer, &key), Err(SealError::Seal));
        let mut newer = file;
        newer[11] = 2;
        assert_eq!(open(&newer, &key), Err(SealError::Format(2)));
        assert_eq!(open(b"", &key), Err(SealError::Torn(0)));
        assert_eq!(open(b"PK\x03\x04", &key), Err(SealError::NotSealed));
    }
}
