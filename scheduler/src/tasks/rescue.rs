//! Takes jobs back from workers that stopped beating.

use futures::{FutureExt, future::BoxFuture};

use super::announce;
use crate::Ctx;
use shared::job::rescue_lost;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let max_tries = i16::try_from(ctx.timing.max_tries).unwrap_or(i16::MAX);
        let swept = rescue_lost(&ctx.db, max_tries, ctx.clock.now()).await?;
        for (job, pool) in &swept.rescued {
            tracing::warn!(job.id = %job, pool = pool.word(), "job {job} rescued from a lost worker");
        }
        for job in &swept.closed {
            tracing::error!(job.id = %job, "job {job} failed: its worker was lost too often");
        }
        metrics::counter!("kiln_jobs_rescued_total")
            .increment(u64::try_from(swept.rescued.len()).unwrap_or(0));
        announce(ctx, &swept)
    }
    .boxed()
}
