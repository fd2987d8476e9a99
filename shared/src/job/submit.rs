//! Station 2, submit: the hold, the job, its queue row, the ledger entry and the idempotency key in one statement.
//!
//! One statement is one commit and one round trip, with nothing to read, check and write back: the guarded update of the
//! account either finds enough tokens or the statement inserts nothing. It also computes the fair-queuing tag, since it
//! holds the account's row anyway. A key used before breaks a constraint, which undoes everything.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::PgPool;

use super::{Medium, Priority};
use crate::{
    billing::{Tokens, balance},
    catalog::Route,
    db::broken_constraint,
    id::{AccountId, EntryId, FileId, JobId, KeyId, NoticeId},
};

/// A job as ordered: everything decided, nothing written yet.
#[derive(Debug, Clone)]
pub struct Order {
    /// The id it will have.
    pub job: JobId,
    /// Who pays.
    pub account: AccountId,
    /// The key it was ordered with.
    pub key: KeyId,
    /// Public model name.
    pub model: String,
    /// Task word.
    pub task: String,
    /// Medium and pool.
    pub medium: Medium,
    /// Where it will be made.
    pub route: Route,
    /// Input, checked against the model's schema.
    pub input: Value,
    /// Tokens to hold.
    pub price: Tokens,
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

/// Why an order was not accepted; nothing is held.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The account has too little.
    #[error("{needed} needed, {available} available")]
    InsufficientTokens {
        /// Price of the job.
        needed: Tokens,
        /// What the account has free.
        available: i64,
    },
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
pub async fn submit(db: &PgPool, order: &Order, now: DateTime<Utc>) -> Result<Submitted, SubmitError> {
    let inserted = match reuse(db, order, now).await {
        Ok(true) => return Ok(Submitted::Cached(order.job)),
        Ok(false) => insert(db, order, now).await,
        Err(error) => Err(error),
    };
    match inserted {
        Ok(true) => Ok(Submitted::New(order.job)),
        Ok(false) => {
            // A repeat of a request that took the last tokens is still a repeat.
            if let Some(submitted) = repeat(db, order).await? {
                return Ok(submitted);
            }
            let available = balance(db, order.account).await?.map_or(0, |balance| balance.available);
            Err(SubmitError::InsufficientTokens { needed: order.price, available })
        }
        Err(error) if broken_constraint(&error) == Some("idempotency_keys_pkey") => {
            // Evicted between the two statements is so rare that the caller may simply repeat.
            repeat(db, order).await?.ok_or(SubmitError::Db(error))
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
        order.key.0,
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
    )
    .fetch_optional(db)
    .await?;
    Ok(reused.is_some())
}

/// `false` when the account has too little.
async fn insert(db: &PgPool, order: &Order, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let cost_usd: Decimal = order.route.cost_usd;
    let (url, events) = order.webhook_parts();
    let (key, body_hash) = order.idempotency_parts();
    let accepted = sqlx::query_file!(
        "src/job/submit.sql",
        order.account.0,
        order.price.count(),
        order.medium.word(),
        order.medium.place(),
        order.job.0,
        order.key.0,
        order.model,
        order.task,
        order.route.provider,
        order.route.upstream_model,
        cost_usd,
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
    )
    .fetch_optional(db)
    .await?;
    Ok(accepted.is_some())
}

/// The job that the order's key was used for before, if it was.
async fn repeat(db: &PgPool, order: &Order) -> Result<Option<Submitted>, SubmitError> {
    let Some(Idempotency { key, body_hash }) = &order.idempotency else { return Ok(None) };
    let first = sqlx::query!(
        r#"select job_id as "job: JobId", body_hash from idempotency_keys where account_id = $1 and key = $2"#,
        order.account.0,
        key,
    )
    .fetch_optional(db)
    .await?;
    match first {
        Some(first) if first.body_hash == *body_hash => Ok(Some(Submitted::Repeat(first.job))),
        Some(_) => Err(SubmitError::KeyReused),
        None => Ok(None),
    }
}

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
