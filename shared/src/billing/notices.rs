//! What owners are told about their tokens and plans, each thing once.
//!
//! Every verb looks at all the rows there are and leaves out what was told before: the mail itself is the memory, by its
//! kind and reference, and for the balance a flag on the account's row. Told are owners whose address is proved, of accounts
//! that are active. Deliberately absent: the words (`mail/news.rs`) and how a mail is sent.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use super::Ended;
use crate::{
    id::AccountId,
    mail::{self, Letter, News, tell_owners},
    seal::Sealer,
};

/// How long before its end something is told of, in days: the first time, and the last.
const FIRST_DAYS: i32 = 3;
const LAST_DAYS: i32 = 1;

/// Rows of one statement.
const BATCH: i64 = 500;

/// Tells of balances that fell below their account's threshold, or below `threshold` where it has none, once until they are
/// back above it. An account that was never given anything has nothing to run out of. Gives how many were told of.
///
/// # Errors
/// When the database fails; what was told until then stays so.
pub async fn tell_low_balance(
    db: &PgPool,
    sealer: &Sealer,
    threshold: i64,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        "update accounts set low_balance_told = false
         where low_balance_told and available_tokens >= coalesce(low_balance_tokens, $1)",
        threshold
    )
    .execute(db)
    .await?;
    let (mut told, mut after) = (0, None);
    loop {
        let low = low_accounts(db, threshold, after).await?;
        for account in &low {
            told += u64::from(tell_low_balance_of(db, sealer, *account, threshold, now).await?);
        }
        after = low.last().copied();
        if i64::try_from(low.len()).unwrap_or(BATCH) < BATCH {
            return Ok(told);
        }
    }
}

/// The next accounts with too little, of those with an owner to be told.
async fn low_accounts(
    db: &PgPool,
    threshold: i64,
    after: Option<AccountId>,
) -> Result<Vec<AccountId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select a.id as "id: AccountId"
           from accounts a
           where a.available_tokens < coalesce(a.low_balance_tokens, $1) and not a.low_balance_told
             and a.status = 'active' and a.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
             and exists (select from grants g where g.account_id = a.id)
             and exists (select from members m join users u on u.id = m.user_id
                         where m.account_id = a.id and m.role = 'owner' and u.email is not null
                           and u.email_verified_at is not null)
           order by a.id
           limit $3"#,
        threshold,
        after.map(|account| account.0),
        BATCH,
    )
    .fetch_all(db)
    .await
}

/// `false`: the balance is not low any more, or another scheduler has told of it.
async fn tell_low_balance_of(
    db: &PgPool,
    sealer: &Sealer,
    account: AccountId,
    threshold: i64,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let low = sqlx::query!(
        r#"update accounts set low_balance_told = true
           where id = $1 and not low_balance_told and available_tokens < coalesce(low_balance_tokens, $2)
           returning name, available_tokens, coalesce(low_balance_tokens, $2) as "threshold!""#,
        account.0,
        threshold,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(low) = low else { return Ok(false) };
    let news = News::LowBalance {
        account_name: low.name,
        available: low.available_tokens,
        threshold: low.threshold,
    };
    // An account's balance may fall many times: each fall is another cause.
    let cause = format!("{}@{}", account.0, now.timestamp_micros());
    tell_owners(&mut tx, sealer, account, &cause, &news, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Tells of grants that expire within three days, and again within one, as long as something of them is left to spend.
/// A plan's own grant is told of with its plan. Gives how many mails that were.
///
/// # Errors
/// When the database fails; what was told until then stays so.
pub async fn tell_expiring(db: &PgPool, sealer: &Sealer, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut told = 0;
    loop {
        let due = sqlx::query_file!("src/billing/tell_expiring.sql", now, FIRST_DAYS, LAST_DAYS, BATCH)
            .fetch_all(db)
            .await?;
        for grant in &due {
            let news = News::GrantExpiring {
                account_name: grant.name.clone(),
                tokens: grant.tokens,
                expires_at: grant.expires_at,
                days: whole_days(grant.expires_at - now),
            };
            let letter = Letter {
                reference: &grant.reference,
                account: Some(grant.account),
                recipient: &grant.email,
                news: &news,
            };
            told += u64::from(mail::queue(db, sealer, &letter, now).await?);
        }
        if i64::try_from(due.len()).unwrap_or(BATCH) < BATCH {
            return Ok(told);
        }
    }
}

/// Tells of plans that end within three days, and again within one, unless the account has the same plan beyond that or the
/// plan lasts no longer than that. Gives how many mails that were.
///
/// # Errors
/// When the database fails; what was told until then stays so.
pub async fn tell_ending(db: &PgPool, sealer: &Sealer, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut told = 0;
    loop {
        let due = sqlx::query_file!("src/billing/tell_ending.sql", now, FIRST_DAYS, LAST_DAYS, BATCH)
            .fetch_all(db)
            .await?;
        for subscription in &due {
            let news = News::SubscriptionEnding {
                account_name: subscription.name.clone(),
                plan: subscription.plan.clone(),
                ends_at: subscription.ends_at,
                days: whole_days(subscription.ends_at - now),
            };
            let letter = Letter {
                reference: &subscription.reference,
                account: Some(subscription.account),
                recipient: &subscription.email,
                news: &news,
            };
            told += u64::from(mail::queue(db, sealer, &letter, now).await?);
        }
        if i64::try_from(due.len()).unwrap_or(BATCH) < BATCH {
            return Ok(told);
        }
    }
}

/// Tells the owners that a plan has ended, unless the account has the same plan still; part of the transaction that ends it.
pub(super) async fn tell_ended(
    tx: &mut PgConnection,
    sealer: &Sealer,
    ended: &Ended,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let account_name = sqlx::query_scalar!(
        "select a.name
         from accounts a join subscriptions s on s.account_id = a.id
         where s.id = $1 and a.status = 'active'
           and not exists (select from subscriptions o
                           where o.account_id = s.account_id and o.plan = s.plan and o.status = 'active')",
        ended.id.0,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(account_name) = account_name else { return Ok(()) };
    let news = News::SubscriptionEnded { account_name, plan: ended.name.clone() };
    tell_owners(tx, sealer, ended.account, &format!("subscription:{}", ended.id.0), &news, now).await?;
    Ok(())
}

/// So many days, begun ones counted.
fn whole_days(left: TimeDelta) -> i64 {
    let day = TimeDelta::days(1).num_seconds();
    (left.num_seconds() + day - 1).div_euclid(day)
}
