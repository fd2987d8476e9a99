//! Endpoints: where an account is told of the ends of its jobs, beside what a job itself asks for.
//!
//! Whoever ends a job owes a notice to each endpoint that wants to hear of such an end, by the same statement
//! (`job/close.sql`, `job/reuse.sql`); an account's row says how many endpoints there are, so that it is asked nothing else where
//! there are none. Every change of an endpoint locks that row first. An endpoint that is switched off is owed nothing any more,
//! and what it was still owed ends as gone. Deliberately absent: how notices are sent, and when again.

mod change;
mod delivery;
mod endpoint;
mod health;
mod secret;

pub use change::{ENDPOINTS_MAX, EndpointError, change, create, delete, rotate};
pub use delivery::{Delivery, DeliveryError, DeliveryFilter, STATUSES, deliveries, delivery, replay, test};
pub use endpoint::{Change, Endpoint, NewEndpoint, find, list};
pub use health::{Trouble, give_up};
pub use secret::{Signer, open_secret};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::{
    id::{AccountId, EndpointId},
    job::Status,
};

/// The event of a test, which tells of no job.
pub const TEST: &str = "webhook.test";

/// Every event that an endpoint, or a job's own webhook, may ask for: one for each way a job ends.
pub fn events() -> Vec<String> {
    let ends = Status::ALL.iter().filter(|status| status.is_final());
    ends.map(|status| format!("job.{}", status.word())).collect()
}

/// Takes the account's row, by which changes of its endpoints wait for each other and for the ends of jobs that are just told.
async fn lock(conn: &mut PgConnection, account: AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!("select id from accounts where id = $1 for no key update", account.0)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// Writes down on the account's row how many of its endpoints are told of anything.
async fn count(conn: &mut PgConnection, account: AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update accounts
         set enabled_endpoints = (select count(*) from webhook_endpoints where account_id = $1 and disabled_at is null)
         where id = $1",
        account.0
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends what an endpoint that is off was still owed; what is just being sent ends by itself. Apart from the change that switched
/// it off, so that locks are taken in one order: a crash in between leaves notices that end when they are next due.
async fn settle(db: &PgPool, endpoint: EndpointId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update notices n
         set status = 'gone', settled_at = $2, lease_token = null, lease_until = null, last_error = 'its endpoint is off'
         where n.endpoint_id = $1 and n.status = 'pending' and (n.lease_until is null or n.lease_until <= $2)
           and not exists (select from webhook_endpoints e where e.id = $1 and e.disabled_at is null)",
        endpoint.0,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_event_for_each_way_a_job_ends() {
        assert_eq!(events(), ["job.succeeded", "job.failed", "job.canceled", "job.expired"]);
    }
}
