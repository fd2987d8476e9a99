//! Deletes objects that no file refers to: what workers left that died, or were told to stop, between an upload and their note
//! of it, and what the API left that died between taking a file in and writing it down.
//!
//! It looks at every object there is, so it needs no note of what may have been left. An object of an open job is left alone:
//! its next run overwrites it. So is what is sent in and not a day old: somebody may be about to write it down.

use anyhow::bail;
use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::{
    file::{self, OUTPUTS},
    upload::{self, UPLOADS},
};

/// Deletions that may fail before the storage is taken to be away; what is left is found the next night.
const FAILURES_MAX: u32 = 5;

/// What came of the night so far.
#[derive(Debug, Default)]
struct Swept {
    deleted: u64,
    failed: u32,
}

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let mut swept = Swept::default();
        for place in [OUTPUTS, UPLOADS] {
            sweep(ctx, place, &mut swept).await?;
        }
        metrics::counter!("kiln_strays_deleted_total").increment(swept.deleted);
        if swept.failed > 0 {
            let failed = swept.failed;
            bail!("{failed} stray objects could not be deleted; they are found again the next night");
        }
        Ok(())
    }
    .boxed()
}

async fn sweep(ctx: &Ctx, place: &str, swept: &mut Swept) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    while swept.failed < FAILURES_MAX {
        let keys = ctx.storage.list(place, after.as_deref()).await?;
        let Some(last) = keys.last().cloned() else { break };
        let strays = if place == UPLOADS {
            upload::strays(&ctx.db, &keys, ctx.clock.now()).await?
        } else {
            file::strays(&ctx.db, &keys).await?
        };
        for key in strays {
            match ctx.storage.delete(&key).await {
                Ok(()) => {
                    tracing::info!(key, "stray object deleted");
                    swept.deleted += 1;
                }
                Err(error) => {
                    tracing::error!(key, error = format!("{error:#}"), "stray object not deleted");
                    swept.failed += 1;
                }
            }
        }
        after = Some(last);
    }
    Ok(())
}
