//! A hundred thousand videos that their providers are at work on, looked after by one process: its memory, and how late it
//! looks.

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::Utc;

use super::{
    TEMPLATE,
    exemplar::{self, Stage},
    worker::Report,
};
use crate::{child, os, report::Figures, run::Run};

/// A database with one parked video, made once a run, and that of a round.
const SEED: &str = "kiln_parked_seed";
const DATABASE: &str = "kiln_parked";
/// Jobs that the worker runs at once.
const SLOTS: usize = 256;
/// How often each video of many is looked at. Kiln never waits longer, whatever a vendor says (workers/src/outcome.rs).
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often each of fewer is looked at: more looks than the other asks for.
const LOOK_OFTEN: Duration = Duration::from_secs(2);
/// Time to fill the database before the first look is due.
const AHEAD: Duration = Duration::from_secs(45);

/// One round.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    let videos = run.either(100_000, 5_000);
    let figures = once(run, videos, LOOK_AGAIN).await?;
    run.results.add("parked", &format!("{videos} videos"), round, figures)?;
    let fewer = run.either(10_000, 1_000);
    let figures = once(run, fewer, LOOK_OFTEN).await?;
    run.results.add("parked", &format!("{fewer} videos, each every 2 s"), round, figures)
}

async fn once(run: &Run, videos: usize, look_again: Duration) -> Result<Figures> {
    if !run.server.has(SEED).await? {
        run.server.create(SEED, TEMPLATE).await?;
        let db = run.server.pool(SEED, 2).await?;
        exemplar::make(run, SEED, &db, "kling", Stage::Parked).await?;
        db.close().await;
    }
    run.server.create(DATABASE, SEED).await?;
    let db = run.server.pool(DATABASE, 2).await?;
    let first = Utc::now() + run.either(AHEAD, Duration::from_secs(8));
    let apart = look_again.as_secs_f64() / videos as f64;
    let exemplar = sqlx::query_scalar("select job_id from queue").fetch_one(&db).await?;
    let due = format!("to_timestamp({} + (n - 1) * {apart}::float8)", first.timestamp_micros() as f64 / 1e6);
    let anew = [
        ("run_at", due.as_str()),
        ("checkpoint", "jsonb_set(r.checkpoint, '{provider_ref}', to_jsonb((n - 1)::text))"),
        ("tag", "n::bigint"),
        ("deadline", "now() + interval '6 hours'"),
    ];
    exemplar::copy(run, &db, exemplar, Stage::Parked, videos, &anew).await?;
    sqlx::query("update queue set run_at = now() + interval '6 hours' where job_id = $1")
        .bind(exemplar)
        .execute(&db)
        .await?;
    db.close().await;
    let left = (first - Utc::now()).to_std().unwrap_or_default();
    ensure!(left > Duration::from_secs(2), "the database was not filled in time");
    tokio::time::sleep(left - Duration::from_secs(2)).await;
    watch(run, videos, look_again, first.timestamp_micros()).await
}

async fn watch(run: &Run, videos: usize, look_again: Duration, first_look: i64) -> Result<Figures> {
    let words = run.folder("parked")?;
    let arguments = [
        ("--database", run.server.url(DATABASE)),
        ("--pool", "video".to_owned()),
        ("--provider", "kling".to_owned()),
        ("--slots", SLOTS.to_string()),
        ("--connections", run.connections.to_string()),
        ("--look-again-secs", look_again.as_secs().to_string()),
        ("--tasks", videos.to_string()),
        ("--first-look", first_look.to_string()),
        ("--words", words.display().to_string()),
    ];
    let before = run.server.counted(DATABASE).await?;
    let worker = child::own("worker", &run.arguments(&arguments))?;
    let time = run.either(Duration::from_secs(122), Duration::from_secs(18));
    tokio::time::sleep(time).await;
    let mut figures = Figures::default();
    figures.set("worker_peak_rss_mb", os::peak_rss_mb(worker.pid()));
    figures.set("worker_cpu_percent", worker.cpu_seconds() * 100.0 / time.as_secs_f64());
    worker.stop().await?;
    let report = Report::read(&words)?;
    let looks = report.looks as f64;
    figures.set("looks_per_second", looks / (time.as_secs_f64() - 2.0));
    figures.set("looks_needed_per_second", videos as f64 / look_again.as_secs_f64());
    figures.set("late_p50_ms", report.late_p50_ms);
    figures.set("late_p99_ms", report.late_p99_ms);
    figures.set("late_max_ms", report.late_max_ms);
    run.server.counted(DATABASE).await?.per_job(before, looks, &mut figures);
    run.server.drop(DATABASE).await?;
    Ok(figures)
}
