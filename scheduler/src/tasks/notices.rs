//! Tells owners of low balances and of what ends or expires soon; each thing once.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::billing;

pub fn low_balance(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let accounts =
            billing::tell_low_balance(&ctx.db, &ctx.sealer, ctx.low_balance_tokens, ctx.clock.now()).await?;
        tracing::debug!(accounts, "low balances told of");
        Ok(())
    }
    .boxed()
}

pub fn expiring(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let now = ctx.clock.now();
        let grants = billing::tell_expiring(&ctx.db, &ctx.sealer, now).await?;
        let plans = billing::tell_ending(&ctx.db, &ctx.sealer, now).await?;
        tracing::debug!(grants, plans, "mails about what ends soon queued");
        Ok(())
    }
    .boxed()
}
