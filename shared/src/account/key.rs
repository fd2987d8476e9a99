//! API keys: made once, shown once, kept only as a hash.
//!
//! A key is `kiln_` and 43 characters of base 64: 256 random bits, so SHA-256 without salt or stretching is enough and a
//! look-up is one index probe. Revoking takes effect at the next request: nothing caches a key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::id::{AccountId, KeyId};

/// How many characters of a key are kept in the open, to recognise it by.
const PREFIX_LEN: usize = 13;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Acts for its own account.
    Member,
    /// Also moves tokens of any account.
    Operator,
}

impl KeyRole {
    fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
        }
    }
}

/// Whoever a request speaks for, as its key proved.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The account that pays.
    pub account: AccountId,
    /// The key that was shown.
    pub key: KeyId,
    /// What the key may do.
    pub role: KeyRole,
}

/// A key just made; the secret is in memory this once.
#[derive(Debug)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// The whole key, to be shown to its owner and then forgotten.
    pub secret: SecretString,
}

/// Makes a key for `account`.
///
/// # Errors
/// When the database fails.
pub async fn issue_key(
    db: &PgPool,
    account: AccountId,
    role: KeyRole,
    name: &str,
    now: DateTime<Utc>,
) -> Result<NewKey, sqlx::Error> {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let secret = format!("kiln_{}", URL_SAFE_NO_PAD.encode(bytes));
    let id = KeyId::new();
    sqlx::query!(
        "insert into api_keys (id, account_id, role, name, prefix, secret_hash, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        account.0,
        role.word(),
        name,
        &secret[..PREFIX_LEN],
        hash(&secret),
        now,
    )
    .execute(db)
    .await?;
    Ok(NewKey { id, secret: secret.into() })
}

/// Who a key speaks for, or `None` when it is unknown or revoked.
///
/// # Errors
/// When the database fails.
pub async fn authenticate(db: &PgPool, key: &SecretString) -> Result<Option<Caller>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select id as "id: KeyId", account_id as "account: AccountId", role from api_keys
           where secret_hash = $1 and revoked_at is null"#,
        hash(key.expose_secret()),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Caller {
        account: row.account,
        key: row.id,
        role: if row.role == KeyRole::Operator.word() { KeyRole::Operator } else { KeyRole::Member },
    }))
}

/// Ends a key for good; does nothing when it has ended before.
///
/// # Errors
/// When the database fails.
pub async fn revoke_key(db: &PgPool, key: KeyId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!("update api_keys set revoked_at = $2 where id = $1 and revoked_at is null", key.0, now)
        .execute(db)
        .await?;
    Ok(())
}

fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}
