//! Says which keys at the providers are to be asked about; workers have the keys, and ask.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::{provider, wake::Wake};

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let due = provider::mark_due(&ctx.db, ctx.clock.now()).await?;
        if due > 0 {
            ctx.wakes.send(Wake::Providers);
        }
        tracing::debug!(due, "keys at the providers to be asked about");
        Ok(())
    }
    .boxed()
}
