//! Deletes objects that no file refers to: what workers left that died, or were told to stop, between an upload and their note
//! of it.
//!
//! It looks at every object there is, so it needs no note of what may have been left. An object of an open job is left alone: its
//! next run overwrites it.

use anyhow::bail;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::file::{self, OUTPUTS};

/// Deletions that may fail before the storage is taken to be away; what is left is found the next night.
const FAILURES_MAX: u32 = 5;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let (mut deleted, mut failed) = (0_u64, 0_u32);
        let mut after: Option<String> = None;
        while failed < FAILURES_MAX {
            let keys = ctx.storage.list(OUTPUTS, after.as_deref()).await?;
            let Some(last) = keys.last().cloned() else { break };
            for key in file::strays(&ctx.db, &keys).await? {
                match ctx.storage.delete(&key).await {
                    Ok(()) => {
                        tracing::info!(key, "stray object deleted");
                        deleted += 1;
                    }
                    Err(error) => {
                        tracing::error!(key, error = format!("{error:#}"), "stray object not deleted");
                        failed += 1;
                    }
                }
            }
            after = Some(last);
        }
        metrics::counter!("kiln_strays_deleted_total").increment(deleted);
        if failed > 0 {
            bail!("{failed} stray objects could not be deleted; they are found again the next night");
        }
        Ok(())
    }
    .boxed()
}
