//! Adds up what was used and what it cost, for the days that are over.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::usage;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let days = usage::roll_up(&ctx.db, ctx.clock.now()).await?;
        tracing::info!(days, "{days} days rolled up");
        Ok(())
    }
    .boxed()
}
