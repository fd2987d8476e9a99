//! From the files of the catalogue to the tables that count: prices, plans, tiers and price groups.
//!
//! Each entry is compared with what the files said when they were last published, and only what changed there is written.
//! So a deployment that does not touch an entry leaves what an operator made of it, and one that does wins. One transaction
//! under a lock: any number of processes may publish at once, and it changes nothing the second time.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;

use super::{
    Rule,
    store::{self, Source},
};
use crate::catalog::{Catalog, Plan, PriceGroup, Tier};

/// Any number that nothing else in our databases locks.
const PUBLISH_LOCK: i64 = 0x6b69_6c6e_7072;

/// What the files said last, by kind and id.
type Published = HashMap<(String, String), Value>;

/// Brings prices, plans, tiers and price groups up to what changed in the catalogue's files; says how many entries did.
/// Prices in use are refreshed by a [`crate::wake::Wake::Prices`], or by themselves soon after.
///
/// # Errors
/// When the database fails; nothing is written then.
pub async fn publish(db: &PgPool, catalog: &Catalog, now: DateTime<Utc>) -> Result<usize, sqlx::Error> {
    let mut tx = db.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", PUBLISH_LOCK).execute(&mut *tx).await?;
    let published: Published = sqlx::query!("select kind, id, body from published")
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| ((row.kind, row.id), row.body))
        .collect();
    let mut changed = 0;
    for tier in catalog.tiers() {
        if record(&mut tx, &published, "tier", &tier.id, tier).await? {
            write_tier(&mut tx, tier).await?;
            changed += 1;
        }
    }
    for group in catalog.price_groups() {
        if record(&mut tx, &published, "price_group", &group.id, group).await? {
            write_group(&mut tx, group).await?;
            changed += 1;
        }
    }
    for plan in catalog.plans() {
        if record(&mut tx, &published, "plan", &plan.id, plan).await? {
            write_plan(&mut tx, plan).await?;
            changed += 1;
        }
    }
    changed += withdraw_plans(&mut tx, catalog.plans()).await?;
    for model in catalog.models() {
        if record(&mut tx, &published, "price", &model.id, &model.rules).await? {
            write_price(&mut tx, &model.id, &model.rules, now).await?;
            changed += 1;
        }
    }
    tx.commit().await?;
    Ok(changed)
}

/// Remembers what the files say of an entry. `false`: they said the same last time.
async fn record(
    conn: &mut PgConnection,
    published: &Published,
    kind: &str,
    id: &str,
    entry: &(impl Serialize + Sync + ?Sized),
) -> Result<bool, sqlx::Error> {
    let body = serde_json::to_value(entry).map_err(|error| sqlx::Error::Encode(error.into()))?;
    if published.get(&(kind.to_owned(), id.to_owned())) == Some(&body) {
        return Ok(false);
    }
    sqlx::query!(
        "insert into published (kind, id, body) values ($1, $2, $3)
         on conflict (kind, id) do update set body = excluded.body",
        kind,
        id,
        body,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// A new version, unless an operator has set the very same price before.
async fn write_price(
    conn: &mut PgConnection,
    model: &str,
    rules: &[Rule],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    store::lock(&mut *conn, model).await?;
    let current = store::current_rules(&mut *conn, model).await?;
    if current.as_ref() != Some(&store::to_json(rules)?) {
        store::add_version(conn, model, rules, Source::Catalog, None, now).await?;
    }
    Ok(())
}

async fn write_tier(conn: &mut PgConnection, tier: &Tier) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into tiers (tier, rank, requests_per_hour) values ($1, $2, $3)
         on conflict (tier) do update set rank = excluded.rank, requests_per_hour = excluded.requests_per_hour",
        tier.id,
        tier.rank,
        tier.requests_per_hour,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_group(conn: &mut PgConnection, group: &PriceGroup) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into price_groups (price_group, percent) values ($1, $2)
         on conflict (price_group) do update set percent = excluded.percent",
        group.id,
        group.percent,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_plan(conn: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into plans (plan, name, tokens, days, unlimited, tier, price_rub, on_sale)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (plan) do update
         set name = excluded.name, tokens = excluded.tokens, days = excluded.days, unlimited = excluded.unlimited,
             tier = excluded.tier, price_rub = excluded.price_rub, on_sale = excluded.on_sale",
        plan.id,
        plan.name,
        plan.tokens,
        plan.days,
        plan.unlimited,
        plan.tier,
        plan.price_rub,
        plan.on_sale,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Plans that the files listed once and no longer do are sold no more; who has one keeps it.
async fn withdraw_plans(conn: &mut PgConnection, plans: &[Plan]) -> Result<usize, sqlx::Error> {
    let listed: Vec<_> = plans.iter().map(|plan| plan.id.clone()).collect();
    let withdrawn = sqlx::query!(
        "with gone as (
             delete from published where kind = 'plan' and id <> all ($1) returning id
         )
         update plans set on_sale = false from gone where plan = gone.id",
        &listed,
    )
    .execute(conn)
    .await?;
    Ok(usize::try_from(withdrawn.rows_affected()).unwrap_or(usize::MAX))
}
