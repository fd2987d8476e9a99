//! Station 2, submit: the hold, the job, its queue row, the ledger entry and the idempotency key in one statement.
//!
//! One statement is one commit and one round trip, and orders that come at the same time share it. `admit`, a function of
//! the database, locks the accounts' rows and judges one order after the other by all that an account limits there, its
//! balance and credit, its rate, its plan, its key's spending; it also computes the fair-queuing tag, since it holds the
//! row anyway. Whatever it accepts, the same statement writes.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::{PgPool, postgres::types::PgInterval};
use uuid::Uuid;

use super::{
    Medium,
    order::{Idempotency, Order, shown},
    sending::first_sent,
};
use crate::{
    batch::Batch,
    billing::{self, Tokens},
    db::broken_constraint,
    id::{AccountId, EntryId, FileId, JobId, NoticeId},
    process::Process,
    rate::{Quota, RateState},
};

/// Most orders of one statement: from here on more of them no longer make each cheaper.
const BATCH: usize = 64;
/// Statements at once for each pool: the more wait for the one that is under way, the less each of them costs, and a second
/// one would often wait for the accounts of the first.
const LANES: usize = 1;

/// What came of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// A new job; tokens are held.
    New {
        /// How many.
        held: Tokens,
        /// When it began to be.
        created_at: DateTime<Utc>,
    },
    /// The key was seen before with the same body, or the request was sent before: this job, nothing new.
    Repeat(JobId),
    /// A new job that is already over, with the answer of an earlier one; free.
    Cached,
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

/// Where orders are handed in. Those for one pool that come at the same time are written together.
#[derive(Debug, Clone)]
pub struct Submitter {
    db: PgPool,
    pools: [Batch<Arc<Order>, Option<Admitted>>; Medium::ALL.len()],
}

impl Submitter {
    /// A place to hand in orders, writing to `db`; what was handed in is carried through before `process` ends.
    pub fn new(db: &PgPool, process: &Process) -> Self {
        let pools = Medium::ALL
            .map(|_| Batch::new(db, process, BATCH, LANES, |db, orders| admit_all(db, orders).boxed()));
        Self { db: db.clone(), pools }
    }

    /// Accepts an order. Wake the pool afterwards.
    ///
    /// # Errors
    /// See [`SubmitError`]; on any of them nothing was written.
    pub async fn submit(&self, order: &Arc<Order>) -> Result<Receipt, SubmitError> {
        let unrated = |submitted| Receipt { submitted, rate: None };
        match reuse(&self.db, order).await {
            Ok(true) => return Ok(unrated(Submitted::Cached)),
            Ok(false) => {}
            // It is also how a repeat shows.
            Err(error) if is_repeat(&error) => {}
            Err(error) => return Err(error.into()),
        }
        for _ in 0..ROUNDS {
            let Some(admitted) = self.admit(order).await? else { return Err(SubmitError::Suspended) };
            match admitted.refusal.as_deref() {
                // Unless the first one was forgotten in between, which leaves the key free for this one.
                Some("repeat") => {
                    if let Some(first) = repeat(&self.db, order).await? {
                        return Ok(unrated(first));
                    }
                }
                // The clock has not been here yet.
                Some("expired_lots") => drop(billing::expire_of(&self.db, order.account, order.at).await?),
                _ => return admitted.judge(order),
            }
        }
        Err(SubmitError::Db(sqlx::Error::Protocol(
            "grants that expired, or keys that were forgotten, keep coming back".into(),
        )))
    }

    async fn admit(&self, order: &Arc<Order>) -> Result<Option<Admitted>, sqlx::Error> {
        match self.pools[order.medium as usize].ask(order.clone()).await {
            // Written by a commit whose answer was lost.
            Err(error) if broken_constraint(&error) == Some("jobs_pkey") => {
                written(&self.db, order).await.map(Some)
            }
            admitted => admitted,
        }
    }
}

/// How often a submit makes way for what has expired. Each takes several grants, and jobs rarely give any back just then.
const ROUNDS: u8 = 10;

/// What `admit` said of an order.
#[derive(Debug)]
struct Admitted {
    refusal: Option<String>,
    hold: i64,
    spendable: i64,
    room: Option<i64>,
    rate: Option<RateState>,
    at: DateTime<Utc>,
}

impl Admitted {
    fn judge(self, order: &Order) -> Result<Receipt, SubmitError> {
        match (self.refusal.as_deref(), self.rate) {
            (None, rate) => {
                let held = Tokens::new(self.hold).unwrap_or(Tokens::ZERO);
                Ok(Receipt { submitted: Submitted::New { held, created_at: self.at }, rate })
            }
            (Some("insufficient"), _) => {
                Err(SubmitError::InsufficientTokens { needed: order.price, available: self.spendable })
            }
            (Some("rate_limited"), Some(rate)) => {
                Err(SubmitError::RateLimited { rate, retry_after: rate.reset - TimeDelta::hours(1) })
            }
            (Some("key_limit"), _) => {
                Err(SubmitError::KeyLimit { needed: order.price, room: self.room.unwrap_or_default().max(0) })
            }
            (Some(_), _) => Err(SubmitError::Suspended),
        }
    }
}

/// Judges orders for one pool and writes the jobs of those that are accepted, at the latest of their moments. `None`: there
/// is no such account.
async fn admit_all(db: &PgPool, orders: &[Arc<Order>]) -> Result<Vec<Option<Admitted>>, sqlx::Error> {
    let mut admitted: Vec<_> = orders.iter().map(|_| None).collect();
    let (Some(first), Some(now)) = (orders.first(), orders.iter().map(|order| order.at).max()) else {
        return Ok(admitted);
    };
    let list = Columns::of(orders);
    let rows = sqlx::query_file!(
        "src/job/submit.sql",
        first.medium.word(),
        first.medium.place(),
        now,
        &list.accounts,
        &list.prices,
        &list.keys as _,
        &list.starts as _,
        &list.fair_intervals as _,
        &list.idempotency_keys as _,
        &list.body_hashes as _,
        &list.jobs,
        &list.users as _,
        &list.models as _,
        &list.tasks as _,
        &list.providers as _,
        &list.upstream_models as _,
        &list.costs,
        &list.inputs as _,
        &list.inputs_shown as _,
        &list.price_versions,
        &list.price_percents,
        &list.priorities,
        &list.webhook_urls as _,
        &list.webhook_events,
        &list.metadata,
        &list.traceparents as _,
        &list.request_hashes as _,
        &list.deadlines,
        &list.hold_entries,
        &list.borrow_entries,
        &list.fallbacks as _,
        &list.sending_keys as _,
        &list.retries as _,
        &list.improved as _,
        &list.iterations as _,
        &list.wishes as _,
        &list.dialogs as _,
        &list.said as _,
    )
    .fetch_all(db)
    .await?;
    for row in rows {
        let quota = row.per_hour.and_then(|limit| u32::try_from(limit).ok()).map(Quota::hourly);
        let rate = quota.zip(row.rate_at).map(|(quota, full_at)| quota.state(full_at, now));
        let (refusal, hold, spendable, room) = (row.refusal, row.hold, row.spendable, row.room);
        if let Some(place) = usize::try_from(row.n - 1).ok().and_then(|at| admitted.get_mut(at)) {
            *place = Some(Admitted { refusal, hold, spendable, room, rate, at: now });
        }
    }
    Ok(admitted)
}

/// Orders as columns, as Postgres takes lists.
#[derive(Default)]
struct Columns<'a> {
    accounts: Vec<Uuid>,
    prices: Vec<i64>,
    keys: Vec<Option<Uuid>>,
    starts: Vec<Option<DateTime<Utc>>>,
    fair_intervals: Vec<Option<PgInterval>>,
    idempotency_keys: Vec<Option<&'a str>>,
    body_hashes: Vec<Option<&'a [u8]>>,
    jobs: Vec<Uuid>,
    users: Vec<Option<Uuid>>,
    models: Vec<&'a str>,
    tasks: Vec<&'a str>,
    providers: Vec<&'a str>,
    upstream_models: Vec<&'a str>,
    costs: Vec<Decimal>,
    inputs: Vec<&'a Value>,
    inputs_shown: Vec<Option<Value>>,
    price_versions: Vec<i32>,
    price_percents: Vec<i16>,
    priorities: Vec<i16>,
    webhook_urls: Vec<Option<&'a str>>,
    /// Joined by commas: a list of lists would have to be a rectangle.
    webhook_events: Vec<String>,
    metadata: Vec<Value>,
    traceparents: Vec<Option<&'a str>>,
    request_hashes: Vec<Option<&'a [u8]>>,
    deadlines: Vec<DateTime<Utc>>,
    hold_entries: Vec<Uuid>,
    borrow_entries: Vec<Uuid>,
    fallbacks: Vec<Option<Value>>,
    /// Of first sendings; their hashes are among `body_hashes`.
    sending_keys: Vec<Option<&'a str>>,
    retries: Vec<Option<Uuid>>,
    improved: Vec<Option<Uuid>>,
    iterations: Vec<Option<i16>>,
    wishes: Vec<Option<Value>>,
    dialogs: Vec<Option<Uuid>>,
    said: Vec<Option<&'a Value>>,
}

impl<'a> Columns<'a> {
    fn of(orders: &'a [Arc<Order>]) -> Self {
        let mut list = Self::default();
        for order in orders {
            let (url, events) = order.webhook_parts();
            let (key, body_hash) = order.idempotency_parts();
            let sending = order.first_sending();
            list.accounts.push(order.account.0);
            list.prices.push(order.price.count());
            list.keys.push(order.actor.key().map(|key| key.0));
            list.starts.push(order.start_at);
            list.fair_intervals.push(order.fair_interval.map(interval));
            list.idempotency_keys.push(key);
            list.body_hashes.push(body_hash.or(sending.map(|sending| sending.body_hash.as_slice())));
            list.jobs.push(order.job.0);
            list.users.push(order.actor.user().map(|user| user.0));
            list.models.push(&order.model);
            list.tasks.push(&order.task);
            list.providers.push(&order.route.provider);
            list.upstream_models.push(&order.route.upstream_model);
            list.costs.push(order.cost_usd);
            list.inputs.push(&order.input);
            list.inputs_shown.push(shown(&order.input));
            list.price_versions.push(order.price_version);
            list.price_percents.push(order.price_percent);
            list.priorities.push(order.priority.rank());
            list.webhook_urls.push(url);
            list.webhook_events.push(events.join(","));
            list.metadata.push(serde_json::json!(order.metadata));
            list.traceparents.push(order.traceparent.as_deref());
            list.request_hashes.push(order.request_hash.as_deref());
            list.deadlines.push(order.deadline);
            list.hold_entries.push(EntryId::new().0);
            list.borrow_entries.push(EntryId::new().0);
            list.fallbacks.push(order.fallbacks_part());
            list.sending_keys.push(sending.map(|sending| sending.key.as_str()));
            list.retries.push(order.descent.retry_of.map(|job| job.0));
            list.improved.push(order.descent.improves.map(|job| job.0));
            list.iterations.push(order.descent.iteration);
            list.wishes.push(order.wishes_part());
            list.dialogs.push(order.dialog().map(|dialog| dialog.0));
            list.said.push(order.turn.as_ref().and_then(|turn| turn.said.as_ref()));
        }
        list
    }
}

fn interval(delta: TimeDelta) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: delta.num_microseconds().unwrap_or(i64::MAX) }
}

/// An order that is known to have been accepted.
async fn written(db: &PgPool, order: &Order) -> Result<Admitted, sqlx::Error> {
    let row = sqlx::query!("select held_tokens, created_at from jobs where id = $1", order.job.0)
        .fetch_one(db)
        .await?;
    Ok(Admitted {
        refusal: None,
        hold: row.held_tokens,
        spendable: 0,
        room: None,
        rate: None,
        at: row.created_at,
    })
}

/// Answers an order with the result of an earlier job. `false` when there is none.
async fn reuse(db: &PgPool, order: &Order) -> Result<bool, sqlx::Error> {
    let Some(request_hash) = &order.request_hash else { return Ok(false) };
    let (url, events) = order.webhook_parts();
    let (key, body_hash) = order.idempotency_parts();
    let reused = sqlx::query_file!(
        "src/job/reuse.sql",
        order.account.0,
        request_hash,
        order.at,
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
        order.descent.retry_of.map(|job| job.0),
        order.descent.improves.map(|job| job.0),
        order.descent.iteration,
        order.wishes_part(),
    )
    .fetch_optional(db)
    .await?;
    Ok(reused.is_some())
}

/// Whether a statement failed because its idempotency key was used before.
fn is_repeat(error: &sqlx::Error) -> bool {
    broken_constraint(error) == Some("idempotency_keys_pkey")
}

/// The job that the order's key was used for before, if it was, or that was asked for when it was sent before.
async fn repeat(db: &PgPool, order: &Order) -> Result<Option<Submitted>, SubmitError> {
    let first = match (&order.idempotency, &order.sending) {
        (Some(key), _) => first_of(db, order.account, key).await?,
        (None, Some(sending)) => first_sent(db, order.account, sending, order.at).await?,
        (None, None) => None,
    };
    Ok(first.map(Submitted::Repeat))
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
