//! A reader that holds its snapshot for minutes while jobs come and go: no dead row can be cleaned up meanwhile.
//!
//! Claims are timed before, at the end while the snapshot is still held, and after it was let go and vacuumed. In between
//! jobs pass through API and worker at a steady rate.

use std::time::Duration;

use anyhow::Result;
use shared::job;
use sqlx::{Connection, PgPool};

use super::{
    TEMPLATE,
    claim::{self, Taken},
    deployment::Deployment,
    drain, start, tables,
    worker::Report,
};
use crate::{
    http_load::{self, Load, Seen},
    report::Figures,
    run::Run,
};

/// The database.
const DATABASE: &str = "kiln_snapshot";
/// Jobs a second.
const RATE: f64 = 500.0;
/// Jobs that the worker runs at once.
const SLOTS: usize = 256;
/// Tables whose dead rows are counted.
const TABLES: [&str; 5] = ["queue", "accounts", "pools", "jobs", "attempts"];

/// The one round.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    run.server.create(DATABASE, TEMPLATE).await?;
    let db = run.server.pool(DATABASE, 16).await?;
    let mut figures = Figures::default();
    let mut reader = db.acquire().await?.detach();
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from queue")
        .execute(&mut reader)
        .await?;

    take(run, &db).await?.note("begin_", &mut figures);
    let before = run.server.counted(DATABASE).await?;
    let (seen, report) = steady(run, &db).await?;
    run.server.counted(DATABASE).await?.per_job(before, report.submits as f64, &mut figures);
    figures.set("jobs", report.submits as f64);
    figures.set("accepted_per_second", seen.per_second());
    figures.set("accepted_p99_ms", seen.times.ms(0.99));
    let tenth = seen.sent.len() / 10;
    for (name, part) in
        [("first_tenth", &seen.sent[..tenth]), ("last_tenth", &seen.sent[seen.sent.len() - tenth..])]
    {
        let waits = start::waits(part, &report)?;
        figures.set(&format!("start_p50_ms_{name}"), waits.ms(0.5));
        figures.set(&format!("start_p99_ms_{name}"), waits.ms(0.99));
    }
    take(run, &db).await?.note("end_", &mut figures);
    dead(run, &db, &mut figures).await?;

    sqlx::raw_sql("commit").execute(&mut reader).await?;
    reader.close().await?;
    sqlx::raw_sql("vacuum").execute(&db).await?;
    take(run, &db).await?.note("after_", &mut figures);
    db.close().await;
    run.server.drop(DATABASE).await?;
    run.results.add("snapshot", &format!("{} minutes at {RATE}/s", run.hold_minutes), round, figures)
}

/// Times some claims and gives back what was claimed.
async fn take(run: &Run, db: &PgPool) -> Result<Taken> {
    run.ground()?.submit_ready(db, 2400).await?;
    let (claimer, warm) = claim::claimer(run, DATABASE).await?;
    let mut taken = Taken::default();
    taken.claim(&claimer, 200, 10).await?;
    job::release(&claimer, &warm, chrono::Utc::now()).await?;
    job::release(&claimer, &taken.leases, chrono::Utc::now()).await?;
    claimer.close().await;
    Ok(taken)
}

/// Lets jobs come and go until the time is over and the last has ended.
async fn steady(run: &Run, db: &PgPool) -> Result<(Seen, Report)> {
    let deployment = Deployment::start(run, DATABASE, SLOTS, &[]).await?;
    // What was submitted for the claims goes first.
    drain::wait_until_empty(db).await?;
    let time = Duration::from_secs_f64(run.hold_minutes * 60.0);
    let keys = run.ground()?.keys(100);
    let load = Load {
        addr: deployment.addr,
        clients: 50,
        keys,
        time,
        rate: Some(RATE),
        webhook: None,
        remember: true,
    };
    let mut seen = http_load::run(load).await?;
    seen.check()?;
    seen.sent.sort_by_key(|sent| sent.at_micros);
    drain::wait_until_empty(db).await?;
    Ok((seen, deployment.stop().await?))
}

/// Rows that nobody sees any more and nobody may remove, and the size of what they are in.
async fn dead(run: &Run, db: &PgPool, figures: &mut Figures) -> Result<()> {
    // Counts are handed in with some delay.
    tokio::time::sleep(Duration::from_secs(run.either(12, 3))).await;
    for name in TABLES {
        let table = tables::look(db, name).await?;
        figures.set(&format!("dead_{name}"), table.dead_rows);
        figures.set(&format!("mb_{name}"), table.mb);
    }
    Ok(())
}
