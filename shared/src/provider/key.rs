//! Our keys at the providers, as every process sees them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::{
    id::ProviderKeyId,
    seal::{CannotOpen, Sealer},
};

/// What the name of a key of a process's environment begins with; its fingerprint follows.
const ENVIRONMENT: &str = "environment";

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its id.
    pub id: ProviderKeyId,
    /// Where it is for, such as `kling`.
    pub provider: String,
    /// For people.
    pub name: String,
    /// Tells it from others of the provider.
    pub fingerprint: String,
    /// The secret, sealed; none where a process has it from its environment.
    pub secret: Option<Vec<u8>>,
    /// Its share of the work beside the others'.
    pub weight: i32,
    /// Most submits a minute.
    pub per_minute: Option<i32>,
    /// Most submits under way at once.
    pub concurrency: Option<i32>,
    /// Not used for new work since.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why not.
    pub disabled_why: Option<String>,
    /// When the vendor was last asked about it.
    pub checked_at: Option<DateTime<Utc>>,
    /// What was wrong with it then.
    pub check_error: Option<String>,
    /// What was left on its account then.
    pub credit: Option<Decimal>,
    /// Of what.
    pub credit_unit: Option<String>,
    /// Below which credit operators are told.
    pub credit_floor: Option<Decimal>,
}

/// Every key, by provider and age.
///
/// # Errors
/// When the database fails.
pub async fn keys(db: &PgPool) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query_as!(
        Key,
        r#"
        select id as "id: ProviderKeyId", provider, name, fingerprint, secret, weight, per_minute, concurrency, disabled_at,
               disabled_why, checked_at, check_error, credit, credit_unit, credit_floor
        from provider_keys order by provider, id
        "#
    )
    .fetch_all(db)
    .await
}

/// What tells a key from others; nobody can tell the key from it.
pub fn fingerprint(secret: &SecretString) -> String {
    let digest: [u8; 32] = Sha256::digest(secret.expose_secret().as_bytes()).into();
    // 64 bits of it tell keys apart.
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Makes keys of this process's environment known, so that all processes share how they fare. One that is known already stays
/// as it is, also where an operator has put it into the database.
///
/// # Errors
/// When the database fails.
pub async fn register(
    db: &PgPool,
    environment: &[(&'static str, SecretString)],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = environment.iter().map(|_| ProviderKeyId::new().0).collect();
    let providers: Vec<_> = environment.iter().map(|(provider, _)| (*provider).to_owned()).collect();
    let fingerprints: Vec<_> = environment.iter().map(|(_, secret)| fingerprint(secret)).collect();
    sqlx::query!(
        "insert into provider_keys (id, provider, name, fingerprint, created_at)
         select n.id, n.provider, $4 || ' ' || n.fingerprint, n.fingerprint, $5
         from unnest($1::uuid[], $2::text[], $3::text[]) as n (id, provider, fingerprint)
         where not exists (select from provider_keys k where k.provider = n.provider and k.fingerprint = n.fingerprint)
         order by n.provider
         on conflict do nothing",
        &ids,
        &providers,
        &fingerprints,
        ENVIRONMENT,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// In which context a key's secret is sealed.
pub(super) fn context(id: ProviderKeyId) -> String {
    format!("provider_key:{id}")
}

/// The secret of a key that is kept in the database.
///
/// # Errors
/// When this process has not the key it was sealed under, or the value was changed.
pub fn open_secret(sealer: &Sealer, id: ProviderKeyId, sealed: &[u8]) -> Result<SecretString, CannotOpen> {
    let plain = sealer.open(&context(id), sealed)?;
    String::from_utf8(plain).map(SecretString::from).map_err(|_| CannotOpen::Unreadable)
}
