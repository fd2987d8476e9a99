//! Where an account wants its jobs made, as far as they do not say themselves.
//!
//! Kept as JSON on the account's row, so that proving a caller reads them on the way and a submit costs no statement more.
//! Whoever makes an order parses them; most requests make none. Deliberately absent: which models and providers there are, which
//! whoever takes a change checks against the catalogue.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{
    Caller,
    audit::{self, By},
};
use crate::{id::AccountId, job::Routing};

/// What an account wishes for its jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = NewPreferences)]
pub struct Preferences {
    /// For all of them.
    pub default: Routing,
    /// For those of a model, by its public name; before what is wished for all.
    pub models: BTreeMap<String, Routing>,
}

impl Preferences {
    /// Whether nothing is wished.
    pub fn is_empty(&self) -> bool {
        self.default.is_empty() && self.models.values().all(Routing::is_empty)
    }

    /// What counts for a job of `model` whose request wishes `own`: field by field its own wish, then that for the model, then
    /// that for all.
    pub fn fill(&self, model: &str, own: &Routing) -> Routing {
        let filled = self.models.get(model).map(|preferred| own.or(preferred));
        filled.as_ref().unwrap_or(own).or(&self.default)
    }
}

impl Caller {
    /// What the caller's account wishes for its jobs.
    ///
    /// # Errors
    /// When a version of this program wrote it that knows more wishes. Then it is not known which provider is ruled out.
    pub fn preferences(&self) -> Result<Preferences, serde_json::Error> {
        let kept = self.preferences.as_deref();
        kept.map_or_else(|| Ok(Preferences::default()), serde_json::from_str)
    }
}

/// Sets what an account wishes for its jobs, in place of all it wished before. `false`: there is no such account.
///
/// # Errors
/// When the database fails.
pub async fn set_preferences(
    db: &PgPool,
    account: AccountId,
    new: &Preferences,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let new = (!new.is_empty()).then(|| serde_json::json!(new));
    let mut tx = db.begin().await?;
    let row = sqlx::query!("select routing from accounts where id = $1 for no key update", account.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(false) };
    if row.routing == new {
        return Ok(true);
    }
    sqlx::query!("update accounts set routing = $2 where id = $1", account.0, new).execute(&mut *tx).await?;
    let entry = by.did("account.preferences_set", Some(account), account, now);
    audit::record(&mut *tx, &entry.changed(row.routing, new)).await?;
    tx.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(own: Value, expected: Value) {
        let preferences: Preferences = serde_json::from_value(json!({
            "default": { "ignore": ["a"], "sort": "price", "allow_fallbacks": false },
            "models": { "flux": { "order": ["b"], "sort": "latency" } },
        }))
        .expect("preferences");
        let own: Routing = serde_json::from_value(own).expect("a routing");
        assert_eq!(json!(preferences.fill("flux", &own)), expected, "{own:?}");
    }

    #[test]
    fn a_request_comes_before_its_model_and_that_before_all() {
        let filled = json!({ "order": ["b"], "ignore": ["a"], "allow_fallbacks": false, "sort": "latency" });
        check(json!({}), filled.clone());
        check(json!({ "order": [] }), filled);
        check(
            json!({ "order": ["c"], "ignore": ["d"], "sort": "reliability", "only": ["c"] }),
            json!({ "only": ["c"], "order": ["c"], "ignore": ["d"], "allow_fallbacks": false, "sort": "reliability" }),
        );
    }

    #[test]
    fn a_model_without_a_wish_of_its_own_has_that_for_all() {
        let default = Routing { only: vec!["a".into()], ..Routing::default() };
        let preferences = Preferences { default: default.clone(), ..Preferences::default() };
        assert_eq!(preferences.fill("kling", &Routing::default()), default);
        assert!(!preferences.is_empty());
    }

    #[test]
    fn models_that_say_nothing_are_no_preferences() {
        let empty: Preferences =
            serde_json::from_value(json!({ "models": { "flux": { "only": [] } } })).expect("preferences");
        assert!(empty.is_empty());
        let own = Routing { only: vec!["b".into()], ..Routing::default() };
        assert_eq!(empty.fill("flux", &own), own);
    }
}
