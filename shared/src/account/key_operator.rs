//! Keys by an operator's hand: those of any account, bounded by nobody's own permissions.
//!
//! Deliberately absent: changing and rotating them, which is for those who use them.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{
    access::{Caller, rules_operators},
    audit::{self, By},
    key::{KeyRole, NewKey, issue_key},
    key_admin::{KeyError, revoke},
    key_row::{Key, Which, select},
};
use crate::id::{AccountId, KeyId};

/// Up to `limit` keys of an account, operators' ones included, newest first; `ended`: also those that were revoked.
///
/// # Errors
/// When the database fails.
pub async fn keys_of(
    db: &PgPool,
    account: AccountId,
    ended: bool,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Key>, sqlx::Error> {
    let which =
        Which { account: Some(account), id: None, after: None, revoked: ended, operators: true, limit };
    select(&mut *db.acquire().await?, which, now).await
}

/// Makes a key for an account, with the scopes of a developer, and for an operator also theirs. `None`: there is no such
/// account, or it is erased.
///
/// # Errors
/// When the database fails.
pub async fn hand_out_key(
    db: &PgPool,
    account: AccountId,
    role: KeyRole,
    name: &str,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Option<NewKey>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let open = sqlx::query_scalar!(
        "select id from accounts where id = $1 and status in ('active', 'suspended') for share",
        account.0
    );
    if open.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(None);
    }
    let key = issue_key(&mut *tx, account, role, name, now).await?;
    let entry = by.did("api_key.created", Some(account), key.id, now);
    let after = json!({ "name": name, "role": role.word() });
    audit::record(&mut *tx, &entry.changed(None, Some(after))).await?;
    tx.commit().await?;
    Ok(Some(key))
}

/// Ends any key for good, both of its secrets at once; does nothing when it has ended before. `caller` is `None` at the
/// command line.
///
/// # Errors
/// When there is no such key, it is an operator's and the caller does not say who is one, or the database fails.
pub async fn revoke_any_key(
    db: &PgPool,
    caller: Option<&Caller>,
    id: KeyId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Key, KeyError> {
    let which = Which { account: None, id: Some(id), after: None, revoked: true, operators: true, limit: 1 };
    revoke(db, which, |key| !key.is_operators() || rules_operators(caller), by, now).await
}
