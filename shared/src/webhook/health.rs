//! What becomes of an endpoint that takes nothing: it is given up, and its account's owners are told.
//!
//! Whoever delivered last finds out, and the statement that switches it off looks again, so two that find out at once tell once.
//! Deliberately absent: how failures are counted, which is part of writing down a try (`notice.rs`).

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{count, settle};
use crate::{
    account::audit::{self, By, Who},
    id::{AccountId, EndpointId},
    mail::{self, News},
    notice::FAILING_MAX,
    seal::Sealer,
};

/// Why an endpoint is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answered 410 Gone.
    Gone,
    /// For five days nothing has arrived.
    Failing,
}

impl Trouble {
    const fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// Switches off the endpoint that was found in `trouble` at `target`, and writes to the owners of its account. `false`: it was off,
/// has moved since, or has taken something meanwhile.
///
/// # Errors
/// When the database fails; whoever delivers next finds out again.
pub async fn give_up(
    db: &PgPool,
    sealer: &Sealer,
    id: EndpointId,
    target: &str,
    trouble: Trouble,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let owner = sqlx::query!(
        r#"select a.id as "account: AccountId", a.name
           from webhook_endpoints e join accounts a on a.id = e.account_id
           where e.id = $1
           for no key update of a"#,
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(owner) = owner else { return Ok(false) };
    let off = sqlx::query!(
        "update webhook_endpoints
         set disabled_at = $3, disabled_reason = $4
         where id = $1 and url = $2 and disabled_at is null and ($4 = 'gone' or failing_since <= $5)
         returning failing_since",
        id.0,
        target,
        now,
        trouble.word(),
        now - FAILING_MAX,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(off) = off else { return Ok(false) };
    count(&mut tx, owner.account).await?;
    let entry = By::hand(Who::Scheduler).did("webhook_endpoint.disabled", Some(owner.account), id, now);
    let (before, after) = (json!({ "enabled": true }), json!({ "enabled": false, "reason": trouble.word() }));
    audit::record(&mut *tx, &entry.changed(Some(before), Some(after))).await?;
    let news = News::WebhookDisabled {
        account_name: owner.name,
        endpoint: id,
        failing_since: off.failing_since.filter(|_| trouble == Trouble::Failing),
    };
    // It may be switched on and given up again: each time is another cause.
    let cause = format!("{}@{}", id.0, now.timestamp_micros());
    mail::tell_owners(&mut tx, sealer, owner.account, &cause, &news, now).await?;
    tx.commit().await?;
    settle(db, id, now).await?;
    Ok(true)
}
