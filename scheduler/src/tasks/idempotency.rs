//! Forgets idempotency keys a day after they were used.

use chrono::TimeDelta;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::schedule::evict_idempotency_keys;

/// How long a repeat is recognised.
const KEPT: TimeDelta = TimeDelta::hours(24);

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let evicted = evict_idempotency_keys(&ctx.db, ctx.clock.now() - KEPT).await?;
        tracing::debug!(evicted, "idempotency keys evicted");
        Ok(())
    }
    .boxed()
}
