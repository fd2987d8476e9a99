//! The way to Postgres: the pool, the migrations, and constraint names turned into domain errors.
//!
//! Deliberately absent: repository traits. There is one database, and tests use a real one.

use anyhow::Context;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::{
    Connection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

use crate::config;

/// The migrations, inside the binary.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Longest wait for a free connection before a request is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may have been idle and still be used without asking first whether it lives. Asking costs a round trip,
/// several times a job; after a rest, a restart of the server may have ended it.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Opens a pool; the first connection is made and tried at once.
///
/// # Errors
/// When the URL is not one, or the server cannot be reached or refuses us.
pub async fn connect(config: &config::Database, role: &str) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(config.url.expose_secret())
        .context("read KILN_DATABASE_URL")?
        .application_name(&format!("kiln {role}"))
        // Every statement of ours is prepared once and run for ever. Lists as parameters make a plan for just this list look
        // cheaper than the general one, and planning a dozen clauses takes longer than running them.
        .options([("plan_cache_mode", "force_generic_plan")]);
    PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, rested| {
            Box::pin(async move {
                if rested.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .context("connect to Postgres (KILN_DATABASE_URL)")
}

/// Brings the schema up to this version; does nothing when it is there. Safe to run from many processes at once.
///
/// # Errors
/// When a migration fails, or the database is newer than this binary.
pub async fn migrate(db: &PgPool) -> anyhow::Result<()> {
    MIGRATIONS.run(db).await.context("migrate the database")
}

/// Whether the schema is at least as new as this binary needs.
///
/// # Errors
/// When the database cannot be asked.
#[expect(clippy::disallowed_methods, reason = "the table is the migrator's, unknown to the checked macros")]
pub async fn is_migrated(db: &PgPool) -> Result<bool, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(db).await?;
    if !exists {
        return Ok(false);
    }
    let newest: i64 =
        sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations where success")
            .fetch_one(db)
            .await?;
    Ok(MIGRATIONS.iter().map(|migration| migration.version).max().is_none_or(|needed| newest >= needed))
}

/// The server's version, such as `15.8`.
///
/// # Errors
/// When the database cannot be asked.
pub async fn version(db: &PgPool) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(r#"select current_setting('server_version') as "version!""#).fetch_one(db).await
}

/// The server's time, to be compared with ours; nothing is decided by it.
///
/// # Errors
/// When the database cannot be asked.
pub async fn now(db: &PgPool) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await
}

/// Names the constraint that a failed statement broke, so that the caller can turn it into its own word.
pub fn broken_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

/// Whether trying the same statement again can help: the server was away, restarting or shedding us.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => {
            true
        }
        sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection exceptions, serialization and deadlock, resources, operator intervention; and a server that has
            // just become a standby takes no writes.
            code == "25006" || ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}
