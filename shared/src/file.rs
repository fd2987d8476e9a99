//! Stored files after their job: found by their owner, and deleted when their time is up.
//!
//! The object goes first and the row after it, so a crash in between leaves a row that is tried again, never an object
//! that nobody knows of.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::id::{AccountId, FileId, JobId};

/// Longest wait between two tries to delete the same file.
const DELETE_RETRY: TimeDelta = TimeDelta::hours(1);

/// A file whose time is up.
#[derive(Debug, Clone)]
pub struct Expired {
    /// Its id.
    pub id: FileId,
    /// The job that made it.
    pub job: JobId,
    /// Where it is.
    pub storage_key: String,
    /// Where its preview is.
    pub preview_key: Option<String>,
}

/// Where a file of `account` is kept and of what type it is, or `None` when it has no such file.
///
/// # Errors
/// When the database fails.
pub async fn locate(
    db: &PgPool,
    account: AccountId,
    file: FileId,
) -> Result<Option<(String, String)>, sqlx::Error> {
    let row = sqlx::query!(
        "select storage_key, mime_type from files where id = $1 and account_id = $2",
        file.0,
        account.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.storage_key, row.mime_type)))
}

/// Up to `limit` files whose time is up, longest overdue first; those that just failed are left for an hour.
///
/// # Errors
/// When the database fails.
pub async fn expired(db: &PgPool, limit: i64, now: DateTime<Utc>) -> Result<Vec<Expired>, sqlx::Error> {
    sqlx::query_as!(
        Expired,
        r#"select id as "id: _", job_id as "job: _", storage_key, preview_key from files
           where expires_at <= $1 order by expires_at limit $2"#,
        now,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Forgets a file whose object is gone.
///
/// # Errors
/// When the database fails.
pub async fn forget(db: &PgPool, file: FileId) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from files where id = $1", file.0).execute(db).await?;
    Ok(())
}

/// Remembers that a file could not be deleted and puts it off; gives how often that has happened.
///
/// # Errors
/// When the database fails.
pub async fn put_off(db: &PgPool, file: FileId, error: &str, now: DateTime<Utc>) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        "update files set delete_tries = delete_tries + 1, delete_error = $2, expires_at = $3 where id = $1
         returning delete_tries",
        file.0,
        error,
        now + DELETE_RETRY,
    )
    .fetch_one(db)
    .await
}

/// How many files are still there although deleting them has failed at least once.
///
/// # Errors
/// When the database fails.
pub async fn stuck(db: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from files where delete_tries > 0"#)
        .fetch_one(db)
        .await
}

/// Where the outputs of jobs are kept: `outputs/{job_id}/{n}-{random}.{ext}`.
pub const OUTPUTS: &str = "outputs/";

/// Those of `keys` that nothing will ever refer to: objects of a job that has ended, or that does not exist, and has no file
/// there. A worker that dies or is stopped between an upload and its note of it leaves such an object. Keys of another form
/// are left alone.
///
/// # Errors
/// When the database fails.
pub async fn strays(db: &PgPool, keys: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let (keys, jobs): (Vec<_>, Vec<_>) =
        keys.iter().filter_map(|key| Some((key.as_str(), job_of(key)?.0))).unzip();
    sqlx::query_scalar!(
        r#"
        select o.key as "key!" from unnest($1::text[], $2::uuid[]) as o (key, job_id)
        where not exists (select from jobs j where j.id = o.job_id and j.status = 'open')
          and not exists (select from files f where f.job_id = o.job_id and o.key in (f.storage_key, f.preview_key))
        "#,
        &keys as _,
        &jobs,
    )
    .fetch_all(db)
    .await
}

fn job_of(key: &str) -> Option<JobId> {
    key.strip_prefix(OUTPUTS)?.split('/').next()?.parse().ok()
}
