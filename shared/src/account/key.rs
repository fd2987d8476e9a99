//! API keys: made once, shown once, kept only as a hash.
//!
//! A key is `kiln_` and 43 characters of base 64: 256 random bits, so SHA-256 without salt or stretching is enough and a
//! look-up is one index probe. Revoking takes effect at the next request: nothing caches a key, though keys that are shown at
//! the same time share a statement.
//! It never does more than whoever made it could do now, so what is taken from a person is taken from their keys as well.
//! Deliberately absent: what a key may be given (`key_terms.rs`), and making and changing keys (`key_admin.rs`).

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, PgPool};

use super::access::{Actor, Caller, OperatorRole, Permission, Permissions, Role};
use crate::{
    batch::Batch,
    id::{AccountId, KeyId},
    process::Process,
};

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

/// Proves keys. Those that are shown at the same time are looked up together, each after it was shown: nothing is remembered.
#[derive(Debug, Clone)]
pub struct Keyring(Batch<Shown, Option<Found>>);

/// Most keys of one statement.
const BATCH: usize = 64;
/// Statements at once: the more wait for the one that is under way, the less each of them costs.
const LANES: usize = 1;

impl Keyring {
    /// Looks keys up in `db`.
    pub fn new(db: &PgPool, process: &Process) -> Self {
        Self(Batch::new(db, process, BATCH, LANES, |db, shown| look_up(db, shown).boxed()))
    }

    /// Who a key speaks for, when it is used from `ip`: never with more than whoever made it has at this moment.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn authenticate(
        &self,
        key: &SecretString,
        ip: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Caller, AuthError> {
        self.0.ask(Shown::new(key, ip, now)).await?.ok_or(AuthError::Unknown)?.caller()
    }
}

/// Who a key speaks for, as [`Keyring::authenticate`] says, for programs that ask once.
///
/// # Errors
/// See [`AuthError`].
pub async fn authenticate(
    db: &PgPool,
    key: &SecretString,
    ip: Option<IpAddr>,
    now: DateTime<Utc>,
) -> Result<Caller, AuthError> {
    let found = look_up(db, &[Shown::new(key, ip, now)]).await?;
    found.into_iter().next().flatten().ok_or(AuthError::Unknown)?.caller()
}

/// A key as somebody showed it.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    hash: Vec<u8>,
    ip: Option<String>,
    at: DateTime<Utc>,
}

impl Shown {
    fn new(key: &SecretString, ip: Option<IpAddr>, at: DateTime<Utc>) -> Self {
        Self { hash: hash(key.expose_secret()), ip: ip.map(|ip| ip.to_string()), at }
    }
}

/// A key that is not revoked, of an account that is active.
#[derive(Debug, Clone)]
struct Found {
    id: KeyId,
    account: AccountId,
    role: String,
    scopes: Option<Vec<String>>,
    allowed_models: Option<Vec<String>>,
    has_creator: bool,
    creator_role: Option<String>,
    operator_role: Option<String>,
    percent: Option<i16>,
    preferences: Option<String>,
    expired: bool,
    ip_allowed: bool,
}

/// Looks keys up. One statement, which writes only once a minute and waits for nobody.
async fn look_up(db: &PgPool, shown: &[Shown]) -> Result<Vec<Option<Found>>, sqlx::Error> {
    let mut found = vec![None; shown.len()];
    let Some(now) = shown.iter().map(|shown| shown.at).max() else { return Ok(found) };
    let hashes: Vec<_> = shown.iter().map(|shown| shown.hash.as_slice()).collect();
    let ips: Vec<_> = shown.iter().map(|shown| shown.ip.as_deref()).collect();
    let rows = sqlx::query!(
        r#"
        with found as materialized (
            select s.n, k.id, k.account_id, k.role, k.scopes, k.allowed_models, k.created_by, g.percent, a.routing::text as routing,
                   (select role from members where account_id = k.account_id and user_id = k.created_by) as creator_role,
                   (select operator_role from users where id = k.created_by) as operator_role,
                   coalesce(k.expires_at <= $3, false) as expired,
                   k.allowed_ips is null
                       or exists (select from unnest(k.allowed_ips) net where s.ip::inet <<= net::inet) as ip_allowed,
                   coalesce(k.last_used_at <= $3::timestamptz - interval '1 minute', true) as used_again
            from unnest($1::bytea[], $2::text[]) with ordinality as s (hash, ip, n)
            cross join lateral (
                select * from api_keys where secret_hash = s.hash
                union all
                select * from api_keys where previous_hash = s.hash and previous_until > $3
            ) k
            join accounts a on a.id = k.account_id
            left join price_groups g on g.price_group = a.price_group
            where k.revoked_at is null and a.status = 'active'
        ), free as (
            -- Whoever changes the key just now is not waited for: the next request will tell.
            select id from api_keys
            where id in (select id from found where used_again and ip_allowed and not expired)
            for no key update skip locked
        ), touched as (
            update api_keys k set last_used_at = $3 from free where k.id = free.id
        )
        select n as "n!", id as "id!: KeyId", account_id as "account!: AccountId", role as "role!", scopes,
               allowed_models, created_by is not null as "has_creator!", creator_role as "creator_role?",
               operator_role as "operator_role?", percent as "percent?", routing as "preferences?", expired as "expired!",
               ip_allowed as "ip_allowed!"
        from found
        "#,
        &hashes as _,
        &ips as _,
        now,
    )
    .fetch_all(db)
    .await?;
    for row in rows {
        if let Some(place) = usize::try_from(row.n - 1).ok().and_then(|at| found.get_mut(at)) {
            *place = Some(Found {
                id: row.id,
                account: row.account,
                role: row.role,
                scopes: row.scopes,
                allowed_models: row.allowed_models,
                has_creator: row.has_creator,
                creator_role: row.creator_role,
                operator_role: row.operator_role,
                percent: row.percent,
                preferences: row.preferences,
                expired: row.expired,
                ip_allowed: row.ip_allowed,
            });
        }
    }
    Ok(found)
}

impl Found {
    fn caller(self) -> Result<Caller, AuthError> {
        if self.expired {
            return Err(AuthError::Expired);
        }
        if !self.ip_allowed {
            return Err(AuthError::IpNotAllowed);
        }
        let most = if self.has_creator {
            bound(
                self.creator_role.as_deref().and_then(Role::from_word),
                self.operator_role.as_deref().and_then(OperatorRole::from_word),
            )
        } else {
            Role::Owner.permissions().or(OperatorRole::SuperAdmin.permissions())
        };
        Ok(Caller {
            account: self.account,
            actor: Actor::Key(self.id),
            permissions: permissions(&self.role, self.scopes.as_deref()).and(most),
            price_percent: self.percent.unwrap_or(100),
            allowed_models: self.allowed_models.map(Into::into),
            preferences: self.preferences.map(Into::into),
        })
    }
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
