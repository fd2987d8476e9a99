//! Checks the books: balances against the ledger, holds against the open jobs, lots of grants against both, and that every
//! row of the hot tables refers to something.
//!
//! Drift is always a defect, so it is shown in every way there is: the metric, the log, the run that fails, and once a day a
//! mail to the operator.

use anyhow::bail;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::{
    billing::{self, Drift},
    mail::{self, Letter, News},
};

/// Most accounts that the mail names; the log names all.
const NAMED_MAX: usize = 20;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let drifted = billing::audit(&ctx.db).await?;
        metrics::gauge!("kiln_ledger_drift_accounts").set(u32::try_from(drifted.len()).unwrap_or(u32::MAX));
        for drift in &drifted {
            tracing::error!(account.id = %drift.account, ?drift, "balances of {} are not those of the ledger", drift.account);
        }
        let strays = billing::strays(&ctx.db).await?;
        for stray in &strays {
            tracing::error!(table = stray.table, "a row of {} refers to {}, which does not exist", stray.table, stray.refers_to);
        }
        if !drifted.is_empty() {
            tell(ctx, &drifted).await?;
            bail!("{} accounts have drifted from the ledger", drifted.len());
        }
        if !strays.is_empty() {
            bail!("{} rows refer to what does not exist", strays.len());
        }
        Ok(())
    }
    .boxed()
}

async fn tell(ctx: &Ctx, drifted: &[Drift]) -> anyhow::Result<()> {
    let Some(recipient) = &ctx.operator_email else { return Ok(()) };
    let now = ctx.clock.now();
    let first = drifted.iter().take(NAMED_MAX).map(|drift| drift.account).collect();
    let news = News::LedgerDrift { accounts: drifted.len(), first };
    let letter = Letter { reference: &now.date_naive().to_string(), account: None, recipient, news: &news };
    mail::queue(&ctx.db, &ctx.sealer, &letter, now).await?;
    Ok(())
}
