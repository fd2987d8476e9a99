//! Secrets that we give out and recognise again: refresh tokens and the tokens in mailed links.
//!
//! Each holds 256 random bits, so SHA-256 without salt or stretching is enough to keep, and a look-up is one index probe.
//! The token itself is in memory once and then gone.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// What every refresh token begins with, so that leaked ones are found and told from other secrets.
pub const REFRESH_PREFIX: &str = "kilnr_";

/// A token just made, with what is kept of it.
#[derive(Debug)]
pub(super) struct Minted {
    /// To be handed out this once.
    pub token: SecretString,
    /// To be kept.
    pub hash: Vec<u8>,
}

/// A new token: `prefix` and 43 characters of base 64.
pub(super) fn mint(prefix: &str) -> Minted {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let token = SecretString::from(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)));
    Minted { hash: hash(&token), token }
}

/// What is kept of a token.
pub(super) fn hash(token: &SecretString) -> Vec<u8> {
    Sha256::digest(token.expose_secret().as_bytes()).to_vec()
}

/// The same hash in hexadecimal, as a name of the token that opens nothing.
pub(super) fn name(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
