//! Station 4, claim: rows of the queue get a lease, their jobs are read, in one statement.
//!
//! The claim is a walk along two small indexes: jobs whose wait is over first, for they are nearly done and hold money,
//! then new ones by priority and fair-queuing tag. Parked, leased and finished jobs are in neither, so their number does
//! not matter. Read committed and `skip locked`: claimers never wait for each other. Jobs that were to start later join
//! the new ones when their time has come.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Checkpoint, Fallback, Floors, Medium, lease::Lease};
use crate::{
    id::{AccountId, JobId, LeaseToken, ProviderKeyId},
    price::Price,
    trace::Trace,
};

/// A job under lease, with all that is needed to run it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to write.
    pub lease: Lease,
    /// Who pays.
    pub account: AccountId,
    /// Public model name.
    pub model: String,
    /// Task word.
    pub task: String,
    /// The route's adapter.
    pub provider: String,
    /// The vendor's id of the model.
    pub upstream_model: String,
    /// Input as checked at submit.
    pub input: Value,
    /// Tokens held: the most it is charged.
    pub held_tokens: i64,
    /// The price it was accepted under. `None` for jobs from before there were versions, or when it cannot be read: they are
    /// charged what is held.
    pub price: Option<Arc<Price>>,
    /// Which part of that price its account pays, in percent.
    pub price_percent: i16,
    /// What one success costs us at most, in USD.
    pub cost_usd: Decimal,
    /// Where else it may be made, best first.
    pub fallbacks: Vec<Fallback>,
    /// Failures and lost leases so far.
    pub tries: i16,
    /// Submits begun so far.
    pub attempt: i16,
    /// By which of our keys the last of them was begun; none where none is needed.
    pub provider_key: Option<ProviderKeyId>,
    /// When it was begun.
    pub begun_at: Option<DateTime<Utc>>,
    /// Where to resume. `Err` when it cannot be read, which only a defect or a newer version can cause.
    pub checkpoint: Result<Option<Checkpoint>, String>,
    /// The owner asked for an end.
    pub cancel_requested: bool,
    /// Past this the job expires.
    pub deadline: DateTime<Utc>,
    /// Trace context of the submit.
    pub traceparent: Option<String>,
}

/// What a claimer wants.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// From this pool.
    pub pool: Medium,
    /// For this worker.
    pub worker: &'a str,
    /// At most so many jobs.
    pub limit: i64,
    /// How long it may be silent.
    pub lease: Duration,
    /// Where to begin.
    pub floors: Floors,
    /// Whether the pool's virtual time follows. It need not at every claim: each time leaves a dead row behind.
    pub moves_clock: bool,
}

/// Leases jobs until `now + lease`.
///
/// # Errors
/// When the database fails; then nothing is claimed, or the leases lapse by themselves.
pub async fn claim(db: &PgPool, wanted: &Claim<'_>, now: DateTime<Utc>) -> Result<Vec<Claimed>, sqlx::Error> {
    let tokens: Vec<_> = (0..wanted.limit).map(|_| LeaseToken::new().0).collect();
    let rows = sqlx::query_file!(
        "src/job/claim.sql",
        wanted.pool.word(),
        now,
        wanted.limit,
        now + wanted.lease,
        wanted.worker,
        &tokens,
        wanted.floors.due,
        &wanted.floors.tags,
        wanted.moves_clock,
    )
    .fetch_all(db)
    .await?;
    // Most jobs of a claim have one of few prices.
    let mut prices = HashMap::new();
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            lease: Lease { job: row.job, token: row.token },
            account: row.account,
            price: prices
                .entry((row.model.clone(), row.price_version))
                .or_insert_with(|| read_price(&row.model, row.price_version, row.price_rules).map(Arc::new))
                .clone(),
            price_percent: row.price_percent,
            cost_usd: row.cost_usd,
            fallbacks: row.fallbacks.map(|Json(routes)| routes).unwrap_or_default(),
            model: row.model,
            task: row.task,
            provider: row.provider,
            upstream_model: row.upstream_model,
            input: row.input,
            held_tokens: row.held_tokens,
            tries: row.tries,
            attempt: row.attempt,
            provider_key: row.provider_key,
            begun_at: row.begun_at,
            checkpoint: read_checkpoint(row.checkpoint),
            cancel_requested: row.cancel_requested,
            deadline: row.deadline,
            traceparent: row.traceparent,
        })
        .collect())
}

/// Most jobs that stand in line at once when their start has come; the next look takes the rest.
const PROMOTE_LIMIT: i64 = 1000;

/// Makes jobs whose start has come runnable: they stand in line by priority and tag like any other, instead of being taken
/// up like those whose wait for a provider is over. Their tags are moved to the pool's present, in the order they had
/// within their account: waiting for an appointed time saves up no claim. Gives how many.
///
/// # Errors
/// When the database fails.
pub async fn promote(db: &PgPool, pool: Medium, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let promoted = sqlx::query!(
        "with due as (
             select job_id, tag from queue
             where pool = $1 and lease_token is null and run_at <= $2 and started_at is null
             order by run_at limit $3
             for update skip locked
         ), spread as (
             select d.job_id, d.tag - min(d.tag) over (partition by j.account_id) as ahead
             from due d join jobs j on j.id = d.job_id
         )
         update queue q set run_at = null, phase = 'queued', tag = greatest(q.tag, p.vnow + s.ahead)
         from spread s, pools p
         where q.job_id = s.job_id and p.pool = $1",
        pool.word(),
        now,
        PROMOTE_LIMIT,
    )
    .execute(db)
    .await?;
    Ok(promoted.rows_affected())
}

fn read_checkpoint(stored: Option<Json<Value>>) -> Result<Option<Checkpoint>, String> {
    stored.map(|Json(value)| serde_json::from_value(value)).transpose().map_err(|error| error.to_string())
}

fn read_price(model: &str, version: Option<i32>, rules: Option<Value>) -> Option<Price> {
    let version = version?;
    match Price::read(model, version, rules?) {
        Ok(price) => Some(price),
        Err(error) => {
            tracing::error!(%error, "version {version} of the price of {model} cannot be read; its jobs are charged what they hold");
            None
        }
    }
}

impl Claimed {
    /// The job's id.
    pub fn job(&self) -> JobId {
        self.lease.job
    }

    /// Unique name of the attempt `number` on our side, for vendors that take one.
    pub fn client_ref(&self, number: i16) -> String {
        format!("{}-{number}", self.lease.job)
    }

    /// What it is part of; none for jobs from before every request had a trace.
    pub fn trace(&self) -> Option<Trace> {
        Trace::read(self.traceparent.as_deref())
    }
}
