//! Erases accounts whose owner asked for it, once nothing of them is under way.
//!
//! Objects go before the rows that name them, and the account's own row goes last: cut off anywhere, the next run finds what
//! is left and goes on. One account that cannot be erased does not keep the others waiting.

use anyhow::ensure;
use futures::{FutureExt, future::BoxFuture};

use super::exports;
use crate::Ctx;
use shared::{
    file,
    id::{AccountId, FileId},
    privacy::{self, Erased, Kept},
};

/// Accounts looked at in one run; the next takes the rest.
const ACCOUNTS: i64 = 1000;
/// Jobs canceled, and jobs whose files are deleted, after one statement.
const JOBS_AT_ONCE: i64 = 100;
/// Uploads deleted after one statement.
const UPLOADS_AT_ONCE: i64 = 100;

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        let mut failed = 0;
        for account in privacy::erasing(&ctx.db, ACCOUNTS).await? {
            match erase(ctx, account).await {
                Ok(Erased::Now) => tracing::info!(account.id = %account, "account {account} is erased"),
                Ok(Erased::Before | Erased::NotYet) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(account.id = %account, error, "account {account} is not erased yet");
                    failed += 1;
                }
            }
        }
        ensure!(failed == 0, "{failed} accounts could not be erased; they are tried again in a minute");
        Ok(())
    }
    .boxed()
}

async fn erase(ctx: &Ctx, account: AccountId) -> anyhow::Result<Erased> {
    cancel_open(ctx, account).await?;
    if !privacy::is_quiet(&ctx.db, account, ctx.clock.now()).await? {
        return Ok(Erased::NotYet);
    }
    delete_objects(ctx, account).await?;
    let mut before = privacy::scrub_jobs(&ctx.db, account, None, ctx.clock.now()).await?;
    while before.is_some() {
        before = privacy::scrub_jobs(&ctx.db, account, before, ctx.clock.now()).await?;
    }
    while privacy::scrub_dialogs(&ctx.db, account).await? {}
    while privacy::scrub_audit_log(&ctx.db, account).await? {}
    Ok(privacy::complete(&ctx.db, account, ctx.clock.now()).await?)
}

async fn cancel_open(ctx: &Ctx, account: AccountId) -> anyhow::Result<()> {
    loop {
        let canceled = privacy::cancel_open(&ctx.db, account, JOBS_AT_ONCE, ctx.clock.now()).await?;
        if canceled.is_empty() {
            return Ok(());
        }
        canceled.into_iter().flat_map(|(job, came)| came.wakes(job)).for_each(|wake| ctx.wakes.send(wake));
    }
}

/// Results, previews, uploads and archives.
async fn delete_objects(ctx: &Ctx, account: AccountId) -> anyhow::Result<()> {
    for stored in privacy::archives_of(&ctx.db, account).await? {
        exports::forget(ctx, &stored).await?;
    }
    delete_uploads(ctx, account).await?;
    let mut before = None;
    loop {
        let files = privacy::kept_files(&ctx.db, account, before, JOBS_AT_ONCE).await?;
        let Some(last) = files.last() else { return Ok(()) };
        before = Some(last.job);
        for file in &files {
            delete(ctx, file).await?;
        }
    }
}

async fn delete_uploads(ctx: &Ctx, account: AccountId) -> anyhow::Result<()> {
    let mut after: Option<FileId> = None;
    loop {
        let uploads = privacy::kept_uploads(&ctx.db, account, after, UPLOADS_AT_ONCE).await?;
        let Some(last) = uploads.last() else { return Ok(()) };
        after = Some(last.id);
        for upload in &uploads {
            file::delete(&ctx.db, &ctx.storage, upload.id, &upload.storage_key, None).await?;
            tracing::info!(file.id = %upload.id, key = upload.storage_key, "file {} deleted", upload.id);
        }
    }
}

async fn delete(ctx: &Ctx, kept: &Kept) -> anyhow::Result<()> {
    let preview_key = kept.preview_key.as_deref();
    file::delete(&ctx.db, &ctx.storage, kept.id, &kept.storage_key, preview_key).await?;
    tracing::info!(file.id = %kept.id, job.id = %kept.job, key = kept.storage_key, "file {} deleted", kept.id);
    Ok(())
}
