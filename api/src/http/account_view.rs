//! People and accounts as they see themselves.
//!
//! Names, addresses and secrets are not to be shown in logs, so what holds them has no `Debug`.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use crate::schema;
use shared::{
    account::{Consent, Membership, PERSONAL_DATA, Profile, Session, User},
    id::{AccountId, SessionId, UserId},
};

/// Whoever is logged in.
#[derive(Serialize, ToSchema)]
#[schema(as = Person)]
pub struct MeView {
    #[schema(pattern = "^user$")]
    object: &'static str,
    #[schema(value_type = schema::UserId)]
    id: UserId,
    #[schema(value_type = Option<schema::Email>, required)]
    email: Option<String>,
    /// What they are called.
    #[schema(required)]
    name: Option<String>,
    /// What they are among the platform's own people; null for nearly everyone.
    #[schema(value_type = Option<schema::OperatorRole>, required)]
    operator_role: Option<String>,
    /// The account that this login speaks for.
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    /// This login.
    #[schema(value_type = schema::SessionId)]
    session: SessionId,
    /// The accounts they belong to, in the order they joined.
    accounts: Vec<MembershipView>,
    created_at: DateTime<Utc>,
}

/// An account that a person belongs to.
#[derive(Serialize, ToSchema)]
#[schema(as = Membership)]
pub struct MembershipView {
    #[schema(value_type = schema::AccountId)]
    id: AccountId,
    name: String,
    /// The person's role in it.
    #[schema(value_type = schema::Role)]
    role: String,
    /// Only one that is active can be logged in to.
    #[schema(value_type = schema::AccountStatus)]
    status: String,
}

/// A login that has not ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    #[schema(pattern = "^session$")]
    object: &'static str,
    #[schema(value_type = schema::SessionId)]
    id: SessionId,
    /// The account it speaks for.
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    /// Whether it is the one that asks.
    current: bool,
    created_at: DateTime<Utc>,
    /// When it last got a refresh token.
    #[schema(required)]
    refreshed_at: Option<DateTime<Utc>>,
    /// When it ends by itself.
    expires_at: DateTime<Utc>,
}

/// What is gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// What it was.
    #[schema(pattern = "^(session|user|invitation|file|webhook_endpoint|dialog)$")]
    object: &'static str,
    /// Its id.
    id: String,
    /// Always true.
    deleted: bool,
}

/// An account as its own people see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    #[schema(pattern = "^account$")]
    object: &'static str,
    #[schema(value_type = schema::AccountId)]
    id: AccountId,
    /// Name of the company or person.
    name: String,
    #[schema(value_type = schema::AccountStatus)]
    status: String,
    /// What it does.
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    website: Option<String>,
    #[schema(required)]
    phone: Option<String>,
    /// Its postal address.
    #[schema(required)]
    address: Option<String>,
    /// The tier that counts now.
    tier: String,
    /// The tier without any plan.
    base_tier: String,
    limits: AccountLimits,
    /// Which discount it has.
    price_group: String,
    /// Which part of list prices it pays.
    #[schema(minimum = 1, maximum = 100)]
    price_percent: i16,
    /// How much it may owe.
    #[schema(minimum = 0)]
    credit_limit_tokens: i64,
    /// What it owes.
    #[schema(minimum = 0)]
    owed_tokens: i64,
    /// Until when it has a plan.
    #[schema(required)]
    subscribed_until: Option<DateTime<Utc>>,
    /// Until when every job is free.
    #[schema(required)]
    unlimited_until: Option<DateTime<Utc>>,
    /// Tokens below which it wants to be told; null is what the deployment has for all.
    #[schema(required, minimum = 0)]
    low_balance_tokens: Option<i64>,
    consent: AccountConsent,
    /// What the person who asks has yet to agree to; null for API keys.
    #[schema(required)]
    consent_required: Option<ConsentRequired>,
    created_at: DateTime<Utc>,
}

/// How much an account may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountLimits {
    /// Jobs it may submit in an hour; null is no limit.
    #[schema(required, minimum = 1)]
    requests_per_hour: Option<i32>,
}

/// What an owner of an account agreed to last, and what there is to agree to now.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountConsent {
    #[schema(value_type = schema::Document)]
    document: &'static str,
    #[schema(required)]
    version: Option<String>,
    #[schema(required)]
    given_at: Option<DateTime<Utc>>,
    current_version: String,
}

/// What a person has yet to agree to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsentRequired {
    #[schema(value_type = schema::Document)]
    document: &'static str,
    version: String,
}

/// A consent that was given.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Consent)]
pub struct ConsentView {
    #[schema(pattern = "^consent$")]
    object: &'static str,
    #[schema(value_type = schema::Document)]
    document: String,
    version: String,
    given_at: DateTime<Utc>,
}

/// Every consent that a person gave.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consents {
    #[schema(pattern = "^list$")]
    object: &'static str,
    data: Vec<ConsentView>,
    /// Always false.
    has_more: bool,
    /// The version there is to agree to now.
    current_version: String,
}

/// What the webhooks that jobs themselves named are checked with.
#[derive(Serialize, ToSchema)]
pub struct WebhookSecret {
    #[schema(pattern = "^webhook_secret$")]
    object: &'static str,
    /// As Standard Webhooks writes it.
    #[schema(pattern = "^whsec_")]
    secret: String,
}

impl MeView {
    /// A person who logged in.
    pub fn of(user: User, account: AccountId, session: SessionId, accounts: Vec<MembershipView>) -> Self {
        Self {
            object: "user",
            id: user.id,
            email: user.email,
            name: user.name,
            operator_role: user.operator_role,
            account,
            session,
            accounts,
            created_at: user.created_at,
        }
    }
}

impl From<Membership> for MembershipView {
    fn from(one: Membership) -> Self {
        Self { id: one.account, name: one.name, role: one.role, status: one.status }
    }
}

impl SessionView {
    /// A session, seen from the `current` one.
    pub fn of(session: Session, current: SessionId) -> Self {
        Self {
            object: "session",
            id: session.id,
            account: session.account,
            current: session.id == current,
            created_at: session.created_at,
            refreshed_at: session.refreshed_at,
            expires_at: session.expires_at,
        }
    }
}

impl Deleted {
    /// What was an `object` with this id.
    pub fn of(object: &'static str, id: impl ToString) -> Self {
        Self { object, id: id.to_string(), deleted: true }
    }
}

impl AccountView {
    /// An account, the version of the document that counts now, and what whoever asks has yet to agree to.
    pub fn of(profile: Profile, current_version: String, required: Option<ConsentRequired>) -> Self {
        Self {
            object: "account",
            id: profile.id,
            name: profile.name,
            status: profile.status,
            description: profile.description,
            website: profile.website,
            phone: profile.phone,
            address: profile.address,
            tier: profile.tier,
            base_tier: profile.base_tier,
            limits: AccountLimits { requests_per_hour: profile.requests_per_hour },
            price_group: profile.price_group,
            price_percent: profile.price_percent,
            credit_limit_tokens: profile.credit_limit_tokens,
            owed_tokens: profile.owed_tokens,
            subscribed_until: profile.subscribed_until,
            unlimited_until: profile.unlimited_until,
            low_balance_tokens: profile.low_balance_tokens,
            consent: AccountConsent {
                document: PERSONAL_DATA,
                version: profile.consent_version,
                given_at: profile.consent_given_at,
                current_version,
            },
            consent_required: required,
            created_at: profile.created_at,
        }
    }
}

impl From<&SecretString> for WebhookSecret {
    fn from(secret: &SecretString) -> Self {
        Self { object: "webhook_secret", secret: secret.expose_secret().to_owned() }
    }
}

impl ConsentRequired {
    /// This version of how we treat personal data.
    pub fn to(version: &str) -> Self {
        Self { document: PERSONAL_DATA, version: version.to_owned() }
    }
}

impl From<Consent> for ConsentView {
    fn from(one: Consent) -> Self {
        Self { object: "consent", document: one.document, version: one.version, given_at: one.given_at }
    }
}

impl Consents {
    /// Those that a person gave, and the version there is to agree to now.
    pub fn of(data: Vec<ConsentView>, current_version: String) -> Self {
        Self { object: "list", data, has_more: false, current_version }
    }
}
