//! Waiting until nothing is under way any more, for as long as it may take and no longer.
//!
//! Jobs are waited for as they are: their deadlines are the limit. Notices are not: the waits between two tries of a
//! webhook are minutes and hours long, so the clock is moved for them, by making due what is pending, and for the nightly task
//! that deletes stray objects. That is all that this harness ever writes to the database by statements of its own.

#![expect(clippy::disallowed_methods, reason = "statements that the product never makes")]

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use shared::{
    billing,
    clock::{Clock, SystemClock},
    db::is_transient,
};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;

use crate::{book::Book, fleet::Role, strike::World};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is told what is still waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// What comes on top of the last job's deadline: a scheduler that died over a task blocks it for a minute, then the task's
/// next tick and a worker's grace; a webhook takes up to 15 s.
const MARGIN: Duration = Duration::from_secs(60 + 30);
/// The task that deletes what workers left in storage.
const SWEEP: &str = "delete-stray-objects";
/// Longest wait for it: a scheduler looks twice a minute, and one that died over the task blocks it for longer.
const SWEEP_LIMIT: Duration = Duration::from_secs(90);
/// How often the harness repeats a question of its own.
const PATIENCE: u32 = 20;
/// Most ids that are named.
const NAMED: usize = 20;

/// Moves the clock past the leases of all notices, as it would pass for a deliverer that is frozen for long; gives how many
/// were leased.
///
/// # Errors
/// When the database fails.
pub async fn lapse_notices(db: &PgPool) -> Result<u64, sqlx::Error> {
    let lapsed = patiently(|| {
        async move {
            sqlx::query("update notices set lease_until = $1 where status = 'pending' and lease_until > $1")
                .bind(SystemClock.now())
                .execute(db)
                .await
        }
        .boxed()
    })
    .await?;
    Ok(lapsed.rows_affected())
}

/// Asks again when the connection was one that a restart of Postgres has ended.
async fn patiently<'a, T>(
    ask: impl Fn() -> BoxFuture<'a, Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    for _ in 0..PATIENCE {
        match ask().await {
            Err(error) if is_transient(&error) => tokio::time::sleep(LOOK_EVERY).await,
            answer => return answer,
        }
    }
    ask().await
}

/// Moves the clock past the waits of all notices.
async fn hasten_notices(db: &PgPool) -> Result<(), sqlx::Error> {
    patiently(|| {
        async move {
            sqlx::query("update notices set run_at = $1 where status = 'pending' and run_at > $1")
                .bind(SystemClock.now())
                .execute(db)
                .await
        }
        .boxed()
    })
    .await?;
    Ok(())
}

impl World {
    /// Takes back what came from jobs of grants that have expired since: the task that does so runs once a minute.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expire(&self) -> anyhow::Result<()> {
        let db = &self.ground.db;
        let tokens = patiently(|| billing::expire_grants(db, SystemClock.now()).boxed()).await?;
        self.book.add("tokens that expired only in the end", tokens.unsigned_abs());
        Ok(())
    }

    /// Moves the clock past the next night for the task that deletes stray objects, and waits for it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn sweep(&self) -> anyhow::Result<()> {
        let db = &self.ground.db;
        let began = Instant::now();
        let since = SystemClock.now();
        while began.elapsed() < SWEEP_LIMIT {
            sqlx::query("update schedule set last_tick = last_tick - interval '1 day' where task = $1 and last_tick > $2 - interval '1 day'")
                .bind(SWEEP)
                .bind(since)
                .execute(db)
                .await?;
            let done: bool = sqlx::query_scalar(
                "select exists (select from schedule where task = $1 and finished_at > $2 and failures = 0 and lease_until is null)",
            )
            .bind(SWEEP)
            .bind(since)
            .fetch_one(db)
            .await?;
            if done {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.book.breach("stray objects are looked for", "the task did not run in time");
        Ok(())
    }

    /// Waits until every job is final and every notice settled; what is not, in time, is a breach. All has been mended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn settle(&self, patience: Duration) -> anyhow::Result<()> {
        let db = &self.ground.db;
        // Nobody sends a notice when the clock moves past the leases of the notices.
        self.fleet.replace(Role::Delivery);
        lapse_notices(db).await?;
        let (began, limit) = (Instant::now(), patience + MARGIN);
        let mut told = began;
        loop {
            hasten_notices(db).await?;
            let (jobs, notices) = (open_jobs(db).await?, pending_notices(db).await?);
            if jobs.is_empty() && notices.is_empty() {
                return Ok(());
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                println!(
                    "  {} s later {} jobs are open and {} notices pending",
                    began.elapsed().as_secs(),
                    jobs.len(),
                    notices.len()
                );
            }
            if began.elapsed() > limit {
                blame(&self.book, "every accepted job comes to an end", &jobs);
                blame(&self.book, "every notice is settled", &notices);
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn blame(book: &Book, rule: &str, ids: &[String]) {
    for id in ids.iter().take(NAMED) {
        book.breach(rule, id);
    }
}

async fn open_jobs(db: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    texts(db, "select job_id::text || ' ' || phase from queue order by job_id").await
}

async fn pending_notices(db: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    texts(
        db,
        "select id::text || ' ' || coalesce(last_error, '') from notices where status = 'pending' order by id",
    )
    .await
}

/// The texts of a query with one column.
///
/// # Errors
/// When the database fails.
pub async fn texts(db: &PgPool, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    patiently(|| sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(db).boxed()).await
}
