//! The doorbell: an address that a provider may call when something has changed.
//!
//! Most providers sign nothing, so nothing that is sent there is believed: it only makes the next look at the provider due, and
//! the address holds a word that nobody can guess. Ringing it twice, or for a job that is over, does nothing.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use sqlx::PgPool;
use std::sync::Arc;

use super::Medium;
use crate::id::JobId;

/// What the key is derived for; other labels give other keys from the same secret.
const LABEL: &[u8] = b"kiln doorbell v1";
/// Bytes of the word, of the 32 there are: as hard to guess as a UUID.
const WORD_BYTES: usize = 16;

/// Makes and knows addresses; clones share.
#[derive(Clone)]
pub struct Doorbell(Arc<Parts>);

struct Parts {
    public_url: String,
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doorbell").field("public_url", &self.0.public_url).finish_non_exhaustive()
    }
}

impl Doorbell {
    /// A doorbell at `public_url` (no slash at its end), its words made from the deployment's secret.
    pub fn new(deployment: &SecretString, public_url: String) -> Self {
        let mut key = Self::mac(deployment.expose_secret().as_bytes());
        key.update(LABEL);
        Self(Arc::new(Parts { public_url, key: Self::mac(&key.finalize().into_bytes()) }))
    }

    fn mac(key: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
    }

    /// The address for a job.
    pub fn url(&self, job: JobId) -> String {
        format!("{}/v1/callbacks/{job}-{}", self.0.public_url, self.word(job))
    }

    /// Whether this is the word in the address of this job; takes as long for any wrong one.
    pub fn knows(&self, job: JobId, word: &str) -> bool {
        let Ok(word) = BASE64_URL_SAFE_NO_PAD.decode(word) else { return false };
        word.len() == WORD_BYTES && self.signed(job).verify_truncated_left(&word).is_ok()
    }

    fn word(&self, job: JobId) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.signed(job).finalize().into_bytes()[..WORD_BYTES])
    }

    fn signed(&self, job: JobId) -> Hmac<Sha256> {
        self.0.key.clone().chain_update(job.0.as_bytes())
    }
}

/// Makes the next look at a job's provider due. The pool to wake, or `None` when the job waits for none: it is over, with a
/// worker, or due anyway.
///
/// # Errors
/// When the database fails; the job is looked at when its time comes.
pub async fn ring(db: &PgPool, job: JobId, now: DateTime<Utc>) -> Result<Option<Medium>, sqlx::Error> {
    let pool = sqlx::query_scalar!(
        "update queue set run_at = $2
         where job_id = $1 and lease_token is null and run_at > $2 and checkpoint ->> 'state' = 'pending'
         returning pool",
        job.0,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(pool.as_deref().and_then(Medium::from_word))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index, test_runner::Config};

    use super::*;

    #[test]
    fn no_word_but_its_own_rings_for_a_job() {
        let (bell, job) = (Doorbell::new(&"one".into(), String::new()), JobId::new());
        let word = bell.word(job);
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config, |(at in any::<Index>(), other in "[a-zA-Z0-9_=-]{0,2}", wild in any::<String>())| {
            let (mut changed, at) = (word.clone(), at.index(word.len()));
            changed.replace_range(at..=at, &other);
            prop_assert_eq!(bell.knows(job, &changed), changed == word, "{}", changed);
            prop_assert!(!bell.knows(job, &wild));
        });
    }

    #[test]
    fn an_address_is_known_for_its_job_and_deployment_alone() {
        let bell = |secret: &str| Doorbell::new(&secret.into(), "https://kiln.example".into());
        let (ours, theirs) = (bell("one"), bell("two"));
        let (job, other) = (JobId::new(), JobId::new());
        let url = ours.url(job);
        let word =
            url.strip_prefix(&format!("https://kiln.example/v1/callbacks/{job}-")).expect("the address");
        assert!(ours.knows(job, word));
        assert!(!ours.knows(other, word));
        assert!(!theirs.knows(job, word));
        for wrong in ["", "AAAA", &word[1..], &format!("{word}A"), "not base 64!"] {
            assert!(!ours.knows(job, wrong), "{wrong}");
        }
        assert!(!format!("{ours:?}").contains("one"));
    }
}
