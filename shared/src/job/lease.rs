//! What a worker may write while it holds a job: beats, checkpoints, a pause, a release.
//!
//! Every statement names the lease's token. `false` or a missing row means that the lease is lost: someone else has the
//! job or it is over, and the worker drops what it has without another word. What comes in crowds takes lists.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};
use std::time::Duration;

use super::Checkpoint;
use crate::id::{JobId, LeaseToken, ProviderKeyId};

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
/// It waits for nobody: a row that is being written just now, be it closed or parked by ourselves, is extended by the next beat.
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
        with held as materialized (
            select q.job_id, q.lease_token, q.cancel_requested
            from unnest($1::uuid[], $2::uuid[]) as held (job_id, token)
            join queue q on q.job_id = held.job_id and q.lease_token = held.token
        ), free as (
            select q.job_id from held h join queue q on q.job_id = h.job_id and q.lease_token = h.lease_token
            for no key update of q skip locked
        ), extended as (
            update queue q set lease_until = $3 from free f where q.job_id = f.job_id
        )
        select job_id as "job: JobId", cancel_requested from held
        "#,
        &jobs,
        &tokens,
        now + lease,
    )
    .fetch_all(db)
    .await
}

/// A provider submit about to be made.
#[derive(Debug, Clone)]
pub struct Intent {
    /// By which right.
    pub lease: Lease,
    /// Its number: 1, 2, …
    pub attempt: i16,
    /// The route's adapter.
    pub provider: String,
    /// The vendor's id of the model.
    pub upstream_model: String,
    /// By which of our keys.
    pub key: Option<ProviderKeyId>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Writes the intents of provider submits, before the calls; an earlier one of a job that never came to an end is given up
/// with it. `false`: the lease is lost, and nothing may be submitted.
///
/// # Errors
/// When the database fails; nothing may be submitted then.
pub async fn begin_all(db: &PgPool, intents: &[Intent]) -> Result<Vec<bool>, sqlx::Error> {
    let begun = sqlx::query_scalar!(
        r#"
        with asked as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[], $5::text[], $6::timestamptz[],
                                 $8::uuid[])
                with ordinality as i (job_id, token, attempt, provider, upstream_model, started_at, key_id, n)
        ), held as (
            update queue q
            set attempt = i.attempt, checkpoint = $7, phase = 'submitting', progress = null, provider_key_id = i.key_id,
                begun_at = i.started_at
            from asked i
            where q.job_id = i.job_id and q.lease_token = i.token
            returning i.*
        ), given_up as (
            -- The vendor may have got it, and bill it.
            update attempts a set outcome = 'abandoned', error = coalesce(a.error, 'its fate is unknown'),
                                  finished_at = h.started_at, cost_usd = j.cost_usd
            from held h join jobs j on j.id = h.job_id
            where h.attempt > 1 and a.job_id = h.job_id and a.attempt < h.attempt and a.outcome is null
        ), begun as (
            insert into attempts (job_id, attempt, provider, upstream_model, started_at, provider_key_id)
            select job_id, attempt, provider, upstream_model, started_at, key_id from held
            -- Only the holder of the lease comes here, so a row of that number is its own, from a commit whose answer was lost.
            on conflict on constraint attempts_pkey do update set started_at = excluded.started_at
        )
        select n as "n!" from held
        "#,
        &column(intents, |intent| intent.lease.job.0),
        &column(intents, |intent| intent.lease.token.0),
        &column(intents, |intent| intent.attempt),
        &column(intents, |intent| intent.provider.as_str()) as _,
        &column(intents, |intent| intent.upstream_model.as_str()) as _,
        &column(intents, |intent| intent.at),
        Json(Checkpoint::Submitting { unseen: 0 }) as _,
        &column(intents, |intent| intent.key.map(|key| key.0)) as _,
    )
    .fetch_all(db)
    .await?;
    Ok(answered(intents.len(), &begun))
}

fn column<'a, T, C>(items: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    items.iter().map(of).collect()
}

/// Which of `count` items a statement answered for, by their places from 1.
pub(super) fn answered(count: usize, places: &[i64]) -> Vec<bool> {
    let mut answered = vec![false; count];
    for place in places {
        if let Some(answered) = usize::try_from(place - 1).ok().and_then(|at| answered.get_mut(at)) {
            *answered = true;
        }
    }
    answered
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

/// A job about to rest.
#[derive(Debug, Clone)]
pub struct Parking {
    /// By which right.
    pub lease: Lease,
    /// Until when, and where it resumes.
    pub pause: Pause,
    /// Since when.
    pub at: DateTime<Utc>,
}

impl Parking {
    fn provider_ref(&self) -> Option<&str> {
        match &self.pause.resume {
            Resume::At(Checkpoint::Pending { provider_ref, .. }) => Some(provider_ref),
            _ => None,
        }
    }
}

/// Lets go of jobs until a moment each; spends no try. A provider's reference is kept with its attempt as well.
/// `false`: the lease is lost.
///
/// # Errors
/// When the database fails.
pub async fn park_all(db: &PgPool, parkings: &[Parking]) -> Result<Vec<bool>, sqlx::Error> {
    let parked = sqlx::query_scalar!(
        r#"
        with asked as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::jsonb[], $5::boolean[], $6::text[], $7::smallint[],
                                 $8::text[], $9::timestamptz[])
                with ordinality as p (job_id, token, until, checkpoint, unchanged, phase, progress, provider_ref, at, n)
        ), parked as (
            update queue q
            set lease_token = null, lease_until = null, phase = p.phase, progress = coalesce(p.progress, q.progress),
                checkpoint = case when p.unchanged then q.checkpoint else p.checkpoint end,
                -- A cancel that came meanwhile must not wait for the provider.
                run_at = case when q.cancel_requested then p.at else p.until end
            from asked p
            where q.job_id = p.job_id and q.lease_token = p.token
            returning p.n, p.job_id, p.provider_ref, q.attempt
        ), referred as (
            update attempts a set provider_ref = p.provider_ref
            from parked p
            where a.job_id = p.job_id and a.attempt = p.attempt and p.provider_ref is not null
              and a.provider_ref is distinct from p.provider_ref
        )
        select n as "n!" from parked
        "#,
        &column(parkings, |parking| parking.lease.job.0),
        &column(parkings, |parking| parking.lease.token.0),
        &column(parkings, |parking| parking.pause.until),
        &column(parkings, |parking| parking.pause.resume.checkpoint()) as _,
        &column(parkings, |parking| parking.pause.resume.is_unchanged()),
        &column(parkings, |parking| parking.pause.phase.as_str()) as _,
        &column(parkings, |parking| parking.pause.progress) as _,
        &column(parkings, Parking::provider_ref) as _,
        &column(parkings, |parking| parking.at),
    )
    .fetch_all(db)
    .await?;
    Ok(answered(parkings.len(), &parked))
}

/// Which route a job is on after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The same.
    Here,
    /// The fallback of this place in [`Claimed::fallbacks`](super::Claimed::fallbacks); the route that failed comes last from now on.
    Elsewhere(usize),
    /// The same, and the route that failed is not asked again.
    ElsewhereForGood(usize),
}

impl Next {
    /// Place of the fallback, as Postgres counts.
    fn place(self) -> Option<i32> {
        match self {
            Self::Here => None,
            Self::Elsewhere(place) | Self::ElsewhereForGood(place) => i32::try_from(place).ok(),
        }
    }
}

/// A failure that does not end its job.
#[derive(Debug, Clone)]
pub struct Failure {
    /// By which right.
    pub lease: Lease,
    /// Until when, and where it resumes.
    pub pause: Pause,
    /// For operators.
    pub why: String,
    /// The vendor may bill what was begun: it counts with the list price, else it cost nothing.
    pub may_be_billed: bool,
    /// Which route it is on from now on.
    pub next: Next,
    /// Whether it counts among the job's tries. Not where nothing was tried.
    pub spends_try: bool,
    /// When.
    pub at: DateTime<Utc>,
}

/// Lets go of a job after a failure, and ends the current attempt when the pause resumes nothing of it. `false`: the lease is lost.
///
/// # Errors
/// When the database fails.
pub async fn retry(db: &PgPool, failure: &Failure) -> Result<bool, sqlx::Error> {
    let Failure { lease, pause, .. } = failure;
    let retried = sqlx::query!(
        r#"
        with retried as (
            update queue
            set lease_token = null, lease_until = null, phase = $5, tries = tries + case when $12 then 1 else 0 end, progress = null,
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
        ), moved as (
            update jobs j
            set provider = j.fallbacks -> $11 ->> 'provider', upstream_model = j.fallbacks -> $11 ->> 'upstream_model',
                cost_usd = (j.fallbacks -> $11 ->> 'cost_usd')::numeric,
                fallbacks = nullif((j.fallbacks - $11) || case when $13 then '[]'::jsonb else
                    jsonb_build_object('provider', j.provider, 'upstream_model', j.upstream_model, 'cost_usd', j.cost_usd::text) end,
                    '[]')
            from retried r
            where j.id = r.job_id and j.fallbacks -> $11::int is not null
        )
        select job_id from retried
        "#,
        lease.job.0,
        lease.token.0,
        pause.until,
        pause.resume.checkpoint() as _,
        pause.phase,
        failure.why,
        failure.at,
        pause.resume.is_unchanged(),
        pause.resume == Resume::Anew,
        failure.may_be_billed,
        failure.next.place(),
        failure.spends_try,
        matches!(failure.next, Next::ElsewhereForGood(_)),
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
pub async fn release(db: &PgPool, leases: &[Lease], now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let (jobs, tokens): (Vec<_>, Vec<_>) = leases.iter().map(|lease| (lease.job.0, lease.token.0)).unzip();
    let released = sqlx::query!(
        r#"
        update queue q set lease_token = null, lease_until = null, run_at = $3
        from unnest($1::uuid[], $2::uuid[]) as held (job_id, token)
        where q.job_id = held.job_id and q.lease_token = held.token
        "#,
        &jobs,
        &tokens,
        now,
    )
    .execute(db)
    .await?;
    Ok(released.rows_affected())
}
