//! Station 8, notify: the duty to tell someone, made in the commit that ended the job.
//!
//! A notice is delivered at least once, always under its own id, and leased to a deliverer like a job to a worker. It ends
//! delivered; or, after its last try, dead, and stays for operators; or gone, with the endpoint that it was for. Receivers that are
//! slow keep nobody else waiting: what is under way is bounded for each of them. Deliberately absent: how it is sent, and the
//! endpoints themselves (`webhook/`).

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use utoipa::ToSchema;

use crate::id::{AccountId, EndpointId, JobId, LeaseToken, NoticeId};

/// A notice under lease, ready to be sent.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id, the same at every try.
    pub id: NoticeId,
    /// The fence of this try.
    pub token: LeaseToken,
    /// The job it tells of; of a test, which tells of none, its own id.
    pub job: JobId,
    /// Whose job.
    pub account: AccountId,
    /// `job.succeeded` and its like.
    pub event: String,
    /// The endpoint that is told; `None` where the job itself says whom.
    pub endpoint: Option<EndpointId>,
    /// Where to send it.
    pub target: String,
    /// Tries made before this one.
    pub tries: i16,
    /// When the job ended.
    pub created_at: DateTime<Utc>,
    /// Trace context of the job's submit.
    pub traceparent: Option<String>,
    /// What the endpoint checks signatures with, sealed; `None` for one that was deleted or disabled.
    pub secret: Option<Vec<u8>>,
    /// The same from before its last rotation, as long as that counts.
    pub previous_secret: Option<Vec<u8>>,
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
    /// Never: its endpoint was deleted or disabled, or says that it is gone.
    Gone(String),
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
            Self::Gone(why) => ("gone", None, Some(why)),
        }
    }
}

/// A try as the account sees it in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DeliveryTry)]
pub struct Try {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The status that the receiver answered with, if it answered.
    #[schema(required)]
    pub status_code: Option<u16>,
    /// What was wrong with it; `None` when it was taken.
    #[schema(required)]
    pub error: Option<String>,
    /// How long the receiver took.
    pub duration_ms: u64,
}

/// Most notices of one lane, an endpoint or a host, under way when a claim is made, and of one account. An eighth and a half of
/// what one process sends at once by default: neither a receiver that is slow nor a few of them take every slot. Claims made in
/// the same instant may each take as many.
const IN_FLIGHT_PER_LANE: i64 = 4;
const IN_FLIGHT_PER_ACCOUNT: i64 = 16;

/// Tries that are kept of a notice: the whole schedule, and once more by hand.
const TRIES_KEPT: i32 = 20;

/// How long an endpoint may take nothing before it is given up.
pub(crate) const FAILING_MAX: TimeDelta = TimeDelta::days(5);

/// Leases up to `limit` due notices until `now + lease`, fairly between accounts and between the receivers of each.
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
        IN_FLIGHT_PER_LANE,
        IN_FLIGHT_PER_ACCOUNT
    )
    .fetch_all(db)
    .await
}

/// What writing down a try says of its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing was written: the lease was lost, someone else is at it.
    Lost,
    /// It is written down.
    Kept,
    /// It is written down, and nothing had arrived at its endpoint for five days.
    Failing,
}

/// Writes down what came of it, and of the try if one was made. An endpoint's failures count from the first one after a success.
///
/// # Errors
/// When the database fails; the notice is then sent again under the same id.
pub async fn record(
    db: &PgPool,
    due: &Due,
    sent: &Sent,
    tried: Option<&Try>,
    now: DateTime<Utc>,
) -> Result<Recorded, sqlx::Error> {
    let (status, run_at, error) = sent.columns("delivered");
    let failing = sqlx::query_scalar!(
        r#"
        with verdict as (
            -- Nothing waits for an endpoint that was switched off meanwhile.
            select n.id, case when $3::text = 'pending' and n.endpoint_id is not null
                                   and not exists (select from webhook_endpoints e where e.id = n.endpoint_id and e.disabled_at is null)
                         then 'gone' else $3 end as status
            from notices n
            where n.id = $1
        ), recorded as (
            update notices n
            set status = v.status, run_at = coalesce($4, n.run_at), last_error = $5, lease_token = null, lease_until = null,
                tries = n.tries + case when $3 = 'gone' and $7::jsonb is null then 0 else 1 end,
                log = case when $7::jsonb is null then n.log
                      else case when jsonb_array_length(n.log) >= $8 then n.log - 0 else n.log end || jsonb_build_array($7::jsonb) end,
                settled_at = case when v.status = 'pending' then null else $6::timestamptz end
            from verdict v
            where n.id = v.id and n.lease_token = $2 and n.status = 'pending'
            returning n.endpoint_id
        ), endpoint as (
            -- Only where a row of failures begins or ends; mostly nothing is written.
            update webhook_endpoints e set failing_since = case when $3 <> 'delivered' then $6::timestamptz end
            from recorded r
            where e.id = r.endpoint_id and $7::jsonb is not null and ($3 = 'delivered') = (e.failing_since is not null)
        )
        select coalesce((select e.failing_since <= $9 from webhook_endpoints e where e.id = r.endpoint_id), false) as "failing!"
        from recorded r
        "#,
        due.id.0,
        due.token.0,
        status,
        run_at,
        error,
        now,
        tried.map(|tried| json!(tried)),
        TRIES_KEPT,
        now - FAILING_MAX,
    )
    .fetch_optional(db)
    .await?;
    Ok(match failing {
        None => Recorded::Lost,
        Some(true) => Recorded::Failing,
        Some(false) => Recorded::Kept,
    })
}
