//! Jobs accepted over HTTP: key, idempotency, price, hold, job, queue and ledger, one durable commit for each.

use anyhow::{Result, ensure};
use std::time::Duration;

use super::{TEMPLATE, audit};
use crate::{
    child,
    http_load::{self, Load},
    report::Figures,
    run::Run,
};

/// The database of a round.
const DATABASE: &str = "kiln_submit";

/// Clients and accounts.
const VARIANTS: [(usize, usize); 3] = [(16, 1), (16, 16), (64, 1000)];

/// One round of every variant.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    for (clients, accounts) in VARIANTS {
        let plural = if accounts == 1 { "account" } else { "accounts" };
        let variant = format!("{clients} clients, {accounts} {plural}");
        run.results.add("submit", &variant, round, once(run, clients, accounts).await?)?;
    }
    Ok(())
}

async fn once(run: &Run, clients: usize, accounts: usize) -> Result<Figures> {
    run.server.create(DATABASE, TEMPLATE).await?;
    let (api, addr) = child::api(&run.api, &run.server.url(DATABASE), run.connections).await?;
    let mut keys = run.ground()?.keys(accounts);
    // Clients that share one account share its key.
    while keys.len() < clients {
        keys.extend_from_within(..);
    }
    let mut load = Load {
        addr,
        clients,
        keys,
        time: Duration::from_secs(2),
        rate: None,
        webhook: None,
        remember: false,
    };
    let warm = http_load::run(load.clone()).await?;
    let (before, api_before) = (run.server.counted(DATABASE).await?, api.cpu_seconds());
    load.time = run.either(Duration::from_secs(10), Duration::from_secs(3));
    let seen = http_load::run(load).await?;
    seen.check()?;
    let jobs = seen.times.count() as f64;
    let api_cpu = api.cpu_seconds() - api_before;
    let mut figures = Figures::default();
    figures.set("api_cpu_us_per_job", api_cpu * 1e6 / jobs);
    api.stop().await?;
    run.server.counted(DATABASE).await?.per_job(before, jobs, &mut figures);
    figures.set("per_second", seen.per_second());
    figures.set("p50_ms", seen.times.ms(0.5));
    figures.set("p99_ms", seen.times.ms(0.99));
    figures.set("errors", seen.errors as f64);
    figures.set("load_cpu_us_per_job", seen.cpu_seconds * 1e6 / jobs);
    verify(run, warm.times.count() + seen.times.count()).await?;
    Ok(figures)
}

/// Every job that was answered for is there, and the books are right.
async fn verify(run: &Run, accepted: u64) -> Result<()> {
    let db = run.server.pool(DATABASE, 2).await?;
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from jobs where status = 'open'").fetch_one(&db).await?;
    ensure!(u64::try_from(jobs)? == accepted, "{accepted} jobs were accepted and {jobs} are there");
    audit(&db).await?;
    db.close().await;
    run.server.drop(DATABASE).await
}
