//! An order: a job with everything decided and nothing written yet.
//!
//! Whoever takes a request makes one, checked and priced from memory; `submit.rs` holds its price and writes the job, or
//! says why not. Deliberately absent: any judgement of the account, which only the locked row allows.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Medium, Priority, Routing, Sending};
use crate::{
    account::Actor,
    billing::Tokens,
    catalog::Route,
    id::{AccountId, JobId},
    trace::Trace,
};

/// A job as ordered: everything decided, nothing written yet.
#[derive(Debug, Clone)]
pub struct Order {
    /// The id it will have.
    pub job: JobId,
    /// When it was ordered.
    pub at: DateTime<Utc>,
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
    /// Where else it may be made should that fail, best first.
    pub fallbacks: Vec<Fallback>,
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
    /// What a program says of which time it sends this; counts where there is no such promise.
    pub sending: Option<Sending>,
    /// What the request wished, for a job that is made after this one.
    pub wishes: Wishes,
    /// Which job it is made after.
    pub descent: Descent,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// SHA-256 of model and input, where the same request may be answered from the cache.
    pub request_hash: Option<Vec<u8>>,
}

/// A route that a job may move to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// The adapter's name.
    pub provider: String,
    /// The vendor's id of the model.
    pub upstream_model: String,
    /// What one success costs us there at most, in USD.
    pub cost_usd: Decimal,
}

impl Order {
    /// What it is part of.
    pub fn trace(&self) -> Option<Trace> {
        Trace::read(self.traceparent.as_deref())
    }

    pub(super) fn fallbacks_part(&self) -> Option<Value> {
        (!self.fallbacks.is_empty()).then(|| serde_json::json!(self.fallbacks))
    }

    pub(super) fn webhook_parts(&self) -> (Option<&str>, &[String]) {
        self.webhook.as_ref().map_or((None, &[]), |webhook| (Some(&webhook.url), &webhook.events))
    }

    /// The key by which it may turn out to be a repeat, and the hash of its body.
    pub(super) fn idempotency_parts(&self) -> (Option<&str>, Option<&[u8]>) {
        match (&self.idempotency, &self.sending) {
            (Some(given), _) => (Some(given.key.as_str()), Some(given.body_hash.as_slice())),
            (None, Some(sending)) if sending.again => {
                (Some(sending.key.as_str()), Some(sending.body_hash.as_slice()))
            }
            (None, _) => (None, None),
        }
    }

    /// The same of a sending that is the first and repeats nothing, by which those after it are known.
    pub(super) fn first_sending(&self) -> Option<&Sending> {
        self.sending.as_ref().filter(|sending| self.idempotency.is_none() && !sending.again)
    }

    pub(super) fn wishes_part(&self) -> Option<Value> {
        (self.wishes != Wishes::default()).then(|| serde_json::json!(self.wishes))
    }
}

/// What a request wished beside model and input, as far as it said anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Where it is made.
    #[serde(skip_serializing_if = "Routing::is_empty")]
    pub routing: Routing,
    /// How long it may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u64>,
    /// Made anew, and not remembered for the next who asks the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncached: bool,
}

/// Which job another one is made after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descent {
    /// The one that ended without success and is made again.
    pub retry_of: Option<JobId>,
    /// The one whose result is to be improved.
    pub improves: Option<JobId>,
    /// Which improvement in a row that is, from 1; set where `improves` is.
    pub iteration: Option<i16>,
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

/// Data URLs longer than this are not shown back: the caller has the bytes, and every look would carry them again.
const DATA_URL_SHOWN_LEN: usize = 64;

/// What is shown of an input, where that is less than all of it.
pub(super) fn shown(input: &Value) -> Option<Value> {
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
