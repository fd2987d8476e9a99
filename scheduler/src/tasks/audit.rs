//! Checks the books: balances against the ledger, holds against the open jobs.

use anyhow::bail;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::billing;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let drifted = billing::audit(&ctx.db).await?;
        metrics::gauge!("kiln_ledger_drifted_accounts").set(u32::try_from(drifted.len()).unwrap_or(u32::MAX));
        for drift in &drifted {
            tracing::error!(account.id = %drift.account, ?drift, "balances of {} are not those of the ledger", drift.account);
        }
        if !drifted.is_empty() {
            bail!("{} accounts have drifted from the ledger", drifted.len());
        }
        Ok(())
    }
    .boxed()
}
