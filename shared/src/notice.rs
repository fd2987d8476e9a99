//! Station 8, notify: the duty to tell someone, made in the commit that ended the job.
//!
//! A notice is delivered at least once, always under its own id, and leased to a deliverer like a job to a worker. It ends
//! delivered or, after its last try, dead; a dead one stays for operators. Deliberately absent: how it is sent.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::time::Duration;

use crate::id::{AccountId, JobId, LeaseToken, NoticeId};

/// A notice under lease, ready to be sent.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id, the same at every try.
    pub id: NoticeId,
    /// The fence of this try.
    pub token: LeaseToken,
    /// The job it tells of.
    pub job: JobId,
    /// Whose job.
    pub account: AccountId,
    /// `job.succeeded` and its like.
    pub event: String,
    /// Where to send it.
    pub target: String,
    /// Tries made before this one.
    pub tries: i16,
    /// When the job ended.
    pub created_at: DateTime<Utc>,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was taken.
    Delivered,
    /// Not now: again at this moment.
    Later(DateTime<Utc>, String),
    /// Never: the tries are spent or the receiver is gone.
    Dead(String),
}

impl Sent {
    /// Status, next try and error as the tables of duties keep them; `delivered` is the table's word for that.
    pub(crate) fn columns(
        &self,
        delivered: &'static str,
    ) -> (&'static str, Option<DateTime<Utc>>, Option<&str>) {
        match self {
            Self::Delivered => (delivered, None, None),
            Self::Later(at, why) => ("pending", Some(*at), Some(why)),
            Self::Dead(why) => ("dead", None, Some(why)),
        }
    }
}

/// Most notices of one account under way when a claim is made: an account whose receiver is slow keeps nobody else waiting.
/// Claims made in the same instant may each take as many.
const IN_FLIGHT_PER_ACCOUNT: i64 = 8;

/// Leases up to `limit` due notices until `now + lease`, those that wait longest first, of no account more than its share.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    db: &PgPool,
    limit: i64,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_file_as!(
        Due,
        "src/notice_claim.sql",
        now,
        limit,
        now + lease,
        LeaseToken::new().0,
        IN_FLIGHT_PER_ACCOUNT
    )
    .fetch_all(db)
    .await
}

/// Writes down what came of a try. `false`: the lease was lost, someone else is at it.
///
/// # Errors
/// When the database fails; the notice is then sent again under the same id.
pub async fn record(db: &PgPool, due: &Due, sent: &Sent, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let (status, run_at, error) = sent.columns("delivered");
    let recorded = sqlx::query!(
        "update notices
         set status = $3, tries = tries + 1, run_at = coalesce($4, run_at), last_error = $5, lease_token = null,
             lease_until = null, settled_at = case when $3 = 'pending' then null else $6::timestamptz end
         where id = $1 and lease_token = $2 and status = 'pending'",
        due.id.0,
        due.token.0,
        status,
        run_at,
        error,
        now,
    )
    .execute(db)
    .await?;
    Ok(recorded.rows_affected() == 1)
}
