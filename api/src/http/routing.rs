//! Where a job is made: the routes of its model that its input and its owner's wishes leave, in the order in which they are tried.
//!
//! Filter, order, cut. What the wishes or a route's own condition rule out is left out. The rest is put in order: routes that fail
//! just now come last; within that the order that was wished counts, then the sort that was wished, then the catalogue's priority,
//! and among equals their weights, by a lot which the job's id decides, so that any number of processes share out the work
//! without asking each other. All but the first are cut off where there is to be no second.
//! Deliberately absent: what becomes of a failure, which is decided where it happens.

use std::{cmp::Ordering, time::Duration};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{ApiError, Ctx};
use shared::{
    catalog::{Model, Route},
    id::JobId,
    job::{self, Fallback, Order, Routing, Sort},
    price::{PriceError, Wanted},
    provider::Standing,
};

/// Where a job is made, and what that costs us.
pub struct Chosen {
    /// First here.
    pub route: Route,
    /// What one success costs there at most, in USD.
    pub cost_usd: Decimal,
    /// Then there.
    pub fallbacks: Vec<Fallback>,
}

/// Chooses where `job` is made, by what is known now of each route.
///
/// # Errors
/// 400 when the wishes leave no route.
pub fn choose(
    ctx: &Ctx,
    model: &Model,
    input: &Value,
    wishes: &Routing,
    job: JobId,
) -> Result<Chosen, ApiError> {
    let standing = |route: &Route| ctx.standings.get(&route.provider, &route.upstream_model);
    let mut ranked = rank(model, input, wishes, job, standing, ctx.clock.now()).into_iter();
    let first = ranked.next().ok_or_else(|| no_route(model, input))?;
    let cost = |candidate: &Candidate<'_>| {
        candidate.cost.map_err(|error| {
            tracing::error!(model = model.id, %error, "no cost for an input of {}", model.id);
            ApiError::internal()
        })
    };
    let fallback = |candidate: Candidate<'_>| -> Result<Fallback, ApiError> {
        Ok(Fallback {
            provider: candidate.route.provider.clone(),
            upstream_model: candidate.route.upstream_model.clone(),
            cost_usd: cost(&candidate)?,
        })
    };
    Ok(Chosen {
        route: first.route.clone(),
        cost_usd: cost(&first)?,
        fallbacks: ranked.map(fallback).collect::<Result<_, _>>()?,
    })
}

/// Puts a follow-up where the job before it was made, and nowhere else. `false`: its wishes rule that out, or its model is not
/// made there.
pub fn stay_with(provider: &str, model: &Model, order: &mut Order) -> bool {
    if order.route.provider != provider {
        let there = order.fallbacks.iter().find(|fallback| fallback.provider == provider);
        let Some(there) = there else { return false };
        let Some(route) = model.route(provider, &there.upstream_model) else { return false };
        order.route = route.clone();
        order.cost_usd = there.cost_usd;
    }
    order.fallbacks.clear();
    true
}

/// The routes that are left, best first.
fn rank<'a>(
    model: &'a Model,
    input: &Value,
    wishes: &Routing,
    job: JobId,
    standing: impl Fn(&Route) -> Standing,
    now: DateTime<Utc>,
) -> Vec<Candidate<'a>> {
    let wanted = model.wanted(input);
    let mut left: Vec<_> = model
        .routes
        .iter()
        .filter(|route| is_allowed(route, wishes) && route.takes(wanted))
        .map(|route| Candidate::new(route, wanted, wishes, job, standing(route), now))
        .collect();
    left.sort_by(|a, b| a.compare(b, wishes.sort));
    // Where a follow-up has to stay is not known yet, and may be any of them.
    let follows_up = job::parent_id(input).is_some();
    if wishes.allow_fallbacks == Some(false) && !follows_up {
        left.truncate(1);
    }
    left
}

fn is_allowed(route: &Route, wishes: &Routing) -> bool {
    let allowed = wishes.only.is_empty() || wishes.only.contains(&route.provider);
    allowed && !wishes.ignore.contains(&route.provider)
}

/// A route that is left, and all that its place depends on.
struct Candidate<'a> {
    route: &'a Route,
    standing: Standing,
    /// It takes no work just now.
    is_open: bool,
    /// Where it stands in the order that was wished, or behind all of it.
    place: usize,
    cost: Result<Decimal, PriceError>,
    lot: f64,
}

impl<'a> Candidate<'a> {
    fn new(
        route: &'a Route,
        wanted: Wanted<'_>,
        wishes: &Routing,
        job: JobId,
        standing: Standing,
        now: DateTime<Utc>,
    ) -> Self {
        let place = wishes.order.iter().position(|name| *name == route.provider);
        Self {
            place: place.unwrap_or(wishes.order.len()),
            cost: route.cost_most(wanted),
            lot: lot(job, route),
            is_open: standing.is_open(now),
            route,
            standing,
        }
    }

    /// Which of two is tried first.
    fn compare(&self, other: &Self, sort: Option<Sort>) -> Ordering {
        let is_open = self.is_open.cmp(&other.is_open);
        let sorted = match sort {
            // One whose cost cannot be told is not the cheapest.
            Some(Sort::Price) => self.cost.unwrap_or(Decimal::MAX).cmp(&other.cost.unwrap_or(Decimal::MAX)),
            Some(Sort::Latency) => self.latency().cmp(&other.latency()),
            Some(Sort::Reliability) => other.standing.reliability.total_cmp(&self.standing.reliability),
            None => Ordering::Equal,
        };
        is_open
            .then(self.place.cmp(&other.place))
            .then(sorted)
            .then(self.route.priority.cmp(&other.route.priority))
            .then(self.lot.total_cmp(&other.lot))
    }

    /// One of which nothing is known is not the fastest.
    fn latency(&self) -> Duration {
        self.standing.latency.unwrap_or(Duration::MAX)
    }
}

/// When a route's turn comes among those of its priority: the smaller the sooner. Sorting by -ln(u) / weight, with a random u
/// between 0 and 1 for each, draws by weight without putting back (Efraimidis and Spirakis, "Weighted random sampling with a
/// reservoir", 2006). The u of a job and a route is always the same, so another route, more or less, moves no job between
/// those that stay.
fn lot(job: JobId, route: &Route) -> f64 {
    let digest = Sha256::new()
        .chain_update(job.0.as_bytes())
        .chain_update(&route.provider)
        .chain_update([0_u8])
        .chain_update(&route.upstream_model)
        .finalize();
    let bits = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    // A half more, so that it is neither 0 nor 1.
    let u = (f64::from(bits) + 0.5) / 2_f64.powi(32);
    -u.ln() / f64::from(route.weight)
}

fn no_route(model: &Model, input: &Value) -> ApiError {
    let takes = |route: &&Route| route.takes(model.wanted(input));
    let known: Vec<_> = model.routes.iter().filter(takes).map(|route| route.provider.as_str()).collect();
    let message = format!(
        "routing, with the account's preferences, leaves no provider for {}; this input is taken by {}",
        model.id,
        known.join(", ")
    );
    ApiError::bad_request("no_route", "routing", message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use shared::catalog::{Catalog, FILES};

    /// A catalogue with a model `many` that `a`, `b` and `c` make at 3, 1 and 2 cents, each with these lines more.
    fn catalog(more: [&str; 3]) -> Catalog {
        let mut text = "[[model]]\nid = \"many\"\nname = \"Many\"\ntask = \"image.generate\"\nprice_tokens = 1\n\
                        deadline_seconds = 60\n[model.input.aspect_ratio]\nenum = [\"1:1\", \"16:9\"]\ndefault = \"1:1\"\n"
            .to_owned();
        for ((name, cents), more) in [("a", 3), ("b", 1), ("c", 2)].into_iter().zip(more) {
            text += &format!(
                "[[model.route]]\nprovider = \"{name}\"\nupstream_model = \"m\"\ncost_usd = \"0.0{cents}\"\n{more}\n"
            );
        }
        let files: Vec<_> = FILES.into_iter().chain([("catalog/many.toml", text.as_str())]).collect();
        Catalog::read(&files).expect("a catalogue")
    }

    fn unknown() -> Standing {
        Standing::default()
    }

    /// The providers of a job of `many`, in the order in which they are tried.
    fn order(
        catalog: &Catalog,
        input: &Value,
        wishes: &Value,
        job: JobId,
        standing: impl Fn(&Route) -> Standing,
    ) -> String {
        let wishes: Routing = serde_json::from_value(wishes.clone()).expect("a routing");
        let ranked =
            rank(catalog.get("many").expect("listed"), input, &wishes, job, standing, DateTime::UNIX_EPOCH);
        ranked.iter().map(|candidate| candidate.route.provider.as_str()).collect()
    }

    fn check(more: [&str; 3], wishes: &Value, expected: &str) {
        let input = json!({ "prompt": "a fox" });
        let tried = order(&catalog(more), &input, wishes, JobId::new(), |_| unknown());
        assert_eq!(tried, expected, "{more:?} {wishes}");
    }

    #[test]
    fn a_wish_leaves_out_or_puts_in_front_and_the_rest_stays_as_the_file_has_it() {
        let check = |wishes: Value, expected| check(["", "", ""], &wishes, expected);
        check(json!({}), "abc");
        check(json!({ "only": ["c", "b"] }), "bc");
        check(json!({ "ignore": ["a", "nobody"] }), "bc");
        check(json!({ "only": ["a", "b"], "ignore": ["a"] }), "b");
        check(json!({ "only": ["nobody"] }), "");
        check(json!({ "order": ["c", "nobody", "b"] }), "cba");
        check(json!({ "sort": "price" }), "bca");
        check(json!({ "order": ["a"], "sort": "price" }), "abc");
        check(json!({ "allow_fallbacks": false }), "a");
        check(json!({ "allow_fallbacks": false, "sort": "price" }), "b");
    }

    #[test]
    fn the_lowest_priority_is_first_wherever_it_stands_and_a_wish_comes_before_it() {
        let priorities = ["priority = 7", "priority = 9", "priority = 0"];
        check(priorities, &json!({}), "cab");
        check(priorities, &json!({ "order": ["b"] }), "bca");
        check(priorities, &json!({ "sort": "price" }), "bca");
        check(["priority = 3", "", ""], &json!({ "ignore": ["c"] }), "ba");
    }

    #[test]
    fn a_route_is_taken_only_by_inputs_that_fulfil_its_condition() {
        let catalog =
            catalog(["when = { aspect_ratio = \"16:9\" }", "", "when = { aspect_ratio = \"1:1\" }"]);
        for (input, expected) in [
            (json!({ "prompt": "a fox", "aspect_ratio": "16:9" }), "ab"),
            (json!({ "prompt": "a fox", "aspect_ratio": "1:1" }), "bc"),
            (json!({ "prompt": "a fox" }), "bc"),
        ] {
            assert_eq!(order(&catalog, &input, &json!({}), JobId::new(), |_| unknown()), expected, "{input}");
        }
    }

    #[test]
    fn a_follow_up_keeps_every_route_until_it_is_known_where_it_began() {
        let input = json!({ "job": JobId::new() });
        let wishes = json!({ "allow_fallbacks": false });
        let all = catalog(["", "", ""]);
        assert_eq!(order(&all, &input, &wishes, JobId::new(), |_| unknown()), "abc");
    }

    #[test]
    fn what_is_known_of_a_route_counts_by_the_sort_and_what_fails_just_now_is_last() {
        let standings =
            |a: (bool, Option<u64>, f64), b: (bool, Option<u64>, f64), c: (bool, Option<u64>, f64)| {
                move |route: &Route| {
                    let (is_open, latency, reliability) = match route.provider.as_str() {
                        "a" => a,
                        "b" => b,
                        _ => c,
                    };
                    Standing {
                        open_until: is_open.then_some(DateTime::UNIX_EPOCH + TimeDelta::seconds(9)),
                        latency: latency.map(Duration::from_millis),
                        reliability,
                        pace: None,
                    }
                }
            };
        let (all, input) = (catalog(["", "", ""]), json!({ "prompt": "a fox" }));
        let (good, open) = ((false, None, 1.0), (true, None, 0.2));
        for (wishes, a, b, c, expected) in [
            (
                json!({ "sort": "latency" }),
                (false, Some(300), 1.0),
                (false, Some(200), 1.0),
                (false, Some(100), 1.0),
                "cba",
            ),
            (json!({ "sort": "latency" }), good, (false, Some(9000), 1.0), good, "bac"),
            (json!({ "sort": "reliability" }), (false, None, 0.5), (false, None, 0.9), good, "cba"),
            (json!({ "sort": "reliability" }), good, good, good, "abc"),
            (json!({}), open, good, good, "bca"),
            (json!({ "sort": "price" }), good, open, good, "cab"),
            (json!({ "sort": "latency" }), (true, Some(1), 0.0), (false, Some(2), 1.0), good, "bca"),
            (json!({ "order": ["a", "b"] }), open, good, good, "bca"),
            (json!({ "only": ["a"] }), open, good, good, "a"),
            (json!({ "allow_fallbacks": false }), open, good, good, "b"),
            (json!({ "order": ["c"] }), open, open, open, "cab"),
        ] {
            let tried = order(&all, &input, &wishes, JobId::new(), standings(a, b, c));
            assert_eq!(tried, expected, "{wishes} {a:?} {b:?} {c:?}");
        }
    }

    #[test]
    fn routes_of_one_priority_share_the_work_by_weight_and_all_of_them_stay() {
        let all = catalog(["priority = 1\nweight = 9", "priority = 1", "priority = 2"]);
        let input = json!({ "prompt": "a fox" });
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            let job = JobId::new();
            let tried = order(&all, &input, &json!({}), job, |_| unknown());
            assert_eq!(order(&all, &input, &json!({}), job, |_| unknown()), tried, "the id decides");
            *counts.entry(tried).or_insert(0) += 1;
        }
        let (heavy, light) = (counts["abc"], counts["bac"]);
        assert_eq!(heavy + light, 10_000, "c is never before them: {counts:?}");
        assert!((8800..=9200).contains(&heavy), "{counts:?}");
    }

    #[test]
    fn a_route_more_moves_no_job_between_those_that_were_there() {
        let input = json!({ "prompt": "a fox" });
        let all = catalog(["priority = 1\nweight = 2", "priority = 1", "priority = 1\nweight = 3"]);
        for _ in 0..1000 {
            let job = JobId::new();
            let three = order(&all, &input, &json!({}), job, |_| unknown());
            let two = order(&all, &input, &json!({ "ignore": ["c"] }), job, |_| unknown());
            assert_eq!(three.replace('c', ""), two);
        }
    }
}
