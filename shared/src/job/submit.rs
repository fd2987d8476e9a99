//! Station 2, submit: the hold, the job, its queue row, the ledger entry and the idempotency key in one statement.
//!
//! One statement is one commit and one round trip, and nothing is read in one and written back in another: it locks the
//! account's row and decides everything an account limits there, its balance and credit, its rate, its plan, its key's
//! spending, or inserts nothing and says why. It also computes the fair-queuing tag, since it holds the row anyway. An
//! idempotency key used before breaks a constraint, which undoes everything.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::{PgPool, postgres::types::PgInterval};

use super::{Medium, Priority};
use crate::{
    account::Actor,
    billing::{self, Tokens},
    catalog::Route,
    db::broken_constraint,
    id::{AccountId, EntryId, FileId, JobId, NoticeId},
    rate::{Quota, RateState},
};

/// A job as ordered: everything decided, nothing written yet.
#[derive(Debug, Clone)]
pub struct Order {
    /// The id it will have.
    pub job: JobId,
    /// Who pays.
    pub account: AccountId,
    /// Who ordered it.
    pub actor: Actor,
    /// Public model name.
    pub model: String,
    /// Task word.
    pub task: String,
    /// Medium and pool.
    pub medium: Medium,
    /// Where it will be made.
    pub route: Route,
    /// What one success costs us there at most, in USD.
    pub cost_usd: Decimal,
    /// Input, checked against the model's schema.
    pub input: Value,
    /// Tokens to hold: the most it may cost, after the account's discount.
    pub price: Tokens,
    /// Which version of its model's price that is.
    pub price_version: i32,
    /// Which part of the list price the account pays, in percent.
    pub price_percent: i16,
    /// How often a subscriber with too few tokens may have this model free, as the time between two; `None`: never.
    pub fair_interval: Option<TimeDelta>,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Whom to tell of the end.
    pub webhook: Option<Webhook>,
    /// The caller's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// Not before this.
    pub start_at: Option<DateTime<Utc>>,
    /// Past this it expires.
    pub deadline: DateTime<Utc>,
    /// The caller's promise that a repeat is a repeat.
    pub idempotency: Option<Idempotency>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// SHA-256 of model and input, where the same request may be answered from the cache.
    pub request_hash: Option<Vec<u8>>,
}

impl Order {
    fn webhook_parts(&self) -> (Option<&str>, &[String]) {
        self.webhook.as_ref().map_or((None, &[]), |webhook| (Some(&webhook.url), &webhook.events))
    }

    fn idempotency_parts(&self) -> (Option<&str>, Option<&[u8]>) {
        self.idempotency.as_ref().map_or((None, None), |given| (Some(&given.key), Some(&given.body_hash)))
    }
}

/// Whom to tell of a job's end.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where to post.
    pub url: String,
    /// Which ends to tell of, as `job.succeeded`; empty means all.
    pub events: Vec<String>,
}

/// A caller's Idempotency-Key and the body it came with.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key, unique within the account for 24 hours.
    pub key: String,
    /// SHA-256 of the body, to tell a repeat from a misuse.
    pub body_hash: Vec<u8>,
}

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// A new job; tokens are held.
    New(JobId),
    /// The key was seen before with the same body: this job, nothing new.
    Repeat(JobId),
    /// A new job that is already over, with the answer of an earlier one; free.
    Cached(JobId),
}

/// An accepted order.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// What came of it.
    pub submitted: Submitted,
    /// The account's rate, if it has a limit and this counted towards it.
    pub rate: Option<RateState>,
}

/// Why an order was not accepted; nothing is held.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The account has too little.
    #[error("{needed} needed, {available} available")]
    InsufficientTokens {
        /// Price of the job.
        needed: Tokens,
        /// What the account can spend, its credit included.
        available: i64,
    },
    /// The account has used up its hour.
    #[error("more than {} jobs an hour", .rate.limit)]
    RateLimited {
        /// The limit, with nothing remaining.
        rate: RateState,
        /// When the next one fits.
        retry_after: TimeDelta,
    },
    /// The API key has used up what it may spend.
    #[error("{needed} needed, the key may spend {room} more")]
    KeyLimit {
        /// Price of the job.
        needed: Tokens,
        /// What the key may still spend today, this month or at all, whichever is least.
        room: i64,
    },
    /// An operator has stopped the account, or its owner has closed it.
    #[error("the account is not active")]
    Suspended,
    /// The key came before with another body.
    #[error("the idempotency key was used with another request body")]
    KeyReused,
    /// The database failed.
    #[error("submit job")]
    Db(#[from] sqlx::Error),
}

/// Accepts an order. Wake the pool afterwards.
///
/// # Errors
/// See [`SubmitError`]; on any of them nothing was written.
pub async fn submit(db: &PgPool, order: &Order, now: DateTime<Utc>) -> Result<Receipt, SubmitError> {
    let unrated = |submitted| Receipt { submitted, rate: None };
    let inserted = match reuse(db, order, now).await {
        Ok(true) => return Ok(unrated(Submitted::Cached(order.job))),
        Ok(false) => insert_current(db, order, now).await,
        Err(error) => Err(error),
    };
    match inserted {
        Ok(Ok(rate)) => Ok(Receipt { submitted: Submitted::New(order.job), rate }),
        // A repeat of a request that took the last tokens is still a repeat.
        Ok(Err(refusal)) => repeat(db, order).await?.map(unrated).ok_or(refusal),
        Err(error) if broken_constraint(&error) == Some("idempotency_keys_pkey") => {
            // Evicted between the two statements is so rare that the caller may simply repeat.
            repeat(db, order).await?.map(unrated).ok_or(SubmitError::Db(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Answers an order with the result of an earlier job. `false` when there is none.
async fn reuse(db: &PgPool, order: &Order, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let Some(request_hash) = &order.request_hash else { return Ok(false) };
    let (url, events) = order.webhook_parts();
    let (key, body_hash) = order.idempotency_parts();
    let reused = sqlx::query_file!(
        "src/job/reuse.sql",
        order.account.0,
        request_hash,
        now,
        order.job.0,
        order.actor.key().map(|key| key.0),
        order.priority.rank(),
        url,
        events,
        serde_json::json!(order.metadata),
        order.traceparent,
        order.deadline,
        FileId::new().0,
        NoticeId::new().0,
        key,
        body_hash,
        order.actor.user().map(|user| user.0),
    )
    .fetch_optional(db)
    .await?;
    Ok(reused.is_some())
}

/// Writes the job, or says why not; takes what has expired out of the account first, if the clock has not done so yet.
async fn insert_current(
    db: &PgPool,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<Result<Option<RateState>, SubmitError>, sqlx::Error> {
    for _ in 0..EXPIRY_ROUNDS {
        match insert(db, order, now).await? {
            Some(decided) => return Ok(decided),
            None => drop(billing::expire_of(db, order.account, now).await?),
        }
    }
    Err(sqlx::Error::Protocol("grants that expired keep coming back".into()))
}

/// Writes the job, or says why not; `None`: something in the account has expired and is still there.
async fn insert(
    db: &PgPool,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<Option<Result<Option<RateState>, SubmitError>>, sqlx::Error> {
    let (url, events) = order.webhook_parts();
    let (key, body_hash) = order.idempotency_parts();
    let row = sqlx::query_file!(
        "src/job/submit.sql",
        order.account.0,
        order.price.count(),
        order.medium.word(),
        order.medium.place(),
        order.job.0,
        order.actor.key().map(|key| key.0),
        order.model,
        order.task,
        order.route.provider,
        order.route.upstream_model,
        order.cost_usd,
        order.input,
        order.priority.rank(),
        url,
        events,
        serde_json::json!(order.metadata),
        order.traceparent,
        now,
        order.deadline,
        order.start_at,
        EntryId::new().0,
        key,
        body_hash,
        order.request_hash,
        shown(&order.input),
        order.fair_interval.map(interval),
        order.actor.user().map(|user| user.0),
        order.price_version,
        order.price_percent,
        EntryId::new().0,
        now.date_naive(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(Some(Err(SubmitError::Suspended))) };
    let quota = row.per_hour.and_then(|limit| u32::try_from(limit).ok()).map(Quota::hourly);
    let rate = quota.zip(row.rate_at).map(|(quota, full_at)| quota.state(full_at, now));
    let decided = match (row.refusal.as_deref(), rate) {
        (None, _) => Ok(rate),
        (Some("expired_lots"), _) => return Ok(None),
        (Some("insufficient"), _) => {
            Err(SubmitError::InsufficientTokens { needed: order.price, available: row.spendable })
        }
        (Some("rate_limited"), Some(rate)) => {
            Err(SubmitError::RateLimited { rate, retry_after: rate.reset - TimeDelta::hours(1) })
        }
        (Some("key_limit"), _) => {
            Err(SubmitError::KeyLimit { needed: order.price, room: row.room.unwrap_or_default().max(0) })
        }
        (Some(_), _) => Err(SubmitError::Suspended),
    };
    Ok(Some(decided))
}

fn interval(delta: TimeDelta) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: delta.num_microseconds().unwrap_or(i64::MAX) }
}

/// The job that the order's key was used for before, if it was.
async fn repeat(db: &PgPool, order: &Order) -> Result<Option<Submitted>, SubmitError> {
    let Some(key) = &order.idempotency else { return Ok(None) };
    Ok(first_of(db, order.account, key).await?.map(Submitted::Repeat))
}

/// The job of `account` that a key was first used for, if it was.
///
/// # Errors
/// When it was used with another body, or the database fails.
pub async fn first_of(
    db: &PgPool,
    account: AccountId,
    given: &Idempotency,
) -> Result<Option<JobId>, SubmitError> {
    let first = sqlx::query!(
        r#"select job_id as "job: JobId", body_hash from idempotency_keys where account_id = $1 and key = $2"#,
        account.0,
        given.key,
    )
    .fetch_optional(db)
    .await?;
    match first {
        Some(first) if first.body_hash == given.body_hash => Ok(Some(first.job)),
        Some(_) => Err(SubmitError::KeyReused),
        None => Ok(None),
    }
}

/// How often a submit makes way for what has expired. Each takes several grants, and jobs rarely give any back just then.
const EXPIRY_ROUNDS: u8 = 10;

/// Data URLs longer than this are not shown back: the caller has the bytes, and every look would carry them again.
const DATA_URL_SHOWN_LEN: usize = 64;

/// What is shown of an input, where that is less than all of it.
fn shown(input: &Value) -> Option<Value> {
    let shortened = without_data(input);
    (shortened != *input).then_some(shortened)
}

/// The input with each data URL in it cut to its head.
fn without_data(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("data:") && text.len() > DATA_URL_SHOWN_LEN => {
            let head: String =
                text.split(',').next().unwrap_or("data:").chars().take(DATA_URL_SHOWN_LEN).collect();
            Value::String(format!("{head},… ({} characters)", text.len()))
        }
        Value::Array(items) => Value::Array(items.iter().map(without_data).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), without_data(value))).collect())
        }
        other => other.clone(),
    }
}
