//! Prices where they are kept: every version in the table, the current ones in the memory of each process that quotes.
//!
//! A version is never changed, only followed by the next. A process hears of a new one by a hint and looks by itself now and
//! then, so a price may be some seconds old when a job is accepted; the job is charged by the version it was quoted.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use super::{Price, Rule, rule};
use crate::{
    account::audit::{self, By},
    catalog::Catalog,
    process::Process,
    wake::{self, Wake, Wakes},
};

/// How often prices are looked at when no hint comes.
const REFRESH: Duration = Duration::from_secs(10);

/// Who made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The files of the catalogue.
    Catalog,
    /// A person.
    Operator,
}

impl Source {
    const fn word(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Operator => "operator",
        }
    }
}

/// One version of a model's price.
#[derive(Debug, Clone)]
pub struct Version {
    /// Of this model.
    pub model: String,
    /// 1, 2, …
    pub version: i32,
    /// The rules as JSON.
    pub rules: Value,
    /// `catalog` or `operator`.
    pub source: String,
    /// Why, for changes by people.
    pub reason: Option<String>,
    /// When it began to count.
    pub created_at: DateTime<Utc>,
}

/// Why a price was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// There is no such model.
    #[error("there is no model {0:?}")]
    UnknownModel(String),
    /// The rules make no price; the text says which and why.
    #[error("{0}")]
    Invalid(String),
    /// The database failed.
    #[error("set price")]
    Db(#[from] sqlx::Error),
}

/// The prices that count now. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Prices(Arc<RwLock<Current>>);

/// By model; replaced as a whole.
type Current = Arc<HashMap<String, Arc<Price>>>;

impl Prices {
    /// The prices of the database, which must have one for every model of the catalogue.
    ///
    /// # Errors
    /// When the catalogue was not published, a price cannot be read, or the database fails.
    pub async fn load(db: &PgPool, catalog: &Catalog) -> anyhow::Result<Self> {
        let current = read(db).await.context("load prices")?;
        for model in catalog.models() {
            let price = current.get(&model.id).with_context(|| {
                format!("model {} has no price in the database: run `kiln migrate`", model.id)
            })?;
            // An operator's price may have been made for inputs that the model no longer takes.
            if let Err(why) = rule::check(&price.rules, &model.schema) {
                tracing::error!(
                    model = model.id,
                    why,
                    "price of {} does not fit its inputs; set it anew",
                    model.id
                );
            }
        }
        Ok(Self(Arc::new(RwLock::new(Arc::new(current)))))
    }

    /// As [`Prices::load`], and keeps them fresh until the process stops.
    ///
    /// # Errors
    /// As [`Prices::load`].
    pub async fn start(
        db: &PgPool,
        catalog: &Catalog,
        wakes: &Wakes,
        process: &Process,
    ) -> anyhow::Result<Self> {
        // Subscribed before the first look, so that a change in between is not missed.
        let mut hints = wakes.listen();
        let prices = Self::load(db, catalog).await?;
        let (kept, db, process) = (prices.clone(), db.clone(), process.clone());
        process.clone().spawn(async move {
            while wake::rest(&mut hints, REFRESH, &process, |wake| wake == Wake::Prices).await {
                if let Err(error) = kept.refresh(&db).await {
                    tracing::error!(error = format!("{error:#}"), "prices not refreshed; those known go on");
                }
            }
        });
        Ok(prices)
    }

    /// What a model costs now.
    pub fn get(&self, model: &str) -> Option<Arc<Price>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// Looks at the database again.
    ///
    /// # Errors
    /// When a price cannot be read or the database fails; the prices known go on.
    pub async fn refresh(&self, db: &PgPool) -> anyhow::Result<()> {
        let mut current = read(db).await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Versions only grow: a read that began before a change must not undo what another has brought.
        for (model, newer) in known.iter() {
            if current.get(model).is_some_and(|read| read.version < newer.version) {
                current.insert(model.clone(), newer.clone());
            }
        }
        *known = Arc::new(current);
        Ok(())
    }
}

async fn read(db: &PgPool) -> anyhow::Result<HashMap<String, Arc<Price>>> {
    let rows = sqlx::query!(
        "select distinct on (model) model, version, rules from prices order by model, version desc"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let price = Price::read(&row.model, row.version, row.rules)
                .with_context(|| format!("read version {} of the price of {}", row.version, row.model))?;
            Ok((row.model, Arc::new(price)))
        })
        .collect()
}

/// Sets a price from now on, and gives its version. Tell the other processes by a [`Wake::Prices`] afterwards.
///
/// # Errors
/// See [`SetError`]; nothing is written then.
pub async fn set(
    db: &PgPool,
    catalog: &Catalog,
    model: &str,
    rules: &[Rule],
    reason: &str,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Version, SetError> {
    let listed = catalog.get(model).ok_or_else(|| SetError::UnknownModel(model.to_owned()))?;
    rule::check(rules, &listed.schema).map_err(SetError::Invalid)?;
    let mut tx = db.begin().await?;
    lock(&mut tx, model).await?;
    let before = current_rules(&mut tx, model).await?;
    let version = add_version(&mut tx, model, rules, Source::Operator, Some(reason), now).await?;
    let entry = by.did("price.set", None, model, now);
    let after = json!({ "version": version.version, "rules": version.rules, "reason": reason });
    audit::record(&mut *tx, &entry.changed(before.map(|rules| json!({ "rules": rules })), Some(after)))
        .await?;
    tx.commit().await?;
    Ok(version)
}

/// Every version of a model's price, newest first.
///
/// # Errors
/// When the database fails.
pub async fn history(db: &PgPool, model: &str) -> Result<Vec<Version>, sqlx::Error> {
    sqlx::query_as!(
        Version,
        "select model, version, rules, source, reason, created_at from prices where model = $1 order by version desc",
        model,
    )
    .fetch_all(db)
    .await
}

/// The current version of every model's price, by model.
///
/// # Errors
/// When the database fails.
pub async fn current(db: &PgPool) -> Result<Vec<Version>, sqlx::Error> {
    sqlx::query_as!(
        Version,
        "select distinct on (model) model, version, rules, source, reason, created_at
         from prices order by model, version desc",
    )
    .fetch_all(db)
    .await
}

/// The newest rules of a model, as JSON.
pub(super) async fn current_rules(
    conn: &mut PgConnection,
    model: &str,
) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar!("select rules from prices where model = $1 order by version desc limit 1", model)
        .fetch_optional(conn)
        .await
}

/// Keeps others from adding a version until the transaction ends.
pub(super) async fn lock(conn: &mut PgConnection, model: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('price ' || $1, 0))", model)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds the next version, under the [`lock`].
pub(super) async fn add_version(
    conn: &mut PgConnection,
    model: &str,
    rules: &[Rule],
    source: Source,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Version, sqlx::Error> {
    sqlx::query_as!(
        Version,
        "insert into prices (model, version, rules, source, reason, created_at)
         select $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5 from prices where model = $1
         returning model, version, rules, source, reason, created_at",
        model,
        to_json(rules)?,
        source.word(),
        reason,
        now,
    )
    .fetch_one(conn)
    .await
}

pub(super) fn to_json(rules: &[Rule]) -> Result<Value, sqlx::Error> {
    serde_json::to_value(rules).map_err(|error| sqlx::Error::Encode(error.into()))
}
