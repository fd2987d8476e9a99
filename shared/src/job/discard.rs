//! Discard: its owner wants a result no longer, be it there or still to come.
//!
//! The job stays, as the ledger and the reports refer to it; its time is over at the moment it ended. Of one that is open the time
//! is over before, and whatever ends it keeps to that: files that still come are deleted by the next clean-up. Files that are
//! there go before the job is discarded, so a crash in between leaves a job that can be discarded again. Deliberately absent: those
//! files, and the end of an open job, which is a cancel.

use sqlx::PgPool;

use crate::id::{AccountId, JobId};

/// Notes that a job of `account` is kept no longer than until its end; whether it was over.
///
/// # Errors
/// When the database fails; calling again is safe.
pub async fn discard(db: &PgPool, account: AccountId, job: JobId) -> Result<bool, sqlx::Error> {
    let was_over = sqlx::query_scalar!(
        r#"update jobs set expires_at = coalesce(finished_at, created_at) where id = $1 and account_id = $2
           returning finished_at is not null as "was_over!""#,
        job.0,
        account.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(was_over.unwrap_or(false))
}
