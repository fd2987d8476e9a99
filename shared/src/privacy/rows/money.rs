//! Rows about the account's tokens.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{ROWS, Read, place};
use crate::{
    id::{AccountId, EntryId, GrantId, SubscriptionId},
    privacy::Page,
};

#[derive(Serialize)]
struct Transaction {
    id: EntryId,
    kind: String,
    reference: String,
    amount_tokens: i64,
    debit: String,
    credit: String,
    reason: Option<String>,
    created_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn transactions(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Transaction,
        r#"select id as "id: _", kind, reference, amount_tokens, debit, credit, reason, created_at
           from ledger
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Grant {
    id: GrantId,
    source: String,
    reference: String,
    tokens: i64,
    expires_at: Option<DateTime<Utc>>,
    reason: Option<String>,
    created_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn grants(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Grant,
        r#"select id as "id: _", source, reference, tokens, expires_at, reason, created_at
           from grants
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Subscription {
    id: SubscriptionId,
    status: String,
    plan: String,
    reference: String,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn subscriptions(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Subscription,
        r#"select id as "id: _", status, plan, reference, starts_at, ends_at, created_at
           from subscriptions
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}
