//! Stored files: found by their owner, and deleted when their time is up.
//!
//! A file is what a job made (table `files`) or what was sent in (table `uploads`, see [`crate::upload`]); its id does not say
//! which. Whoever deletes one deletes the object first and the row after it, so a crash in between leaves a row that is tried
//! again, never an object that nobody knows of.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::{
    id::{AccountId, FileId, JobId},
    storage::Storage,
};

/// How long files are kept, results and uploads alike. That a job uses one as its input does not make it stay longer.
pub const KEPT: TimeDelta = TimeDelta::days(3);

/// Longest wait between two tries to delete the same file.
const DELETE_RETRY: TimeDelta = TimeDelta::hours(1);

/// A file for its owner.
#[derive(Debug, Clone)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// The job that made it; none for an upload.
    pub job: Option<JobId>,
    /// Its place among the job's files, from 0.
    pub position: Option<i16>,
    /// What its sender calls an upload.
    pub name: Option<String>,
    /// What its sender says an upload is for.
    pub purpose: Option<String>,
    /// Where it is.
    pub storage_key: String,
    /// Its type, found in its bytes.
    pub mime_type: String,
    /// Its length.
    pub size_bytes: i64,
    /// Pixels across, of a result.
    pub width: Option<i32>,
    /// Pixels down, of a result.
    pub height: Option<i32>,
    /// Length in time, of a result.
    pub duration_seconds: Option<f64>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it is deleted.
    pub expires_at: DateTime<Utc>,
}

/// Where a file is that a job is to use.
#[derive(Debug, Clone)]
pub struct Located {
    /// Its key in storage.
    pub storage_key: String,
    /// Its length.
    pub size_bytes: i64,
}

/// A file whose time is up.
#[derive(Debug, Clone)]
pub struct Expired {
    /// Its id.
    pub id: FileId,
    /// The job that made it; none for an upload.
    pub job: Option<JobId>,
    /// Where it is.
    pub storage_key: String,
    /// Where its preview is.
    pub preview_key: Option<String>,
}

/// A file of `account`, as long as its time is not up; `None` when it has no such file.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &PgPool,
    account: AccountId,
    file: FileId,
    now: DateTime<Utc>,
) -> Result<Option<File>, sqlx::Error> {
    sqlx::query_as!(
        File,
        r#"select id as "id!: _", job_id as "job?: _", position as "position?", null::text as "name?",
                  null::text as "purpose?", storage_key as "storage_key!", mime_type as "mime_type!",
                  size_bytes as "size_bytes!", width as "width?", height as "height?",
                  duration_seconds as "duration_seconds?", created_at as "created_at!", expires_at as "expires_at!"
           from files where id = $1 and account_id = $2 and expires_at > $3 and delete_tries = 0
           union all
           select id, null::uuid, null::smallint, name, purpose, storage_key, mime_type, size_bytes, null::integer,
                  null::integer, null::float8, created_at, expires_at
           from uploads where id = $1 and account_id = $2 and expires_at > $3 and delete_tries = 0"#,
        file.0,
        account.0,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Where a file of `account` is kept, as long as it is there, or `None` when it has no such file.
///
/// # Errors
/// When the database fails.
pub async fn locate(db: &PgPool, account: AccountId, file: FileId) -> Result<Option<Located>, sqlx::Error> {
    sqlx::query_as!(
        Located,
        r#"select storage_key as "storage_key!", size_bytes as "size_bytes!" from files where id = $1 and account_id = $2
           union all
           select storage_key, size_bytes from uploads where id = $1 and account_id = $2"#,
        file.0,
        account.0
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` files whose time is up, longest overdue first; those that just failed are left for an hour.
///
/// # Errors
/// When the database fails.
pub async fn expired(db: &PgPool, limit: i64, now: DateTime<Utc>) -> Result<Vec<Expired>, sqlx::Error> {
    sqlx::query_as!(
        Expired,
        r#"select id as "id!: _", job_id as "job?: _", storage_key as "storage_key!", preview_key as "preview_key?"
           from (
               (select id, job_id, storage_key, preview_key, expires_at from files
                where expires_at <= $1 order by expires_at limit $2)
               union all
               (select id, null::uuid, storage_key, null::text, expires_at from uploads
                where expires_at <= $1 order by expires_at limit $2)
           ) overdue
           order by expires_at limit $2"#,
        now,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Deletes what is kept of a file: its preview, the object itself, and its row last.
///
/// # Errors
/// When the storage or the database fails; calling again is safe.
pub async fn delete(
    db: &PgPool,
    storage: &Storage,
    file: FileId,
    storage_key: &str,
    preview_key: Option<&str>,
) -> anyhow::Result<()> {
    for key in preview_key.into_iter().chain([storage_key]) {
        storage.delete(key).await?;
    }
    Ok(forget(db, file).await?)
}

async fn forget(db: &PgPool, file: FileId) -> Result<(), sqlx::Error> {
    sqlx::query!("with file as (delete from files where id = $1) delete from uploads where id = $1", file.0)
        .execute(db)
        .await?;
    Ok(())
}

/// Remembers that a file could not be deleted and puts it off; gives how often that has happened.
///
/// # Errors
/// When the database fails.
pub async fn put_off(db: &PgPool, file: FileId, error: &str, now: DateTime<Utc>) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with file as (
               update files set delete_tries = delete_tries + 1, delete_error = $2, expires_at = $3 where id = $1
               returning delete_tries
           ), upload as (
               update uploads set delete_tries = delete_tries + 1, delete_error = $2, expires_at = $3 where id = $1
               returning delete_tries
           )
           select delete_tries as "tries!" from file union all select delete_tries from upload"#,
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
    sqlx::query_scalar!(
        r#"select (select count(*) from files where delete_tries > 0)
                  + (select count(*) from uploads where delete_tries > 0) as "count!""#
    )
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
