//! riverqueue, River's own client for Rust.
//!
//! Worked off as in River's published benchmark: 2000 workers, a cooldown of 2 ms between fetches, a poll every 20 ms; the
//! completer at its defaults (batches of up to 5000, coalesced for 10 ms, two writes at once).

use std::time::Duration;

use anyhow::{Context, Result};
use riverqueue::{
    BoxError, Client, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers, migrate::PostgresMigrator,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::{FILLING, Inserted, PROMPT, Tally, insert_all};

/// How many jobs are not done.
pub const UNFINISHED: &str = "select count(*) from river_job where state <> 'completed'";

#[derive(Debug, Clone, Serialize, Deserialize, JobArgs)]
#[river(kind = "generate")]
struct Generate {
    prompt: String,
}

fn generate() -> Generate {
    Generate { prompt: PROMPT.into() }
}

pub async fn fill(db: &PgPool, jobs: usize) -> Result<()> {
    PostgresMigrator::new(db.clone()).migrate_up().await?;
    let client = Client::builder(db.clone()).build()?;
    for begun in (0..jobs).step_by(FILLING) {
        client.insert_many((0..FILLING.min(jobs - begun)).map(|_| generate())).await?;
    }
    Ok(())
}

pub async fn insert(db: &PgPool, time: Duration) -> Result<Inserted> {
    let client = Client::builder(db.clone()).build()?;
    insert_all(time, |_| {
        let client = client.clone();
        async move {
            client.insert(generate()).await?;
            Ok(())
        }
    })
    .await
}

pub async fn drain(db: PgPool, tally: Tally) -> Result<()> {
    let mut workers = Workers::new();
    let counted = tally.clone();
    workers.add_fn(move |_: WorkContext, _: Job<Generate>| {
        counted.add();
        async { Ok::<_, BoxError>(WorkOutcome::Complete) }
    })?;
    let queue = QueueConfig::new(2000)
        .with_fetch_cooldown(Duration::from_millis(2))
        .with_fetch_poll_interval(Duration::from_millis(20));
    let client = Client::builder(db).workers(workers).queue("default", queue).build()?;
    tally.begin()?;
    let mut run = client.start_with_graceful_stop(async {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("listen to SIGTERM");
        signal.recv().await;
    })?;
    run.wait().await.context("run river")
}
