//! What a receiver knows our webhooks by: the secret of its endpoint, and the key pair of the deployment.
//!
//! A secret is 32 random bytes, shown once as Standard Webhooks 1.0 writes it and kept sealed for its endpoint: whoever sends
//! needs it in clear, so a hash would not do. The key pair is derived from the deployment's secret, so every process has the same
//! and nothing is stored; receivers need to know its public half alone. Deliberately absent: what is signed, which whoever sends
//! decides.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::Rng;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::{
    account::signing_seed,
    id::EndpointId,
    seal::{CannotOpen, Sealer},
};

/// Bytes of a secret: the standard wants 24 to 64.
const SECRET_BYTES: usize = 32;

/// A secret just made.
pub(super) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub(super) fn random() -> Self {
        let mut bytes = [0_u8; SECRET_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// As its owner is shown it, this once.
    pub(super) fn shown(&self) -> SecretString {
        format!("whsec_{}", BASE64_STANDARD.encode(self.0)).into()
    }

    /// As it is kept.
    pub(super) fn sealed(&self, sealer: &Sealer, endpoint: EndpointId) -> Vec<u8> {
        sealer.seal(&context(endpoint), &self.0)
    }
}

/// The secret of an endpoint as it is kept, in clear.
///
/// # Errors
/// When this process has not the key it was sealed under, or the value was changed.
pub fn open_secret(
    sealer: &Sealer,
    endpoint: EndpointId,
    sealed: &[u8],
) -> Result<SecretSlice<u8>, CannotOpen> {
    Ok(sealer.open(&context(endpoint), sealed)?.into())
}

/// In which context both secrets of an endpoint are sealed, so that a rotation moves one as it is.
fn context(endpoint: EndpointId) -> String {
    format!("webhook_endpoint:{endpoint}")
}

/// Signs by the key pair of the deployment. Clones share it.
#[derive(Debug, Clone)]
pub struct Signer(Arc<Ed25519KeyPair>);

impl Signer {
    /// The signer of a deployment.
    pub fn new(deployment: &SecretString) -> Self {
        Self::from_seed(signing_seed(deployment).expose_secret())
    }

    /// The signer with this seed, which has 32 bytes.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn from_seed(seed: &[u8]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed of Ed25519");
        Self(Arc::new(pair))
    }

    /// The signature of `text`: 64 bytes.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.0.sign(text).as_ref().to_vec()
    }

    /// What receivers check signatures with, as Standard Webhooks writes it.
    pub fn public_key(&self) -> String {
        format!("whpk_{}", BASE64_STANDARD.encode(self.0.public_key().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::config::Sealing;

    #[test]
    fn a_secret_opens_for_its_own_endpoint_and_is_shown_as_the_standard_has_it() {
        let sealer = Sealer::new(&Sealing::from_secret(&"a secret".to_owned().into()));
        let (endpoint, other, secret) = (EndpointId::new(), EndpointId::new(), Secret::random());
        let sealed = secret.sealed(&sealer, endpoint);
        let opened = open_secret(&sealer, endpoint, &sealed).expect("opens");
        let shown = secret.shown();
        let text = shown.expose_secret().strip_prefix("whsec_").expect("the prefix");
        assert_eq!(BASE64_STANDARD.decode(text).expect("base 64"), opened.expose_secret());
        assert_eq!(opened.expose_secret().len(), SECRET_BYTES);
        assert_eq!(open_secret(&sealer, other, &sealed).err(), Some(CannotOpen::Refused));
    }

    #[test]
    fn every_process_signs_alike_and_the_public_key_tells() {
        let signer = |secret: &str| Signer::new(&secret.to_owned().into());
        let (one, same, other) = (signer("one secret"), signer("one secret"), signer("another"));
        assert_eq!(one.public_key(), same.public_key());
        assert_ne!(one.public_key(), other.public_key());
        let key =
            BASE64_STANDARD.decode(one.public_key().strip_prefix("whpk_").expect("the prefix")).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, key);
        assert!(key.verify(b"text", &same.sign(b"text")).is_ok());
        assert!(key.verify(b"text", &other.sign(b"text")).is_err());
        assert!(key.verify(b"other text", &one.sign(b"text")).is_err());
    }

    #[test]
    fn a_key_pair_is_that_of_the_standards_own_example() {
        // Of the standard's reference libraries: a seed with the public key behind it.
        let pair = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let pair = BASE64_STANDARD.decode(pair).unwrap();
        let signer = Signer::from_seed(&pair[..32]);
        assert_eq!(signer.public_key(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
    }
}
