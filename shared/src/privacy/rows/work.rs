//! Rows about what the account had made, and told of, and archives of it.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::{ROWS, Read, place};
use crate::{
    id::{AccountId, DialogId, EndpointId, ExportId, FileId, JobId, KeyId, NoticeId, UserId},
    privacy::Page,
};

/// Jobs of one page: an input may be as long as a request, 14 MB.
const JOBS: i64 = 8;
/// Days of one page of usage; a day has as many rows as models and keys were used.
const DAYS: i64 = 7;

#[derive(Serialize)]
struct Job {
    id: JobId,
    status: String,
    api_key: Option<KeyId>,
    user: Option<UserId>,
    model: String,
    medium: String,
    task: String,
    input: Value,
    output: Option<Value>,
    error_code: Option<String>,
    error_message: Option<String>,
    held_tokens: i64,
    charged_tokens: Option<i64>,
    covered_by: String,
    price_version: Option<i32>,
    price_percent: i16,
    metered: Option<Value>,
    attempts: i32,
    webhook_url: Option<String>,
    webhook_events: Vec<String>,
    metadata: Value,
    wishes: Option<Value>,
    retry_of: Option<JobId>,
    improves: Option<JobId>,
    iteration: Option<i16>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    deadline: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    dialog: Option<DialogId>,
}

pub(in crate::privacy) async fn jobs(
    db: &PgPool,
    account: AccountId,
    after: Option<&str>,
    whole: bool,
) -> Read {
    let found = sqlx::query_as!(
        Job,
        r#"select id as "id: _", status, key_id as "api_key: _", user_id as "user: _", model, medium, task,
                  case when $4 then input else coalesce(input_shown, input) end as "input!", output,
                  error_code, error_message, held_tokens, charged_tokens, covered_by, price_version, price_percent, metered,
                  attempts, webhook_url, webhook_events, metadata, wishes, retry_of as "retry_of: _", improves as "improves: _",
                  iteration, created_at, started_at, finished_at, deadline, expires_at, dialog_id as "dialog: _"
           from jobs
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        JOBS,
        whole,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, JOBS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Feedback {
    job: JobId,
    rating: String,
    reason: Option<String>,
    given_at: DateTime<Utc>,
}

/// In the order of their jobs, by way of which they are found; there is one on a job.
pub(in crate::privacy) async fn feedback(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Feedback,
        r#"select f.job_id as "job: _", f.rating, f.reason, f.given_at
           from jobs j join feedback f on f.job_id = j.id
           where j.account_id = $1 and j.id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by j.id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.job.0)))
}

#[derive(Serialize)]
struct Upload {
    id: FileId,
    name: String,
    purpose: Option<String>,
    mime_type: String,
    size_bytes: i64,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn uploads(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Upload,
        r#"select id as "id: _", name, purpose, mime_type, size_bytes, created_at, expires_at
           from uploads
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Endpoint {
    id: EndpointId,
    url: String,
    events: Vec<String>,
    description: Option<String>,
    disabled_at: Option<DateTime<Utc>>,
    disabled_reason: Option<String>,
    failing_since: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn webhook_endpoints(
    db: &PgPool,
    account: AccountId,
    after: Option<&str>,
) -> Read {
    let found = sqlx::query_as!(
        Endpoint,
        r#"select id as "id: _", url, events, description, disabled_at, disabled_reason, failing_since, created_at
           from webhook_endpoints
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Notice {
    id: NoticeId,
    endpoint: Option<EndpointId>,
    job: Option<JobId>,
    event: String,
    target: String,
    status: String,
    tries: i16,
    last_error: Option<String>,
    attempts: Value,
    created_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
}

/// A test tells of no job.
pub(in crate::privacy) async fn notices(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Notice,
        r#"select id as "id: _", endpoint_id as "endpoint: _", nullif(job_id, id) as "job: _", event, target, status, tries,
                  last_error, log as attempts, created_at, settled_at
           from notices
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Used {
    day: NaiveDate,
    model: String,
    api_key: Option<KeyId>,
    user: Option<UserId>,
    jobs: i64,
    succeeded: i64,
    cached: i64,
    charged_tokens: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    images: i64,
    seconds: Decimal,
    characters: i64,
}

/// Whole days a page; the vendors a model came from are added up.
pub(in crate::privacy) async fn usage(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Used,
        r#"with batch as (
               select distinct day from usage_daily
               where account_id = $1 and day > coalesce($2::text::date, '-infinity') order by day limit $3
           )
           select day as "day!", model as "model!", key_id as "api_key: _", user_id as "user: _", sum(jobs)::bigint as "jobs!",
                  sum(succeeded)::bigint as "succeeded!", sum(cached)::bigint as "cached!",
                  sum(charged_tokens)::bigint as "charged_tokens!", sum(prompt_tokens)::bigint as "prompt_tokens!",
                  sum(completion_tokens)::bigint as "completion_tokens!", sum(images)::bigint as "images!",
                  sum(seconds) as "seconds!", sum(characters)::bigint as "characters!"
           from usage_daily
           where account_id = $1 and day in (select day from batch)
           group by day, model, key_id, user_id
           order by day, model, key_id, user_id"#,
        account.0,
        after,
        DAYS,
    )
    .fetch_all(db)
    .await?;
    // Full or not cannot be told from the number of rows: there is a next page unless there was nothing on this one.
    Ok(Page::of(found, 1, |row| row.day.to_string()))
}

#[derive(Serialize)]
struct Export {
    id: ExportId,
    status: String,
    requested_by: Option<UserId>,
    size_bytes: Option<i64>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
}

pub(in crate::privacy) async fn exports(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Export,
        r#"select id as "id: _", status, requested_by as "requested_by: _", size_bytes, created_at, finished_at, expires_at
           from exports
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}
