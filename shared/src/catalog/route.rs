//! A route: one way to make a model's result, for which inputs and in which turn it is taken, and what it costs us.
//!
//! Routes are read with their model and checked against its inputs, so that a condition which no input fulfils, or an input
//! which no route takes, stops the process with a message. Deliberately absent: the choice for one job, which takes its owner's
//! wishes and is the front door's.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, anyhow, bail, ensure};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::mapping::{Mapping, Target};
use crate::price::{self, CostRule, Metered, PriceError, Wanted, When};

/// One way to make a model's result.
#[derive(Debug, Clone)]
pub struct Route {
    /// The adapter's name.
    pub provider: String,
    /// The vendor's id of the model; changes when the vendor retires one. No two routes of a model share both.
    pub upstream_model: String,
    /// Its turn among the model's routes: the lowest number is first. Those with the same number share the work.
    pub priority: u32,
    /// Its share of the work among those with its priority; at least 1.
    pub weight: u32,
    /// For which inputs it is taken; empty is all.
    pub when: When,
    /// Whether an input whose content it refused goes on to the next route; otherwise the job ends there.
    pub after_refusal: bool,
    /// What the vendor bills, in USD.
    pub costs: Vec<CostRule>,
    /// How the input is put into the names of the vendor's model, where each of its models has its own.
    pub mapping: Arc<Mapping>,
}

/// A route as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    provider: String,
    upstream_model: String,
    priority: Option<u32>,
    weight: Option<u32>,
    #[serde(default)]
    when: When,
    #[serde(default)]
    after_refusal: bool,
    /// Short for a cost per request.
    cost_usd: Option<Decimal>,
    #[serde(default)]
    cost: Vec<CostRule>,
    /// The vendor's names for fields of the model's input.
    #[serde(default)]
    input: BTreeMap<String, Target>,
    /// What the vendor's model is sent with every input.
    #[serde(default)]
    fixed: Map<String, Value>,
}

/// Reads the routes of a model with this schema. A route that names no priority has its place in the file, from 1.
///
/// # Errors
/// Names the route and what is wrong with it, or says that some inputs would have none.
pub(super) fn read(entries: Vec<Entry>, schema: &Value) -> anyhow::Result<Vec<Route>> {
    ensure!(!entries.is_empty(), "it has no route");
    let weighed: Vec<_> = entries.iter().map(|entry| entry.weight.is_some()).collect();
    let routes = (1..).zip(entries).map(|(place, entry)| Route::read(entry, place, schema));
    let routes = routes.collect::<anyhow::Result<Vec<_>>>()?;
    for (place, route) in routes.iter().enumerate() {
        let (provider, upstream_model) = (&route.provider, &route.upstream_model);
        let others = routes.iter().enumerate().filter(|(other, _)| *other != place);
        let others: Vec<_> = others.map(|(_, other)| other).collect();
        // Workers find a job's route by these two.
        let is_twice =
            others.iter().any(|other| other.provider == *provider && other.upstream_model == *upstream_model);
        ensure!(!is_twice, "the route by {provider} to {upstream_model} is listed twice");
        let shares = others.iter().any(|other| other.priority == route.priority);
        ensure!(
            shares || !weighed[place],
            "the route by {provider} has a weight, which says nothing where no other has its priority ({})",
            route.priority
        );
    }
    let whens: Vec<_> = routes.iter().map(|route| &route.when).collect();
    ensure!(price::is_covered(&whens, schema), "some inputs have no route: add one without `when`");
    Ok(routes)
}

impl Route {
    fn read(entry: Entry, place: u32, schema: &Value) -> anyhow::Result<Self> {
        let Entry { provider, upstream_model, priority, weight, when, .. } = entry;
        ensure!(!upstream_model.trim().is_empty(), "the route by {provider} has an empty upstream_model");
        let costs = match (entry.cost_usd, entry.cost) {
            (Some(usd), costs) if costs.is_empty() => vec![CostRule::per_request(usd)],
            (None, costs) if costs.is_empty() => {
                bail!("the route by {provider} has no cost: set cost_usd, or [[model.route.cost]]")
            }
            (None, costs) => costs,
            (Some(_), _) => bail!("the route by {provider} has both cost_usd and cost"),
        };
        price::check(&costs, schema).map_err(|why| anyhow!("cost of the route by {provider}: {why}"))?;
        price::check_when(&when, schema)
            .map_err(|why| anyhow!("condition of the route by {provider}: {why}"))?;
        let weight = weight.unwrap_or(1);
        ensure!(weight > 0, "the route by {provider} has the weight 0; a weight is 1 or more");
        let mapping = Mapping::read(entry.input, entry.fixed, schema)
            .with_context(|| format!("read the names of the route by {provider}"))?;
        Ok(Self {
            priority: priority.unwrap_or(place),
            weight,
            when,
            after_refusal: entry.after_refusal,
            costs,
            mapping: mapping.into(),
            provider,
            upstream_model,
        })
    }

    /// Whether it takes an input.
    pub fn takes(&self, wanted: Wanted<'_>) -> bool {
        wanted.is_like(&self.when)
    }

    /// What the vendor bills in USD for what was counted.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn cost(&self, wanted: Wanted<'_>, metered: &Metered) -> Result<Decimal, PriceError> {
        price::cost(&self.costs, wanted, metered)
    }

    /// What the vendor bills in USD for one success, at most.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn cost_most(&self, wanted: Wanted<'_>) -> Result<Decimal, PriceError> {
        price::cost_most(&self.costs, wanted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        route: Vec<Entry>,
    }

    fn read_text(text: &str) -> anyhow::Result<Vec<Route>> {
        let table: Table = toml::from_str(text)?;
        let schema = json!({ "properties": {
            "seconds": { "enum": [5, 10], "default": 5 },
            "quality": { "enum": ["low", "high"] },
        }});
        read(table.route, &schema)
    }

    /// Two routes, by `a` and by `b`, with these lines more.
    fn pair(a: &str, b: &str) -> String {
        let route = |name: &str, more: &str| {
            format!("[[route]]\nprovider = \"{name}\"\nupstream_model = \"m\"\ncost_usd = \"0.1\"\n{more}\n")
        };
        route("a", a) + &route("b", b)
    }

    #[test]
    fn a_route_that_says_nothing_has_its_place_and_takes_every_input_alone() {
        let routes = read_text(&pair("", "")).expect("two routes");
        let turns: Vec<_> = routes.iter().map(|route| (route.priority, route.weight)).collect();
        assert_eq!(turns, [(1, 1), (2, 1)]);
        assert!(routes.iter().all(|route| route.when.is_empty() && !route.after_refusal));
    }

    #[test]
    fn a_route_has_the_turn_the_share_and_the_condition_that_it_names() {
        let a = "priority = 2\nweight = 9\nafter_refusal = true\nwhen = { seconds = 10, quality = [\"low\", \"high\"] }";
        let routes = read_text(&pair(a, "")).expect("two routes");
        assert_eq!((routes[0].priority, routes[0].weight, routes[0].after_refusal), (2, 9, true));
        let schema = json!({ "properties": { "seconds": { "default": 5 } } });
        for (input, taken) in [
            (json!({ "seconds": 10, "quality": "low" }), true),
            (json!({ "seconds": 10 }), false),
            (json!({ "quality": "low" }), false),
        ] {
            assert_eq!(routes[0].takes(Wanted::new(&schema, &input)), taken, "{input}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (a, b, expected) in [
            ("weight = 0\npriority = 2", "", "the route by a has the weight 0"),
            ("weight = -1", "", "expected u32"),
            ("priority = 1.5", "", "expected u32"),
            ("weight = 9", "weight = 1", "the route by a has a weight, which says nothing"),
            (
                "when = { colour = \"red\" }",
                "",
                "condition of the route by a: the model's input has no field",
            ),
            ("when = { seconds = 7 }", "", "seconds of the model's input is never 7"),
            ("when = { seconds = [] }", "", "seconds is given no value"),
            ("when = { seconds = 5 }", "when = { quality = \"low\" }", "some inputs have no route"),
            // Not every input says a quality, so covering its values is not enough.
            ("when = { quality = \"low\" }", "when = { quality = \"high\" }", "some inputs have no route"),
            ("after_refusals = true", "", "unknown field `after_refusals`"),
        ] {
            let error = format!("{:#}", read_text(&pair(a, b)).expect_err(expected));
            assert!(error.contains(expected), "{a} | {b}: {error}");
        }
        let twice = pair("", "").replace("\"b\"", "\"a\"");
        let error = read_text(&twice).expect_err("twice").to_string();
        assert_eq!(error, "the route by a to m is listed twice");
        read_text(&pair("when = { seconds = 5 }", "when = { seconds = 10 }"))
            .expect("every length has a route");
    }
}
