//! Other queues on the same server: what they insert and work off, each at the settings its own documents and benchmarks
//! recommend.
//!
//! A peer runs in a process of its own, with its own tables in a database of its own. What it does for a job is less than
//! what Kiln does: nothing is paid, nobody is told.

mod apalis;
mod graphile;
mod river;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use chrono::Utc;
use clap::Args;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{child, os, report::Figures, run::Run, stats::Times};

/// What jobs of peers carry: about as much as a prompt.
const PROMPT: &str = "Why is the sky blue? Answer in one sentence.";
/// Clients that insert at once.
const CLIENTS: usize = 16;
/// Longest time a step may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// Jobs of one statement while a backlog is filled in.
const FILLING: usize = 1000;

/// What a peer is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Which one: `apalis`, `river` or `graphile`.
    #[arg(long)]
    queue: String,
    /// What to do: `fill`, `insert` or `drain`.
    #[arg(long)]
    task: String,
    /// Address of its database.
    #[arg(long)]
    database: String,
    /// How many jobs to fill in or to work off.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// For how long to insert, in seconds.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Folder for what it says.
    #[arg(long)]
    words: PathBuf,
}

/// What came of inserting.
#[derive(Debug, Serialize, Deserialize)]
struct Inserted {
    /// Those that count, and all.
    jobs: u64,
    all: u64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_seconds: f64,
}

/// One round of one peer: inserts one by one, then a backlog.
pub async fn round(run: &Run, queue: &str, round: usize) -> Result<()> {
    let (crate_name, unfinished) = match queue {
        "apalis" => ("apalis-postgres", apalis::UNFINISHED),
        "river" => ("riverqueue", river::UNFINISHED),
        "graphile" => ("graphile_worker", graphile::UNFINISHED),
        _ => bail!("there is no measure {queue}"),
    };
    run.results.add(queue, &format!("{crate_name}, insert, 16 clients"), round, insert(run, queue).await?)?;
    run.results.add(queue, &format!("{crate_name}, drain"), round, drain(run, queue, unfinished).await?)
}

async fn insert(run: &Run, queue: &str) -> Result<Figures> {
    let database = format!("{queue}_insert");
    run.server.create(&database, &filled(run, queue, 0).await?).await?;
    let before = run.server.counted(&database).await?;
    let seconds = run.either("10", "3");
    let words = step(run, queue, "insert", &database, &[("--seconds", seconds.to_owned())]).await?;
    let inserted: Inserted = serde_json::from_slice(&std::fs::read(words.join("report"))?)?;
    let jobs = inserted.jobs as f64;
    let mut figures = Figures::default();
    run.server.counted(&database).await?.per_job(before, inserted.all as f64, &mut figures);
    figures.set("per_second", jobs / inserted.seconds);
    figures.set("p50_ms", inserted.p50_ms);
    figures.set("p99_ms", inserted.p99_ms);
    figures.set("client_cpu_us_per_job", inserted.cpu_seconds * 1e6 / inserted.all as f64);
    run.server.drop(&database).await?;
    Ok(figures)
}

async fn drain(run: &Run, queue: &str, unfinished: &'static str) -> Result<Figures> {
    let (database, jobs) = (format!("{queue}_drain"), run.either(50_000, 5_000));
    run.server.create(&database, &filled(run, queue, jobs).await?).await?;
    let db = run.server.pool(&database, 2).await?;
    let before = run.server.counted(&database).await?;
    let words = run.folder(&database)?;
    let flags = flags(run, queue, "drain", &database, &words, &[("--jobs", jobs.to_string())]);
    let mut worker = child::own("peer", &flags)?;
    let began: i64 = child::word(&mut worker, &words.join("began"), PATIENCE).await?;
    let cpu = worker.cpu_seconds();
    child::word::<i64>(&mut worker, &words.join("handed"), PATIENCE).await?;
    let waiting = Instant::now();
    while sqlx::query_scalar::<_, i64>(unfinished).fetch_one(&db).await? > 0 {
        ensure!(waiting.elapsed() < PATIENCE, "{queue} leaves jobs unfinished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = (Utc::now().timestamp_micros() - began) as f64 / 1e6;
    let jobs = jobs as f64;
    let mut figures = Figures::default();
    figures.set("worker_cpu_us_per_job", (worker.cpu_seconds() - cpu) * 1e6 / jobs);
    figures.set("worker_peak_rss_mb", os::peak_rss_mb(worker.pid()));
    worker.stop().await?;
    run.server.counted(&database).await?.per_job(before, jobs, &mut figures);
    figures.set("per_second", jobs / seconds);
    db.close().await;
    run.server.drop(&database).await?;
    Ok(figures)
}

/// A template with so many jobs in it, made once a run.
async fn filled(run: &Run, queue: &str, jobs: usize) -> Result<String> {
    let name = format!("{queue}_{jobs}");
    if !run.server.has(&name).await? {
        run.server.create(&name, "template1").await?;
        step(run, queue, "fill", &name, &[("--jobs", jobs.to_string())]).await?;
        let db = run.server.pool(&name, 1).await?;
        sqlx::raw_sql("vacuum (analyze)").execute(&db).await?;
        db.close().await;
    }
    Ok(name)
}

/// Runs a step in a process of its own until it ends.
async fn step(
    run: &Run,
    queue: &str,
    task: &str,
    database: &str,
    more: &[(&str, String)],
) -> Result<PathBuf> {
    let words = run.folder(&format!("{queue}-{task}"))?;
    let flags = flags(run, queue, task, database, &words, more);
    child::own("peer", &flags)?.wait(PATIENCE).await?;
    Ok(words)
}

fn flags(
    run: &Run,
    queue: &str,
    task: &str,
    database: &str,
    words: &std::path::Path,
    more: &[(&str, String)],
) -> Vec<String> {
    let mut flags = vec![
        ("--queue", queue.to_owned()),
        ("--task", task.to_owned()),
        ("--database", run.server.url(database)),
        ("--words", words.display().to_string()),
    ];
    flags.extend_from_slice(more);
    run.arguments(&flags)
}

/// Does what a peer was told.
pub async fn main(options: Options) -> Result<()> {
    let time = Duration::from_secs(options.seconds);
    match (options.queue.as_str(), options.task.as_str()) {
        ("apalis", "fill") => apalis::fill(&pool(&options, 4).await?, options.jobs).await,
        ("river", "fill") => river::fill(&pool(&options, 4).await?, options.jobs).await,
        ("graphile", "fill") => graphile::fill(&pool(&options, 4).await?, options.jobs).await,
        ("apalis", "insert") => report(&options, apalis::insert(&pool(&options, 16).await?, time).await?),
        ("river", "insert") => report(&options, river::insert(&pool(&options, 17).await?, time).await?),
        ("graphile", "insert") => report(&options, graphile::insert(&pool(&options, 16).await?, time).await?),
        ("apalis", "drain") => apalis::drain(pool(&options, 16).await?, Tally::start(&options)).await,
        ("river", "drain") => river::drain(pool(&options, 16).await?, Tally::start(&options)).await,
        ("graphile", "drain") => graphile::drain(pool(&options, 100).await?, Tally::start(&options)).await,
        (queue, task) => bail!("{queue} cannot {task}"),
    }
}

async fn pool(options: &Options, most: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(most).connect(&options.database).await?)
}

fn report(options: &Options, inserted: Inserted) -> Result<()> {
    child::say(&options.words.join("report"), &inserted)
}

/// Counts what handlers have done, and says when it was all.
#[derive(Debug, Clone)]
struct Tally(Arc<AtomicU64>, PathBuf);

impl Tally {
    fn start(options: &Options) -> Self {
        let tally = Self(Arc::default(), options.words.clone());
        let (watched, all) = (tally.clone(), options.jobs as u64);
        tokio::spawn(async move {
            while watched.0.load(Ordering::Relaxed) < all {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child::say(&watched.1.join("handed"), &Utc::now().timestamp_micros())
        });
        tally
    }

    /// To be called right before the peer begins to work.
    fn begin(&self) -> Result<()> {
        child::say(&self.1.join("began"), &Utc::now().timestamp_micros())
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets [`CLIENTS`] clients insert one after the other for a time; the first second does not count.
async fn insert_all<F>(time: Duration, insert: impl Fn(usize) -> F) -> Result<Inserted>
where
    F: Future<Output = Result<()>>,
{
    let (began, warm) = (Instant::now(), Duration::from_secs(1));
    let clients = (0..CLIENTS).map(|client| {
        let insert = &insert;
        async move {
            let (mut times, mut all) = (Times::default(), 0);
            while began.elapsed() < warm + time {
                let sent = Instant::now();
                insert(client).await?;
                all += 1;
                if began.elapsed() >= warm {
                    times.add(sent.elapsed());
                }
            }
            anyhow::Ok((times, all))
        }
    });
    let (mut times, mut all) = (Times::default(), 0);
    for (part, count) in futures::future::try_join_all(clients).await? {
        times.join(&part);
        all += count;
    }
    Ok(Inserted {
        jobs: times.count(),
        all,
        seconds: (began.elapsed() - warm).as_secs_f64(),
        p50_ms: times.ms(0.5),
        p99_ms: times.ms(0.99),
        cpu_seconds: os::cpu_of(std::process::id()),
    })
}
