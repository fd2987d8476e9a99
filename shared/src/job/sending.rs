//! A request that a program sends again, known without a key of its caller's.
//!
//! The official SDKs of many APIs send a request again when no answer came, or one that says "later", and tell in a header
//! which time it is; an Idempotency-Key they do not send. The first time leaves a row in `idempotency_keys`, in the commit
//! of its job; each further time is held against it under the lock of the account, as a key is, and is answered with the
//! newest job that was asked for so. Two first times are two jobs. Deliberately absent: requests of programs that say nothing
//! of it; they cost nothing more.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::{
    account::Actor,
    id::{AccountId, JobId},
};

/// What the keys of sendings begin with. An Idempotency-Key is ASCII, so none begins so.
const MARK: &str = "↻ ";

/// How long after its end a job is still the answer to its request: as long as the SDKs wait for one before they send again (ten
/// minutes, OpenAI's default). Its end may have come just after the connection was lost, and nobody noticed until then.
const KEPT: TimeDelta = TimeDelta::minutes(10);

/// A request of a program that says which time it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    pub(super) key: String,
    pub(super) body_hash: Vec<u8>,
    /// Whether it was sent before.
    pub again: bool,
}

impl Sending {
    /// A request of `actor` whose body has this hash. Bodies mean the same on every path that reads them; a path that names something
    /// itself is part of what was hashed.
    pub fn new(actor: Actor, body_hash: &[u8], again: bool) -> Self {
        let who = match actor {
            Actor::Key(key) => key.0,
            Actor::User { user, .. } => user.0,
        };
        let digest = Sha256::new().chain_update(who.as_bytes()).chain_update(body_hash).finalize();
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key: format!("{MARK}{name}"), body_hash: body_hash.to_vec(), again }
    }
}

/// The job that answers what was sent before: one that is open and wanted, has succeeded lately, or has failed lately as it would
/// again. One that failed otherwise or was canceled cost nothing, and whoever sends it again wants it made; its trace is forgotten
/// here, so that the next sending finds a newer one.
///
/// # Errors
/// When the database fails.
pub async fn first_sent(
    db: &PgPool,
    account: AccountId,
    sending: &Sending,
    now: DateTime<Utc>,
) -> Result<Option<JobId>, sqlx::Error> {
    let newest = sqlx::query!(
        r#"select k.job_id as "job: JobId",
                  j.status = 'open' and not coalesce(q.cancel_requested, false)
                  or j.finished_at > $3
                     and (j.status = 'succeeded' or j.status = 'failed' and not coalesce(j.error_retryable, true)) as "answers!"
           from idempotency_keys k
           join jobs j on j.id = k.job_id
           left join queue q on q.job_id = k.job_id
           where k.account_id = $1 and k.key = $2"#,
        account.0,
        sending.key,
        now - KEPT,
    )
    .fetch_optional(db)
    .await?;
    match newest {
        None => Ok(None),
        Some(newest) if newest.answers => Ok(Some(newest.job)),
        Some(newest) => {
            // Unless another sending has just put its own job there.
            sqlx::query!(
                "delete from idempotency_keys where account_id = $1 and key = $2 and job_id = $3",
                account.0,
                sending.key,
                newest.job.0,
            )
            .execute(db)
            .await?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, SessionId, UserId};

    #[test]
    fn a_sending_is_known_by_who_sends_what_and_not_by_which_time_it_is() {
        let (key, user) = (KeyId::new(), UserId::new());
        let person = || Actor::User { user, session: SessionId::new() };
        let name = |actor, body: &[u8], again| Sending::new(actor, body, again).key;
        let first = name(Actor::Key(key), b"a", false);
        assert!(!first.is_ascii(), "no Idempotency-Key is the same: {first}");
        assert_eq!(name(Actor::Key(key), b"a", true), first);
        assert_ne!(name(Actor::Key(KeyId::new()), b"a", true), first);
        assert_ne!(name(Actor::Key(key), b"b", true), first);
        let by_hand = name(person(), b"a", false);
        assert_eq!(name(person(), b"a", true), by_hand, "whichever login it is");
    }
}
