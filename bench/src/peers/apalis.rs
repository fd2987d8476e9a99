//! apalis-postgres at its best: large batches, no row locked for each job, no limit to what runs at once, woken by
//! notifications and by a short poll, results kept as by default.

use std::time::Duration;

use anyhow::{Result, anyhow};
use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::{CLIENTS, FILLING, Inserted, PROMPT, Tally, insert_all};

/// How many jobs are not done.
pub const UNFINISHED: &str = "select count(*) from apalis.jobs where status <> 'Done'";
/// Name of the queue.
const QUEUE: &str = "generate";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Generate {
    prompt: String,
}

fn generate() -> Generate {
    Generate { prompt: PROMPT.into() }
}

fn storage(db: &PgPool) -> PostgresStorage<Generate> {
    let config = Config::default().queue(QUEUE).batch_size(500).lock_tasks(false);
    PostgresStorage::new(db).with_config(config)
}

pub async fn fill(db: &PgPool, jobs: usize) -> Result<()> {
    PostgresStorage::setup(db).await?;
    for begun in (0..jobs).step_by(FILLING) {
        let body = serde_json::to_vec(&generate())?;
        let tasks = (0..FILLING.min(jobs - begun)).map(|_| TaskBuilder::new(body.clone()).build()).collect();
        let mut connection = db.acquire().await?;
        apalis_postgres::queries::push_tasks(&mut *connection, QUEUE, tasks).await?;
    }
    Ok(())
}

pub async fn insert(db: &PgPool, time: Duration) -> Result<Inserted> {
    let storages: Vec<_> = (0..CLIENTS).map(|_| tokio::sync::Mutex::new(storage(db))).collect();
    insert_all(time, |client| {
        let storage = &storages[client];
        async move {
            storage.lock().await.push(generate()).await.map_err(|error| anyhow!("push: {error}"))?;
            Ok(())
        }
    })
    .await
}

pub async fn drain(db: PgPool, tally: Tally) -> Result<()> {
    let backend = storage(&db).with_pubsub().poll_with_interval(Duration::from_millis(20));
    let worker =
        WorkerBuilder::new("bench").backend(backend).data(tally.clone()).parallelize(tokio::spawn).build(run);
    tally.begin()?;
    let stop = async {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        signal.recv().await;
        Ok::<(), WorkerError>(())
    };
    worker.run_until(stop).await.map_err(|error| anyhow!("run apalis: {error}"))
}

async fn run(_: Generate, tally: Data<Tally>) -> Result<(), BoxDynError> {
    tally.add();
    Ok(())
}
