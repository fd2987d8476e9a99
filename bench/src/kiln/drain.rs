//! A backlog worked off by one process whose provider answers at once: what Kiln itself can do with a job.
//!
//! Every job is claimed under a lease and closed with result, charge, ledger entry and a notice that is owed. Nobody bills a
//! provider that does nothing, so no intent is written; how it is with one that is billed is measured as well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;

use super::{TEMPLATE, audit, worker::Report};
use crate::{child, os, report::Figures, run::Run};

/// The database of a round.
const DATABASE: &str = "kiln_drain";
/// Longest time a round may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Accounts that the jobs belong to, whether the provider sends a bill, and what the two are called.
const VARIANTS: [(usize, bool, &str); 4] = [
    (100, false, "100 accounts"),
    (1, false, "1 account"),
    (100, true, "100 accounts, billed"),
    (1, true, "1 account, billed"),
];

/// One round of every variant.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    for (accounts, billed, variant) in VARIANTS {
        let figures = once(run, accounts, billed).await.with_context(|| format!("drain of {variant}"))?;
        run.results.add("drain", variant, round, figures)?;
    }
    Ok(())
}

/// A template with the backlog in it, made once a run.
async fn backlog(run: &Run, accounts: usize, jobs: usize) -> Result<String> {
    let name = format!("kiln_drain_{accounts}_{jobs}");
    if !run.server.has(&name).await? {
        run.server.create(&name, TEMPLATE).await?;
        let db = run.server.filling_pool(&name).await?;
        let ground = run.ground()?;
        ground.submit(&db, &ground.customers[..accounts], "gpt-4o", jobs).await?;
        sqlx::raw_sql("vacuum (analyze)").execute(&db).await?;
        db.close().await;
    }
    Ok(name)
}

async fn once(run: &Run, accounts: usize, billed: bool) -> Result<Figures> {
    let jobs = run.either(50_000, 5_000);
    run.server.create(DATABASE, &backlog(run, accounts, jobs).await?).await?;
    let words = run.folder("drain")?;
    let db = run.server.pool(DATABASE, 2).await?;
    let before = run.server.counted(DATABASE).await?;
    let arguments = [
        ("--database", run.server.url(DATABASE)),
        ("--slots", run.slots.to_string()),
        ("--connections", run.connections.to_string()),
        ("--expect", jobs.to_string()),
        ("--words", words.display().to_string()),
        (if billed { "" } else { "--unbilled" }, String::new()),
    ];
    let mut worker = child::own("worker", &run.arguments(&arguments))?;
    let began: i64 = child::word(&mut worker, &words.join("began"), PATIENCE).await?;
    let cpu = worker.cpu_seconds();
    child::word::<i64>(&mut worker, &words.join("handed"), PATIENCE).await?;
    wait_until_empty(&db).await?;
    let seconds = (chrono::Utc::now().timestamp_micros() - began) as f64 / 1e6;
    let jobs = jobs as f64;
    let mut figures = Figures::default();
    figures.set("worker_cpu_us_per_job", (worker.cpu_seconds() - cpu) * 1e6 / jobs);
    figures.set("worker_peak_rss_mb", os::peak_rss_mb(worker.pid()));
    worker.stop().await?;
    let report = Report::read(&words)?;
    run.server.counted(DATABASE).await?.per_job(before, jobs, &mut figures);
    figures.set("per_second", jobs / seconds);
    figures.set("provider_calls_per_job", report.submits as f64 / jobs);
    verify(&db, jobs as i64).await?;
    db.close().await;
    run.server.drop(DATABASE).await?;
    Ok(figures)
}

/// Waits for the last open job to be closed.
pub async fn wait_until_empty(db: &PgPool) -> Result<()> {
    let began = std::time::Instant::now();
    while sqlx::query_scalar::<_, bool>(
        "select exists(select from jobs where status = 'open' and id = (select job_id from queue limit 1))",
    )
    .fetch_one(db)
    .await?
    {
        ensure!(began.elapsed() < PATIENCE, "jobs are still open after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// All succeeded, each charged once and owed one notice, nothing is left over, and the books are right.
pub async fn verify(db: &PgPool, jobs: i64) -> Result<()> {
    for (what, sql) in [
        (
            "succeeded and were charged",
            "select count(*) from jobs where status = 'succeeded' and charged_tokens = 1000",
        ),
        (
            "have their charge in the ledger",
            "select count(*) from ledger where kind = 'charge' and amount_tokens = 1000",
        ),
        ("are owed one notice", "select count(distinct job_id) from notices where event = 'job.succeeded'"),
        ("have a result", "select count(*) from jobs where output ->> 'text' is not null"),
    ] {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(db).await?;
        ensure!(found == jobs, "{found} of {jobs} jobs {what}");
    }
    let left: i64 = sqlx::query_scalar("select count(*) from queue").fetch_one(db).await?;
    ensure!(left == 0, "{left} jobs are left in the queue");
    audit(db).await
}
