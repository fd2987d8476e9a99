//! Everything that happens by itself, on one page.
//!
//! A task takes no input: it looks at all the rows there are, so a lost hint or a missed tick cannot matter, and running
//! it twice does no harm.

mod audit;
mod cache;
mod erase;
mod expire;
mod exports;
mod files;
mod forget;
mod idempotency;
mod keys;
mod notices;
mod plans;
mod rates;
mod rescue;
mod strays;
mod usage;

use std::time::Duration;

use anyhow::ensure;
use chrono::TimeDelta;
use futures::future::BoxFuture;

use crate::Ctx;
use shared::{job::Swept, wake::Wake};

/// Something that happens by itself.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name in the database, the logs and the metrics.
    pub name: &'static str,
    /// When: seconds, minutes, hours, days of month, months, days of week; in UTC.
    pub cron: &'static str,
    /// What becomes of ticks that passed while no scheduler ran.
    pub missed: Missed,
    /// How long one run may take before another scheduler may take it for dead.
    pub lease: Duration,
    /// What it does.
    pub run: for<'a> fn(&'a Ctx) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// What becomes of ticks that passed while no scheduler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The newest one is run as soon as a scheduler is back; those before it are covered by that run.
    RunOnce,
    /// The newest one is run if it is not older than this, and otherwise the next is waited for.
    SkipAfter(TimeDelta),
}

const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
const AN_HOUR: Duration = Duration::from_secs(3600);

/// The page.
pub const TASKS: &[Task] = &[
    // Jobs whose worker vanished get another, or fail after their last try.
    Task {
        name: "rescue-lost-jobs",
        cron: "*/5 * * * * *",
        missed: Missed::RunOnce,
        lease: MINUTE,
        run: rescue::run,
    },
    // Jobs past their deadline expire, and their tokens go back.
    Task {
        name: "expire-overdue-jobs",
        cron: "*/5 * * * * *",
        missed: Missed::RunOnce,
        lease: MINUTE,
        run: expire::run,
    },
    // Files past their time are deleted, object and row. A run that was missed waits for the night, when storage is idle.
    Task {
        name: "delete-expired-files",
        cron: "0 0 3 * * *",
        missed: Missed::SkipAfter(TimeDelta::hours(3)),
        lease: AN_HOUR,
        run: files::run,
    },
    // Objects that no file refers to are deleted: dead workers leave some.
    Task {
        name: "delete-stray-objects",
        cron: "0 20 3 * * *",
        missed: Missed::RunOnce,
        lease: AN_HOUR,
        run: strays::run,
    },
    // Deletions that failed are tried again, an hour later each.
    Task {
        name: "retry-failed-deletions",
        cron: "0 30 * * * *",
        missed: Missed::RunOnce,
        lease: HALF_AN_HOUR,
        run: files::retry,
    },
    // Cached results are forgotten after 24 hours.
    Task {
        name: "evict-cached-results",
        cron: "0 */10 * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: cache::run,
    },
    // Idempotency keys are forgotten after 24 hours.
    Task {
        name: "evict-idempotency-keys",
        cron: "0 5/10 * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: idempotency::run,
    },
    // Counts of requests are forgotten when they limit nobody any more.
    Task {
        name: "evict-rates",
        cron: "0 2/10 * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: rates::run,
    },
    // Plans whose time is over end, and their account's tier with them.
    Task {
        name: "end-subscriptions",
        cron: "0 * * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: plans::end,
    },
    // What is left of grants whose time is over goes back.
    Task {
        name: "expire-grants",
        cron: "0 * * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: plans::expire,
    },
    // Owners are told when their balance has fallen low.
    Task {
        name: "tell-low-balance",
        cron: "0 3/5 * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: notices::low_balance,
    },
    // Owners are told what ends or expires soon.
    Task {
        name: "tell-expiring",
        cron: "0 15 * * * *",
        missed: Missed::RunOnce,
        lease: HALF_AN_HOUR,
        run: notices::expiring,
    },
    // Days that are over are added up for reports.
    Task {
        name: "roll-up-usage",
        cron: "0 20 0 * * *",
        missed: Missed::RunOnce,
        lease: AN_HOUR,
        run: usage::run,
    },
    // Archives that were ordered are made.
    Task {
        name: "build-exports",
        cron: "*/30 * * * * *",
        missed: Missed::RunOnce,
        lease: AN_HOUR,
        run: exports::build,
    },
    // Archives past their week, and what is left of those given up, are deleted.
    Task {
        name: "delete-exports",
        cron: "0 20 * * * *",
        missed: Missed::RunOnce,
        lease: HALF_AN_HOUR,
        run: exports::delete,
    },
    // Accounts whose owner asked for it are erased, once nothing of them is under way.
    Task {
        name: "erase-accounts",
        cron: "20 * * * * *",
        missed: Missed::RunOnce,
        lease: AN_HOUR,
        run: erase::run,
    },
    // Traces of logins and mails, and people who never came or have left, are forgotten when they are old.
    Task {
        name: "forget-old-rows",
        cron: "0 30 3 * * *",
        missed: Missed::RunOnce,
        lease: AN_HOUR,
        run: forget::run,
    },
    // Keys at the providers that are refused, rest for long or were not asked about for an hour are asked about by the workers.
    Task {
        name: "recheck-provider-keys",
        cron: "0 1/5 * * * *",
        missed: Missed::RunOnce,
        lease: FIVE_MINUTES,
        run: keys::run,
    },
    // The books are checked against the balances and the open jobs.
    Task {
        name: "audit-ledger",
        cron: "0 0 4 * * *",
        missed: Missed::RunOnce,
        lease: HALF_AN_HOUR,
        run: audit::run,
    },
];

/// The task called `name`.
pub fn named(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}

/// Tells those who wait about jobs that a sweep has moved.
///
/// # Errors
/// When some jobs could not be moved, so that the run counts as failed and is noticed.
fn announce(ctx: &Ctx, swept: &Swept) -> anyhow::Result<()> {
    for (_, pool) in &swept.rescued {
        ctx.wakes.send(Wake::Pool(*pool));
    }
    for job in &swept.closed {
        ctx.wakes.send(Wake::Job(*job));
    }
    if !swept.closed.is_empty() {
        ctx.wakes.send(Wake::Notice);
    }
    ensure!(swept.stuck == 0, "{} jobs cannot be ended; the log names them", swept.stuck);
    Ok(())
}
