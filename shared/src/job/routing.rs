//! What is wished of where a job is made: by a request for one job, by an account for all of its jobs.
//!
//! Field by field, what says nothing leaves the word to the next who may. Deliberately absent: routes, and which of them a wish
//! leaves; that is the front door's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which providers to use, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Only these; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// These first, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// None of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Whether another may do what the first cannot; `None` is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_fallbacks: Option<bool>,
    /// By what those that `order` does not name are put in order; `None` is as the catalogue has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
}

/// By what routes are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RoutingSort)]
pub enum Sort {
    /// What one success costs at most, the cheapest first.
    Price,
    /// How long a success took lately, the fastest first.
    Latency,
    /// How many attempts succeeded lately, the best first.
    Reliability,
}

impl Routing {
    /// Whether nothing is wished.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether some providers are ruled out.
    pub fn is_restricted(&self) -> bool {
        !self.only.is_empty() || !self.ignore.is_empty()
    }

    /// The same, with what it does not say as `other` has it. An empty list says nothing.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let names = |ours: &[String], theirs: &[String]| {
            if ours.is_empty() { theirs.to_vec() } else { ours.to_vec() }
        };
        Self {
            only: names(&self.only, &other.only),
            order: names(&self.order, &other.order),
            ignore: names(&self.ignore, &other.ignore),
            allow_fallbacks: self.allow_fallbacks.or(other.allow_fallbacks),
            sort: self.sort.or(other.sort),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(routing: Value) -> Routing {
        serde_json::from_value(routing).expect("a routing")
    }

    #[test]
    fn each_field_that_says_nothing_is_as_the_other_has_it() {
        let other = json!({ "only": ["a", "b"], "order": ["b"], "ignore": ["c"], "allow_fallbacks": false, "sort": "price" });
        for (own, expected) in [
            (json!({}), other.clone()),
            (
                json!({ "only": [], "order": [], "ignore": [], "allow_fallbacks": null, "sort": null }),
                other.clone(),
            ),
            (
                json!({ "only": ["c"], "allow_fallbacks": true }),
                json!({ "only": ["c"], "order": ["b"], "ignore": ["c"], "allow_fallbacks": true, "sort": "price" }),
            ),
            (
                json!({ "order": ["a"], "ignore": ["d"], "sort": "latency" }),
                json!({ "only": ["a", "b"], "order": ["a"], "ignore": ["d"], "allow_fallbacks": false, "sort": "latency" }),
            ),
        ] {
            assert_eq!(json!(read(own.clone()).or(&read(other.clone()))), expected, "{own}");
        }
    }

    #[test]
    fn a_wish_that_says_nothing_is_kept_as_nothing() {
        let nothing = read(json!({ "only": [], "sort": null }));
        assert!(nothing.is_empty() && !nothing.is_restricted());
        assert_eq!(json!(nothing), json!({}));
        for (some, restricted) in [
            (json!({ "only": ["a"] }), true),
            (json!({ "ignore": ["a"] }), true),
            (json!({ "order": ["a"] }), false),
            (json!({ "sort": "reliability" }), false),
            (json!({ "allow_fallbacks": false }), false),
        ] {
            let routing = read(some.clone());
            assert_eq!((routing.is_empty(), routing.is_restricted()), (false, restricted), "{some}");
        }
    }
}
