//! The signature of a webhook, as Standard Webhooks 1.0 has it.
//!
//! Signed is `{id}.{timestamp}.{body}` with HMAC-SHA256; the header carries `v1,` and the base 64 of the result.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of `webhook-signature` for one try.
pub fn sign(key: &[u8], id: &str, timestamp_secs: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp_secs}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
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
            let signature = sign(&key, &id, at, &body);
            prop_assert!(HeaderValue::from_str(&signature).is_ok());
            let found = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            let signed = [id.as_bytes(), b".", at.to_string().as_bytes(), b".", body.as_bytes()].concat();
            prop_assert_eq!(&found, &hmac(&key, &signed));
            // One bit more, and it is another's.
            prop_assert_ne!(found, hmac(&key, &[&signed[..], b" "].concat()));
        });
    }

    #[test]
    fn the_signature_is_that_of_the_standards_own_example() {
        // The test vector of the standard's reference libraries.
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
