//! Cancel: at once while nobody has begun, by request afterwards.
//!
//! A job that no worker ever submitted is closed here. One in flight gets a durable flag: the heartbeat of its worker
//! carries the flag back, so a cancel arrives even when no notification does; a parked one is made runnable, so that
//! a worker can stop it at the provider.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{Fence, Medium, Verdict, close};
use crate::{
    id::{AccountId, JobId},
    wake::Wake,
};

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// Ended now, tokens released.
    Canceled,
    /// A worker of this pool will end it, unless the result comes first.
    Requested(Medium),
    /// It had ended before.
    AlreadyFinal,
}

impl Cancel {
    /// The hints to send after `job` was canceled so.
    pub fn wakes(self, job: JobId) -> Vec<Wake> {
        match self {
            Self::Canceled => vec![Wake::Job(job), Wake::Notice],
            Self::Requested(pool) => vec![Wake::Cancel, Wake::Pool(pool)],
            Self::AlreadyFinal => Vec::new(),
        }
    }
}

/// Cancels a job of `account`. `None`: it has no such job.
///
/// # Errors
/// When the database fails; calling again is safe.
pub async fn cancel(
    db: &PgPool,
    account: AccountId,
    job: JobId,
    now: DateTime<Utc>,
) -> Result<Option<Cancel>, sqlx::Error> {
    let owned =
        sqlx::query_scalar!("select medium from jobs where id = $1 and account_id = $2", job.0, account.0)
            .fetch_optional(db)
            .await?;
    let Some(pool) = owned.as_deref().and_then(Medium::from_word) else { return Ok(None) };
    if close(db, Fence::Untouched(job), &Verdict::Canceled, now).await? {
        return Ok(Some(Cancel::Canceled));
    }
    let requested = sqlx::query!(
        "update queue set cancel_requested = true, phase = 'canceling',
             run_at = case when lease_token is null then $2::timestamptz end
         where job_id = $1",
        job.0,
        now,
    )
    .execute(db)
    .await?;
    Ok(Some(if requested.rows_affected() == 1 { Cancel::Requested(pool) } else { Cancel::AlreadyFinal }))
}
