//! Kiln's own measures, one a file, and what they share: accounts with keys, orders, and copies of rows.

pub mod calls;
pub mod claim;
pub mod deployment;
pub mod drain;
pub mod exemplar;
pub mod fair;
pub mod parked;
pub mod provider;
pub mod snapshot;
pub mod soak;
pub mod start;
pub mod streams;
pub mod submit;
pub mod tables;
pub mod worker;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use chrono::{TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use secrecy::ExposeSecret;
use serde_json::json;
use shared::{
    account::{self, Actor, KeyRole},
    billing::{self, Tokens},
    catalog::Catalog,
    db,
    id::{AccountId, JobId, KeyId},
    job::{Descent, Order, Priority, Submitter, Webhook, Wishes},
    price,
    process::Process,
};
use sqlx::{AssertSqlSafe, PgPool};

use crate::pg::Server;

/// A database with the schema, the prices and [`ACCOUNTS`] accounts, from which others are copied.
pub const TEMPLATE: &str = "kiln_template";
/// Accounts in it.
pub const ACCOUNTS: usize = 1000;
/// Tokens of each: enough for whatever is measured.
const PURSE: Tokens = Tokens::new(1_000_000_000_000).expect("not negative");
/// Statements under way at once while a database is filled.
const FILLING: usize = 16;
/// Where notices are owed to. Nobody delivers them here.
pub const WEBHOOK: &str = "http://127.0.0.1:9/hook";

/// An account and the key that speaks for it.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The account.
    pub account: AccountId,
    /// The key's id.
    pub key: KeyId,
    /// The key.
    pub secret: String,
}

/// The database all others are copies of, and who its customers are.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Models and routes.
    pub catalog: Arc<Catalog>,
    /// The customers, in the order in which they came.
    pub customers: Vec<Customer>,
}

/// Makes the template, once a run.
pub async fn prepare(server: &Server) -> Result<Ground> {
    server.create(TEMPLATE, "template1").await?;
    let db = server.filling_pool(TEMPLATE).await?;
    let catalog = Arc::new(Catalog::load()?);
    let now = Utc::now();
    db::migrate(&db).await?;
    price::publish(&db, &catalog, now).await?;
    let mut customers: Vec<Customer> = stream::iter(0..ACCOUNTS)
        .map(|number| customer(&db, number))
        .buffer_unordered(FILLING)
        .try_collect()
        .await?;
    customers.sort_by_key(|customer| customer.account);
    sqlx::raw_sql("vacuum (freeze, analyze)").execute(&db).await?;
    db.close().await;
    Ok(Ground { catalog, customers })
}

async fn customer(db: &PgPool, number: usize) -> Result<Customer> {
    let now = Utc::now();
    let account = account::open_account(db, &format!("bench {number}"), "unlimited", now).await?;
    let reference = format!("bench:{account}");
    let source = billing::Source::Operator;
    let gift = billing::Gift {
        account,
        tokens: PURSE,
        expires_at: None,
        source,
        reference: &reference,
        reason: None,
    };
    billing::give(db, &gift, now).await?;
    let key = account::issue_key(db, account, KeyRole::Member, "bench", now).await?;
    Ok(Customer { account, key: key.id, secret: key.secret.expose_secret().to_owned() })
}

impl Ground {
    /// Keys of the first `count` customers.
    pub fn keys(&self, count: usize) -> Vec<String> {
        self.customers.iter().take(count).map(|customer| customer.secret.clone()).collect()
    }

    /// A job of a model that a customer ordered, with a webhook.
    pub fn order(&self, customer: &Customer, model: &str) -> Result<Order> {
        let model = self.catalog.get(model).with_context(|| format!("there is no model {model}"))?;
        let input = match model.task.as_str() {
            "video.generate" => json!({ "prompt": "a fox runs through the snow", "seconds": 5 }),
            _ => json!({ "prompt": "Why is the sky blue? Answer in one sentence." }),
        };
        let route = model.routes.first().context("the model has no route")?.clone();
        let now = Utc::now();
        Ok(Order {
            job: JobId::new(),
            at: now,
            account: customer.account,
            actor: Actor::Key(customer.key),
            model: model.id.clone(),
            task: model.task.clone(),
            medium: model.medium,
            cost_usd: route.cost_most(model.wanted(&input)).context("the route has no cost")?,
            route,
            input,
            price: if model.id == "gpt-4o" { Tokens::new(1000) } else { Tokens::new(38_000) }
                .unwrap_or(Tokens::ZERO),
            price_version: 1,
            price_percent: 100,
            fair_interval: None,
            priority: Priority::Normal,
            webhook: Some(Webhook { url: WEBHOOK.into(), events: Vec::new() }),
            metadata: BTreeMap::new(),
            start_at: None,
            deadline: now + TimeDelta::hours(6),
            idempotency: None,
            sending: None,
            wishes: Wishes::default(),
            descent: Descent::default(),
            traceparent: None,
            fallbacks: Vec::new(),
            request_hash: None,
            turn: None,
        })
    }

    /// Submits `count` jobs of a model, in turn for the customers given.
    pub async fn submit(&self, db: &PgPool, customers: &[Customer], model: &str, count: usize) -> Result<()> {
        let orders = (0..count).map(|turn| self.order(&customers[turn % customers.len()], model));
        let submitter = &Submitter::new(db, &Process::new());
        stream::iter(orders)
            .map(|order| async {
                submitter.submit(&Arc::new(order?)).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(FILLING)
            .try_collect()
            .await
    }
}

/// Copies the one row of `table` that `condition` picks `count` times, with some columns computed anew from `n` (1, 2, …).
/// Knows the columns from the database, so it need not know the schema.
pub async fn multiply(
    db: &PgPool,
    table: &str,
    condition: &str,
    count: usize,
    anew: &[(&str, &str)],
) -> Result<()> {
    let columns: Vec<String> = sqlx::query_scalar(
        "select column_name::text from information_schema.columns
         where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER' order by ordinal_position",
    )
    .bind(table)
    .fetch_all(db)
    .await?;
    ensure!(!columns.is_empty(), "there is no table {table}");
    let computed = |column: &String| {
        anew.iter()
            .find(|(name, _)| name == column)
            .map_or_else(|| format!("r.{column}"), |(_, sql)| (*sql).to_owned())
    };
    let values: Vec<String> = columns.iter().map(computed).collect();
    let sql = format!(
        "insert into {table} ({}) select {} from (select * from {table} where {condition} limit 1) r, generate_series(1, {count}) n",
        columns.join(", "),
        values.join(", "),
    );
    // References were checked for the row that is copied.
    let mut connection = db.acquire().await?;
    sqlx::raw_sql("set session_replication_role = replica").execute(&mut *connection).await?;
    let copied =
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut *connection).await.with_context(|| sql)?;
    sqlx::raw_sql("reset session_replication_role").execute(&mut *connection).await?;
    ensure!(
        copied.rows_affected() == count as u64,
        "{} rows of {table} instead of {count}",
        copied.rows_affected()
    );
    Ok(())
}

/// Fails unless the books are right.
pub async fn audit(db: &PgPool) -> Result<()> {
    let drifts = billing::audit(db).await?;
    ensure!(drifts.is_empty(), "{} accounts have drifted; the first: {:?}", drifts.len(), drifts[0]);
    Ok(())
}
