//! Making, changing, rotating and revoking keys, each with its line in the audit log.
//!
//! A key is locked before it is judged, so that two changes at once cannot together grant what neither may. Its secret is
//! in memory only in the answer that makes it. Deliberately absent: what a key has spent, which `job/submit.sql` and
//! `job/close.sql` count.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{
    access::{Actor, Caller, Permission},
    audit::{self, By},
    key::Secret,
    key_row::{Key, Which, difference, select},
    key_terms::{Beyond, KeyChange, KeyTerms, Own},
};
use crate::id::{KeyId, UserId};

/// Why nothing was done to a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key in the account, or none that the caller may know of.
    #[error("no such key")]
    NotFound,
    /// It has ended.
    #[error("the key was revoked")]
    Revoked,
    /// It would have more than whoever grants it.
    #[error("{}", .0.message)]
    Beyond(Beyond),
    /// The database failed.
    #[error("change a key")]
    Db(#[from] sqlx::Error),
}

/// Up to `limit` keys of the caller's account that have not ended, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list_keys(
    db: &PgPool,
    caller: &Caller,
    after: Option<KeyId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Key>, sqlx::Error> {
    let operators = sees_operators(caller);
    let which = Which { account: Some(caller.account), id: None, after, revoked: false, operators, limit };
    select(&mut *db.acquire().await?, which, now).await
}

/// A key of the caller's account, even one that has ended.
///
/// # Errors
/// When there is none, or the database fails.
pub async fn find_key(db: &PgPool, caller: &Caller, id: KeyId, now: DateTime<Utc>) -> Result<Key, KeyError> {
    find(&mut *db.acquire().await?, caller, id, now).await
}

/// Makes a key for the caller's account.
///
/// # Errors
/// When it would have more than the caller, or the database fails.
pub async fn create_key(
    db: &PgPool,
    caller: &Caller,
    terms: KeyTerms,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(Key, SecretString), KeyError> {
    let mut tx = db.begin().await?;
    let own = own(&mut tx, caller, None, now).await?;
    terms.check_within(caller, own.as_ref().map(|(own, _)| own)).map_err(KeyError::Beyond)?;
    let creator = caller.actor.user().or(own.and_then(|(_, creator)| creator));
    let (id, secret, networks) = (KeyId::new(), Secret::random(), terms.network_words());
    sqlx::query!(
        "insert into api_keys (id, account_id, role, name, prefix, secret_hash, scopes, created_by, expires_at,
                               allowed_models, allowed_ips, day_limit, month_limit, total_limit, created_at)
         values ($1, $2, 'member', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        id.0,
        caller.account.0,
        terms.name,
        secret.prefix,
        secret.hash,
        &terms.scope_words(),
        creator.map(|user| user.0),
        terms.expires_at,
        terms.allowed_models.as_deref(),
        networks.as_deref(),
        terms.limits.day,
        terms.limits.month,
        terms.limits.total,
        now,
    )
    .execute(&mut *tx)
    .await?;
    let entry = by.did("api_key.created", Some(caller.account), id, now);
    audit::record(&mut *tx, &entry.changed(None, Some(json!(terms)))).await?;
    let key = find(&mut tx, caller, id, now).await?;
    tx.commit().await?;
    Ok((key, secret.whole))
}

/// Changes what a key may do.
///
/// # Errors
/// See [`KeyError`].
pub async fn change_key(
    db: &PgPool,
    caller: &Caller,
    id: KeyId,
    change: KeyChange,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    let mut tx = db.begin().await?;
    let key = lock(&mut tx, caller, id, now).await?;
    let scopes = change.scopes.is_some();
    let terms = change.of(&key.terms);
    check(&mut tx, caller, &terms, id, now).await?;
    let networks = terms.network_words();
    sqlx::query!(
        "update api_keys
         set name = $2, scopes = case when $3 then $4 else scopes end, role = case when $3 then 'member' else role end,
             expires_at = $5, allowed_models = $6, allowed_ips = $7, day_limit = $8, month_limit = $9, total_limit = $10
         where id = $1",
        id.0,
        terms.name,
        scopes,
        &terms.scope_words(),
        terms.expires_at,
        terms.allowed_models.as_deref(),
        networks.as_deref(),
        terms.limits.day,
        terms.limits.month,
        terms.limits.total,
    )
    .execute(&mut *tx)
    .await?;
    if let Some((before, after)) = difference(&json!(key.terms), &json!(terms)) {
        let entry = by.did("api_key.changed", Some(key.account), id, now);
        audit::record(&mut *tx, &entry.changed(Some(before), Some(after))).await?;
    }
    let key = find(&mut tx, caller, id, now).await?;
    tx.commit().await?;
    Ok(key)
}

/// Gives a key another secret; the one it has works for `grace` more, and the one before that no longer.
///
/// # Errors
/// See [`KeyError`]; a key that may do more than the caller is not rotated, for the caller would hold its secret.
pub async fn rotate_key(
    db: &PgPool,
    caller: &Caller,
    id: KeyId,
    grace: TimeDelta,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(Key, SecretString), KeyError> {
    let mut tx = db.begin().await?;
    let key = lock(&mut tx, caller, id, now).await?;
    check(&mut tx, caller, &key.terms, id, now).await?;
    let secret = Secret::random();
    let until = (grace > TimeDelta::zero()).then(|| now + grace);
    sqlx::query!(
        "update api_keys
         set previous_hash = case when $2::timestamptz is not null then secret_hash end, previous_until = $2,
             secret_hash = $3, prefix = $4
         where id = $1",
        id.0,
        until,
        secret.hash,
        secret.prefix,
    )
    .execute(&mut *tx)
    .await?;
    let entry = by.did("api_key.rotated", Some(key.account), id, now).changed(
        Some(json!({ "prefix": key.prefix })),
        Some(json!({ "prefix": secret.prefix, "previous_until": until })),
    );
    audit::record(&mut *tx, &entry).await?;
    let key = find(&mut tx, caller, id, now).await?;
    tx.commit().await?;
    Ok((key, secret.whole))
}

/// Ends a key of the caller's account for good, both of its secrets at once; does nothing when it has ended before. Whoever
/// runs the account ends any of its keys.
///
/// # Errors
/// See [`KeyError`]; others do not end an operator's key that does more than they may.
pub async fn revoke_key(
    db: &PgPool,
    caller: &Caller,
    id: KeyId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    let (account, operators) = (Some(caller.account), sees_operators(caller));
    let which = Which { account, id: Some(id), after: None, revoked: true, operators, limit: 1 };
    let may = |key: &Key| {
        runs_account(caller) || !key.is_operators() || key.terms.scopes.is_within(caller.permissions)
    };
    revoke(db, which, may, by, now).await
}

/// Ends the one key that is looked for, if whoever asks `may`.
pub(super) async fn revoke(
    db: &PgPool,
    which: Which,
    may: impl FnOnce(&Key) -> bool,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    let mut tx = db.begin().await?;
    let key = select(&mut tx, which, now).await?.pop().ok_or(KeyError::NotFound)?;
    if !may(&key) {
        let message = "this is an operator's key, which only those who say who is an operator may end".into();
        return Err(KeyError::Beyond(Beyond { param: "id", message }));
    }
    let revoked = sqlx::query!(
        "update api_keys set revoked_at = $2, previous_hash = null, previous_until = null
         where id = $1 and revoked_at is null",
        key.id.0,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if revoked.rows_affected() == 1 {
        let entry = by.did("api_key.revoked", Some(key.account), key.id, now);
        audit::record(&mut *tx, &entry.changed(Some(json!({ "name": key.terms.name })), None)).await?;
    }
    let key = select(&mut tx, which, now).await?.pop().ok_or(KeyError::NotFound)?;
    tx.commit().await?;
    Ok(key)
}

/// Whether the caller knows of the operators' keys of the account. Whoever runs it must: they are keys to it.
fn sees_operators(caller: &Caller) -> bool {
    runs_account(caller) || caller.permissions.iter().any(Permission::is_operators)
}

fn runs_account(caller: &Caller) -> bool {
    caller.permissions.has(Permission::AccountWrite)
}

async fn find(
    conn: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    let (account, operators) = (Some(caller.account), sees_operators(caller));
    let which = Which { account, id: Some(id), after: None, revoked: true, operators, limit: 1 };
    select(conn, which, now).await?.pop().ok_or(KeyError::NotFound)
}

/// The key as it is and stays until the transaction ends.
async fn lock(
    conn: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    sqlx::query!("select id from api_keys where id = $1 for no key update", id.0)
        .fetch_optional(&mut *conn)
        .await?;
    let key = find(conn, caller, id, now).await?;
    if key.revoked_at.is_some() { Err(KeyError::Revoked) } else { Ok(key) }
}

async fn check(
    conn: &mut PgConnection,
    caller: &Caller,
    terms: &KeyTerms,
    target: KeyId,
    now: DateTime<Utc>,
) -> Result<(), KeyError> {
    let own = own(conn, caller, Some(target), now).await?;
    terms.check_within(caller, own.as_ref().map(|(own, _)| own)).map_err(KeyError::Beyond)
}

/// What holds for the key that acts, and who made it; `None` when a person acts.
async fn own(
    conn: &mut PgConnection,
    caller: &Caller,
    target: Option<KeyId>,
    now: DateTime<Utc>,
) -> Result<Option<(Own, Option<UserId>)>, KeyError> {
    let Actor::Key(id) = caller.actor else { return Ok(None) };
    // Whatever else the caller may see, they may see themselves.
    let which = Which {
        account: Some(caller.account),
        id: Some(id),
        after: None,
        revoked: false,
        operators: true,
        limit: 1,
    };
    let key = select(conn, which, now).await?.pop().ok_or(KeyError::Revoked)?;
    Ok(Some((Own { terms: key.terms, is_same: target == Some(id) }, key.created_by)))
}
