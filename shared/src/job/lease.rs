//! What a worker may write while it holds a job: beats, checkpoints, a pause, a release.
//!
//! Every statement names the lease's token. `false` or a missing row means that the lease is lost: someone else has the
//! job or it is over, and the worker drops what it has without another word.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};
use std::time::Duration;

use super::Checkpoint;
use crate::id::{JobId, LeaseToken};

/// The right to write to a job, until someone else claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The claim's token.
    pub token: LeaseToken,
}

/// What a heartbeat brought back for one lease.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The job that is still ours.
    pub job: JobId,
    /// The owner asked for an end.
    pub cancel_requested: bool,
}

/// Extends leases to `now + lease`, all of a process in one statement. Leases missing from the answer are lost.
///
/// # Errors
/// When the database fails; the leases stand until they lapse.
pub async fn beat(
    db: &PgPool,
    leases: &[Lease],
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Vec<Beat>, sqlx::Error> {
    let (jobs, tokens): (Vec<_>, Vec<_>) = leases.iter().map(|lease| (lease.job.0, lease.token.0)).unzip();
    sqlx::query_as!(
        Beat,
        r#"
        update queue q set lease_until = $3
        from unnest($1::uuid[], $2::uuid[]) as held (job_id, token)
        where q.job_id = held.job_id and q.lease_token = held.token
        returning q.job_id as "job: JobId", q.cancel_requested
        "#,
        &jobs,
        &tokens,
        now + lease,
    )
    .fetch_all(db)
    .await
}

/// Writes the intent of the provider submit number `attempt`, before the call; an earlier one that never came to an end is
/// given up with it. `false`: the lease is lost.
///
/// # Errors
/// When the database fails; nothing may be submitted then.
pub async fn begin_attempt(
    db: &PgPool,
    lease: Lease,
    attempt: i16,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query!(
        r#"
        with held as (
            update queue set attempt = $3, checkpoint = $4, phase = 'submitting', progress = null
            where job_id = $1 and lease_token = $2
            returning job_id
        ), given_up as (
            -- The vendor may have got it, and bill it.
            update attempts a set outcome = 'abandoned', error = coalesce(a.error, 'its fate is unknown'), finished_at = $5,
                                  cost_usd = j.cost_usd
            from held join jobs j on j.id = held.job_id
            where a.job_id = held.job_id and a.attempt < $3 and a.outcome is null
        )
        insert into attempts (job_id, attempt, provider, upstream_model, started_at)
        select j.id, $3, j.provider, j.upstream_model, $5 from jobs j join held on held.job_id = j.id
        -- Only the holder of the lease comes here, so a row of that number is its own, from a commit whose answer was lost.
        on conflict on constraint attempts_pkey do update set started_at = excluded.started_at
        "#,
        lease.job.0,
        lease.token.0,
        attempt,
        Json(Checkpoint::Submitting { unseen: 0 }) as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Remembers how far the job has come, keeping the lease. `false`: the lease is lost.
///
/// # Errors
/// When the database fails.
pub async fn save(
    db: &PgPool,
    lease: Lease,
    checkpoint: &Checkpoint,
    phase: &str,
) -> Result<bool, sqlx::Error> {
    let saved = sqlx::query!(
        "update queue set checkpoint = $3, phase = $4 where job_id = $1 and lease_token = $2",
        lease.job.0,
        lease.token.0,
        Json(checkpoint) as _,
        phase,
    )
    .execute(db)
    .await?;
    Ok(saved.rows_affected() == 1)
}

/// Where the next run of a job resumes.
#[derive(Debug, Clone, PartialEq)]
pub enum Resume {
    /// From the start: the current attempt is over.
    Anew,
    /// Where this run did: it learned nothing, or could not read it.
    Unchanged,
    /// Here.
    At(Checkpoint),
}

impl Resume {
    fn checkpoint(&self) -> Option<Json<&Checkpoint>> {
        if let Self::At(checkpoint) = self { Some(Json(checkpoint)) } else { None }
    }

    fn is_unchanged(&self) -> bool {
        *self == Self::Unchanged
    }
}

/// How a job rests until its next run.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Not before this.
    pub until: DateTime<Utc>,
    /// Where the next run resumes.
    pub resume: Resume,
    /// For people.
    pub phase: String,
    /// 0–100 where known.
    pub progress: Option<i16>,
}

/// Lets go of a job until a moment; spends no try. The provider's reference is kept with its attempt as well.
/// `false`: the lease is lost.
///
/// # Errors
/// When the database fails.
pub async fn park(db: &PgPool, lease: Lease, pause: &Pause, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let provider_ref = match &pause.resume {
        Resume::At(Checkpoint::Pending { provider_ref, .. }) => Some(provider_ref.as_str()),
        _ => None,
    };
    let parked = sqlx::query!(
        r#"
        with parked as (
            update queue
            set lease_token = null, lease_until = null, phase = $5, progress = coalesce($6, progress),
                checkpoint = case when $8 then checkpoint else $4 end,
                -- A cancel that came meanwhile must not wait for the provider.
                run_at = case when cancel_requested then $9::timestamptz else $3 end
            where job_id = $1 and lease_token = $2
            returning job_id, attempt
        ), referred as (
            update attempts a set provider_ref = $7
            from parked p
            where a.job_id = p.job_id and a.attempt = p.attempt and $7::text is not null
              and a.provider_ref is distinct from $7
        )
        select job_id from parked
        "#,
        lease.job.0,
        lease.token.0,
        pause.until,
        pause.resume.checkpoint() as _,
        pause.phase,
        pause.progress,
        provider_ref,
        pause.resume.is_unchanged(),
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(parked.is_some())
}

/// Lets go of a job after a failure: spends a try, and ends the current attempt when the pause resumes nothing of it. The
/// attempt cost nothing then, or the list price where it `may_be_billed`. `false`: the lease is lost.
///
/// # Errors
/// When the database fails.
pub async fn retry(
    db: &PgPool,
    lease: Lease,
    pause: &Pause,
    why: &str,
    may_be_billed: bool,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let retried = sqlx::query!(
        r#"
        with retried as (
            update queue
            set lease_token = null, lease_until = null, phase = $5, tries = tries + 1, progress = null,
                checkpoint = case when $8 then checkpoint else $4 end,
                run_at = case when cancel_requested then $7::timestamptz else $3 end
            where job_id = $1 and lease_token = $2
            returning job_id, attempt
        ), ended as (
            update attempts a
            set outcome = case when $9 then 'failed' end, error = $6,
                finished_at = case when $9 then $7 end,
                cost_usd = case when $9 then case when $10 then j.cost_usd else 0 end end
            from retried r join jobs j on j.id = r.job_id
            where a.job_id = r.job_id and a.attempt = r.attempt and a.outcome is null
        )
        select job_id from retried
        "#,
        lease.job.0,
        lease.token.0,
        pause.until,
        pause.resume.checkpoint() as _,
        pause.phase,
        why,
        now,
        pause.resume.is_unchanged(),
        pause.resume == Resume::Anew,
        may_be_billed,
    )
    .fetch_optional(db)
    .await?;
    Ok(retried.is_some())
}

/// Gives jobs back unharmed, runnable at once and with no try spent: a stopping worker does this with what it
/// could not finish. The checkpoints stand.
///
/// # Errors
/// When the database fails; the leases lapse by themselves then.
pub async fn release(db: &PgPool, leases: &[Lease]) -> Result<u64, sqlx::Error> {
    let (jobs, tokens): (Vec<_>, Vec<_>) = leases.iter().map(|lease| (lease.job.0, lease.token.0)).unzip();
    let released = sqlx::query!(
        r#"
        update queue q set lease_token = null, lease_until = null
        from unnest($1::uuid[], $2::uuid[]) as held (job_id, token)
        where q.job_id = held.job_id and q.lease_token = held.token
        "#,
        &jobs,
        &tokens,
    )
    .execute(db)
    .await?;
    Ok(released.rows_affected())
}
