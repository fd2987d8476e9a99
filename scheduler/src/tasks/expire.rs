//! Ends jobs whose deadline has passed.

use chrono::TimeDelta;
use futures::{FutureExt, future::BoxFuture};

use super::announce;
use crate::Ctx;
use shared::job::expire_overdue;

/// A worker ends its own jobs at their deadline; this is for the ones without a worker, and gives the others time.
const GRACE: TimeDelta = TimeDelta::seconds(2);

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let swept = expire_overdue(&ctx.db, GRACE, ctx.clock.now()).await?;
        for job in &swept.closed {
            tracing::info!(job.id = %job, "job {job} expired");
        }
        announce(ctx, &swept)
    }
    .boxed()
}
