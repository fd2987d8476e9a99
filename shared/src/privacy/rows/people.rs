//! Rows about the account and the people in it, and what they changed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::{ROWS, Read, place};
use crate::{
    id::{AccountId, AuditId, InvitationId, KeyId, MailId, SessionId, UserId},
    privacy::Page,
};

#[derive(Serialize)]
struct Account {
    id: AccountId,
    name: String,
    status: String,
    description: Option<String>,
    website: Option<String>,
    phone: Option<String>,
    address: Option<String>,
    tier: String,
    base_tier: String,
    requests_per_hour: Option<i32>,
    price_group: String,
    available_tokens: i64,
    held_tokens: i64,
    credit_limit_tokens: i64,
    owed_tokens: i64,
    low_balance_tokens: Option<i64>,
    preferences: Option<Value>,
    subscribed_until: Option<DateTime<Utc>>,
    unlimited_until: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn account(db: &PgPool, account: AccountId) -> Read {
    let found = sqlx::query_as!(
        Account,
        r#"select id as "id: _", name, status, description, website, phone, address, tier, base_tier, requests_per_hour,
                  price_group, available_tokens, held_tokens, credit_limit_tokens, owed_tokens, low_balance_tokens,
                  routing as preferences, subscribed_until, unlimited_until, created_at
           from accounts where id = $1"#,
        account.0,
    )
    .fetch_one(db)
    .await?;
    Ok(Page::of(vec![found], ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Member {
    id: UserId,
    email: Option<String>,
    name: Option<String>,
    role: String,
    email_verified_at: Option<DateTime<Utc>>,
    registered_at: DateTime<Utc>,
    joined_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn members(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Member,
        r#"select u.id as "id: _", u.email, u.name, m.role, u.email_verified_at, u.created_at as registered_at,
                  m.created_at as joined_at
           from members m join users u on u.id = m.user_id
           where m.account_id = $1 and m.user_id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by m.user_id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Invitation {
    id: InvitationId,
    email: Option<String>,
    name: Option<String>,
    role: String,
    invited_by: Option<UserId>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    accepted_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

pub(in crate::privacy) async fn invitations(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Invitation,
        r#"select id as "id: _", email, name, role, invited_by as "invited_by: _", created_at, expires_at, accepted_at,
                  revoked_at
           from invitations
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
struct Given {
    user: UserId,
    document: String,
    version: String,
    given_at: DateTime<Utc>,
}

/// Whole persons a page: one agrees to few versions.
pub(in crate::privacy) async fn consents(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Given,
        r#"with batch as (
               select user_id from members
               where account_id = $1 and user_id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
                 and exists (select from consents c where c.user_id = members.user_id)
               order by user_id limit $3
           )
           select c.user_id as "user: _", c.document, c.version, c.given_at
           from batch join consents c on c.user_id = batch.user_id
           order by c.user_id, c.given_at, c.document, c.version"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.user.0)))
}

#[derive(Serialize)]
struct Session {
    id: SessionId,
    user: UserId,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
    revoked_why: Option<String>,
}

pub(in crate::privacy) async fn sessions(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Session,
        r#"select id as "id: _", user_id as "user: _", created_at, expires_at, revoked_at, revoked_why
           from sessions
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
struct Key {
    id: KeyId,
    name: String,
    prefix: String,
    scopes: Option<Vec<String>>,
    allowed_models: Option<Vec<String>>,
    allowed_ips: Option<Vec<String>>,
    day_limit_tokens: Option<i64>,
    month_limit_tokens: Option<i64>,
    total_limit_tokens: Option<i64>,
    created_by: Option<UserId>,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

pub(in crate::privacy) async fn keys(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Key,
        r#"select id as "id: _", name, prefix, scopes, allowed_models, allowed_ips, day_limit as day_limit_tokens,
                  month_limit as month_limit_tokens, total_limit as total_limit_tokens, created_by as "created_by: _",
                  created_at, last_used_at, expires_at, revoked_at
           from api_keys
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
struct Change {
    id: AuditId,
    actor_kind: String,
    actor: Option<String>,
    action: String,
    target: String,
    before: Option<Value>,
    after: Option<Value>,
    ip: Option<String>,
    request_id: Option<String>,
    created_at: DateTime<Utc>,
}

/// As an owner sees it in the API: that an operator acted, but not which one and from where.
pub(in crate::privacy) async fn audit_log(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Change,
        r#"select id as "id: _", actor_kind, case when actor_kind <> 'operator' then actor end as actor, action, target,
                  before, after, case when actor_kind <> 'operator' then ip end as ip, request_id, created_at
           from audit_log
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
struct Mail {
    id: MailId,
    kind: String,
    recipient: Option<String>,
    status: String,
    created_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
}

/// Those about the account, and those to its members that are about no account.
pub(in crate::privacy) async fn mails(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Mail,
        r#"select id as "id: _", kind, recipient, status, created_at, settled_at
           from mails
           where recipient is not null
             and (account_id = $1
                  or (account_id is null
                      and recipient = any (array(select u.email from members m join users u on u.id = m.user_id
                                                 where m.account_id = $1))))
             and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}
