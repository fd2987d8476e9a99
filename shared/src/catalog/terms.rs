//! The terms of business in the catalogue: plans, tiers, price groups, what subscribers get, what a token is worth.
//!
//! Plans, tiers and price groups are published to the database, where operators may change them (see `price/publish.rs`);
//! the rest counts as it stands in the files.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A plan as it is sold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its word; never changes.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Given at its start.
    #[serde(default)]
    pub tokens: i64,
    /// How long plan and tokens last; none: tokens that stay, and no subscription.
    pub days: Option<i32>,
    /// Every job is free while it lasts.
    #[serde(default)]
    pub unlimited: bool,
    /// The tier of accounts that have it.
    pub tier: String,
    /// What it costs, in roubles.
    pub price_rub: Decimal,
    /// Whether it can be bought.
    #[serde(default = "yes")]
    pub on_sale: bool,
}

/// How much an account may ask for in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its word.
    pub id: String,
    /// The higher counts when several apply.
    pub rank: i16,
    /// Jobs an hour; none is no limit.
    pub requests_per_hour: Option<i32>,
}

/// Which part of the list price a group of accounts pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceGroup {
    /// Its word.
    pub id: String,
    /// Of a hundred.
    pub percent: i16,
}

/// What subscribers get when they have no tokens left.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribers {
    /// Models that are free for them then.
    pub models: Vec<String>,
    /// Fair use: so many of these jobs an hour.
    pub requests_per_hour: i32,
}

impl Subscribers {
    /// How often they may have `model` free, as the time between two; `None`: never.
    pub fn interval(&self, model: &str) -> Option<TimeDelta> {
        let is_free = self.models.iter().any(|free| free == model);
        is_free.then(|| TimeDelta::hours(1) / self.requests_per_hour)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlansFile {
    pub plan: Vec<Plan>,
    pub subscribers: Subscribers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TiersFile {
    pub token_usd: Decimal,
    pub low_balance_tokens: i64,
    pub tier: Vec<Tier>,
    pub price_group: Vec<PriceGroup>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Terms {
    pub plans: Vec<Plan>,
    pub subscribers: Subscribers,
    pub token_usd: Decimal,
    pub low_balance_tokens: i64,
    pub tiers: Vec<Tier>,
    pub price_groups: Vec<PriceGroup>,
}

/// Tiers and groups that code and columns' defaults name.
const NEEDED_TIERS: [&str; 2] = ["free", "unlimited"];
const NEEDED_GROUP: &str = "standard";

impl Terms {
    /// Puts the files, of these names and texts, together and checks them.
    ///
    /// # Errors
    /// Says what is wrong with which entry of which file.
    pub(super) fn read(
        (plans_file, plans): (&str, &str),
        (tiers_file, tiers): (&str, &str),
    ) -> anyhow::Result<Self> {
        let plans: PlansFile = toml::from_str(plans).with_context(|| format!("read {plans_file}"))?;
        let tiers: TiersFile = toml::from_str(tiers).with_context(|| format!("read {tiers_file}"))?;
        let terms = Self {
            plans: plans.plan,
            subscribers: plans.subscribers,
            token_usd: tiers.token_usd,
            low_balance_tokens: tiers.low_balance_tokens,
            tiers: tiers.tier,
            price_groups: tiers.price_group,
        };
        terms.check_tiers().with_context(|| format!("check {tiers_file}"))?;
        terms.check_plans().with_context(|| format!("check {plans_file}"))?;
        Ok(terms)
    }

    fn check_tiers(&self) -> anyhow::Result<()> {
        ensure!(self.token_usd > Decimal::ZERO, "token_usd must be above 0");
        ensure!(self.low_balance_tokens >= 0, "low_balance_tokens is negative");
        once(self.tiers.iter().map(|tier| tier.id.as_str()))?;
        once(self.price_groups.iter().map(|group| group.id.as_str()))?;
        for needed in NEEDED_TIERS {
            ensure!(self.tiers.iter().any(|tier| tier.id == needed), "the tier {needed} is missing");
        }
        for tier in &self.tiers {
            ensure!(tier.requests_per_hour.is_none_or(|limit| limit > 0), "tier {} allows nothing", tier.id);
        }
        let standard = self.price_groups.iter().any(|group| group.id == NEEDED_GROUP);
        ensure!(standard, "the price group {NEEDED_GROUP} is missing");
        for group in &self.price_groups {
            ensure!((1..=100).contains(&group.percent), "group {} pays 1 to 100 percent", group.id);
        }
        Ok(())
    }

    fn check_plans(&self) -> anyhow::Result<()> {
        once(self.plans.iter().map(|plan| plan.id.as_str()))?;
        for plan in &self.plans {
            let id = &plan.id;
            ensure!(self.tiers.iter().any(|tier| tier.id == plan.tier), "plan {id} is of an unknown tier");
            ensure!(plan.tokens >= 0 && plan.price_rub >= Decimal::ZERO, "plan {id} has a negative number");
            ensure!(plan.days.is_none_or(|days| days > 0), "plan {id} lasts no day");
            ensure!(plan.tokens > 0 || plan.unlimited, "plan {id} gives nothing");
            ensure!(plan.days.is_some() || !plan.unlimited, "plan {id} would be unlimited for ever");
        }
        ensure!(self.subscribers.requests_per_hour > 0, "subscribers are allowed nothing");
        Ok(())
    }
}

fn once<'a>(ids: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for id in ids {
        ensure!(seen.insert(id), "{id} is listed twice");
    }
    Ok(())
}

fn yes() -> bool {
    true
}
