//! From a caller's request to the provider's call on a system that has nothing else to do: API and worker in processes of
//! their own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::Utc;

use super::{TEMPLATE, deployment::Deployment, drain, worker::Report};
use crate::{
    http_load::{BODY, Connection, Request, Sent},
    report::Figures,
    run::Run,
    stats::Times,
};

/// The database of a round.
const DATABASE: &str = "kiln_start";
/// How many jobs go ahead and are not counted: plans and connections are made.
const WARM: usize = 30;
/// Slots of the worker, as it has by default.
pub const SLOTS: usize = 64;

/// One round.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    let figures = once(run).await?;
    run.results.add("start", "idle system", round, figures)
}

async fn once(run: &Run) -> Result<Figures> {
    run.server.create(DATABASE, TEMPLATE).await?;
    let deployment = Deployment::start(run, DATABASE, SLOTS, &[]).await?;
    let key = run.ground()?.keys(1).remove(0);
    let mut request = Request::new(&key, BODY);
    let mut connection = Connection::open(deployment.addr).await?;
    let mut sent = Vec::new();
    let count = run.either(600, 150);
    for turn in 0..WARM + count {
        // Between 20 and 50 ms, so as not to beat in time with anything.
        tokio::time::sleep(Duration::from_millis(20 + (turn as u64 * 17) % 31)).await;
        let at_micros = Utc::now().timestamp_micros();
        let began = std::time::Instant::now();
        let answer = connection.exchange(request.renewed()).await?;
        ensure!(answer.status == 202, "answered {answer:?}");
        let (job, took) = (answer.job()?, began.elapsed());
        if turn >= WARM {
            let took_micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            sent.push(Sent { at_micros, took_micros, job });
        }
    }
    let db = run.server.pool(DATABASE, 1).await?;
    drain::wait_until_empty(&db).await?;
    let report = deployment.stop().await?;
    db.close().await;
    let (waits, answered) = (waits(&sent, &report)?, answers(&sent));
    let mut figures = Figures::default();
    figures.set("p50_ms", waits.ms(0.5));
    figures.set("p90_ms", waits.ms(0.9));
    figures.set("p99_ms", waits.ms(0.99));
    figures.set("max_ms", waits.max_ms());
    figures.set("answered_p50_ms", answered.ms(0.5));
    figures.set("answered_p99_ms", answered.ms(0.99));
    run.server.drop(DATABASE).await?;
    Ok(figures)
}

/// From each request to its answer.
pub fn answers(sent: &[Sent]) -> Times {
    let mut times = Times::default();
    sent.iter().for_each(|sent| times.add_micros(sent.took_micros));
    times
}

/// From each request to its provider's call.
pub fn waits(sent: &[Sent], report: &Report) -> Result<Times> {
    let mut times = Times::default();
    for sent in sent {
        let at =
            report.calls.get(&sent.job).with_context(|| format!("job {} was never handed over", sent.job))?;
        times.add_micros(u64::try_from(at - sent.at_micros).unwrap_or(0));
    }
    Ok(times)
}
