//! A key's limits, kept over all processes: so many submits a minute, so many under way at once.
//!
//! Submits a minute are counted as in [`crate::rate`]: one instant, moved on by each. A place for a submit under way is taken for
//! an attempt and free again as soon as that has ended, whoever ended it; nothing has to be given back. Keys without limits,
//! which most are, never come here.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::id::{JobId, ProviderKeyId};

/// How much of a minute's submits may come at once.
const BURST: TimeDelta = TimeDelta::seconds(10);

/// How long a place is kept for an attempt that has not begun: its input is judged and fetched, and its intent written, within
/// that, or never.
const INTENT_WAIT: TimeDelta = TimeDelta::minutes(3);

/// What came of asking for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It was granted.
    Taken,
    /// This minute's submits are used up until then.
    NotBefore(DateTime<Utc>),
    /// As many are under way as may be.
    Full,
}

/// Asks for a place of `key` for an attempt that is about to begin.
///
/// # Errors
/// When the database fails.
pub async fn take(
    db: &PgPool,
    key: ProviderKeyId,
    job: JobId,
    attempt: i16,
    now: DateTime<Utc>,
) -> Result<Place, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        with key as materialized (
            select per_minute, concurrency, greatest(full_at, $4) as full_at,
                   coalesce(interval '1 minute' / per_minute, interval '0') as step
            from provider_keys where id = $1 for no key update
        ), pace as materialized (
            select concurrency, step, full_at + step - greatest(step, $5) as ready_at,
                   per_minute is null or full_at + step <= $4 + greatest(step, $5) as in_time
            from key
        ), free as (
            select s.slot
            from pace p join provider_slots s on s.key_id = $1 and s.slot <= p.concurrency
            left join attempts a on a.job_id = s.job_id and a.attempt = s.attempt
            where p.in_time and (s.job_id is null or s.job_id = $2 or a.outcome is not null
                                 or (a.job_id is null and s.taken_at < $4 - $6::interval))
            -- One that this job has from before is taken over: it has one at most.
            order by s.job_id is not distinct from $2 desc, s.slot limit 1
            -- Those that others took since this statement began are passed over.
            for no key update of s skip locked
        ), placed as (
            update provider_slots s set job_id = $2, attempt = $3, taken_at = $4
            from free f
            where s.key_id = $1 and s.slot = f.slot
            returning s.slot
        ), granted as (
            update provider_keys k set full_at = case when k.per_minute is null then k.full_at else greatest(k.full_at, $4) + p.step end
            from pace p
            where k.id = $1 and p.in_time and (p.concurrency is null or exists (select from placed))
            returning k.id
        )
        select exists (select from granted) as "granted!", in_time as "in_time!", ready_at as "ready_at!" from pace
        "#,
        key.0,
        job.0,
        attempt,
        now,
        interval(BURST),
        interval(INTENT_WAIT),
    )
    .fetch_optional(db)
    .await?;
    Ok(match row {
        // The key was removed meanwhile; what is under way with it may end.
        None => Place::Full,
        Some(row) if row.granted => Place::Taken,
        Some(row) if !row.in_time => Place::NotBefore(row.ready_at),
        Some(_) => Place::Full,
    })
}

/// Gives back the place of an attempt that will not begin.
///
/// # Errors
/// When the database fails; it is free by itself some minutes later.
pub async fn give_back(db: &PgPool, key: ProviderKeyId, job: JobId, attempt: i16) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update provider_slots s set job_id = null, attempt = null, taken_at = null
         where key_id = $1 and job_id = $2 and attempt = $3
           and not exists (select from attempts a where a.job_id = $2 and a.attempt = $3)",
        key.0,
        job.0,
        attempt,
    )
    .execute(db)
    .await?;
    Ok(())
}

fn interval(span: TimeDelta) -> sqlx::postgres::types::PgInterval {
    let microseconds = span.num_microseconds().unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
