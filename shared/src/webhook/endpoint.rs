//! An endpoint as its account sees it, and what may be said of one.
//!
//! Deliberately absent: its secrets, which only the answer that makes one and whoever signs have in clear (`secret.rs`).

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgExecutor, PgPool};
use url::Url;

use crate::{
    account::difference,
    id::{AccountId, EndpointId},
};

/// An endpoint, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where to post.
    pub url: String,
    /// Which events it wants, as `job.succeeded`; empty means all.
    pub events: Vec<String>,
    /// For people.
    pub description: Option<String>,
    /// Not told of anything since.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why not: `owner`, `gone` or `failing`.
    pub disabled_reason: Option<String>,
    /// The first failure since the last time that something arrived.
    pub failing_since: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation signs as well.
    pub previous_until: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// An endpoint to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Where to post, checked.
    pub url: String,
    /// Which events it wants; empty means all.
    pub events: Vec<String>,
    /// For people.
    pub description: Option<String>,
}

/// What is to become of an endpoint; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Another place, checked.
    pub url: Option<String>,
    /// Other events.
    pub events: Option<Vec<String>>,
    /// Another description, or none.
    pub description: Option<Option<String>>,
    /// Whether it is told of anything.
    pub enabled: Option<bool>,
}

impl Endpoint {
    /// Whether it is told of anything.
    pub const fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }

    /// What the audit log says of it. A URL may hold a secret, so only how it begins.
    pub(super) fn noted(&self) -> Value {
        let mut noted = self.noted_but_url();
        noted["url"] = beginning(&self.url).into();
        noted
    }

    fn noted_but_url(&self) -> Value {
        json!({ "events": self.events, "description": self.description, "enabled": self.is_enabled() })
    }

    /// What the audit log says of its becoming `other`; `None` when nothing changed.
    pub(super) fn difference(&self, other: &Self) -> Option<(Value, Value)> {
        let changed = difference(&self.noted_but_url(), &other.noted_but_url());
        if self.url == other.url {
            return changed;
        }
        // Seen also where two URLs begin alike.
        let (mut before, mut after) = changed.unwrap_or_else(|| (json!({}), json!({})));
        before["url"] = beginning(&self.url).into();
        after["url"] = beginning(&other.url).into();
        Some((before, after))
    }
}

impl Change {
    /// What `endpoint` becomes at `now`, when it is its owner who changes it.
    pub(super) fn of(self, endpoint: &Endpoint, now: DateTime<Utc>) -> Endpoint {
        let (disabled_at, disabled_reason) = match self.enabled {
            Some(true) => (None, None),
            Some(false) if endpoint.is_enabled() => (Some(now), Some("owner".to_owned())),
            _ => (endpoint.disabled_at, endpoint.disabled_reason.clone()),
        };
        Endpoint {
            url: self.url.unwrap_or_else(|| endpoint.url.clone()),
            events: self.events.unwrap_or_else(|| endpoint.events.clone()),
            description: self.description.unwrap_or_else(|| endpoint.description.clone()),
            disabled_at,
            disabled_reason,
            ..endpoint.clone()
        }
    }
}

/// Scheme, host and port of a URL, and an ellipsis for the rest.
fn beginning(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "…".to_owned(), |url| format!("{}/…", url.origin().ascii_serialization()))
}

/// An endpoint of `account`.
///
/// # Errors
/// When the database fails.
pub async fn find<'e>(
    db: impl PgExecutor<'e>,
    account: AccountId,
    id: EndpointId,
    now: DateTime<Utc>,
) -> Result<Option<Endpoint>, sqlx::Error> {
    sqlx::query_as!(
        Endpoint,
        r#"select id as "id: _", url, events, description, disabled_at, disabled_reason, failing_since,
                  case when previous_until > $3 then previous_until end as previous_until, created_at
           from webhook_endpoints where account_id = $1 and id = $2"#,
        account.0,
        id.0,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` endpoints of `account`, newest first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &PgPool,
    account: AccountId,
    after: Option<EndpointId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Endpoint>, sqlx::Error> {
    sqlx::query_as!(
        Endpoint,
        r#"select id as "id: _", url, events, description, disabled_at, disabled_reason, failing_since,
                  case when previous_until > $4 then previous_until end as previous_until, created_at
           from webhook_endpoints
           where account_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by id desc limit $3"#,
        account.0,
        after.map(|id| id.0),
        limit,
        now,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            id: EndpointId::new(),
            url: "https://example.com/hook?token=secret".into(),
            events: Vec::new(),
            description: None,
            disabled_at: None,
            disabled_reason: None,
            failing_since: None,
            previous_until: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_audit_log_learns_what_changed_and_nothing_secret() {
        let before = endpoint();
        let change = |change: Change| before.difference(&change.of(&before, DateTime::UNIX_EPOCH));
        assert_eq!(change(Change::default()), None);
        assert_eq!(change(Change { enabled: Some(true), ..Change::default() }), None);
        let moved = Change { url: Some("https://example.com/other".into()), ..Change::default() };
        let url = json!({ "url": "https://example.com/…" });
        assert_eq!(change(moved), Some((url.clone(), url)));
        let off =
            Change { enabled: Some(false), events: Some(vec!["job.failed".into()]), ..Change::default() };
        let (old, new) = change(off).expect("a change");
        assert_eq!(old, json!({ "events": [], "enabled": true }));
        assert_eq!(new, json!({ "events": ["job.failed"], "enabled": false }));
        assert_eq!(before.noted()["url"], "https://example.com/…");
        assert!(!before.noted().to_string().contains("secret"));
    }

    #[test]
    fn an_owner_who_switches_off_what_is_off_changes_nothing() {
        let gone = Endpoint {
            disabled_at: Some(DateTime::UNIX_EPOCH),
            disabled_reason: Some("gone".into()),
            ..endpoint()
        };
        let off = |enabled| Change { enabled: Some(enabled), ..Change::default() };
        assert_eq!(off(false).of(&gone, DateTime::UNIX_EPOCH), gone);
        assert!(off(true).of(&gone, DateTime::UNIX_EPOCH).is_enabled());
    }
}
