//! The end of grants: what is left of one whose time is over goes back to the platform.
//!
//! Tokens that a job holds are not touched; what comes back from it later comes back as the same lot, and goes with the
//! next run, or with the next submit, which spends nothing that has expired. One account at a time, in one statement on
//! its locked row.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    db::is_transient,
    id::{AccountId, EntryId},
};

/// Most accounts one run looks at; the next takes the rest.
const ACCOUNTS_LIMIT: i64 = 1000;
/// Most lots of one account that go in one statement; the rest goes in the next.
const LOTS_LIMIT: usize = 16;

/// Takes back what is left of grants that expired. Gives how many tokens that were.
///
/// # Errors
/// When the database fails; what has expired until then stays so.
pub async fn expire_grants(db: &PgPool, now: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    let due = sqlx::query_scalar!(
        r#"select id as "id: AccountId" from accounts where next_expiry <= $1 order by next_expiry limit $2"#,
        now,
        ACCOUNTS_LIMIT,
    )
    .fetch_all(db)
    .await?;
    let mut expired = 0;
    for account in due {
        match expire_of(db, account, now).await {
            Ok(tokens) => expired += tokens,
            Err(error) if is_transient(&error) => return Err(error),
            // One account that cannot be moved, which only a defect can cause, does not keep the others waiting.
            Err(error) => {
                tracing::error!(account.id = %account, %error, "grants of {account} cannot be expired")
            }
        }
    }
    Ok(expired)
}

/// As [`expire_grants`], of one account.
///
/// # Errors
/// When the database fails.
pub async fn expire_of(db: &PgPool, account: AccountId, now: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    let ids: Vec<_> = (0..LOTS_LIMIT).map(|_| EntryId::new().0).collect();
    let expired = sqlx::query_scalar!(
        r#"
        with purse as (
            select id, available_tokens, expiring from accounts where id = $1 for no key update
        ), gone as (
            -- A lot may come back from a job and go a second time, so its grant alone would be no reference.
            select p.id, l.grant_id, l.tokens, row_number() over (order by l.expires_at, l.grant_id) as n
            from purse p cross join unnest(p.expiring) l
            where l.expires_at <= $2::timestamptz
            order by n
            limit cardinality($3::uuid[])
        ), account as (
            update accounts a
            set available_tokens = p.available_tokens - g.tokens, expiring = lots_after(p.expiring, g.tokens)
            from purse p
            join (select id, sum(tokens)::bigint as tokens from gone group by id) g on g.id = p.id
            where a.id = p.id
            returning a.id
        ), entries as (
            insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, created_at)
            select ($3::uuid[])[g.n], g.id, 'expire', g.grant_id || '@' || ($3::uuid[])[g.n], 'available',
                   'platform', g.tokens, $2
            from gone g join account a on a.id = g.id
        )
        select coalesce(sum(tokens), 0)::bigint as "tokens!" from gone
        "#,
        account.0,
        now,
        &ids,
    )
    .fetch_one(db)
    .await?;
    Ok(expired)
}
