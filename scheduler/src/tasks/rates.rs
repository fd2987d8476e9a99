//! Forgets who used up nothing of a limit any more.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::rate;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let evicted = rate::evict(&ctx.db, ctx.clock.now()).await?;
        tracing::debug!(evicted, "rates evicted");
        Ok(())
    }
    .boxed()
}
