//! What an account that wants little waits, with and without a neighbour that has a hundred thousand jobs in line.
//!
//! Fifty slots, other accounts that keep a third of them busy, and five light accounts that ask for a job twice a second. The
//! heavy account keeps all slots busy, so with a quick provider it is the processors that become scarce: how busy they are
//! is noted, and a slower provider leaves them free and only the line to wait in.

use std::time::Duration;

use anyhow::Result;
use chrono::Utc;

use super::{TEMPLATE, deployment::Deployment, worker::Report};
use crate::{
    http_load::{self, Load, Sent},
    os,
    report::Figures,
    run::Run,
    stats::Times,
};

/// The database of a round, and the one with the heavy account's jobs in line.
const DATABASE: &str = "kiln_fair";
const HEAVY: &str = "kiln_fair_heavy";
/// Jobs at once.
const SLOTS: usize = 50;
/// How long the provider takes for each, and requests a second of the others together.
const VARIANTS: [(u64, f64); 2] = [(50, 300.0), (200, 75.0)];
/// Requests a second of the light ones together.
const LIGHT_RATE: f64 = 10.0;
/// How long jobs may take to be begun after the last was accepted; one that is not begun by then counts as if it just were.
const PATIENCE: Duration = Duration::from_secs(3);

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
    for (takes_ms, rate) in VARIANTS {
        let without = once(run, TEMPLATE, takes_ms, rate).await?;
        let variant = |what: &str| format!("provider of {takes_ms} ms, {what}");
        run.results.add("fair", &variant("without"), round, without.noted())?;
        let with = once(run, HEAVY, takes_ms, rate).await?;
        run.results.add(
            "fair",
            &variant(&format!("beside {heavy} jobs of one account")),
            round,
            with.noted(),
        )?;
        let mut ratio = Figures::default();
        ratio.set("p50", with.times.ms(0.5) / without.times.ms(0.5));
        ratio.set("p99", with.times.ms(0.99) / without.times.ms(0.99));
        run.results.add("fair", &variant("ratio"), round, ratio)?;
    }
    Ok(())
}

/// What the light accounts waited, and how busy the machine was meanwhile.
struct Waited {
    times: Times,
    busy_percent: f64,
}

impl Waited {
    fn noted(&self) -> Figures {
        let mut figures = Figures::default();
        figures.set("wait_p50_ms", self.times.ms(0.5));
        figures.set("wait_p90_ms", self.times.ms(0.9));
        figures.set("wait_p99_ms", self.times.ms(0.99));
        figures.set("wait_max_ms", self.times.max_ms());
        figures.set("cpu_busy_percent", self.busy_percent);
        figures
    }
}

/// What the light accounts waited, from the request to the provider's call.
async fn once(run: &Run, template: &str, takes_ms: u64, rate: f64) -> Result<Waited> {
    run.server.create(DATABASE, template).await?;
    let takes = [("--takes-ms", takes_ms.to_string())];
    let deployment = Deployment::start(run, DATABASE, SLOTS, &takes).await?;
    let keys = run.ground()?.keys(200);
    let time = run.either(Duration::from_secs(40), Duration::from_secs(5));
    let others = Load {
        addr: deployment.addr,
        clients: 20,
        keys: keys[100..120].to_vec(),
        time,
        rate: Some(rate),
        webhook: None,
        remember: false,
    };
    let light = Load {
        clients: 5,
        keys: keys[150..155].to_vec(),
        rate: Some(LIGHT_RATE),
        remember: true,
        ..others.clone()
    };
    let (before, idle) = (std::time::Instant::now(), os::idle_seconds());
    let (others, light) = tokio::try_join!(http_load::run(others), http_load::run(light))?;
    let left = (os::idle_seconds() - idle) / before.elapsed().as_secs_f64() / os::cores();
    others.check()?;
    light.check()?;
    tokio::time::sleep(PATIENCE).await;
    let end = Utc::now().timestamp_micros();
    let report = deployment.stop().await?;
    run.server.drop(DATABASE).await?;
    Ok(Waited { times: waits(&light.sent, &report, end), busy_percent: (1.0 - left) * 100.0 })
}

fn waits(sent: &[Sent], report: &Report, end: i64) -> Times {
    let mut times = Times::default();
    // The first fifth warms up.
    for sent in &sent[sent.len() / 5..] {
        let at = report.calls.get(&sent.job).copied().unwrap_or(end);
        times.add_micros(u64::try_from(at - sent.at_micros).unwrap_or(0));
    }
    times
}
