//! The server: databases for each round, copied from a template, and what the server counts.
//!
//! Each round gets a database of its own, so no round works on what another left behind. Copying a template ends with a
//! checkpoint, so every round also begins equally far from the next one.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result};
use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{os, report::Figures};

/// Settings that are worth telling.
const SETTINGS: [&str; 12] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "commit_delay",
    "autovacuum",
];

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    options: PgConnectOptions,
    url: String,
    admin: PgPool,
    major: u32,
    postmaster: u32,
}

/// What a server had counted at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    transactions: f64,
    wal_bytes: f64,
    flushes: f64,
    cpu_seconds: f64,
}

impl Server {
    /// Connects to the server's own database as its superuser.
    pub async fn connect(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).context("read the server's URL")?;
        let admin = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await?;
        let version: i32 =
            sqlx::query_scalar("select current_setting('server_version_num')::int").fetch_one(&admin).await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&admin).await?;
        let postmaster = u32::try_from(backend).ok().and_then(os::parent_of).unwrap_or(0);
        let major = u32::try_from(version / 10_000)?;
        Ok(Self { options, url: url.to_owned(), admin, major, postmaster })
    }

    /// Address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        let (head, tail) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let base = head.rsplit_once('/').map_or(head, |(base, _)| base);
        format!("{base}/{database}?{tail}")
    }

    /// A pool of connections to one of its databases.
    pub async fn pool(&self, database: &str, most: u32) -> Result<PgPool> {
        let options = self.options.clone().database(database).application_name("bench");
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(Duration::from_secs(120))
            .connect_with(options)
            .await;
        pool.with_context(|| format!("connect to {database}"))
    }

    /// A pool to fill a database through, which does not wait for the disk: the copies that are measured come after a
    /// checkpoint.
    pub async fn filling_pool(&self, database: &str) -> Result<PgPool> {
        self.hasty_pool(database, 16).await
    }

    /// A pool whose commits do not wait for the disk: to fill, or to time what a statement does apart from that wait.
    /// Plans are general, as on the connections of Kiln.
    pub async fn hasty_pool(&self, database: &str, most: u32) -> Result<PgPool> {
        let options = self
            .options
            .clone()
            .database(database)
            .options([("synchronous_commit", "off"), ("plan_cache_mode", "force_generic_plan")]);
        let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(Duration::from_secs(120));
        Ok(pool.connect_with(options).await?)
    }

    /// Makes a database that equals `template`, with everything on the disk; one of that name goes first.
    pub async fn create(&self, name: &str, template: &str) -> Result<()> {
        self.drop(name).await?;
        let strategy = if self.major >= 15 { " strategy file_copy" } else { "" };
        self.run(format!("create database {name} template {template}{strategy}")).await?;
        self.run("checkpoint".into()).await
    }

    /// Removes a database and whoever is connected to it.
    pub async fn drop(&self, name: &str) -> Result<()> {
        self.run(format!("drop database if exists {name} with (force)")).await
    }

    /// Whether there is a database of that name.
    pub async fn has(&self, name: &str) -> Result<bool> {
        let found = sqlx::query("select from pg_database where datname = $1").bind(name);
        Ok(found.fetch_optional(&self.admin).await?.is_some())
    }

    async fn run(&self, sql: String) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&self.admin).await.with_context(|| sql)?;
        Ok(())
    }

    /// What it has counted so far, transactions only of one database. Its processes hand their counts in when they end or
    /// have been idle for a while, so whoever worked should have disconnected.
    pub async fn counted(&self, database: &str) -> Result<Counted> {
        let row = sqlx::query(
            "select coalesce(sum(xact_commit), 0)::float8, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8
             from pg_stat_database where datname = $1",
        )
        .bind(database)
        .fetch_one(&self.admin)
        .await?;
        // Moved elsewhere in version 18.
        let flushes = if self.major < 18 {
            sqlx::query_scalar("select wal_sync::float8 from pg_stat_wal").fetch_one(&self.admin).await?
        } else {
            sqlx::query_scalar("select coalesce(sum(fsyncs), 0)::float8 from pg_stat_io where object = 'wal'")
                .fetch_one(&self.admin)
                .await?
        };
        Ok(Counted {
            transactions: row.get(0),
            wal_bytes: row.get(1),
            flushes,
            cpu_seconds: os::cpu_of_family(self.postmaster),
        })
    }

    /// Settings that matter here.
    pub async fn settings(&self) -> Result<serde_json::Value> {
        let mut settings = serde_json::Map::new();
        for name in SETTINGS {
            let value: Option<String> = sqlx::query_scalar("select current_setting($1, true)")
                .bind(name)
                .fetch_one(&self.admin)
                .await?;
            settings.insert(name.into(), value.into());
        }
        Ok(settings.into())
    }
}

impl Counted {
    /// What each of `jobs` took since `before`.
    pub fn per_job(self, before: Self, jobs: f64, figures: &mut Figures) {
        let jobs = jobs.max(1.0);
        figures.set("transactions_per_job", (self.transactions - before.transactions) / jobs);
        figures.set("wal_bytes_per_job", (self.wal_bytes - before.wal_bytes) / jobs);
        figures.set("flushes_per_job", (self.flushes - before.flushes) / jobs);
        figures.set("postgres_cpu_us_per_job", (self.cpu_seconds - before.cpu_seconds) * 1e6 / jobs);
    }
}
