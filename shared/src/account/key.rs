//! API keys: made once, shown once, kept only as a hash.
//!
//! A key is `kiln_` and 43 characters of base 64: 256 random bits, so SHA-256 without salt or stretching is enough and a
//! look-up is one index probe. Revoking takes effect at the next request: nothing caches a key.
//! It never does more than whoever made it could do now, so what is taken from a person is taken from their keys as well.
//! Deliberately absent: what a key may be given (`key_terms.rs`), and making and changing keys (`key_admin.rs`).

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, PgPool};

use super::access::{Actor, Caller, OperatorRole, Permission, Permissions, Role};
use crate::id::{AccountId, KeyId};

/// What every key begins with, so that leaked ones are found and told from access tokens.
pub const KEY_PREFIX: &str = "kiln_";

/// How many characters of a key are kept in the open, to recognise it by.
const PREFIX_LEN: usize = 13;

/// What is left to a key whose maker has left the account: a program that runs on it goes on, and sees what it cost. It no
/// longer changes the account, its people or its keys, nor does anything for the platform.
const LEFT_BEHIND: [Permission; 5] = [
    Permission::JobsWrite,
    Permission::JobsRead,
    Permission::AccountRead,
    Permission::BillingRead,
    Permission::UsageRead,
];

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Acts for its own account.
    Member,
    /// Also does what a super admin may, in all accounts.
    Operator,
}

impl KeyRole {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
        }
    }
}

/// A key just made; the secret is in memory this once.
#[derive(Debug)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// The whole key, to be shown to its owner and then forgotten.
    pub secret: SecretString,
}

/// Makes a key for `account` with the scopes of a developer, and writes nothing into the audit log: for seeds. People and
/// programs make theirs with [`super::create_key`], operators with [`super::hand_out_key`].
///
/// # Errors
/// When the database fails.
pub async fn issue_key(
    db: impl PgExecutor<'_>,
    account: AccountId,
    role: KeyRole,
    name: &str,
    now: DateTime<Utc>,
) -> Result<NewKey, sqlx::Error> {
    let (id, secret) = (KeyId::new(), Secret::random());
    sqlx::query!(
        "insert into api_keys (id, account_id, role, name, prefix, secret_hash, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.0,
        account.0,
        role.word(),
        name,
        secret.prefix,
        secret.hash,
        now,
    )
    .execute(db)
    .await?;
    Ok(NewKey { id, secret: secret.whole })
}

/// A secret just made.
pub(super) struct Secret {
    pub(super) whole: SecretString,
    pub(super) prefix: String,
    pub(super) hash: Vec<u8>,
}

impl Secret {
    pub(super) fn random() -> Self {
        let mut bytes = [0_u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        let whole = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        Self { prefix: whole[..PREFIX_LEN].to_owned(), hash: hash(&whole), whole: whole.into() }
    }
}

/// Why a key opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no such key, it was revoked, or its account is not active.
    #[error("unknown or revoked")]
    Unknown,
    /// It was good until its time was over.
    #[error("expired")]
    Expired,
    /// It is good, but not from there.
    #[error("not allowed from this network")]
    IpNotAllowed,
    /// The database failed.
    #[error("look a key up")]
    Db(#[from] sqlx::Error),
}

/// Who a key speaks for, when it is used from `ip`: never with more than whoever made it has at this moment. One statement,
/// which writes only once a minute and waits for nobody.
///
/// # Errors
/// See [`AuthError`].
pub async fn authenticate(
    db: &PgPool,
    key: &SecretString,
    ip: Option<IpAddr>,
    now: DateTime<Utc>,
) -> Result<Caller, AuthError> {
    let row = sqlx::query!(
        r#"
        with found as (
            select k.id, k.account_id, k.role, k.scopes, k.allowed_models, k.created_by, g.percent,
                   (select role from members where account_id = k.account_id and user_id = k.created_by) as creator_role,
                   (select operator_role from users where id = k.created_by) as operator_role,
                   coalesce(k.expires_at <= $2, false) as expired,
                   k.allowed_ips is null
                       or exists (select from unnest(k.allowed_ips) net where $3::text::inet <<= net::inet) as ip_allowed,
                   coalesce(k.last_used_at <= $2::timestamptz - interval '1 minute', true) as used_again
            from api_keys k
            join accounts a on a.id = k.account_id
            left join price_groups g on g.price_group = a.price_group
            where (k.secret_hash = $1 or (k.previous_hash = $1 and k.previous_until > $2))
              and k.revoked_at is null and a.status = 'active'
        ), free as (
            -- Whoever changes the key just now is not waited for: the next request will tell.
            select id from api_keys
            where id = (select id from found where used_again and ip_allowed and not expired)
            for no key update skip locked
        ), touched as (
            update api_keys k set last_used_at = $2 from free where k.id = free.id
        )
        select id as "id!: KeyId", account_id as "account!: AccountId", role as "role!", scopes,
               allowed_models, created_by is not null as "has_creator!", creator_role as "creator_role?",
               operator_role as "operator_role?", percent as "percent?", expired as "expired!", ip_allowed as "ip_allowed!"
        from found
        "#,
        hash(key.expose_secret()),
        now,
        ip.map(|ip| ip.to_string()),
    )
    .fetch_optional(db)
    .await?
    .ok_or(AuthError::Unknown)?;
    if row.expired {
        return Err(AuthError::Expired);
    }
    if !row.ip_allowed {
        return Err(AuthError::IpNotAllowed);
    }
    let most = if row.has_creator {
        bound(
            row.creator_role.as_deref().and_then(Role::from_word),
            row.operator_role.as_deref().and_then(OperatorRole::from_word),
        )
    } else {
        Role::Owner.permissions().or(OperatorRole::SuperAdmin.permissions())
    };
    Ok(Caller {
        account: row.account,
        actor: Actor::Key(row.id),
        permissions: permissions(&row.role, row.scopes.as_deref()).and(most),
        price_percent: row.percent.unwrap_or(100),
        allowed_models: row.allowed_models.map(Into::into),
    })
}

/// Most that a key may do, by what its maker is now in the account and among operators.
fn bound(member: Option<Role>, operator: Option<OperatorRole>) -> Permissions {
    let Some(member) = member else { return LEFT_BEHIND.into_iter().collect() };
    member.permissions().or(operator.map(OperatorRole::permissions).unwrap_or_default())
}

/// What a key was given. One from before there were scopes has a developer's; an operator's key all that operators have as
/// well.
pub(super) fn permissions(role: &str, scopes: Option<&[String]>) -> Permissions {
    let own = scopes.map_or_else(
        || Role::Developer.permissions(),
        |scopes| scopes.iter().filter_map(|word| Permission::from_word(word)).collect(),
    );
    if role == KeyRole::Operator.word() { own.or(OperatorRole::SuperAdmin.permissions()) } else { own }
}

fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}
