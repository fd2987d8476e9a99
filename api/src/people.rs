//! What the door for people needs beside the database: hashing, signing, and what a deployment asks of and gives to whoever
//! is new.

use secrecy::SecretString;

use crate::{access_token::AccessTokens, config};
use shared::{account::Passwords, billing::Tokens};

/// Built once, cloned for each request.
#[derive(Debug, Clone)]
pub struct People {
    /// Hashes and checks passwords, a few at a time.
    pub passwords: Passwords,
    /// Signs and reads what logins show.
    pub access_tokens: AccessTokens,
    /// The version of how we treat personal data that people agree to now.
    pub consent_version: String,
    /// What a new account starts with.
    pub start: Tokens,
}

impl People {
    /// For a deployment with this secret.
    pub fn new(deployment: &SecretString, settings: config::People) -> Self {
        Self {
            passwords: Passwords::new(),
            access_tokens: AccessTokens::new(deployment),
            consent_version: settings.consent_version,
            start: settings.start,
        }
    }
}
