//! Ten minutes of jobs at a steady rate through API and worker: whether memory, latencies and hot tables stay as they are.
//!
//! Looked at window by window; after a time to warm up, the first fifth is set against the last. What is kept of a job for
//! ever grows with the jobs and is told beside. Each job names a webhook, and nobody delivers: its notice stays owed, one
//! more row of history.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use chrono::Utc;
use sqlx::PgPool;

use super::{TEMPLATE, WEBHOOK, claim, deployment::Deployment, drain, start, tables, worker::Report};
use crate::{
    http_load::{self, Load, Seen, Sent},
    os,
    report::Figures,
    run::Run,
    stats::spread,
};

/// The database.
const DATABASE: &str = "kiln_soak";
/// Jobs a second.
const RATE: f64 = 1000.0;
/// Clients, each with an account of its own: one that is late keeps the others from nothing.
const CLIENTS: usize = 100;
/// Jobs that the worker runs at once.
const SLOTS: usize = 256;
/// Claims that are timed at the end of a window.
const CLAIMS: u64 = 20;
/// How long jobs still come after the last window, so that claims at its end find some.
const TAIL: Duration = Duration::from_secs(3);
/// Tables whose rows come and go or change all the time: they must not grow.
const HOT: [&str; 3] = ["queue", "accounts", "pools"];
/// Tables in which something of each job stays.
const HISTORY: [&str; 5] = ["jobs", "ledger", "attempts", "notices", "idempotency_keys"];

/// Figures of a window by their names, which end with the unit.
type Values = BTreeMap<String, f64>;

/// A window of time, from the end of the one before.
struct Window {
    /// When it ended, in microseconds of the machine's clock.
    until_micros: i64,
    values: Values,
}

/// How the time is divided.
#[derive(Clone, Copy)]
struct Plan {
    window: Duration,
    /// Windows that warm up. Two minutes: autovacuum comes once a minute, and by then has cleaned a queue that was in use.
    warm: usize,
    /// Windows that count.
    count: usize,
}

impl Plan {
    fn new(run: &Run) -> Self {
        let window = run.either(Duration::from_secs(10), Duration::from_secs(1));
        let count = (run.soak_minutes * 60.0 / window.as_secs_f64()).round() as usize;
        Self { window, warm: run.either(12, 3), count: count.max(5) }
    }

    fn windows(self) -> usize {
        self.warm + self.count
    }
}

/// The one round.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    run.server.create(DATABASE, TEMPLATE).await?;
    let db = run.server.pool(DATABASE, 2).await?;
    // A copied database has not counted its rows.
    sqlx::raw_sql("analyze accounts, pools").execute(&db).await?;
    let plan = Plan::new(run);
    let before = run.server.counted(DATABASE).await?;
    let mut figures = Figures::default();
    let (seen, report, mut windows) = steady(run, &db, plan, &mut figures).await?;
    let jobs = seen.times.count();
    run.server.counted(DATABASE).await?.per_job(before, jobs as f64, &mut figures);
    figures.set("jobs", jobs as f64);
    figures.set("accepted_per_second", seen.per_second());
    figures.set("provider_calls_per_job", report.submits as f64 / jobs as f64);
    note_latencies(&mut windows, &seen.sent, &report)?;
    let queue = windows.iter().filter_map(|window| window.values.get("queue_mb"));
    figures.set("queue_most_mb", queue.copied().fold(0.0, f64::max));
    drain::verify(&db, i64::try_from(jobs)?).await?;
    db.close().await;
    run.server.drop(DATABASE).await?;

    let variant = format!("{} minutes at {RATE}/s", run.soak_minutes);
    run.results.add("soak", &variant, round, figures)?;
    let fifth = plan.count / 5;
    let first = medians(&windows[plan.warm..plan.warm + fifth]);
    let last = medians(&windows[windows.len() - fifth..]);
    for (part, figures) in
        [("first fifth", noted(&first)), ("last fifth", noted(&last)), ("ratio", ratios(&first, &last))]
    {
        run.results.add("soak", &format!("{variant}, {part}"), round, figures)?;
    }
    Ok(())
}

/// Lets jobs come and go until the time is over and the last has ended.
async fn steady(
    run: &Run,
    db: &PgPool,
    plan: Plan,
    figures: &mut Figures,
) -> Result<(Seen, Report, Vec<Window>)> {
    let mut deployment = Deployment::start(run, DATABASE, SLOTS, &[]).await?;
    let load = Load {
        addr: deployment.addr,
        clients: CLIENTS,
        keys: run.ground()?.keys(CLIENTS),
        time: plan.window * u32::try_from(plan.windows())? + TAIL,
        rate: Some(RATE),
        webhook: Some(WEBHOOK),
        remember: true,
    };
    let (began, idle) = (std::time::Instant::now(), os::idle_seconds());
    let (mut seen, windows) = tokio::try_join!(http_load::run(load), watch(run, db, plan, &mut deployment))?;
    let left = (os::idle_seconds() - idle) / began.elapsed().as_secs_f64() / os::cores();
    figures.set("cpu_busy_percent", (1.0 - left) * 100.0);
    seen.check()?;
    seen.sent.sort_by_key(|sent| sent.at_micros);
    drain::wait_until_empty(db).await?;
    let jobs = seen.times.count() as f64;
    figures.set("api_cpu_us_per_job", deployment.api.cpu_seconds() * 1e6 / jobs);
    figures.set("worker_cpu_us_per_job", deployment.worker.cpu_seconds() * 1e6 / jobs);
    figures.set("load_cpu_us_per_job", seen.cpu_seconds * 1e6 / jobs);
    figures.set("api_peak_rss_mb", os::peak_rss_mb(deployment.api.pid()));
    figures.set("worker_peak_rss_mb", os::peak_rss_mb(deployment.worker.pid()));
    Ok((seen, deployment.stop().await?, windows))
}

/// Looks at the end of each window at what can be seen only then.
async fn watch(run: &Run, db: &PgPool, plan: Plan, deployment: &mut Deployment) -> Result<Vec<Window>> {
    let claimer = run.server.hasty_pool(DATABASE, 1).await?;
    let mut ends = tokio::time::interval(plan.window);
    ends.tick().await;
    let mut windows = Vec::new();
    for _ in 0..plan.windows() {
        ends.tick().await;
        deployment.check()?;
        let until_micros = Utc::now().timestamp_micros();
        let mut values = Values::new();
        values.insert("api_rss_mb".into(), os::rss_mb(deployment.api.pid()));
        values.insert("worker_rss_mb".into(), os::rss_mb(deployment.worker.pid()));
        for name in HOT {
            let table = tables::look(db, name).await?;
            values.insert(format!("{name}_mb"), table.mb);
            values.insert(format!("{name}_live_rows"), table.live_rows);
            values.insert(format!("{name}_dead_rows"), table.dead_rows);
        }
        for name in HISTORY {
            values.insert(format!("{name}_mb"), tables::look(db, name).await?.mb);
        }
        let claims = claim::beside_a_worker(&claimer, CLAIMS).await?;
        if claims.count() > 0 {
            values.insert("claim_of_1_p50_ms".into(), claims.ms(0.5));
        }
        windows.push(Window { until_micros, values });
    }
    claimer.close().await;
    Ok(windows)
}

/// Notes in each window how long the requests that were sent in it took, and their jobs until they were handed over.
fn note_latencies(windows: &mut [Window], sent: &[Sent], report: &Report) -> Result<()> {
    let mut rest = sent;
    for window in windows {
        let (within, later) =
            rest.split_at(rest.partition_point(|sent| sent.at_micros < window.until_micros));
        ensure!(!within.is_empty(), "a window without requests");
        rest = later;
        for (name, times) in [("submit", start::answers(within)), ("start", start::waits(within, report)?)] {
            window.values.insert(format!("{name}_p50_ms"), times.ms(0.5));
            window.values.insert(format!("{name}_p99_ms"), times.ms(0.99));
        }
    }
    Ok(())
}

/// The median of each figure over some windows.
fn medians(windows: &[Window]) -> Values {
    let mut all = BTreeMap::<&String, Vec<f64>>::new();
    for (name, value) in windows.iter().flat_map(|window| &window.values) {
        all.entry(name).or_default().push(*value);
    }
    all.into_iter().map(|(name, values)| (name.clone(), spread(&values).0)).collect()
}

fn noted(values: &Values) -> Figures {
    let mut figures = Figures::default();
    values.iter().for_each(|(name, value)| figures.set(name, *value));
    figures
}

/// The last against the first, under names without a unit; what was zero has none.
fn ratios(first: &Values, last: &Values) -> Figures {
    let mut figures = Figures::default();
    for (name, before) in first.iter().filter(|(_, before)| **before > 0.0) {
        if let Some(after) = last.get(name) {
            let plain = name.trim_end_matches("_mb").trim_end_matches("_ms");
            figures.set(plain, after / before);
        }
    }
    figures
}
