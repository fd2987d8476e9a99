//! What an account that wants little waits, with and without a neighbour that has a hundred thousand jobs in line.
//!
//! Fifty slots, a provider that takes 50 ms, other accounts that keep a third of them busy, and five light accounts that
//! ask for a job twice a second.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use chrono::Utc;
use uuid::Uuid;

use super::{TEMPLATE, worker::Report};
use crate::{
    child,
    http_load::{self, Load, Sent},
    report::Figures,
    run::Run,
    stats::Times,
};

/// The database of a round, and the one with the heavy account's jobs in line.
const DATABASE: &str = "kiln_fair";
const HEAVY: &str = "kiln_fair_heavy";
/// Jobs at once, and how long the provider takes for each.
const SLOTS: usize = 50;
const TAKES_MS: u64 = 50;
/// Requests a second of the others together, and of the light ones together.
const OTHERS_RATE: f64 = 300.0;
const LIGHT_RATE: f64 = 10.0;
/// How long jobs may take to be begun after the last was accepted; one that is not begun by then counts as if it just were.
const PATIENCE: Duration = Duration::from_secs(5);

/// One round: without, then with.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    let heavy = run.either(100_000, 10_000);
    if !run.server.has(HEAVY).await? {
        run.server.create(HEAVY, TEMPLATE).await?;
        let db = run.server.filling_pool(HEAVY).await?;
        let ground = run.ground()?;
        ground.submit(&db, &ground.customers[..1], "gpt-4o", heavy).await?;
        sqlx::raw_sql("vacuum (analyze)").execute(&db).await?;
        db.close().await;
    }
    let without = once(run, TEMPLATE).await?;
    run.results.add("fair", "alone with others", round, noted(&without))?;
    let with = once(run, HEAVY).await?;
    run.results.add("fair", &format!("beside {heavy} jobs of one account"), round, noted(&with))?;
    let mut ratio = Figures::default();
    ratio.set("p50", with.ms(0.5) / without.ms(0.5));
    ratio.set("p99", with.ms(0.99) / without.ms(0.99));
    run.results.add("fair", "ratio", round, ratio)
}

fn noted(waits: &Times) -> Figures {
    let mut figures = Figures::default();
    figures.set("wait_p50_ms", waits.ms(0.5));
    figures.set("wait_p90_ms", waits.ms(0.9));
    figures.set("wait_p99_ms", waits.ms(0.99));
    figures.set("wait_max_ms", waits.max_ms());
    figures
}

/// What the light accounts waited, from the request to the provider's call.
async fn once(run: &Run, template: &str) -> Result<Times> {
    run.server.create(DATABASE, template).await?;
    let words = run.folder("fair")?;
    let (api, addr) = child::api(&run.api, &run.server.url(DATABASE), run.connections).await?;
    let arguments = [
        ("--database", run.server.url(DATABASE)),
        ("--slots", SLOTS.to_string()),
        ("--connections", run.connections.to_string()),
        ("--takes-ms", TAKES_MS.to_string()),
        ("--remember", String::new()),
        ("--words", words.display().to_string()),
    ];
    let mut worker = child::own("worker", &run.arguments(&arguments))?;
    child::word::<i64>(&mut worker, &words.join("began"), Duration::from_secs(30)).await?;
    let keys = run.ground()?.keys(200);
    let time = run.either(Duration::from_secs(40), Duration::from_secs(10));
    let others = Load {
        addr,
        clients: 20,
        keys: keys[100..120].to_vec(),
        time,
        rate: Some(OTHERS_RATE),
        remember: false,
    };
    let light = Load {
        clients: 5,
        keys: keys[150..155].to_vec(),
        rate: Some(LIGHT_RATE),
        remember: true,
        ..others.clone()
    };
    let (others, light) = tokio::try_join!(http_load::run(others), http_load::run(light))?;
    others.check()?;
    light.check()?;
    tokio::time::sleep(PATIENCE).await;
    let end = Utc::now().timestamp_micros();
    worker.stop().await?;
    api.stop().await?;
    let report: Report = serde_json::from_slice(&std::fs::read(words.join("report"))?)?;
    run.server.drop(DATABASE).await?;
    Ok(waits(&light.sent, &report, end))
}

fn waits(sent: &[Sent], report: &Report, end: i64) -> Times {
    let called: HashMap<Uuid, i64> = report.calls.iter().map(|call| (call.0, call.1)).collect();
    let mut times = Times::default();
    // The first fifth warms up.
    for sent in &sent[sent.len() / 5..] {
        let at = called.get(&sent.job).copied().unwrap_or(end);
        times.add_micros(u64::try_from(at - sent.at_micros).unwrap_or(0));
    }
    times
}
