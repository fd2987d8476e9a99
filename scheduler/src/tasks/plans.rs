//! Ends plans and takes back what is left of grants when their time is over.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::billing;

pub fn end(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        for ended in billing::end_due(&ctx.db, &ctx.sealer, ctx.clock.now()).await? {
            let (id, account) = (ended.id, ended.account);
            tracing::info!(subscription.id = %id, account.id = %account, "plan {id} of {account} ended");
        }
        Ok(())
    }
    .boxed()
}

pub fn expire(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let expired = billing::expire_grants(&ctx.db, ctx.clock.now()).await?;
        if expired > 0 {
            tracing::info!(tokens = expired, "{expired} tokens of grants expired");
        }
        Ok(())
    }
    .boxed()
}
