//! Plans that an account has: begun by a payment or an operator, ended by the clock.
//!
//! A plan's tokens are a grant that expires with it. What a submit has to know of plans (tier, until when anything or some
//! models are free) is kept on the account's row, so that a submit reads nothing else. Several plans may run side by side;
//! the best of each counts. Deliberately absent: payments and renewal.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{Gift, MoveError, Source, Tokens, give, notices::tell_ended};
use crate::{
    account::audit::{By, record},
    db::{broken_constraint, is_transient},
    id::{AccountId, SubscriptionId},
    seal::Sealer,
};

/// A plan as it is sold.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its id, such as `month`.
    pub plan: String,
    /// Name for people.
    pub name: String,
    /// Tokens it gives at its start.
    pub tokens: i64,
    /// How long plan and tokens last; `None`: tokens that stay, and no subscription.
    pub days: Option<i32>,
    /// Whether every job is free while it lasts.
    pub unlimited: bool,
    /// Tier it brings.
    pub tier: String,
    /// What it costs.
    pub price_rub: Decimal,
    /// Whether it can be bought now.
    pub on_sale: bool,
}

/// A plan that an account has or had.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// `active` or `ended`.
    pub status: String,
    /// Which plan.
    pub plan: String,
    /// When it began.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
}

/// Why a plan did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// There is no such plan.
    #[error("there is no such plan")]
    UnknownPlan,
    /// Its tokens could not be given, or the same cause began one before.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl From<sqlx::Error> for BeginError {
    fn from(error: sqlx::Error) -> Self {
        Self::Move(MoveError::Db(error))
    }
}

/// Every plan, the cheapest first.
///
/// # Errors
/// When the database fails.
pub async fn plans(db: &PgPool) -> Result<Vec<Plan>, sqlx::Error> {
    sqlx::query_as!(
        Plan,
        "select plan, name, tokens, days, unlimited, tier, price_rub, on_sale from plans order by price_rub, plan"
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` plans that `account` has or had, newest first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions(
    db: &PgPool,
    account: AccountId,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Subscription>, sqlx::Error> {
    sqlx::query_as!(
        Subscription,
        r#"select id as "id: _", status, plan, starts_at, ends_at from subscriptions
           where account_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by id desc
           limit $3"#,
        account.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Begins a plan for an account, once per `reference`: gives its tokens and raises the account's tier. Part of the caller's
/// transaction. Gives the subscription, or nothing for a plan whose tokens stay.
///
/// # Errors
/// See [`BeginError`]; roll back then.
pub async fn begin(
    tx: &mut PgConnection,
    account: AccountId,
    plan: &str,
    reference: &str,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, BeginError> {
    let plan = sqlx::query_as!(
        Plan,
        "select plan, name, tokens, days, unlimited, tier, price_rub, on_sale from plans where plan = $1",
        plan
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(BeginError::UnknownPlan)?;
    // The account's row first, as everywhere.
    let locked = sqlx::query_scalar!(
        "select unlimited_until from accounts where id = $1 for no key update",
        account.0
    );
    let unlimited_until = locked.fetch_optional(&mut *tx).await?.ok_or(MoveError::UnknownAccount)?;
    // Plans with tokens run side by side; a second one without limit would be lost if it did not follow the first.
    let starts_at = unlimited_until.filter(|until| plan.unlimited && *until > now).unwrap_or(now);
    let ends_at = plan.days.map(|days| starts_at + TimeDelta::days(i64::from(days)));
    if let Some(tokens) = Tokens::new(plan.tokens).filter(|tokens| *tokens > Tokens::ZERO) {
        let reference = format!("plan:{reference}");
        let (source, reason) = (Source::Plan, Some(plan.name.as_str()));
        let gift = Gift { account, tokens, expires_at: ends_at, source, reference: &reference, reason };
        give(&mut *tx, &gift, now).await?;
    }
    let Some(ends_at) = ends_at else {
        raise_base_tier(tx, account, &plan.tier).await?;
        return Ok(None);
    };
    let id = SubscriptionId::new();
    sqlx::query!(
        "insert into subscriptions (id, account_id, plan, reference, starts_at, ends_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        account.0,
        plan.plan,
        reference,
        starts_at,
        ends_at,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(|error| match broken_constraint(&error) {
        Some("subscriptions_once") => MoveError::AlreadyMoved,
        _ => MoveError::Db(error),
    })?;
    settle(tx, account).await?;
    Ok(Some(Subscription { id, status: "active".into(), plan: plan.plan, starts_at, ends_at }))
}

/// Begins a plan because an operator says so, in a transaction of its own; see [`begin`].
///
/// # Errors
/// See [`BeginError`]; on any of them nothing changed.
pub async fn subscribe(
    db: &PgPool,
    account: AccountId,
    plan: &str,
    reference: &str,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Option<Subscription>, BeginError> {
    let mut tx = db.begin().await?;
    let begun = begin(&mut tx, account, plan, reference, now).await?;
    let change = json!({ "plan": plan, "reference": reference });
    let entry = by.did("plan.begun", Some(account), account, now).changed(None, Some(change));
    record(&mut *tx, &entry).await?;
    tx.commit().await?;
    Ok(begun)
}

/// Tokens that stay keep their tier as well, unless the account has a higher one.
async fn raise_base_tier(tx: &mut PgConnection, account: AccountId, tier: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update accounts a set base_tier = new.tier
         from tiers new
         where a.id = $1 and new.tier = $2
           and new.rank > coalesce((select rank from tiers where tier = a.base_tier), -1)",
        account.0,
        tier,
    )
    .execute(&mut *tx)
    .await?;
    settle(tx, account).await
}

/// Writes on the account's row what its base tier and its active plans come to. The row is locked by the caller.
///
/// # Errors
/// When the database fails.
pub async fn settle(tx: &mut PgConnection, account: AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with active as (
            select p.tier, p.unlimited, s.ends_at
            from subscriptions s join plans p on p.plan = s.plan
            where s.account_id = $1 and s.status = 'active'
        )
        update accounts a
        set tier = coalesce((select t.tier from tiers t
                             where t.tier = a.base_tier or t.tier in (select tier from active)
                             order by t.rank desc limit 1), a.base_tier),
            subscribed_until = (select max(ends_at) from active),
            unlimited_until = (select max(ends_at) from active where unlimited)
        where a.id = $1
        "#,
        account.0,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A plan that has just ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it was.
    pub account: AccountId,
    /// The plan's name for people.
    pub name: String,
    /// When it ended.
    pub ends_at: DateTime<Utc>,
}

/// Most plans one run ends; the next takes the rest.
const END_LIMIT: i64 = 1000;

/// Ends plans whose time is over and tells the owners, each in a transaction of its own.
///
/// # Errors
/// When the database fails; what has ended until then stays so.
pub async fn end_due(db: &PgPool, sealer: &Sealer, now: DateTime<Utc>) -> Result<Vec<Ended>, sqlx::Error> {
    let due = sqlx::query_as!(
        Ended,
        r#"select s.id as "id: _", s.account_id as "account: _", p.name, s.ends_at
           from subscriptions s join plans p on p.plan = s.plan
           where s.status = 'active' and s.ends_at <= $1 order by s.ends_at limit $2"#,
        now,
        END_LIMIT,
    )
    .fetch_all(db)
    .await?;
    let mut ended = Vec::new();
    for subscription in due {
        match end(db, sealer, &subscription, now).await {
            Ok(true) => ended.push(subscription),
            Ok(false) => {}
            Err(error) if is_transient(&error) => return Err(error),
            // One that cannot be ended, which only a defect can cause, does not keep the others waiting.
            Err(error) => {
                tracing::error!(subscription.id = %subscription.id, %error, "{} cannot be ended", subscription.id);
            }
        }
    }
    Ok(ended)
}

/// `false`: somebody else has ended it.
async fn end(
    db: &PgPool,
    sealer: &Sealer,
    subscription: &Ended,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    sqlx::query!("select id from accounts where id = $1 for no key update", subscription.account.0)
        .fetch_optional(&mut *tx)
        .await?;
    let over = sqlx::query!(
        "update subscriptions set status = 'ended' where id = $1 and status = 'active'",
        subscription.id.0
    )
    .execute(&mut *tx)
    .await?;
    settle(&mut tx, subscription.account).await?;
    let is_ours = over.rows_affected() == 1;
    if is_ours {
        tell_ended(&mut tx, sealer, subscription, now).await?;
    }
    tx.commit().await?;
    Ok(is_ours)
}
