//! Secrets at rest: sealed under a key of the deployment, so that a database that leaks gives none of them away.
//!
//! A sealed value is a version byte, four bytes that say which key, a random nonce, and the ciphertext of AES-256-GCM with
//! its tag. The context it was sealed in is authenticated along with it, so a value moved to another row does not open.
//! Deliberately absent: re-sealing old values after a rotation. What is sealed here lives for hours, or, as secrets of providers
//! and endpoints, until it is rotated itself, and the key before still opens it.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};

use crate::config::Sealing;

/// Bytes of a key of AES-256.
pub const KEY_LEN: usize = 32;
/// First byte of what is sealed as described above.
const VERSION: u8 = 1;
/// Bytes that say which key.
const KEY_ID_LEN: usize = 4;
/// Bytes before the ciphertext: version, key, nonce.
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
/// What the derived key is derived for; webhook secrets are derived from the same secret for other labels.
const LABEL: &[u8] = b"kiln:sealing:1";

/// A key of AES-256, hidden from logs.
pub type SealingKey = SecretBox<[u8; KEY_LEN]>;

/// The key of a deployment that has set none: derived from its secret, the same in every process.
pub fn derived_key(deployment: &SecretString) -> SealingKey {
    let mut mac = Hmac::<Sha256>::new_from_slice(deployment.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(LABEL);
    SecretBox::new(Box::new(mac.finalize().into_bytes().into()))
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotOpen {
    /// Too short, or of a version this program does not know.
    #[error("not a sealed value this version can read")]
    Unreadable,
    /// Sealed under a key this process was not given.
    #[error("sealed under a key this process does not have: see KILN_ENCRYPTION_KEY_PREVIOUS")]
    UnknownKey,
    /// Changed since, or sealed for another context.
    #[error("changed since it was sealed, or sealed for something else")]
    Refused,
}

/// Seals and opens. Clones share the keys.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    current: Key,
    older: Vec<Key>,
}

struct Key {
    id: [u8; KEY_ID_LEN],
    cipher: RandomizedNonceKey,
}

impl Key {
    fn new(key: &SealingKey) -> Self {
        let key = key.expose_secret();
        let digest: [u8; 32] = Sha256::digest(key).into();
        let [a, b, c, d, ..] = digest;
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes");
        Self { id: [a, b, c, d], cipher }
    }
}

impl Sealer {
    /// Seals with the present key, and opens with the older ones as well.
    pub fn new(keys: &Sealing) -> Self {
        let older = keys.older.iter().map(Key::new).collect();
        Self(Arc::new(Keys { current: Key::new(&keys.key), older }))
    }

    /// Seals `plain`; it opens only under the same `context`, such as `mail:mail_0190…`.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        let key = &self.0.current;
        let mut text = plain.to_vec();
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(context), &mut text)
            .expect("AES-GCM seals whatever fits into memory");
        let mut sealed = Vec::with_capacity(HEAD_LEN + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        sealed
    }

    /// Opens what was sealed under the same `context`.
    ///
    /// # Errors
    /// When the key is missing, the value was changed, or it belongs to another context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        let (head, ciphertext) = sealed.split_at_checked(HEAD_LEN).ok_or(CannotOpen::Unreadable)?;
        let (version, rest) = head.split_first().ok_or(CannotOpen::Unreadable)?;
        if *version != VERSION {
            return Err(CannotOpen::Unreadable);
        }
        let (id, nonce) = rest.split_at(KEY_ID_LEN);
        let Keys { current, older } = &*self.0;
        let key = std::iter::once(current)
            .chain(older)
            .find(|key| key.id.as_slice() == id)
            .ok_or(CannotOpen::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen::Unreadable)?;
        let mut text = ciphertext.to_vec();
        let plain = key
            .cipher
            .open_in_place(nonce, Aad::from(context), &mut text)
            .map_err(|_| CannotOpen::Refused)?;
        Ok(plain.to_vec())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "mail:mail_1";
    const PLAIN: &[u8] = b"a link that opens an account";

    fn key(byte: u8) -> SealingKey {
        SecretBox::new(Box::new([byte; KEY_LEN]))
    }

    fn sealer(current: u8, older: &[u8]) -> Sealer {
        Sealer::new(&Sealing { key: key(current), older: older.iter().copied().map(key).collect() })
    }

    #[test]
    fn what_is_sealed_opens_again_and_says_nothing_meanwhile() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal(CONTEXT, PLAIN);
        assert_eq!(sealer.open(CONTEXT, &sealed).as_deref(), Ok(PLAIN));
        assert!(!sealed.windows(4).any(|window| window == b"link"));
        assert_ne!(sealed, sealer.seal(CONTEXT, PLAIN), "a nonce is used once");
        assert_eq!(sealer.open(CONTEXT, &sealer.seal(CONTEXT, b"")).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn a_value_that_was_moved_does_not_open() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal(CONTEXT, PLAIN);
        assert_eq!(sealer.open("mail:mail_2", &sealed), Err(CannotOpen::Refused));
    }

    #[test]
    fn a_value_that_was_changed_anywhere_does_not_open() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal(CONTEXT, PLAIN);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open(CONTEXT, &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(CONTEXT, &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn no_bytes_but_what_was_sealed_open() {
        use proptest::{collection::vec, prelude::*, test_runner::Config};

        let sealer = sealer(1, &[2]);
        let head = sealer.seal(CONTEXT, PLAIN)[..1 + KEY_ID_LEN].to_vec();
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config, |(bytes in vec(any::<u8>(), 0..100), plain in vec(any::<u8>(), 0..100), context in any::<String>())| {
            prop_assert!(sealer.open(CONTEXT, &bytes).is_err());
            prop_assert!(sealer.open(CONTEXT, &[&head[..], &bytes].concat()).is_err());
            prop_assert_eq!(sealer.open(&context, &sealer.seal(&context, &plain)), Ok(plain));
        });
    }

    #[test]
    fn the_key_before_a_rotation_still_opens_and_no_longer_seals() {
        let (before, rotated, after) = (sealer(1, &[]), sealer(2, &[1]), sealer(2, &[]));
        let sealed = before.seal(CONTEXT, PLAIN);
        assert_eq!(rotated.open(CONTEXT, &sealed).as_deref(), Ok(PLAIN));
        assert_eq!(after.open(CONTEXT, &sealed), Err(CannotOpen::UnknownKey));
        let fresh = rotated.seal(CONTEXT, PLAIN);
        assert_eq!(before.open(CONTEXT, &fresh), Err(CannotOpen::UnknownKey));
        assert_eq!(after.open(CONTEXT, &fresh).as_deref(), Ok(PLAIN));
    }

    #[test]
    fn every_process_derives_the_same_key_and_shows_none() {
        let derived = |secret: &str| Sealer::new(&Sealing::from_secret(&secret.to_owned().into()));
        let sealed = derived("one secret").seal(CONTEXT, PLAIN);
        assert_eq!(derived("one secret").open(CONTEXT, &sealed).as_deref(), Ok(PLAIN));
        assert_eq!(derived("another").open(CONTEXT, &sealed), Err(CannotOpen::UnknownKey));
        let keys = Sealing { key: key(0xAB), older: vec![key(0xAB)] };
        let shown = format!("{keys:?} {:?}", Sealer::new(&keys));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
    }
}
