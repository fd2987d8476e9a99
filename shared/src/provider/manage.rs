//! What operators do with the keys at providers: put in, set terms, switch off and on, take out.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::PgPool;

use super::{
    Key,
    checkup::{self, BY_OPERATOR},
    key::{context, fingerprint, keys},
};
use crate::{
    account::audit::{self, By},
    db::broken_constraint,
    id::ProviderKeyId,
    seal::Sealer,
};

/// A key to put in.
#[derive(Debug)]
pub struct NewKey {
    /// Where it is for.
    pub provider: String,
    /// For people; one a provider.
    pub name: String,
    /// The key itself.
    pub secret: SecretString,
    /// Its terms.
    pub terms: Terms,
}

/// How a key is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Its share of the work beside the others', 1 to 1000.
    pub weight: i32,
    /// What it may do at most.
    pub limits: Limits,
    /// Credit below which operators are told.
    pub credit_floor: Option<Decimal>,
}

/// What a key may do at most; nothing said is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Submits a minute.
    pub per_minute: Option<i32>,
    /// Submits under way at once.
    pub concurrency: Option<i32>,
}

/// Why a key was not put in.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It is there already, perhaps by a process's environment.
    #[error("this key is there already")]
    Known,
    /// Another of the provider is called so.
    #[error("another key of this provider has that name")]
    NameTaken,
    /// A number is out of its bounds.
    #[error("{0}")]
    Invalid(&'static str),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

impl AddError {
    fn of(error: sqlx::Error) -> Self {
        match broken_constraint(&error) {
            Some("provider_keys_once") => Self::Known,
            Some("provider_keys_name") => Self::NameTaken,
            Some("provider_keys_weight") => Self::Invalid("a weight is between 1 and 1000"),
            Some("provider_keys_per_minute") => {
                Self::Invalid("a limit of submits a minute is between 1 and 1000000")
            }
            Some("provider_keys_concurrency") => {
                Self::Invalid("a limit of submits under way is between 1 and 10000")
            }
            _ => Self::Db(error),
        }
    }
}

/// The key of this id.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &PgPool, id: ProviderKeyId) -> Result<Option<Key>, sqlx::Error> {
    Ok(keys(db).await?.into_iter().find(|key| key.id == id))
}

/// Puts a key in, sealed; the vendor is asked about it soon.
///
/// # Errors
/// See [`AddError`].
pub async fn add(
    db: &PgPool,
    sealer: &Sealer,
    new: NewKey,
    by: &By,
    now: DateTime<Utc>,
) -> Result<ProviderKeyId, AddError> {
    let id = ProviderKeyId::new();
    let sealed = sealer.seal(&context(id), new.secret.expose_secret().as_bytes());
    let mut tx = db.begin().await?;
    sqlx::query!(
        "insert into provider_keys (id, provider, name, fingerprint, secret, weight, per_minute, concurrency, credit_floor,
                                    created_at, check_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
        id.0,
        new.provider,
        new.name,
        fingerprint(&new.secret),
        sealed,
        new.terms.weight,
        new.terms.limits.per_minute,
        new.terms.limits.concurrency,
        new.terms.credit_floor,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(AddError::of)?;
    make_places(&mut tx, id).await?;
    let details = json!({ "provider": new.provider, "name": new.name });
    audit::record(&mut *tx, &by.did("provider_key.added", None, id, now).changed(None, Some(details)))
        .await?;
    tx.commit().await?;
    Ok(id)
}

/// Sets a key's terms. `false`: there is none of this id.
///
/// # Errors
/// See [`AddError`].
pub async fn alter(
    db: &PgPool,
    id: ProviderKeyId,
    terms: &Terms,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, AddError> {
    let mut tx = db.begin().await?;
    let altered = sqlx::query!(
        "update provider_keys set weight = $2, per_minute = $3, concurrency = $4, credit_floor = $5, credit_told_at = null
         where id = $1",
        id.0,
        terms.weight,
        terms.limits.per_minute,
        terms.limits.concurrency,
        terms.credit_floor,
    )
    .execute(&mut *tx)
    .await
    .map_err(AddError::of)?;
    if altered.rows_affected() == 0 {
        return Ok(false);
    }
    make_places(&mut tx, id).await?;
    let details = json!({
        "weight": terms.weight, "per_minute": terms.limits.per_minute, "concurrency": terms.limits.concurrency,
        "credit_floor": terms.credit_floor,
    });
    audit::record(&mut *tx, &by.did("provider_key.altered", None, id, now).changed(None, Some(details)))
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// Uses a key for no new work; what is under way with it ends. `false`: there is none of this id.
///
/// # Errors
/// When the database fails.
pub async fn disable(
    db: &PgPool,
    id: ProviderKeyId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let disabled = sqlx::query!(
        "update provider_keys set disabled_at = coalesce(disabled_at, $2), disabled_why = $3 where id = $1",
        id.0,
        now,
        BY_OPERATOR,
    )
    .execute(&mut *tx)
    .await?;
    if disabled.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut *tx, &by.did("provider_key.disabled", None, id, now)).await?;
    tx.commit().await?;
    Ok(true)
}

/// Uses a key again, whoever switched it off, and ends its rests; the vendor is asked about it soon. `false`: there is none of
/// this id.
///
/// # Errors
/// When the database fails.
pub async fn enable(
    db: &PgPool,
    id: ProviderKeyId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let enabled = sqlx::query!(
        "with warmed as (delete from provider_cooldowns where key_id = $1)
         update provider_keys set disabled_at = null, disabled_why = null where id = $1",
        id.0
    )
    .execute(&mut *tx)
    .await?;
    if enabled.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut *tx, &by.did("provider_key.enabled", None, id, now)).await?;
    tx.commit().await?;
    checkup::ask_soon(db, id, now).await?;
    Ok(true)
}

/// Takes a key out. Work that is under way with it goes on with another key of the provider, which may not know of it: switch
/// a key off first, and take it out when its work has ended. `false`: there is none of this id.
///
/// # Errors
/// When the database fails.
pub async fn remove(
    db: &PgPool,
    id: ProviderKeyId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let removed = sqlx::query!("delete from provider_keys where id = $1", id.0).execute(&mut *tx).await?;
    if removed.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut *tx, &by.did("provider_key.removed", None, id, now)).await?;
    tx.commit().await?;
    Ok(true)
}

/// One row for each place there may be.
async fn make_places(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    id: ProviderKeyId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into provider_slots (key_id, slot)
         select id, generate_series(1, concurrency) from provider_keys where id = $1 and concurrency is not null
         on conflict do nothing",
        id.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
