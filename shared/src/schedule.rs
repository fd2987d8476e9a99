//! The clock's memory: which tick of which task is done, and who is on the next.
//!
//! Any number of schedulers may run: a tick is leased to one of them by a guarded update, and done once. A scheduler that
//! dies with a tick loses it with its lease, and another takes it up.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::time::Duration;

use crate::id::LeaseToken;

/// Newest tick of `task` that is done. A task never seen before begins at `now`, so its first tick is the next one.
///
/// # Errors
/// When the database fails.
pub async fn last_tick(db: &PgPool, task: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with made as (
            insert into schedule (task, last_tick) values ($1, $2) on conflict (task) do nothing returning last_tick
        )
        select last_tick as "last_tick!" from made union all select last_tick from schedule where task = $1 limit 1
        "#,
        task,
        now,
    )
    .fetch_one(db)
    .await
}

/// Takes the tick `tick` of `task` for this scheduler, for at most `lease`. `None`: it is done, or another is on it.
///
/// # Errors
/// When the database fails.
pub async fn take_tick(
    db: &PgPool,
    task: &str,
    tick: DateTime<Utc>,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Option<LeaseToken>, sqlx::Error> {
    let token = LeaseToken::new();
    let taken = sqlx::query!(
        "update schedule set lease_token = $3, lease_until = $4
         where task = $1 and last_tick < $2 and (lease_until is null or lease_until <= $5)",
        task,
        tick,
        token.0,
        now + lease,
        now,
    )
    .execute(db)
    .await?;
    Ok((taken.rows_affected() == 1).then_some(token))
}

/// Passes over every tick up to `tick` without running them, as the task's policy for missed ones says; not while someone
/// is on one.
///
/// # Errors
/// When the database fails.
pub async fn skip_to(
    db: &PgPool,
    task: &str,
    tick: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update schedule set last_tick = $2, lease_token = null, lease_until = null
         where task = $1 and last_tick < $2 and (lease_until is null or lease_until <= $3)",
        task,
        tick,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Marks a tick done, with the error if it failed; a failed tick is not run again, the next one is.
/// `false`: the lease had lapsed.
///
/// # Errors
/// When the database fails; another scheduler repeats the tick after the lease.
pub async fn finish_tick(
    db: &PgPool,
    task: &str,
    tick: DateTime<Utc>,
    token: LeaseToken,
    error: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let finished = sqlx::query!(
        "update schedule
         set last_tick = $2, lease_token = null, lease_until = null, last_error = $4,
             failures = case when $4::text is null then 0 else failures + 1 end,
             finished_at = case when $4::text is null then $5 else finished_at end
         where task = $1 and lease_token = $3",
        task,
        tick,
        token.0,
        error,
        now,
    )
    .execute(db)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// Forgets idempotency keys made before `before`, in batches; gives how many.
///
/// # Errors
/// When the database fails.
pub async fn evict_idempotency_keys(db: &PgPool, before: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    evict(|| async {
        sqlx::query!(
            "delete from idempotency_keys where (account_id, key) in
             (select account_id, key from idempotency_keys where created_at <= $1 limit $2 for update skip locked)",
            before,
            EVICT_BATCH,
        )
        .execute(db)
        .await
        .map(|done| done.rows_affected())
    })
    .await
}

/// Forgets cached results that have expired, in batches; gives how many.
///
/// # Errors
/// When the database fails.
pub async fn evict_results(db: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    evict(|| async {
        sqlx::query!(
            "delete from result_cache where (account_id, request_hash) in
             (select account_id, request_hash from result_cache where expires_at <= $1 limit $2 for update skip locked)",
            now,
            EVICT_BATCH,
        )
        .execute(db)
        .await
        .map(|done| done.rows_affected())
    })
    .await
}

/// Rows deleted in one statement: few enough to be quick, so that no lock is held for long.
const EVICT_BATCH: i64 = 1000;

async fn evict<F>(mut batch: impl FnMut() -> F) -> Result<u64, sqlx::Error>
where
    F: Future<Output = Result<u64, sqlx::Error>>,
{
    let mut evicted = 0;
    loop {
        let deleted = batch().await?;
        evicted += deleted;
        if deleted < EVICT_BATCH.unsigned_abs() {
            return Ok(evicted);
        }
    }
}
