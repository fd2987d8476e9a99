//! What is due, and who does it.
//!
//! A tick is a moment of a task's cron expression, in UTC. The newest one that has passed is leased by a guarded update, run
//! and marked done; older ones that were missed are passed over, for every task looks at all there is and gains nothing from
//! running twice. A failed tick is reported and the next one tries again.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use cron::Schedule;

use crate::{
    Ctx,
    tasks::{Missed, TASKS, Task},
};
use shared::{process::Process, schedule};

/// Longest sleep between two looks, so that a tick another scheduler dropped is found again.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// Wait after the database failed.
const RETRY: Duration = Duration::from_secs(2);

/// Runs every task at its time until `process` is told to stop. Each has a loop of its own, so that a long one does not
/// keep the others waiting.
pub fn start(ctx: &Ctx, process: &Process) {
    for task in TASKS {
        let (ctx, watched) = (ctx.clone(), process.clone());
        process.spawn(async move {
            loop {
                let wait = match run_if_due(&ctx, task).await {
                    Ok(_) => until_next(task, ctx.clock.now()),
                    Err(error) => {
                        tracing::warn!(
                            task = task.name,
                            error = format!("{error:#}"),
                            "task not looked at; trying again"
                        );
                        RETRY
                    }
                };
                if !watched.sleep(wait).await {
                    return;
                }
            }
        });
    }
    tracing::info!(tasks = TASKS.len(), "scheduler is ready");
}

/// Runs one task if a tick of it is due and nobody else is on it; says whether it ran.
///
/// # Errors
/// When the database fails or the task's expression is wrong. A task that fails is no error here; it is reported.
pub async fn run_if_due(ctx: &Ctx, task: &Task) -> anyhow::Result<bool> {
    let now = ctx.clock.now();
    let last = schedule::last_tick(&ctx.db, task.name, now).await?;
    let Some(tick) = newest_tick(task, now)?.filter(|tick| *tick > last) else { return Ok(false) };
    if let Missed::SkipAfter(grace) = task.missed
        && now - tick > grace
    {
        tracing::warn!(task = task.name, %tick, "tick of {} missed and passed over", task.name);
        schedule::skip_to(&ctx.db, task.name, tick, now).await?;
        return Ok(false);
    }
    let Some(token) = schedule::take_tick(&ctx.db, task.name, tick, task.lease, now).await? else {
        return Ok(false);
    };
    let result = (task.run)(ctx).await;
    let error = result.as_ref().err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        tracing::error!(task = task.name, error, "task {} failed", task.name);
    }
    let word = if error.is_some() { "failed" } else { "done" };
    metrics::counter!("kiln_task_runs_total", "task" => task.name, "result" => word).increment(1);
    let done =
        schedule::finish_tick(&ctx.db, task.name, tick, token, error.as_deref(), ctx.clock.now()).await?;
    if !done {
        tracing::warn!(task = task.name, "task {} took longer than its lease", task.name);
    }
    Ok(true)
}

/// The newest tick that is not after `now`.
fn newest_tick(task: &Task, now: DateTime<Utc>) -> anyhow::Result<Option<DateTime<Utc>>> {
    let schedule =
        Schedule::from_str(task.cron).with_context(|| format!("read {:?} of {}", task.cron, task.name))?;
    // Looking back begins before the moment it is given, and `now` itself may be a tick.
    Ok(schedule.after(&(now + TimeDelta::microseconds(1))).next_back())
}

fn until_next(task: &Task, now: DateTime<Utc>) -> Duration {
    let next = Schedule::from_str(task.cron).ok().and_then(|schedule| schedule.after(&now).next());
    next.and_then(|next| (next - now).to_std().ok()).unwrap_or(LOOK_MAX).min(LOOK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cron: &'static str, now: &str, expected: &str) {
        let task = Task { cron, ..TASKS[0].clone() };
        let tick = newest_tick(&task, now.parse().unwrap()).unwrap();
        assert_eq!(tick, Some(expected.parse().unwrap()), "{cron} at {now}");
    }

    #[test]
    fn the_newest_tick_is_the_last_one_that_has_come() {
        check("0 0 3 * * *", "2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z");
        check("0 0 3 * * *", "2026-11-21T02:59:59.999Z", "2026-11-20T03:00:00Z");
        check("*/5 * * * * *", "2026-11-21T10:00:03Z", "2026-11-21T10:00:00Z");
        check("0 30 * * * *", "2026-11-21T10:00:03Z", "2026-11-21T09:30:00Z");
    }

    #[test]
    fn every_task_has_an_expression_that_can_be_read_and_a_name_of_its_own() {
        for (at, task) in TASKS.iter().enumerate() {
            assert!(
                newest_tick(task, "2026-11-21T10:00:03Z".parse().unwrap()).unwrap().is_some(),
                "{}",
                task.name
            );
            assert!(TASKS[..at].iter().all(|other| other.name != task.name), "{}", task.name);
        }
    }
}
