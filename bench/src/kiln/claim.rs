//! Whether a claim takes longer because of jobs that are not to be claimed: beside none, and beside a million that wait for
//! their providers and a million that have ended. Timed without the wait for the disk at its end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::Utc;
use shared::job::{self, Claim, Floors, Lease, Medium};
use sqlx::PgPool;

use super::{
    Ground, TEMPLATE,
    exemplar::{self, Stage},
};
use crate::{report::Figures, run::Run, stats::Times};

/// The two databases, which stay for all rounds.
const EMPTY: &str = "kiln_claim_empty";
const FULL: &str = "kiln_claim_full";
/// Model of all jobs here.
const MODEL: &str = "gpt-4o";
/// Lease of a claim.
const LEASE: Duration = Duration::from_secs(45);

/// Rest between two claims beside a worker, so that they hardly keep it from its work.
const APART: Duration = Duration::from_millis(5);

/// Turns that the two databases take in a round, so that what the disk does meanwhile meets both.
const TURNS: usize = 10;

/// One round on both.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    let many = run.either(1_000_000, 50_000);
    let (ones, hundreds) = run.either((300, 30), (100, 10));
    let mut both = Vec::new();
    for database in [EMPTY, FULL] {
        if !run.server.has(database).await? {
            make(run, database, if database == FULL { many } else { 0 }).await?;
        }
        let filling = run.server.pool(database, 16).await?;
        // Each round begins tidy, as autovacuum leaves a queue that has rested for a minute.
        sqlx::raw_sql("vacuum (analyze)").execute(&filling).await?;
        run.ground()?.submit_ready(&filling, ones + 100 * hundreds + 1500).await?;
        filling.close().await;
        let (db, _) = claimer(run, database).await?;
        both.push((db, Taken::default()));
    }
    for _ in 0..TURNS {
        for (db, taken) in &mut both {
            taken.claim(db, ones / TURNS, hundreds / TURNS).await?;
        }
    }
    let beside = ["beside no other jobs".to_owned(), format!("beside {many} parked and {many} ended")];
    for (variant, (_, taken)) in beside.iter().zip(&both) {
        let mut figures = Figures::default();
        taken.note("", &mut figures);
        run.results.add("claim", variant, round, figures)?;
    }
    let mut ratio = Figures::default();
    ratio.set("of_1", both[1].1.ones.ms(0.5) / both[0].1.ones.ms(0.5));
    ratio.set("of_100", both[1].1.hundreds.ms(0.5) / both[0].1.hundreds.ms(0.5));
    run.results.add("claim", "ratio", round, ratio)?;
    for (db, _) in both {
        db.close().await;
    }
    Ok(())
}

/// A connection as a claimer has it: one, and with its plan. It does not wait for the disk, which takes the same time for
/// every commit and would hide the rest. There must be some six
/// hundred jobs in line; gives what it claimed of them.
pub async fn claimer(run: &Run, database: &str) -> Result<(PgPool, Vec<Lease>)> {
    let db = run.server.hasty_pool(database, 1).await?;
    let mut warm = Taken::default();
    warm.claim(&db, 10, 6).await?;
    Ok((db, warm.leases))
}

async fn make(run: &Run, database: &str, many: usize) -> Result<()> {
    run.server.create(database, TEMPLATE).await?;
    let db = run.server.pool(database, 4).await?;
    if many > 0 {
        let parked = exemplar::make(run, database, &db, MODEL, Stage::Parked).await?;
        let later =
            [("run_at", "now() + interval '6 hours' + n * interval '1 millisecond'"), ("tag", "n::bigint")];
        exemplar::copy(run, &db, parked, Stage::Parked, many, &later).await?;
        let ended = exemplar::make(run, database, &db, MODEL, Stage::Succeeded).await?;
        exemplar::copy(run, &db, ended, Stage::Succeeded, many, &[]).await?;
        // The exemplar would be due soon.
        sqlx::query("update queue set run_at = now() + interval '6 hours' where job_id = $1")
            .bind(parked)
            .execute(&db)
            .await?;
    }
    sqlx::raw_sql("checkpoint").execute(&db).await?;
    db.close().await;
    Ok(())
}

/// Floors as a worker that has run for a while has them.
async fn floors(db: &PgPool) -> Result<Floors> {
    let floors = Floors::default().look(db, Medium::Text, Utc::now()).await?;
    Ok(floors.look(db, Medium::Text, Utc::now()).await?)
}

/// Claims up to `limit` jobs; what was claimed, and how long it took.
async fn timed(db: &PgPool, floors: &Floors, limit: i64) -> Result<(Vec<Lease>, Duration)> {
    let began = Instant::now();
    let wanted = Claim {
        pool: Medium::Text,
        worker: "bench",
        limit,
        lease: LEASE,
        floors: floors.clone(),
        moves_clock: false,
    };
    let claimed = job::claim(db, &wanted, Utc::now()).await?;
    Ok((claimed.iter().map(|claimed| claimed.lease).collect(), began.elapsed()))
}

/// Times claims of one job out of the line that a worker is at, and gives each job back at once: its run begins a little
/// later. Only claims that found a job count; `ones` of them, or fewer where the line is mostly empty.
pub async fn beside_a_worker(db: &PgPool, ones: u64) -> Result<Times> {
    let floors = floors(db).await?;
    let mut times = Times::default();
    for _ in 0..4 * ones {
        if times.count() == ones {
            break;
        }
        let (leases, took) = timed(db, &floors, 1).await?;
        if !leases.is_empty() {
            times.add(took);
            job::release(db, &leases, Utc::now()).await?;
        }
        tokio::time::sleep(APART).await;
    }
    Ok(times)
}

/// How long claims took.
#[derive(Debug, Default)]
pub struct Taken {
    /// Claims of one job.
    pub ones: Times,
    /// Claims of a hundred.
    pub hundreds: Times,
    /// What was claimed.
    pub leases: Vec<Lease>,
}

impl Taken {
    /// Claims some jobs one by one, and some by the hundred. There must be as many.
    pub async fn claim(&mut self, db: &PgPool, ones: usize, hundreds: usize) -> Result<()> {
        let floors = floors(db).await?;
        for limit in std::iter::repeat_n(1, ones).chain(std::iter::repeat_n(100, hundreds)) {
            let (leases, took) = timed(db, &floors, limit).await?;
            if limit == 1 { &mut self.ones } else { &mut self.hundreds }.add(took);
            ensure!(leases.len() as i64 == limit, "{} jobs were claimed instead of {limit}", leases.len());
            self.leases.extend(leases);
        }
        Ok(())
    }

    /// Notes them under names that begin with `prefix`.
    pub fn note(&self, prefix: &str, figures: &mut Figures) {
        figures.set(&format!("{prefix}claim_of_1_p50_ms"), self.ones.ms(0.5));
        figures.set(&format!("{prefix}claim_of_1_p99_ms"), self.ones.ms(0.99));
        figures.set(&format!("{prefix}claim_of_100_p50_ms"), self.hundreds.ms(0.5));
        figures.set(&format!("{prefix}claim_of_100_max_ms"), self.hundreds.max_ms());
    }
}

impl Ground {
    /// Puts jobs in line that are to be claimed, of a hundred accounts.
    pub async fn submit_ready(&self, db: &PgPool, count: usize) -> Result<()> {
        self.submit(db, &self.customers[..100], MODEL, count).await
    }
}
