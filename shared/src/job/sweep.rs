//! The duties of the clock towards jobs: those whose worker vanished, and those whose time is up.
//!
//! Both take no input and look at all rows each time, so a lost hint cannot matter. They find candidates first and then
//! move each by a statement that checks again, so a job that finishes in between is left alone.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::{Fence, JobError, Medium, Verdict, close};
use crate::{db::is_transient, id::JobId};

/// Most jobs one sweep moves; the next tick takes the rest.
const SWEEP_LIMIT: i64 = 1000;

/// Wait before a rescued job runs again, for each try it has spent: what killed one worker may kill the next.
const RESCUE_BACKOFF_SECS: f64 = 2.0;

/// What a sweep did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Jobs that may run again, by pool.
    pub rescued: Vec<(JobId, Medium)>,
    /// Jobs that ended.
    pub closed: Vec<JobId>,
    /// Jobs that should have ended and could not, which only a defect can cause; each is in the log.
    pub stuck: usize,
}

/// Takes jobs back from workers that stopped beating: each costs a try, and the last one fails the job.
///
/// # Errors
/// When the database fails; what was moved stays moved.
pub async fn rescue_lost(db: &PgPool, max_tries: i16, now: DateTime<Utc>) -> Result<Swept, sqlx::Error> {
    let rescued = sqlx::query!(
        r#"
        with lost as (
            select job_id from queue
            where lease_token is not null and lease_until <= $1 and tries + 1 < $2
            limit $3
            for update skip locked
        )
        update queue q
        set lease_token = null, lease_until = null, tries = q.tries + 1, phase = 'rescued',
            run_at = $1 + make_interval(secs => $4::float8 * (q.tries + 1))
        from lost
        where q.job_id = lost.job_id
        returning q.job_id as "job: JobId", q.pool
        "#,
        now,
        i32::from(max_tries),
        SWEEP_LIMIT,
        RESCUE_BACKOFF_SECS,
    )
    .fetch_all(db)
    .await?;
    let spent = sqlx::query!(
        r#"select job_id as "job: JobId", cancel_requested from queue
           where lease_token is not null and lease_until <= $1 and tries + 1 >= $2 limit $3"#,
        now,
        i32::from(max_tries),
        SWEEP_LIMIT,
    )
    .fetch_all(db)
    .await?;
    let lost = Verdict::Failed(JobError {
        code: "worker_lost",
        message: format!("its worker was lost {max_tries} times"),
        retryable: true,
        may_be_billed: true,
    });
    let rescued =
        rescued.into_iter().filter_map(|row| Some((row.job, Medium::from_word(&row.pool)?))).collect();
    let mut swept = Swept { rescued, ..Swept::default() };
    for row in spent {
        let verdict = if row.cancel_requested { &Verdict::Canceled } else { &lost };
        end(db, Fence::Lost { job: row.job, max_tries }, verdict, now, &mut swept).await?;
    }
    Ok(swept)
}

/// Expires open jobs whose deadline passed `grace` ago; the grace lets a worker that is just finishing do so.
///
/// # Errors
/// When the database fails; what was closed stays closed.
pub async fn expire_overdue(db: &PgPool, grace: TimeDelta, now: DateTime<Utc>) -> Result<Swept, sqlx::Error> {
    let overdue = sqlx::query_scalar!(
        r#"select job_id as "job: JobId" from queue where deadline <= $1 order by deadline limit $2"#,
        now - grace,
        SWEEP_LIMIT,
    )
    .fetch_all(db)
    .await?;
    let mut swept = Swept::default();
    for job in overdue {
        end(db, Fence::Overdue(job), &Verdict::Expired, now, &mut swept).await?;
    }
    Ok(swept)
}

/// Ends one job of a sweep. One that cannot be ended is reported and does not keep the others waiting.
async fn end(
    db: &PgPool,
    fence: Fence,
    verdict: &Verdict,
    now: DateTime<Utc>,
    swept: &mut Swept,
) -> Result<(), sqlx::Error> {
    match close(db, fence, verdict, now).await {
        Ok(true) => swept.closed.push(fence.job()),
        Ok(false) => {}
        Err(error) if is_transient(&error) => return Err(error),
        Err(error) => {
            tracing::error!(job.id = %fence.job(), %error, "job {} cannot be ended", fence.job());
            swept.stuck += 1;
        }
    }
    Ok(())
}
