//! Asking the vendors about our keys: who is due, and what they said.
//!
//! The scheduler says what is due, workers ask, because they have the keys and the adapters. A key that its vendor refuses is not
//! used for new work until the vendor takes it again; one whose vendor has no such question comes back after its rest, until it
//! was refused several times in a row. Then an operator has to look.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;

use super::cooldown::{REFUSALS, REFUSALS_MAX};
use crate::id::ProviderKeyId;

/// How long one worker has to ask before another does.
const ASKING: TimeDelta = TimeDelta::minutes(2);
/// How long a word about a key in use stands.
const STANDS: TimeDelta = TimeDelta::hours(1);

/// What `disabled_why` says of a key that an operator has switched off; no vendor's word switches it on again.
pub(super) const BY_OPERATOR: &str = "operator";

/// A key to ask about.
#[derive(Debug, Clone)]
pub struct Due {
    /// Which.
    pub id: ProviderKeyId,
    /// At whom.
    pub provider: String,
}

/// What the vendor said.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// It works.
    Works {
        /// What is left on its account, and of what.
        credit: Option<(Decimal, String)>,
    },
    /// It does not, for this reason.
    Refused(String),
    /// It has no such question: only work with the key tells.
    NoQuestion,
    /// It gave no word this time.
    Unknown,
}

/// Says that keys are to be asked about: those that a vendor refused, those that rest for more than a pace, and those that were not
/// asked about for an hour. Gives how many.
///
/// # Errors
/// When the database fails.
pub async fn mark_due(db: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let marked = sqlx::query!(
        "update provider_keys k set check_at = $1
         where check_at is null and disabled_why is distinct from $3
           and (disabled_at is not null or checked_at is null or checked_at < $2
                or exists (select from provider_cooldowns c
                           where c.key_id = k.id and c.until > $1 and c.why in ('quota', 'auth')))",
        now,
        now - STANDS,
        BY_OPERATOR,
    )
    .execute(db)
    .await?;
    Ok(marked.rows_affected())
}

/// Takes the keys among `mine` that are due; nobody else asks about them meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn take_due(
    db: &PgPool,
    mine: &[ProviderKeyId],
    now: DateTime<Utc>,
) -> Result<Vec<Due>, sqlx::Error> {
    let mine: Vec<_> = mine.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        Due,
        r#"
        update provider_keys k set check_at = $2::timestamptz + $3
        from (select id from provider_keys where check_at <= $2 and id = any($1) for no key update skip locked) due
        where k.id = due.id
        returning k.id as "id: ProviderKeyId", k.provider
        "#,
        &mine,
        now,
        sqlx::postgres::types::PgInterval {
            months: 0,
            days: 0,
            microseconds: ASKING.num_microseconds().unwrap_or(i64::MAX)
        },
    )
    .fetch_all(db)
    .await
}

/// Asks for a word about a key at the next occasion.
///
/// # Errors
/// When the database fails.
pub async fn ask_soon(db: &PgPool, id: ProviderKeyId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!("update provider_keys set check_at = $2 where id = $1 and check_at is null", id.0, now)
        .execute(db)
        .await?;
    Ok(())
}

/// What has changed by a vendor's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The key is not used any more.
    pub was_disabled: bool,
    /// It is used again.
    pub was_enabled: bool,
    /// Its credit has fallen below its floor, which nobody was told yet.
    pub is_low: bool,
}

/// Writes down what a vendor said of a key. One that was switched off and works is used again. One that is refused is switched
/// off if work with it was refused as well: some keys may generate and not be asked about. Where there is nothing to ask, one is
/// switched off that was refused [`REFUSALS_MAX`] times in a row.
///
/// # Errors
/// When the database fails.
pub async fn record(
    db: &PgPool,
    id: ProviderKeyId,
    finding: &Finding,
    now: DateTime<Utc>,
) -> Result<Change, sqlx::Error> {
    let (works, refused) = match finding {
        Finding::Works { .. } => (true, None),
        Finding::Refused(why) => (false, Some(why.as_str())),
        Finding::NoQuestion => return judge_by_work(db, id, now).await,
        Finding::Unknown => {
            sqlx::query!(
                "update provider_keys set check_at = null, checked_at = $2 where id = $1",
                id.0,
                now
            )
            .execute(db)
            .await?;
            return Ok(Change::default());
        }
    };
    let credit = if let Finding::Works { credit } = finding { credit.as_ref() } else { None };
    let row = sqlx::query!(
        r#"
        with before as materialized (
            select id, disabled_at, disabled_why, credit_floor, credit_told_at,
                   exists (select from provider_cooldowns c where c.key_id = k.id and c.why = 'auth' and c.until > $2) as is_doubted
            from provider_keys k where id = $1 for no key update
        ), warmed as (
            -- A vendor may answer that question for an account without money; only a key that was switched off is proved by it.
            delete from provider_cooldowns c using before b
            where c.key_id = b.id and $3 and b.disabled_at is not null and b.disabled_why <> $7
        ), written as (
            update provider_keys k
            set check_at = null, checked_at = $2, check_error = $4,
                credit = coalesce($5, k.credit), credit_unit = coalesce($6, k.credit_unit),
                credit_told_at = case when $5 >= b.credit_floor then null
                                      when $5 < b.credit_floor then coalesce(b.credit_told_at, $2) else b.credit_told_at end,
                disabled_at = case when b.disabled_why = $7 then b.disabled_at when $3 then null
                                   when b.is_doubted then coalesce(b.disabled_at, $2) else b.disabled_at end,
                disabled_why = case when b.disabled_why = $7 then $7 when $3 then null
                                    when b.is_doubted then coalesce(b.disabled_why, $4) else b.disabled_why end
            from before b where k.id = b.id
        )
        select b.disabled_at is null and not $3 and b.is_doubted as "was_disabled!",
               b.disabled_at is not null and $3 and b.disabled_why <> $7 as "was_enabled!",
               coalesce($5 < b.credit_floor and b.credit_told_at is null, false) as "is_low!"
        from before b
        "#,
        id.0,
        now,
        works,
        refused,
        credit.map(|(amount, _)| *amount),
        credit.map(|(_, unit)| unit.as_str()),
        BY_OPERATOR,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(Change::default, |row| Change {
        was_disabled: row.was_disabled,
        was_enabled: row.was_enabled,
        is_low: row.is_low,
    }))
}

/// Switches a key off that was refused too often, where its work alone tells how it fares.
async fn judge_by_work(db: &PgPool, id: ProviderKeyId, now: DateTime<Utc>) -> Result<Change, sqlx::Error> {
    let was_disabled = sqlx::query_scalar!(
        r#"
        with before as materialized (
            select id, k.disabled_at is null
                   and exists (select from provider_cooldowns c
                               where c.key_id = k.id and c.upstream_model = $3 and c.strikes >= $4) as is_spent
            from provider_keys k where id = $1 for no key update
        ), written as (
            update provider_keys k
            set check_at = null, checked_at = $2, disabled_at = case when b.is_spent then $2 else k.disabled_at end,
                disabled_why = case when b.is_spent then $5 else k.disabled_why end
            from before b where k.id = b.id
        )
        select is_spent as "is_spent!" from before
        "#,
        id.0,
        now,
        REFUSALS,
        REFUSALS_MAX,
        format!("refused {REFUSALS_MAX} times in a row"),
    )
    .fetch_optional(db)
    .await?;
    Ok(Change { was_disabled: was_disabled.unwrap_or(false), ..Change::default() })
}
