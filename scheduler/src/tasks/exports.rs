//! Makes the archives that were ordered, and deletes those whose time is up or that were given up.

use anyhow::{Context, bail};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    Ctx,
    archive::{self, Limits},
};
use shared::{
    id::ExportId,
    privacy::{self, Begun, Stored},
};

/// Archives made in one run, one after the other; the next takes the rest.
const BUILD_BATCH: i64 = 20;
/// Archives looked at in one statement of the clean-up.
const DELETE_BATCH: i64 = 100;
/// Failures in a row after which the storage is taken to be away: the rest waits for the next tick.
const FAILURES_IN_A_ROW: u32 = 5;

pub fn build(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let mut failed = 0;
        for id in privacy::due_exports(&ctx.db, BUILD_BATCH, ctx.clock.now()).await? {
            if let Err(error) = make(ctx, id).await {
                let given_up = privacy::fail_export(&ctx.db, id, ctx.clock.now()).await?;
                let error = format!("{error:#}");
                tracing::error!(export.id = %id, given_up, error, "archive {id} not made");
                failed += 1;
            }
        }
        if failed > 0 {
            bail!("{failed} archives could not be made; each is tried three times");
        }
        Ok(())
    }
    .boxed()
}

async fn make(ctx: &Ctx, id: ExportId) -> anyhow::Result<()> {
    let Some(export) = privacy::begin_export(&ctx.db, id, ctx.clock.now()).await? else { return Ok(()) };
    let file = archive::build(ctx, &export, Limits::default()).await?;
    let size = file.as_file().metadata().context("look at the archive")?.len();
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    ctx.storage.put_file(&export.storage_key, file.path(), "application/zip").await?;
    let now = ctx.clock.now();
    if !privacy::finish_export(&ctx.db, &ctx.sealer, &ctx.public_url, &export, size, now).await? {
        return withdraw(ctx, &export).await;
    }
    tracing::info!(export.id = %id, account.id = %export.account, size_bytes = size, "archive {id} is ready");
    Ok(())
}

/// Deletes what was stored too late, unless another scheduler has finished the same archive meanwhile.
async fn withdraw(ctx: &Ctx, export: &Begun) -> anyhow::Result<()> {
    let found = privacy::export(&ctx.db, export.account, export.id).await?;
    if found.is_none_or(|found| found.status != "ready") {
        ctx.storage.delete(&export.storage_key).await?;
    }
    Ok(())
}

pub fn delete(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let (mut failed, mut in_a_row, mut after) = (0_u64, 0, None);
        loop {
            let batch = privacy::unwanted_archives(&ctx.db, after, DELETE_BATCH, ctx.clock.now()).await?;
            let Some(last) = batch.last() else { break };
            after = Some(last.id);
            for stored in &batch {
                match forget(ctx, stored).await {
                    Ok(()) => in_a_row = 0,
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::error!(export.id = %stored.id, error, "archive {} not deleted", stored.id);
                        (failed, in_a_row) = (failed + 1, in_a_row + 1);
                    }
                }
                if in_a_row == FAILURES_IN_A_ROW {
                    bail!("archives cannot be deleted: the storage is away");
                }
            }
        }
        if failed > 0 {
            bail!("{failed} archives could not be deleted; they are tried again in an hour");
        }
        Ok(())
    }
    .boxed()
}

/// Deletes an archive and then forgets where it was, so that a crash in between leaves a row that is tried again.
pub(super) async fn forget(ctx: &Ctx, stored: &Stored) -> anyhow::Result<()> {
    ctx.storage.delete(&stored.storage_key).await?;
    privacy::forget_archive(&ctx.db, stored.id).await?;
    tracing::info!(export.id = %stored.id, key = stored.storage_key, "archive {} deleted", stored.id);
    Ok(())
}
