//! Logins: a session, its family of refresh tokens, and whoever an access token of it speaks for.
//!
//! A refresh token is exchanged once. Shown again, somebody copied it, and the whole family ends: neither the thief nor the
//! owner goes on, and the owner is told. Sessions are looked up at every request, so whatever ends one, or takes a role away,
//! takes effect at once. Deliberately absent: access tokens, which are signed by the front door and kept nowhere.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sqlx::{PgConnection, PgPool};

use super::{
    access::{Actor, Caller, OperatorRole, Role},
    link::Post,
    logout::{Ending, Which, end},
    token::{self, REFRESH_PREFIX},
};
use crate::{
    id::{AccountId, SessionId, UserId},
    mail::News,
};

/// How long a login lasts at most: a device in use asks for the password four times a year, and one that was lost and
/// forgotten is not let in for ever.
pub const SESSION_LIFE: TimeDelta = TimeDelta::days(90);
/// How long a refresh token works: whoever stays away for a month logs in again.
pub const REFRESH_LIFE: TimeDelta = TimeDelta::days(30);

/// A session just opened or carried on; the refresh token is in memory this once.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// Who logged in.
    pub user: UserId,
    /// The account it speaks for.
    pub account: AccountId,
    /// What the next access token is got with.
    pub refresh_token: SecretString,
}

/// Why a refresh token was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Unknown or too old, or its session has ended.
    #[error("unknown or expired refresh token")]
    Unknown,
    /// Exchanged before; its session has now ended.
    #[error("refresh token used before")]
    Reused,
    /// Another request exchanged it at this very moment.
    #[error("refresh token being exchanged by another request")]
    Raced,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

/// Opens a session for a person whose password was just found to be `password_hash`. `None`: meanwhile it is another, or
/// they are not in the account any more.
pub(super) async fn open(
    db: &PgPool,
    user: UserId,
    account: AccountId,
    password_hash: &str,
    now: DateTime<Utc>,
) -> Result<Option<Opened>, sqlx::Error> {
    let session = SessionId::new();
    let minted = token::mint(REFRESH_PREFIX);
    // The locks make a new password, or a removal from the account, either wait and then see this session, or come first.
    let opened = sqlx::query!(
        "with who as (
             select u.id as user_id, m.account_id from users u join members m on m.user_id = u.id
             where u.id = $2 and m.account_id = $3 and u.password_hash = $4 and u.email_verified_at is not null
             for share of u, m
         ), session as (
             insert into sessions (id, user_id, account_id, created_at, expires_at)
             select $1, user_id, account_id, $6, $7 from who returning id
         )
         insert into refresh_tokens (token_hash, session_id, created_at) select $5, id, $6 from session",
        session.0,
        user.0,
        account.0,
        password_hash,
        minted.hash,
        now,
        now + SESSION_LIFE,
    )
    .execute(db)
    .await?;
    let opened = opened.rows_affected() == 1;
    Ok(opened.then_some(Opened { session, user, account, refresh_token: minted.token }))
}

/// Exchanges a refresh token for the next one of its session.
///
/// # Errors
/// [`RefreshError`]; after a reuse the session has ended and its person is told.
pub async fn refresh(
    db: &PgPool,
    post: &Post<'_>,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Opened, RefreshError> {
    let hash = token::hash(token);
    let known = sqlx::query!(
        r#"select r.session_id as "session: SessionId", s.user_id as "user: UserId", s.account_id as "account: AccountId",
                  r.used_at is not null as "used!", u.email
           from refresh_tokens r
           join sessions s on s.id = r.session_id
           join users u on u.id = s.user_id and u.erased_at is null
           join members m on m.account_id = s.account_id and m.user_id = s.user_id
           join accounts a on a.id = s.account_id and a.status = 'active'
           where r.token_hash = $1 and r.created_at > $2 and s.revoked_at is null and s.expires_at > $3"#,
        hash,
        now - REFRESH_LIFE,
        now,
    )
    .fetch_optional(db)
    .await?
    .ok_or(RefreshError::Unknown)?;
    let mut tx = db.begin().await?;
    if known.used {
        let ended = end(&mut tx, known.user, Which::Only(known.session), Ending::Reuse, now).await?;
        if ended > 0
            && let Some(email) = known.email
        {
            let (reference, news) = (known.session.to_string(), News::RefreshTokenReused);
            post.write(&mut tx, &email, &reference, Some(known.account), &news, now).await?;
        }
        tx.commit().await?;
        return Err(RefreshError::Reused);
    }
    let minted = token::mint(REFRESH_PREFIX);
    if !exchange(&mut tx, known.session, &hash, &minted.hash, now).await? {
        // It was unused a moment ago, so whoever was faster is no thief who had it for long: no reason to end the session.
        return Err(RefreshError::Raced);
    }
    tx.commit().await?;
    Ok(Opened {
        session: known.session,
        user: known.user,
        account: known.account,
        refresh_token: minted.token,
    })
}

/// Marks a token as used and puts the next in its place; `false` when somebody else did. Tokens too old to be exchanged are
/// forgotten on the way: shown again, they are as unknown as any.
async fn exchange(
    conn: &mut PgConnection,
    session: SessionId,
    old: &[u8],
    new: &[u8],
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let used = sqlx::query!(
        "update refresh_tokens set used_at = $2 where token_hash = $1 and used_at is null",
        old,
        now
    )
    .execute(&mut *conn)
    .await?;
    if used.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "with forgotten as (delete from refresh_tokens where session_id = $2 and created_at <= $4)
         insert into refresh_tokens (token_hash, session_id, created_at) values ($1, $2, $3)",
        new,
        session.0,
        now,
        now - REFRESH_LIFE,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Who an access token speaks for, or `None` when its session has ended, or its person or account may not act any more.
///
/// # Errors
/// When the database fails.
pub async fn authenticate_session(
    db: &PgPool,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<Option<Caller>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select s.user_id as "user: UserId", s.account_id as "account: AccountId", m.role, u.operator_role,
                  g.percent as "percent?", a.routing::text as "preferences?"
           from sessions s
           join users u on u.id = s.user_id
           join members m on m.account_id = s.account_id and m.user_id = s.user_id
           join accounts a on a.id = s.account_id
           left join price_groups g on g.price_group = a.price_group
           where s.id = $1 and s.revoked_at is null and s.expires_at > $2 and u.email_verified_at is not null
             and u.erased_at is null and a.status = 'active'"#,
        session.0,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let own = Role::from_word(&row.role).map(Role::permissions).unwrap_or_default();
        let platform = row.operator_role.as_deref().and_then(OperatorRole::from_word);
        Caller {
            account: row.account,
            actor: Actor::User { user: row.user, session },
            permissions: own.or(platform.map(OperatorRole::permissions).unwrap_or_default()),
            price_percent: row.percent.unwrap_or(100),
            allowed_models: None,
            preferences: row.preferences.map(Into::into),
        }
    }))
}
