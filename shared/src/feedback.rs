//! What people think of results: one word on each job, with a reason if they like; the latest counts.
//!
//! It is about a result, so there is none on a job that did not succeed. Deliberately absent: the wish for a better one, which
//! is a job of its own ([`crate::job::improved`]).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::id::{AccountId, JobId};

/// How a result was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// Good.
    Like,
    /// Not good.
    Dislike,
}

impl Rating {
    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Like => "like",
            Self::Dislike => "dislike",
        }
    }
}

/// A word on a result.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// How it was found.
    pub rating: Rating,
    /// Why, in their own words.
    pub reason: Option<String>,
    /// When they said so.
    pub given_at: DateTime<Utc>,
}

/// Keeps what was said of a job of `account`, in place of what was said before. `false`: there is no such job that succeeded.
///
/// # Errors
/// When the database fails.
pub async fn give(
    db: &PgPool,
    account: AccountId,
    job: JobId,
    feedback: &Feedback,
) -> Result<bool, sqlx::Error> {
    let given = sqlx::query!(
        "insert into feedback (job_id, account_id, rating, reason, given_at)
         select id, account_id, $3::text, $4::text, $5::timestamptz from jobs where id = $1 and account_id = $2 and status = 'succeeded'
         on conflict on constraint feedback_pkey do update
         set rating = excluded.rating, reason = excluded.reason, given_at = excluded.given_at",
        job.0,
        account.0,
        feedback.rating.word(),
        feedback.reason,
        feedback.given_at,
    )
    .execute(db)
    .await?;
    Ok(given.rows_affected() == 1)
}
