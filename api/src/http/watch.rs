//! Looking at a job and waiting for what becomes of it. A hint wakes the look, and a clock does where hints get lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::{ApiError, Ctx};
use shared::{
    id::{AccountId, JobId},
    job::{self, Job, JobView},
    wake::JobHints,
};

/// How often a waiting request looks by itself, should no hint arrive.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A job that somebody waits for, and the hints about it.
#[derive(Debug)]
pub struct Watch {
    ctx: Ctx,
    account: AccountId,
    job: JobId,
    hints: JobHints,
    /// When to look at the latest.
    look_at: Instant,
}

impl Watch {
    /// Watches a job of `account` from now on; the first look is at once.
    pub fn begin(ctx: &Ctx, account: AccountId, job: JobId) -> Self {
        // Subscribed before the first look, so that an end in between is not missed.
        let hints = ctx.wakes.listen_to(job);
        Self { ctx: ctx.clone(), account, job, hints, look_at: Instant::now() }
    }

    /// Waits until it is time for a look: a hint about the job has come, or the last look is long ago. Safe to give up.
    pub async fn stir(&mut self) {
        // Running out of time is as good as a hint: the caller looks either way.
        drop(tokio::time::timeout_at(self.look_at, self.hints.heard()).await);
    }

    /// Puts the next look off, for something else has shown that the job goes on. A hint is still heard.
    pub fn put_off(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
    }

    /// The job as it stands now.
    ///
    /// # Errors
    /// 404 when the account has no such job, 503 when the database is away.
    pub async fn look(&mut self) -> Result<Job, ApiError> {
        self.put_off();
        find(&self.ctx, self.account, self.job).await
    }

    /// The job once it has ended. A database that is away is waited for.
    ///
    /// # Errors
    /// 404 when the account has no such job.
    pub async fn end(&mut self) -> Result<Job, ApiError> {
        loop {
            self.stir().await;
            match self.look().await {
                Ok(job) if job.is_final() => return Ok(job),
                Ok(_) => {}
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The job, after waiting up to `wait` for its end.
///
/// # Errors
/// 404 when the account has no such job, 503 when the database is away.
pub async fn await_end(
    ctx: &Ctx,
    account: AccountId,
    id: JobId,
    wait: Duration,
) -> Result<JobView, ApiError> {
    let until = Instant::now() + wait;
    let mut watch = Watch::begin(ctx, account, id);
    let job = loop {
        let job = watch.look().await?;
        let left = until.saturating_duration_since(Instant::now());
        if job.is_final() || left.is_zero() || ctx.process.is_stopping() {
            break job;
        }
        tokio::select! {
            () = watch.stir() => {}
            () = tokio::time::sleep(left) => {}
            () = ctx.process.stopping() => {}
        }
    };
    ctx.renderer.render(&ctx.db, vec![job]).await?.pop().ok_or_else(ApiError::internal)
}

async fn find(ctx: &Ctx, account: AccountId, id: JobId) -> Result<Job, ApiError> {
    job::find(&ctx.db, account, id).await?.ok_or_else(unknown)
}

/// The answer to a job that there is not, or that is another's.
pub fn unknown() -> ApiError {
    ApiError::not_found("job_not_found", Some("id"), "there is no such job")
}
