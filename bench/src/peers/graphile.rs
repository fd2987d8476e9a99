//! graphile_worker, the rewrite of Graphile Worker in Rust.
//!
//! Worked off as in its own `benches/perf_test.rs`: concurrency 500, a local queue of 5000, a poll every 5 ms, completions
//! gathered for 5 ms, a pool of 100 connections. A finished job's row is deleted.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::{FILLING, Inserted, PROMPT, Tally, insert_all};

/// How many jobs are not done.
pub const UNFINISHED: &str = "select count(*) from graphile_worker._private_jobs";
/// Its tables are there.
const SCHEMA: &str = "graphile_worker";

#[derive(Debug, Serialize, Deserialize)]
struct Generate {
    prompt: String,
}

impl TaskHandler for Generate {
    const IDENTIFIER: &'static str = "generate";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(tally) = ctx.get_ext::<Tally>() {
            tally.add();
        }
        Ok::<(), String>(())
    }
}

fn utils(db: &PgPool) -> WorkerUtils {
    WorkerUtils::new(Database::from(db.clone()), SCHEMA)
}

pub async fn fill(db: &PgPool, jobs: usize) -> Result<()> {
    let utils = utils(db);
    utils.migrate().await?;
    for begun in (0..jobs).step_by(FILLING) {
        let specs: Vec<RawJobSpec> = (0..FILLING.min(jobs - begun))
            .map(|_| RawJobSpec {
                identifier: Generate::IDENTIFIER.into(),
                payload: serde_json::json!({ "prompt": PROMPT }),
                spec: JobSpec::default(),
            })
            .collect();
        utils.add_raw_jobs(&specs).await?;
    }
    Ok(())
}

pub async fn insert(db: &PgPool, time: Duration) -> Result<Inserted> {
    let utils = utils(db);
    insert_all(time, |_| {
        let utils = &utils;
        async move {
            utils.add_job(Generate { prompt: PROMPT.into() }, JobSpec::default()).await?;
            Ok(())
        }
    })
    .await
}

pub async fn drain(db: PgPool, tally: Tally) -> Result<()> {
    let worker = WorkerOptions::default()
        .database(Database::from(db))
        .schema(SCHEMA)
        .concurrency(500)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5000))
        .add_extension(tally.clone())
        .define_job::<Generate>()
        .init()
        .await?;
    tally.begin()?;
    // Stops by itself at SIGTERM.
    Arc::new(worker).run().await.context("run graphile_worker")
}
