//! Handing a request in: an order is made of it, its tokens are held and its job is written, or the first answer to it is found.
//!
//! Every path that makes jobs comes through here, so that all of them price, hold, fence repeats and route alike. Deliberately
//! absent: what is answered, and how long for.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::order::{self, NewJob};
use crate::{ApiError, Ctx};
use shared::{
    account::Caller,
    billing::Tokens,
    id::JobId,
    job::{self, Order, SubmitError, Submitted},
    rate::RateState,
    wake::Wake,
};

/// A request that was accepted, now or before.
#[derive(Debug)]
pub struct Accepted {
    /// The job that it became.
    pub job: JobId,
    /// How it became that.
    pub fate: Fate,
    /// The account's rate, if it has a limit and this counted towards it.
    pub rate: Option<RateState>,
}

/// How a request became a job.
#[derive(Debug)]
pub enum Fate {
    /// A new job.
    New {
        /// As it was ordered.
        order: Arc<Order>,
        /// Tokens set aside.
        held: Tokens,
        /// When it began to be.
        created_at: DateTime<Utc>,
    },
    /// A new job that was over at once, with the answer of an earlier one.
    Cached,
    /// The job of the same request before.
    Repeat,
}

impl Accepted {
    /// The job that the same request became before.
    pub fn repeat(job: JobId) -> Self {
        Self { job, fate: Fate::Repeat, rate: None }
    }

    /// Whether nothing new was made.
    pub fn is_repeat(&self) -> bool {
        matches!(self.fate, Fate::Repeat)
    }
}

impl Fate {
    /// Its word in logs and metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::New { .. } => "new",
            Self::Cached => "cached",
            Self::Repeat => "repeat",
        }
    }
}

/// Hands in a request of `caller`. `body_hash` tells a repeat of an Idempotency-Key from its misuse, and a request that is sent
/// again from others.
///
/// # Errors
/// Whatever is wrong with the request, or keeps its account from making it; nothing is held then.
pub async fn submit(
    ctx: &Ctx,
    caller: &Caller,
    headers: &HeaderMap,
    new: NewJob,
    body_hash: Vec<u8>,
) -> Result<Accepted, ApiError> {
    let (mut order, _) = match new.into_order(ctx, caller, headers, body_hash.clone()) {
        Ok(order) => order,
        Err(refusal) => return accepted_before(ctx, caller, headers, body_hash, refusal).await,
    };
    order::follow_parent(ctx, &mut order).await?;
    let order = Arc::new(order);
    let receipt = ctx.submitter.submit(&order).await?;
    let (job, fate) = match receipt.submitted {
        Submitted::New { held, created_at } => {
            ctx.wakes.send(Wake::Pool(order.medium));
            (order.job, Fate::New { order: order.clone(), held, created_at })
        }
        Submitted::Cached => {
            ctx.wakes.send(Wake::Notice);
            (order.job, Fate::Cached)
        }
        Submitted::Repeat(first) => (first, Fate::Repeat),
    };
    let how = fate.word();
    let trace = order.trace().map(|trace| trace.id());
    tracing::info!(job.id = %job, account.id = %caller.account, model = order.model, how, trace.id = trace, "job {job} accepted");
    metrics::counter!("kiln_jobs_submitted_total", "model" => order.model.clone(), "how" => how).increment(1);
    Ok(Accepted { job, fate, rate: receipt.rate })
}

/// What was accepted once stays so, whatever prices and rights say today.
async fn accepted_before(
    ctx: &Ctx,
    caller: &Caller,
    headers: &HeaderMap,
    body_hash: Vec<u8>,
    refusal: ApiError,
) -> Result<Accepted, ApiError> {
    let sending = order::sending(headers, caller, &body_hash);
    let first = match (order::idempotency(headers, body_hash)?, sending) {
        (Some(key), _) => job::first_of(&ctx.db, caller.account, &key).await,
        (None, Some(sending)) if sending.again => {
            let first = job::first_sent(&ctx.db, caller.account, &sending, ctx.clock.now()).await;
            first.map_err(SubmitError::Db)
        }
        (None, _) => Ok(None),
    };
    match first {
        Ok(Some(first)) => Ok(Accepted::repeat(first)),
        Ok(None) | Err(SubmitError::KeyReused) => Err(refusal),
        Err(error) => Err(error.into()),
    }
}
