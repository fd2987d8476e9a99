//! Making, changing, rotating and deleting endpoints, each with its line in the audit log.
//!
//! A secret is in clear only in the answer that makes it. Deliberately absent: what becomes of an endpoint by itself
//! (`health.rs`).

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use sqlx::PgPool;

use super::{
    count,
    endpoint::{Change, Endpoint, NewEndpoint, find},
    lock,
    secret::Secret,
    settle,
};
use crate::{
    account::audit::{self, By},
    id::{AccountId, EndpointId},
    seal::Sealer,
};

/// Endpoints that an account may have: each makes a notice of each job.
pub const ENDPOINTS_MAX: i64 = 20;

/// How long the secret before a rotation signs as well: a day, to bring the new one to every receiver.
const GRACE: TimeDelta = TimeDelta::hours(24);

/// Why nothing was done to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The account has no such endpoint.
    #[error("no such endpoint")]
    NotFound,
    /// The account has as many as it may.
    #[error("the account has as many endpoints as it may")]
    TooMany,
    /// The database failed.
    #[error("change an endpoint")]
    Db(#[from] sqlx::Error),
}

/// Makes an endpoint, which is told of every job that ends from then on; its secret is shown this once.
///
/// # Errors
/// See [`EndpointError`].
pub async fn create(
    db: &PgPool,
    sealer: &Sealer,
    account: AccountId,
    new: NewEndpoint,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(Endpoint, SecretString), EndpointError> {
    let (id, secret) = (EndpointId::new(), Secret::random());
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    let there = sqlx::query_scalar!(
        r#"select count(*) as "count!" from webhook_endpoints where account_id = $1"#,
        account.0
    )
    .fetch_one(&mut *tx)
    .await?;
    if there >= ENDPOINTS_MAX {
        return Err(EndpointError::TooMany);
    }
    sqlx::query!(
        "insert into webhook_endpoints (id, account_id, url, events, description, secret, changed_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        id.0,
        account.0,
        new.url,
        &new.events,
        new.description,
        secret.sealed(sealer, id),
        now,
    )
    .execute(&mut *tx)
    .await?;
    count(&mut tx, account).await?;
    let made = find(&mut *tx, account, id, now).await?.ok_or(EndpointError::NotFound)?;
    let entry = by.did("webhook_endpoint.created", Some(account), id, now);
    audit::record(&mut *tx, &entry.changed(None, Some(made.noted()))).await?;
    tx.commit().await?;
    Ok((made, secret.shown()))
}

/// Changes an endpoint. One that is switched on again, or leads elsewhere, begins without failures; what one that is switched off
/// was still to hear ends as gone.
///
/// # Errors
/// See [`EndpointError`].
pub async fn change(
    db: &PgPool,
    account: AccountId,
    id: EndpointId,
    change: Change,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Endpoint, EndpointError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    let before = find(&mut *tx, account, id, now).await?.ok_or(EndpointError::NotFound)?;
    let after = change.of(&before, now);
    let Some((old, new)) = before.difference(&after) else { return Ok(before) };
    let is_switched_on = after.is_enabled() && !before.is_enabled();
    sqlx::query!(
        "update webhook_endpoints
         set url = $2, events = $3, description = $4, disabled_at = $5, disabled_reason = $6,
             failing_since = case when $7 then null else failing_since end,
             changed_at = case when $8 then $9 else changed_at end
         where id = $1",
        id.0,
        after.url,
        &after.events,
        after.description,
        after.disabled_at,
        after.disabled_reason,
        is_switched_on || before.url != after.url,
        is_switched_on || before.events != after.events,
        now,
    )
    .execute(&mut *tx)
    .await?;
    count(&mut tx, account).await?;
    let entry = by.did("webhook_endpoint.changed", Some(account), id, now);
    audit::record(&mut *tx, &entry.changed(Some(old), Some(new))).await?;
    let changed = find(&mut *tx, account, id, now).await?.ok_or(EndpointError::NotFound)?;
    tx.commit().await?;
    if !changed.is_enabled() {
        settle(db, id, now).await?;
    }
    Ok(changed)
}

/// Gives an endpoint another secret, shown this once; the one it has signs as well for a day, the one before that no longer.
///
/// # Errors
/// See [`EndpointError`].
pub async fn rotate(
    db: &PgPool,
    sealer: &Sealer,
    account: AccountId,
    id: EndpointId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(Endpoint, SecretString), EndpointError> {
    let secret = Secret::random();
    let until = now + GRACE;
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    sqlx::query!(
        "update webhook_endpoints set previous_secret = secret, previous_until = $3, secret = $4
         where id = $1 and account_id = $2",
        id.0,
        account.0,
        until,
        secret.sealed(sealer, id),
    )
    .execute(&mut *tx)
    .await?;
    let rotated = find(&mut *tx, account, id, now).await?.ok_or(EndpointError::NotFound)?;
    let entry = by.did("webhook_endpoint.rotated", Some(account), id, now);
    audit::record(&mut *tx, &entry.changed(None, Some(json!({ "previous_until": until })))).await?;
    tx.commit().await?;
    Ok((rotated, secret.shown()))
}

/// Deletes an endpoint for good, its secrets with it; what it was still to hear ends as gone, and what it heard stays in the log.
///
/// # Errors
/// See [`EndpointError`].
pub async fn delete(
    db: &PgPool,
    account: AccountId,
    id: EndpointId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), EndpointError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    let deleted = find(&mut *tx, account, id, now).await?.ok_or(EndpointError::NotFound)?;
    sqlx::query!("delete from webhook_endpoints where id = $1", id.0).execute(&mut *tx).await?;
    count(&mut tx, account).await?;
    let entry = by.did("webhook_endpoint.deleted", Some(account), id, now);
    audit::record(&mut *tx, &entry.changed(Some(deleted.noted()), None)).await?;
    tx.commit().await?;
    settle(db, id, now).await?;
    Ok(())
}
