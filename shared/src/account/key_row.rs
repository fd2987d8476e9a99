//! A key as its owner sees it, and the one query that reads keys.
//!
//! Deliberately absent: the hash of its secret, which only authentication needs.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::{
    access::Permission,
    key::permissions,
    key_terms::{KeyLimits, KeyTerms},
};
use crate::id::{AccountId, KeyId, UserId};

/// A key, without its secret.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// For whom it speaks.
    pub account: AccountId,
    /// How its secret begins.
    pub prefix: String,
    /// What it may do.
    pub terms: KeyTerms,
    /// What counts towards its limits; `None` when it has none.
    pub spent: Option<Spent>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation works.
    pub previous_until: Option<DateTime<Utc>>,
    /// When it was ended.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Key {
    /// Whether it was given anything over all accounts.
    pub fn is_operators(&self) -> bool {
        self.terms.scopes.iter().any(Permission::is_operators)
    }
}

/// What a key's jobs hold or have been charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Today, in UTC.
    pub day: i64,
    /// This month.
    pub month: i64,
    /// Since it has a limit.
    pub total: i64,
}

/// Which keys to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    /// Of this account only.
    pub(super) account: Option<AccountId>,
    /// This one only.
    pub(super) id: Option<KeyId>,
    /// Older than this one.
    pub(super) after: Option<KeyId>,
    /// Also those that have ended.
    pub(super) revoked: bool,
    /// Also those with an operator's permissions.
    pub(super) operators: bool,
    /// At most so many.
    pub(super) limit: i64,
}

/// A row of `key_list.sql`.
struct Row {
    id: KeyId,
    account: AccountId,
    role: String,
    name: String,
    prefix: String,
    scopes: Option<Vec<String>>,
    expires_at: Option<DateTime<Utc>>,
    allowed_models: Option<Vec<String>>,
    allowed_ips: Option<Vec<String>>,
    day_limit: Option<i64>,
    month_limit: Option<i64>,
    total_limit: Option<i64>,
    day_tokens: i64,
    month_tokens: i64,
    total_tokens: i64,
    created_by: Option<UserId>,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    previous_until: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl Row {
    fn into_key(self, now: DateTime<Utc>) -> Key {
        let limits = KeyLimits { day: self.day_limit, month: self.month_limit, total: self.total_limit };
        let spent = Spent { day: self.day_tokens, month: self.month_tokens, total: self.total_tokens };
        // What was written is a network; should a row say otherwise, it allows nothing and shows nothing.
        let networks =
            |words: Vec<String>| words.iter().filter_map(|word| word.parse().ok()).collect::<Vec<_>>();
        Key {
            id: self.id,
            account: self.account,
            prefix: self.prefix,
            terms: KeyTerms {
                name: self.name,
                scopes: permissions(&self.role, self.scopes.as_deref()),
                expires_at: self.expires_at,
                allowed_models: self.allowed_models,
                allowed_ips: self.allowed_ips.map(networks),
                limits,
            },
            spent: (!limits.is_none()).then_some(spent),
            created_by: self.created_by,
            created_at: self.created_at,
            last_used_at: self.last_used_at,
            previous_until: self.previous_until.filter(|until| *until > now),
            revoked_at: self.revoked_at,
        }
    }
}

/// The keys that are looked for, newest first.
pub(super) async fn select(
    conn: &mut PgConnection,
    which: Which,
    now: DateTime<Utc>,
) -> Result<Vec<Key>, sqlx::Error> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/account/key_list.sql",
        which.account.map(|account| account.0),
        which.id.map(|id| id.0),
        which.after.map(|id| id.0),
        which.revoked,
        which.operators,
        which.limit,
        now.date_naive(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.into_key(now)).collect())
}

/// The fields that differ, before and after; `None` when none does.
pub(crate) fn difference(before: &Value, after: &Value) -> Option<(Value, Value)> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return None };
    let differs = |(name, value): &(&String, &Value)| before.get(*name) != Some(value);
    let changed: Map<_, _> =
        after.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
    let old: Map<_, _> =
        changed.keys().map(|name| (name.clone(), before.get(name).cloned().unwrap_or(Value::Null))).collect();
    (!changed.is_empty()).then_some((old.into(), changed.into()))
}
