//! A key as the API shows it. Its secret is in the answer that makes it, and never again.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use crate::schema;
use shared::{
    account::{Key, KeyTerms, Network, Permissions},
    id::{KeyId, UserId},
};

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyView {
    #[schema(value_type = schema::KeyId)]
    id: KeyId,
    #[schema(pattern = "^api_key$")]
    object: &'static str,
    /// What its owner calls it.
    name: String,
    /// How its secret begins.
    prefix: String,
    /// What it may do.
    #[schema(value_type = Vec<schema::Permission>)]
    scopes: Permissions,
    /// The only models it may use; null is all.
    #[schema(required)]
    allowed_models: Option<Vec<String>>,
    /// The only networks it may be used from; null is all.
    #[schema(value_type = Option<Vec<schema::Network>>, required)]
    allowed_ips: Option<Vec<Network>>,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    limits: LimitsView,
    /// What counts towards its limits; null when it has none.
    #[schema(required)]
    spent: Option<SpentView>,
    /// When it ends.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    #[schema(required)]
    last_used_at: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation works.
    #[schema(required)]
    previous_secret_until: Option<DateTime<Utc>>,
    /// Who made it.
    #[schema(value_type = Option<schema::UserId>, required)]
    created_by: Option<UserId>,
    created_at: DateTime<Utc>,
    /// When it was ended.
    #[schema(required)]
    revoked_at: Option<DateTime<Utc>>,
}

/// What a key may spend, in tokens; null is no limit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyLimits)]
pub struct LimitsView {
    /// In a day of UTC.
    #[schema(required, minimum = 0)]
    day: Option<i64>,
    /// In a month of UTC.
    #[schema(required, minimum = 0)]
    month: Option<i64>,
    /// Over all.
    #[schema(required, minimum = 0)]
    total: Option<i64>,
}

/// What a key's jobs hold or have been charged, in tokens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeySpent)]
pub struct SpentView {
    /// Today, in UTC.
    #[schema(minimum = 0)]
    day: i64,
    /// This month.
    #[schema(minimum = 0)]
    month: i64,
    /// Since it has a limit.
    #[schema(minimum = 0)]
    total: i64,
}

/// A key with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyWithSecret)]
pub struct KeyWithSecret {
    #[serde(flatten)]
    key: KeyView,
    /// The whole key.
    #[schema(pattern = "^kiln_")]
    secret: String,
}

impl KeyWithSecret {
    /// A key that has just got this secret.
    pub fn of(key: Key, secret: &SecretString) -> Self {
        Self { key: key.into(), secret: secret.expose_secret().to_owned() }
    }
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        let KeyTerms { name, scopes, expires_at, allowed_models, allowed_ips, limits } = key.terms;
        Self {
            id: key.id,
            object: "api_key",
            name,
            prefix: key.prefix,
            scopes,
            allowed_models,
            allowed_ips,
            unit: "tokens",
            limits: LimitsView { day: limits.day, month: limits.month, total: limits.total },
            spent: key.spent.map(|spent| SpentView {
                day: spent.day,
                month: spent.month,
                total: spent.total,
            }),
            expires_at,
            last_used_at: key.last_used_at,
            previous_secret_until: key.previous_until,
            created_by: key.created_by,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}
