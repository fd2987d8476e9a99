//! Discard: its owner wants a result no longer.
//!
//! The job stays, as the ledger and the reports refer to it; its time is over at the moment it ended. Files go before that, each
//! object and then its row, so a crash in between leaves a job that can be discarded again. Deliberately absent: the files.

use sqlx::PgPool;

use crate::id::{AccountId, JobId};

/// Notes that a job of `account` is kept no longer than until its end. An open job is left as it is; whether it was over.
///
/// # Errors
/// When the database fails; calling again is safe.
pub async fn discard(db: &PgPool, account: AccountId, job: JobId) -> Result<bool, sqlx::Error> {
    let discarded = sqlx::query!(
        "update jobs set expires_at = finished_at where id = $1 and account_id = $2 and status <> 'open'",
        job.0,
        account.0,
    )
    .execute(db)
    .await?;
    Ok(discarded.rows_affected() == 1)
}
