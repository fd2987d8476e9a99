//! Reading jobs for those who own them.
//!
//! The one dynamic question, the list with its filters, is a single static statement: an absent filter is a null. From the other end
//! it is another statement, so that each can walk along the index.
//! Every question names the account, so another's job is simply not found.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeMap;

use super::{Medium, Status, StoredFile};
use crate::id::{AccountId, DialogId, FileId, JobId};

/// A job as its owner sees it, row by row of the tables.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub account: AccountId,
    /// Status word, running and queued told apart.
    pub status: String,
    /// Free text for people.
    pub phase: String,
    /// 0–100 where known.
    pub progress: Option<i16>,
    /// How many jobs of its pool are before it, counted to 1000; while it waits for its first claim.
    pub queue_position: Option<i64>,
    /// Public model name.
    pub model: String,
    /// Medium word.
    pub medium: String,
    /// Task word.
    pub task: String,
    /// As the caller sent it, its data URLs cut short.
    pub input: Value,
    /// `{"text","usage",…}` after a success.
    pub output: Option<Value>,
    /// Stable word, unless it succeeded or is open.
    pub error_code: Option<String>,
    /// For people.
    pub error_message: Option<String>,
    /// Whether the same may succeed later.
    pub error_retryable: Option<bool>,
    /// Tokens set aside at submit.
    pub held_tokens: i64,
    /// Tokens charged at the end.
    pub charged_tokens: Option<i64>,
    /// Provider submits begun.
    pub attempts: i32,
    /// The adapter of the route it is on; not shown.
    pub provider: String,
    /// The vendor's id of the model on that route; not shown.
    pub upstream_model: String,
    /// Until when it rests, while it does.
    pub run_at: Option<DateTime<Utc>>,
    /// When the submit was begun that is under way, while one is.
    pub begun_at: Option<DateTime<Utc>>,
    /// The caller's own pairs.
    pub metadata: Value,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When a worker first had it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Past this it expires.
    pub deadline: DateTime<Utc>,
    /// When its files are deleted; of an open job only where its owner wants it no longer.
    pub expires_at: Option<DateTime<Utc>>,
    /// The job that ended without success and that this one makes again.
    pub retry_of: Option<JobId>,
    /// The job whose result this one is to improve.
    pub improves: Option<JobId>,
    /// Which improvement in a row that is.
    pub iteration: Option<i16>,
    /// The dialog it goes on in, which may be gone.
    pub dialog: Option<DialogId>,
}

impl Job {
    /// Whether nothing can change any more.
    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }

    /// Whether its owner wants it no longer, see [`super::discard()`].
    pub fn is_discarded(&self) -> bool {
        self.expires_at.is_some_and(|until| self.finished_at.is_none_or(|end| until == end))
    }
}

/// What a list is narrowed by.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only jobs in this status.
    pub status: Option<Status>,
    /// Only this model's.
    pub model: Option<String>,
    /// Only this medium's.
    pub medium: Option<Medium>,
    /// Only those submitted after this.
    pub created_after: Option<DateTime<Utc>>,
    /// Only those that carry all these pairs.
    pub metadata: BTreeMap<String, String>,
    /// Only those older than this job: the last one of the page before.
    pub after: Option<JobId>,
}

/// A job of `account`, or `None` when it has no such job.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &PgPool, account: AccountId, job: JobId) -> Result<Option<Job>, sqlx::Error> {
    sqlx::query_file_as!(Job, "src/job/find.sql", account.0, job.0).fetch_optional(db).await
}

/// Up to `limit` jobs of `account`, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &PgPool,
    account: AccountId,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Job>, sqlx::Error> {
    let metadata = (!filter.metadata.is_empty()).then(|| serde_json::json!(filter.metadata));
    sqlx::query_file_as!(
        Job,
        "src/job/list.sql",
        account.0,
        filter.status.map(Status::word),
        filter.model,
        filter.medium.map(Medium::word),
        filter.created_after,
        metadata,
        filter.after.map(|job| job.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` jobs of `account` and one medium, oldest first, younger than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn list_oldest(
    db: &PgPool,
    account: AccountId,
    medium: Medium,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<Job>, sqlx::Error> {
    let after = after.map(|job| job.0);
    sqlx::query_file_as!(Job, "src/job/list_oldest.sql", account.0, medium.word(), after, limit)
        .fetch_all(db)
        .await
}

/// The files of some jobs, in order, each with its job and id.
///
/// # Errors
/// When the database fails.
pub async fn files_of(
    db: &PgPool,
    jobs: &[JobId],
) -> Result<Vec<(JobId, FileId, DateTime<Utc>, StoredFile)>, sqlx::Error> {
    let jobs: Vec<_> = jobs.iter().map(|job| job.0).collect();
    let rows = sqlx::query!(
        r#"select id as "id: FileId", job_id as "job: JobId", storage_key, preview_key, mime_type, size_bytes, width, height,
                  duration_seconds, expires_at
           from files where job_id = any ($1) order by job_id, position"#,
        &jobs,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let file = StoredFile {
                storage_key: row.storage_key,
                preview_key: row.preview_key,
                mime_type: row.mime_type,
                size_bytes: row.size_bytes,
                width: row.width,
                height: row.height,
                duration_seconds: row.duration_seconds,
            };
            (row.job, row.id, row.expires_at, file)
        })
        .collect())
}

/// How much is in a pool, for metrics and operators.
#[derive(Debug, Clone)]
pub struct Depth {
    /// The pool's word.
    pub pool: String,
    /// Runnable now and unclaimed.
    pub ready: i64,
    /// Waiting for a moment.
    pub parked: i64,
    /// With a worker.
    pub leased: i64,
}

/// The depth of every pool that has open jobs. Reads the whole queue, so it is for scrapes, not for requests.
///
/// # Errors
/// When the database fails.
pub async fn depths(db: &PgPool) -> Result<Vec<Depth>, sqlx::Error> {
    sqlx::query_as!(
        Depth,
        r#"select p.pool, count(*) filter (where q.job_id is not null and q.lease_token is null and q.run_at is null) as "ready!",
                  count(*) filter (where q.lease_token is null and q.run_at is not null) as "parked!",
                  count(*) filter (where q.lease_token is not null) as "leased!"
           from pools p left join queue q on q.pool = p.pool group by p.pool order by p.pool"#
    )
    .fetch_all(db)
    .await
}
