//! Forgets what is old and was kept for a while only: traces of logins and mails, dialogs that nobody goes on with, and people who
//! never came or have left.
//!
//! In batches, each a commit of its own: cut off anywhere, the next night goes on.

use futures::{FutureExt, future::BoxFuture};

use crate::Ctx;
use shared::privacy::{self, Old};

pub fn run(ctx: &Ctx) -> BoxFuture<'_, anyhow::Result<()>> {
    async {
        for what in Old::ALL {
            let (mut rows, mut more) = (0, true);
            while more {
                let forgotten = privacy::forget_old(&ctx.db, what, ctx.clock.now()).await?;
                (rows, more) = (rows + forgotten.rows, forgotten.more);
            }
            tracing::info!(rows, "{rows} of {what:?} forgotten for their age");
        }
        loop {
            let closed = privacy::close_unverified(&ctx.db, ctx.clock.now()).await?;
            if closed.is_empty() {
                break;
            }
            for account in closed {
                tracing::info!(account.id = %account, "account {account} is erased: its address was never verified");
            }
        }
        loop {
            let people = privacy::forget_leavers(&ctx.db, ctx.clock.now()).await?;
            if people.is_empty() {
                return Ok(());
            }
            for user in people {
                tracing::info!(user.id = %user, "{user} belongs to no account any more and is forgotten");
            }
        }
    }
    .boxed()
}
