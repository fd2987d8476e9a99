//! The log of what an account was told and how that went, and telling it once more by hand.
//!
//! A delivery is a notice, whose row keeps the last tries it took. Sent again it goes out under its own id, for the receiver to
//! recognise, and is tried as if it were new. Deliberately absent: what was said, for that is made anew at each try.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;

use super::{TEST, endpoint::find};
use crate::id::{AccountId, EndpointId, JobId, NoticeId};

/// A notice as its account sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its id, which is the `webhook-id` of each try.
    pub id: NoticeId,
    /// The endpoint that is told, even one that was deleted; `None` where the job itself says whom.
    pub endpoint: Option<EndpointId>,
    /// The job it tells of; `None` for a test.
    pub job: Option<JobId>,
    /// `job.succeeded` and its like.
    pub event: String,
    /// `pending`, `delivered`, `dead` or `gone`.
    pub status: String,
    /// Where it led when it was made.
    pub target: String,
    /// Tries made.
    pub tries: i16,
    /// The last of them, oldest first, each as [`crate::notice::Try`] is written.
    pub log: Value,
    /// When the next one is due, while it is pending.
    pub run_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was taken, or given up.
    pub settled_at: Option<DateTime<Utc>>,
}

/// What a list is narrowed by.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only of this job.
    pub job: Option<JobId>,
    /// Only with this status.
    pub status: Option<&'static str>,
    /// Only those older than this one: the last one of the page before.
    pub after: Option<NoticeId>,
}

/// Every status of a delivery.
pub const STATUSES: [&str; 4] = ["pending", "delivered", "dead", "gone"];

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The account has no such endpoint or delivery.
    #[error("not found")]
    NotFound,
    /// The endpoint was deleted or disabled.
    #[error("the endpoint is off")]
    Off,
    /// The database failed.
    #[error("send a webhook by hand")]
    Db(#[from] sqlx::Error),
}

/// Up to `limit` deliveries of `account`, newest first.
///
/// # Errors
/// When the database fails.
pub async fn deliveries(
    db: &PgPool,
    account: AccountId,
    filter: &DeliveryFilter,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    sqlx::query_file_as!(
        Delivery,
        "src/webhook/deliveries.sql",
        account.0,
        filter.endpoint.map(|id| id.0),
        filter.job.map(|id| id.0),
        filter.status,
        filter.after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// A delivery of `account`.
///
/// # Errors
/// When the database fails.
pub async fn delivery(
    db: &PgPool,
    account: AccountId,
    id: NoticeId,
) -> Result<Option<Delivery>, sqlx::Error> {
    sqlx::query_as!(
        Delivery,
        r#"select id as "id: _", endpoint_id as "endpoint: _", nullif(job_id, id) as "job: _", event, status, target, tries, log,
                  run_at, created_at, settled_at
           from notices where id = $1 and account_id = $2"#,
        id.0,
        account.0,
    )
    .fetch_optional(db)
    .await
}

/// Sends a test to an endpoint of `account`, as a notice of its own. Hint afterwards that one is due.
///
/// # Errors
/// See [`DeliveryError`].
pub async fn test(
    db: &PgPool,
    account: AccountId,
    endpoint: EndpointId,
    now: DateTime<Utc>,
) -> Result<Delivery, DeliveryError> {
    let id = NoticeId::new();
    let made = sqlx::query!(
        "insert into notices (id, job_id, account_id, channel, endpoint_id, event, target, run_at, created_at)
         select $1::uuid, $1, e.account_id, e.id::text, e.id, $4::text, e.url, $5::timestamptz, $5
         from webhook_endpoints e
         where e.id = $2 and e.account_id = $3 and e.disabled_at is null",
        id.0,
        endpoint.0,
        account.0,
        TEST,
        now,
    )
    .execute(db)
    .await?;
    if made.rows_affected() == 1 {
        return delivery(db, account, id).await?.ok_or(DeliveryError::NotFound);
    }
    find(db, account, endpoint, now).await?.ok_or(DeliveryError::NotFound)?;
    Err(DeliveryError::Off)
}

/// Sends a delivery of `account` again, whatever came of it before; one that waits is sent now, one that is just being sent is left
/// alone. Hint afterwards that one is due.
///
/// # Errors
/// See [`DeliveryError`].
pub async fn replay(
    db: &PgPool,
    account: AccountId,
    id: NoticeId,
    now: DateTime<Utc>,
) -> Result<Delivery, DeliveryError> {
    let again = sqlx::query!(
        "update notices n
         set status = 'pending', settled_at = null, tries = 0, run_at = $3, lease_token = null, lease_until = null
         where n.id = $1 and n.account_id = $2 and (n.lease_until is null or n.lease_until <= $3)
           and (n.endpoint_id is null
                or exists (select from webhook_endpoints e where e.id = n.endpoint_id and e.disabled_at is null))",
        id.0,
        account.0,
        now,
    )
    .execute(db)
    .await?;
    let found = delivery(db, account, id).await?.ok_or(DeliveryError::NotFound)?;
    if again.rows_affected() == 1 || found.status == "pending" { Ok(found) } else { Err(DeliveryError::Off) }
}
