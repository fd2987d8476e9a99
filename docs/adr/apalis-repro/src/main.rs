//! Three things that apalis-postgres 1.0 does to long, paid jobs, shown on a real server.
//!
//! `long`: jobs run twice while the worker that has them is alive. `cut`: one lost connection ends a worker and the
//! jobs it was running. `poison`: a payload that cannot be read ends every worker that gets it, without end.
//! Everything is at its default except the heartbeat, which is made faster so that nobody has to wait for minutes.
//! Deliberately absent: fixes and workarounds; they are weighed in ADR 1.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage, queries::push_tasks};
use tokio::{task::JoinHandle, time::sleep};

/// The default is 30 s. Ten missed ones, the default, make the timeout after which a worker is taken for dead.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often each job was begun, and since when we count.
#[derive(Clone)]
struct Log(Arc<Mutex<BTreeMap<u32, u32>>>, Instant);

impl Log {
    fn say(&self, what: &str) {
        println!("{:5.1} s  {what}", self.1.elapsed().as_secs_f64());
    }

    fn begin(&self, job: u32, worker: &str) {
        let run = {
            let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *runs.entry(job).and_modify(|runs| *runs += 1).or_insert(1)
        };
        let again = if run > 1 { "  <- again" } else { "" };
        self.say(&format!("{worker} begins job {job}, run {run}{again}"));
    }
}

/// Says so when a job's future is dropped before it is done.
struct Unfinished<'a>(&'a Log, u32);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.say(&format!("job {} dropped before its end", self.1));
    }
}

/// A job: a wait of so many seconds, as one for a provider would be.
async fn generate(job: u32, by: WorkerContext, log: Data<Log>, time: Data<Duration>) {
    log.begin(job, by.name());
    let unfinished = Unfinished(&log, job);
    sleep(*time).await;
    std::mem::forget(unfinished);
}

/// A worker with two slots and a pool of its own, as a process of its own would have.
async fn start(url: &str, name: &str, secs: u64, log: &Log) -> anyhow::Result<JoinHandle<()>> {
    let config = Config::default().queue("video").heartbeat_interval(HEARTBEAT);
    let backend = PostgresStorage::<u32>::new(&PgPool::connect(url).await?).with_config(config);
    let builder = WorkerBuilder::new(name).backend(backend).data(log.clone());
    let worker = builder.data(Duration::from_secs(secs)).concurrency(2).build(generate);
    let (log, name) = (log.clone(), name.to_owned());
    Ok(tokio::spawn(async move {
        let ended = worker.run().await;
        log.say(&format!("{name} ended: {ended:?}"));
    }))
}

async fn push(db: &PgPool, payloads: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let task = |payload: String| TaskBuilder::new(payload.into_bytes()).max_attempts(1).build();
    Ok(push_tasks(&mut *db.acquire().await?, "video", payloads.map(task).collect()).await?)
}

async fn show(db: &PgPool, log: &Log) -> anyhow::Result<()> {
    let rows: Vec<(String, i32, i32, Option<String>, i64)> = sqlx::query_as(
        "select status, attempts, max_attempts, lock_by, count(*) from apalis.jobs group by 1, 2, 3, 4 order by 1, 2, 4",
    )
    .fetch_all(db)
    .await?;
    for (status, attempts, most, by, count) in rows {
        let by = by.as_deref().unwrap_or("nobody");
        log.say(&format!("table: {count} job(s) {status}, attempts {attempts} of {most}, locked by {by}"));
    }
    Ok(())
}

/// Ten jobs of 4 s, two slots, a timeout of 10 × 1 s. At the default heartbeat of 30 s that is jobs of 2 minutes.
async fn long(db: &PgPool, url: &str, log: &Log) -> anyhow::Result<()> {
    push(db, (1..=10).map(|job| job.to_string())).await?;
    start(url, "worker-a", 4, log).await?;
    sleep(Duration::from_secs(2)).await;
    log.say("worker-b joins and finds nothing to do");
    start(url, "worker-b", 4, log).await?;
    sleep(Duration::from_secs(33)).await;
    let runs: u32 = log.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
    log.say(&format!("10 jobs were pushed, {runs} runs were begun"));
    show(db, log).await
}

/// Two jobs of 8 s; the worker's connections are cut, first while they are idle, then during a heartbeat.
async fn cut(db: &PgPool, url: &str, log: &Log) -> anyhow::Result<()> {
    const CUT: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                       where application_name = 'cut' and ($1 or state = 'idle')";
    push(db, (1..=2).map(|job| job.to_string())).await?;
    let mark = if url.contains('?') { '&' } else { '?' };
    start(&format!("{url}{mark}application_name=cut"), "worker-a", 8, log).await?;
    sleep(Duration::from_millis(2500)).await;
    let count: i64 = sqlx::query_scalar(CUT).bind(false).fetch_one(db).await?;
    log.say(&format!("{count} idle connection(s) cut"));
    sleep(Duration::from_secs(3)).await;
    // Makes the next heartbeat wait, so that it is surely under way when its connection goes.
    let mut lock = db.begin().await?;
    sqlx::query("lock table apalis.workers in exclusive mode").execute(&mut *lock).await?;
    sleep(Duration::from_millis(1500)).await;
    log.say("all connections are cut during a heartbeat");
    sqlx::query_scalar::<_, i64>(CUT).bind(true).fetch_one(db).await?;
    lock.rollback().await?;
    sleep(Duration::from_secs(1)).await;
    start(url, "worker-b", 8, log).await?;
    sleep(Duration::from_secs(20)).await;
    show(db, log).await
}

/// One payload that is no number, and one good job behind it; a new worker each time the last one has ended.
async fn poison(db: &PgPool, url: &str, log: &Log) -> anyhow::Result<()> {
    push(db, ["\"a newer version's job\"", "1"].into_iter().map(str::to_owned)).await?;
    for life in 1..=3 {
        start(url, &format!("worker-{life}"), 1, log).await?.await?;
        sleep(Duration::from_secs(11)).await;
    }
    show(db, log).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let db = PgPool::connect(&url).await?;
    PostgresStorage::setup(&db).await?;
    sqlx::query("truncate apalis.jobs, apalis.workers").execute(&db).await?;
    let log = Log(Arc::default(), Instant::now());
    match std::env::args().nth(1).as_deref() {
        Some("long") => long(&db, &url, &log).await,
        Some("cut") => cut(&db, &url, &log).await,
        Some("poison") => poison(&db, &url, &log).await,
        _ => bail!("usage: apalis-repro long|cut|poison"),
    }
}
