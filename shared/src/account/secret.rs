//! Keys derived from the deployment's secret and never stored: what accounts check the webhooks of their jobs with, what all
//! webhooks are signed with beside that, and what access tokens are signed with.
//!
//! HMAC-SHA256 of a label under the deployment's secret: a database that leaks gives none of them away, and every process
//! derives the same.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

use crate::id::AccountId;

/// The bytes an account's webhooks are signed with.
pub fn webhook_key(deployment: &SecretString, account: AccountId) -> Vec<u8> {
    derive(deployment, &format!("webhook:{account}"))
}

/// The bytes access tokens are signed with.
pub fn access_token_key(deployment: &SecretString) -> SecretSlice<u8> {
    derive(deployment, "access-token").into()
}

/// The seed of the key pair that all webhooks of the deployment are signed with.
pub(crate) fn signing_seed(deployment: &SecretString) -> SecretSlice<u8> {
    derive(deployment, "webhook-signing").into()
}

fn derive(deployment: &SecretString, label: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(deployment.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The same as the account is shown it: `whsec_` and base 64, as Standard Webhooks has it.
pub fn webhook_secret(deployment: &SecretString, account: AccountId) -> SecretString {
    format!("whsec_{}", BASE64_STANDARD.encode(webhook_key(deployment, account))).into()
}
