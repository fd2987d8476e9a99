//! Forgets cached results that have expired.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::schedule::evict_results;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let evicted = evict_results(&ctx.db, ctx.clock.now()).await?;
        tracing::debug!(evicted, "cached results evicted");
        Ok(())
    }
    .boxed()
}
