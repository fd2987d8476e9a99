//! The terms of an account, set by operators: its tier, its discount, its credit, and whether it may do anything at all.
//!
//! Each change is one transaction with its entry in the audit log. Suspending ends every login; keys are refused for as long
//! as the account is not active.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{
    access::{Caller, rules_operators},
    audit::{By, record},
};
use crate::{billing, id::AccountId};

/// Highest credit limit: a slip of the finger stays small.
pub const CREDIT_MAX: i64 = 1_000_000_000_000;
/// Highest hourly limit of an account's own.
pub const PER_HOUR_MAX: i32 = 10_000_000;

/// What an operator sees of an account.
#[derive(Debug, Clone, Serialize)]
pub struct Terms {
    /// Whose.
    pub id: AccountId,
    /// Name for people.
    pub name: String,
    /// `active`, `suspended`, `erasing` or `erased`.
    pub status: String,
    /// The tier that counts now.
    pub tier: String,
    /// The tier without any plan.
    pub base_tier: String,
    /// Its own limit, in place of its tier's.
    pub requests_per_hour: Option<i32>,
    /// Which discount it has.
    pub price_group: String,
    /// How much it may owe.
    pub credit_limit_tokens: i64,
    /// What it owes.
    pub owed_tokens: i64,
    /// Free to spend.
    pub available_tokens: i64,
    /// Set aside by open jobs.
    pub held_tokens: i64,
    /// Until when it has a plan.
    pub subscribed_until: Option<DateTime<Utc>>,
    /// Until when everything is free.
    pub unlimited_until: Option<DateTime<Utc>>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct NewTerms {
    /// `active` or `suspended`.
    pub status: Option<String>,
    /// Tier without any plan.
    pub base_tier: Option<String>,
    /// Its own limit; `Some(None)` takes it away again.
    pub requests_per_hour: Option<Option<i32>>,
    /// Which discount.
    pub price_group: Option<String>,
    /// How much it may owe.
    pub credit_limit_tokens: Option<i64>,
}

/// Why terms were not set.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// There is no such account, or it is erased.
    #[error("no such account")]
    UnknownAccount,
    /// There is no such tier.
    #[error("there is no such tier")]
    UnknownTier,
    /// There is no such price group.
    #[error("there is no such price group")]
    UnknownPriceGroup,
    /// It is an account of operators, and the caller does not say who is one.
    #[error(
        "this is an account of operators, which only those who say who is an operator suspend and bring back"
    )]
    Operators,
    /// The database failed.
    #[error("set terms")]
    Db(#[from] sqlx::Error),
}

/// One account as operators see it.
///
/// # Errors
/// When the database fails.
pub async fn terms(db: &PgPool, account: AccountId) -> Result<Option<Terms>, sqlx::Error> {
    find(&mut *db.acquire().await?, account).await
}

async fn find(db: &mut PgConnection, account: AccountId) -> Result<Option<Terms>, sqlx::Error> {
    sqlx::query_as!(
        Terms,
        r#"select id as "id: _", name, status, tier, base_tier, requests_per_hour, price_group, credit_limit_tokens,
                  owed_tokens, available_tokens, held_tokens, subscribed_until, unlimited_until, created_at
           from accounts where id = $1"#,
        account.0,
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` accounts, newest first, whose name or a member's e-mail address holds `text`, older than `after`.
///
/// # Errors
/// When the database fails.
pub async fn search(
    db: &PgPool,
    text: Option<&str>,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<Terms>, sqlx::Error> {
    sqlx::query_as!(
        Terms,
        r#"select id as "id: _", name, status, tier, base_tier, requests_per_hour, price_group, credit_limit_tokens,
                  owed_tokens, available_tokens, held_tokens, subscribed_until, unlimited_until, created_at
           from accounts a
           where ($1::text is null or strpos(lower(name), lower($1)) > 0
                  or exists (select from members m join users u on u.id = m.user_id
                             where m.account_id = a.id and strpos(u.email, lower($1)) > 0))
             and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by id desc
           limit $3"#,
        text,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Changes terms of an account. `caller` is `None` at the command line.
///
/// # Errors
/// See [`TermsError`]; on any of them nothing changed.
pub async fn set_terms(
    db: &PgPool,
    caller: Option<&Caller>,
    account: AccountId,
    new: &NewTerms,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Terms, TermsError> {
    let mut tx = db.begin().await?;
    // The row first, so that what is written down as `before` is what was changed.
    sqlx::query!("select id from accounts where id = $1 for no key update", account.0)
        .fetch_optional(&mut *tx)
        .await?;
    let before = find(&mut tx, account)
        .await?
        .filter(|terms| terms.status == "active" || terms.status == "suspended")
        .ok_or(TermsError::UnknownAccount)?;
    check(&mut tx, new).await?;
    if new.status.is_some() && !rules_operators(caller) && is_operators(&mut tx, account).await? {
        return Err(TermsError::Operators);
    }
    sqlx::query!(
        "update accounts
         set status = coalesce($2, status), base_tier = coalesce($3, base_tier),
             requests_per_hour = case when $4 then $5 else requests_per_hour end,
             price_group = coalesce($6, price_group), credit_limit_tokens = coalesce($7, credit_limit_tokens)
         where id = $1",
        account.0,
        new.status,
        new.base_tier,
        new.requests_per_hour.is_some(),
        new.requests_per_hour.flatten(),
        new.price_group,
        new.credit_limit_tokens,
    )
    .execute(&mut *tx)
    .await?;
    billing::settle(&mut tx, account).await?;
    if new.status.as_deref() == Some("suspended") {
        sqlx::query!(
            "update sessions set revoked_at = $2, revoked_why = 'suspended' where account_id = $1 and revoked_at is null",
            account.0,
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    let after = find(&mut tx, account).await?.ok_or(TermsError::UnknownAccount)?;
    let entry = by.did("account.terms_set", Some(account), account, now);
    record(&mut *tx, &entry.changed(Some(written(&before)), Some(written(&after)))).await?;
    tx.commit().await?;
    Ok(after)
}

/// Whether an operator belongs to the account, or a key that does what operators do.
async fn is_operators(tx: &mut PgConnection, account: AccountId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from members m join users u on u.id = m.user_id
                          where m.account_id = $1 and u.operator_role is not null)
               or exists (select from api_keys
                          where account_id = $1 and revoked_at is null
                            and (role = 'operator'
                                 or exists (select from unnest(scopes) scope where scope like 'admin.%'))) as "is!""#,
        account.0,
    )
    .fetch_one(tx)
    .await
}

async fn check(tx: &mut PgConnection, new: &NewTerms) -> Result<(), TermsError> {
    let known = sqlx::query!(
        r#"select $1::text is null or exists (select from tiers where tier = $1) as "tier!",
                  $2::text is null or exists (select from price_groups where price_group = $2) as "price_group!""#,
        new.base_tier,
        new.price_group,
    )
    .fetch_one(tx)
    .await?;
    match (known.tier, known.price_group) {
        (false, _) => Err(TermsError::UnknownTier),
        (_, false) => Err(TermsError::UnknownPriceGroup),
        _ => Ok(()),
    }
}

/// What the audit log keeps of terms.
fn written(terms: &Terms) -> serde_json::Value {
    json!({
        "status": terms.status, "base_tier": terms.base_tier, "requests_per_hour": terms.requests_per_hour,
        "price_group": terms.price_group, "credit_limit_tokens": terms.credit_limit_tokens,
    })
}
