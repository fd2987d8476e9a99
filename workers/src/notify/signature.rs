//! The signatures of a webhook, as Standard Webhooks 1.0 has them.
//!
//! Signed is `{id}.{timestamp}.{body}`. The header carries, with blanks between: for each secret that counts, `v1,` and the base 64
//! of HMAC-SHA256, so that a receiver finds its own while a secret is rotated; and `v1a,` and that of Ed25519 by the deployment's
//! key pair, for receivers that would rather keep no secret.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::webhook::Signer;

/// What is signed at one try.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The notice's id, the same at every try.
    pub id: &'a str,
    /// When this try is made.
    pub timestamp_secs: i64,
    /// The whole body.
    pub body: &'a str,
}

impl Signed<'_> {
    fn text(&self) -> String {
        format!("{}.{}.{}", self.id, self.timestamp_secs, self.body)
    }

    /// The signature under a secret.
    pub fn by_secret(&self, key: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(self.text().as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The signature by the deployment's key pair.
    pub fn by_key_pair(&self, signer: &Signer) -> String {
        format!("v1a,{}", BASE64_STANDARD.encode(signer.sign(self.text().as_bytes())))
    }

    /// The value of `webhook-signature`.
    pub fn header<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, signer: &Signer) -> String {
        let mut signatures: Vec<_> = keys.into_iter().map(|key| self.by_secret(key)).collect();
        signatures.push(self.by_key_pair(signer));
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HMAC as RFC 2104 writes it, with nothing but the hash.
    fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
        use sha2::Digest;

        let mut block = [0; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let padded = |pad: u8| block.map(|byte| byte ^ pad);
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
        Sha256::new().chain_update(padded(0x5C)).chain_update(inner).finalize().to_vec()
    }

    #[test]
    fn the_signature_of_any_body_is_found_right_by_whoever_knows_the_key() {
        use proptest::{collection::vec, prelude::*, test_runner::Config};
        use reqwest::header::HeaderValue;

        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config, |(key in vec(any::<u8>(), 0..100), id in "msg_[0-9a-f]{32}", at in any::<i64>(), body in any::<String>())| {
            let signature = Signed { id: &id, timestamp_secs: at, body: &body }.by_secret(&key);
            prop_assert!(HeaderValue::from_str(&signature).is_ok());
            let found = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            let signed = [id.as_bytes(), b".", at.to_string().as_bytes(), b".", body.as_bytes()].concat();
            prop_assert_eq!(&found, &hmac(&key, &signed));
            // One bit more, and it is another's.
            prop_assert_ne!(found, hmac(&key, &[&signed[..], b" "].concat()));
        });
    }

    /// The test vectors of the standard's reference libraries.
    const EXAMPLE: Signed<'_> = Signed {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_secs: 1_614_265_330,
        body: r#"{"test": 2432232314}"#,
    };

    fn key(text: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(text).unwrap()
    }

    fn signer() -> Signer {
        let pair =
            key("6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==");
        Signer::from_seed(&pair[..32])
    }

    #[test]
    fn a_signature_under_a_secret_is_that_of_the_standards_own_examples() {
        let signature = EXAMPLE.by_secret(&key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let ping = Signed {
            id: "msg_loFOjxBNrRLzqYUf",
            timestamp_secs: 1_731_705_121,
            body: r#"{"event_type":"ping","data":{"success":true}}"#,
        };
        let signature = ping.by_secret(&key("plJ3nmyCDGBKInavdOK15jsl"));
        assert_eq!(signature, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
    }

    #[test]
    fn a_signature_by_a_key_pair_is_that_of_the_standards_own_example() {
        let expected =
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        assert_eq!(EXAMPLE.by_key_pair(&signer()), expected);
    }

    #[test]
    fn a_header_holds_a_signature_for_each_secret_and_one_by_the_key_pair() {
        let (new, old) = (key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key("plJ3nmyCDGBKInavdOK15jsl"));
        let header = EXAMPLE.header([new.as_slice(), old.as_slice()], &signer());
        let signatures: Vec<_> = header.split(' ').collect();
        let expected = [EXAMPLE.by_secret(&new), EXAMPLE.by_secret(&old), EXAMPLE.by_key_pair(&signer())];
        assert_eq!(signatures, expected);
    }
}
