//! Deletes files whose time is up, results and uploads: the objects first, then the row, each deletion logged.
//!
//! One that cannot be deleted is put off, counted and reported; the others go on.

use anyhow::bail;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::file::{self, Expired};

/// Files looked at in one statement.
const BATCH: i64 = 100;
/// Failures in a row after which the storage is taken to be away: the rest waits for the next tick.
const FAILURES_IN_A_ROW: u32 = 5;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let (mut deleted, mut failed, mut in_a_row) = (0_u64, 0_u64, 0_u32);
        let mut whole = true;
        while whole && in_a_row < FAILURES_IN_A_ROW {
            let batch = file::expired(&ctx.db, BATCH, ctx.clock.now()).await?;
            whole = i64::try_from(batch.len()).unwrap_or(BATCH) == BATCH;
            for expired in batch {
                match delete(ctx, &expired).await {
                    Ok(()) => (deleted, in_a_row) = (deleted + 1, 0),
                    Err(error) => {
                        (failed, in_a_row) = (failed + 1, in_a_row + 1);
                        put_off(ctx, &expired, &error).await?;
                    }
                }
                if in_a_row == FAILURES_IN_A_ROW {
                    break;
                }
            }
        }
        let stuck = file::stuck(&ctx.db).await?;
        metrics::gauge!("kiln_files_stuck").set(u32::try_from(stuck).unwrap_or(u32::MAX));
        metrics::counter!("kiln_files_deleted_total").increment(deleted);
        if failed > 0 {
            bail!(
                "{failed} of {} files could not be deleted; they are tried again in an hour",
                deleted + failed
            );
        }
        Ok(())
    }
    .boxed()
}

/// Between the nights: only when something is stuck.
pub fn retry(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        if file::stuck(&ctx.db).await? == 0 {
            return Ok(());
        }
        run(ctx).await
    }
    .boxed()
}

async fn delete(ctx: &Ctx, expired: &Expired) -> anyhow::Result<()> {
    let Expired { id, storage_key, preview_key, .. } = expired;
    file::delete(&ctx.db, &ctx.storage, *id, storage_key, preview_key.as_deref()).await?;
    let job = expired.job.map(tracing::field::display);
    tracing::info!(file.id = %id, job.id = job, key = storage_key, "file {id} deleted");
    Ok(())
}

async fn put_off(ctx: &Ctx, expired: &Expired, error: &anyhow::Error) -> anyhow::Result<()> {
    let error = format!("{error:#}");
    let tries = file::put_off(&ctx.db, expired.id, &error, ctx.clock.now()).await?;
    tracing::error!(file.id = %expired.id, key = expired.storage_key, tries, error, "file {} not deleted", expired.id);
    Ok(())
}
