//! Requests that a client repeats by itself: known by what they say, for no key says that they are the same.
//!
//! OpenAI's clients repeat a request whose answer did not come, and number the tries, but send no idempotency key. So every
//! request of theirs leaves a mark, kept beside the keys that others send, and a second try looks for the job of the first.
//! A first try never does: who asks the same twice on purpose gets two answers. Deliberately absent: any promise; a mark is
//! forgotten with the keys, and two first tries at once are two jobs.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::Idempotency;
use crate::{
    account::Caller,
    id::{AccountId, JobId},
};

/// What a request leaves behind: who asked where for what, and nothing of it that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(Vec<u8>);

impl Mark {
    /// The mark of a request of `caller` at `path` whose body has this hash.
    pub fn of(caller: &Caller, path: &str, body_hash: &[u8]) -> Self {
        let key = caller.actor.key().map(|key| key.0);
        let who = key.or(caller.actor.user().map(|user| user.0)).unwrap_or_default();
        let hash =
            Sha256::new().chain_update(path).chain_update([0_u8]).chain_update(who).chain_update(body_hash);
        Self(hash.finalize().to_vec())
    }

    /// The mark as the key of a job that has just got its id: nobody can have sent that.
    pub fn of_job(self, job: JobId) -> Idempotency {
        Idempotency { key: job.to_string(), body_hash: self.0 }
    }
}

/// The latest job that a request with this mark became after `since`, if its end is worth another look: one that failed and
/// may succeed is made anew, and costs nothing.
///
/// # Errors
/// When the database fails.
pub async fn latest_of(
    db: &PgPool,
    account: AccountId,
    mark: &Mark,
    since: DateTime<Utc>,
) -> Result<Option<JobId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select k.job_id as "job!: JobId" from idempotency_keys k
           join jobs j on j.id = k.job_id
           where k.account_id = $1 and k.body_hash = $2 and k.created_at > $3
             and (j.status in ('open', 'succeeded') or not j.error_retryable)
           order by k.created_at desc, k.job_id desc limit 1"#,
        account.0,
        mark.0,
        since,
    )
    .fetch_optional(db)
    .await
}
