//! A job whose result another one takes further: a button that was pressed, a film that goes on.

use serde_json::Value;
use sqlx::PgPool;

use crate::id::{AccountId, JobId};

/// What a follow-up needs to know of the job before it.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Who made it; only they can take it further.
    pub provider: String,
    /// The provider's own reference.
    pub provider_ref: Option<String>,
    /// What it offers: `[{"id","label"}]`, or null.
    pub actions: Value,
}

impl Parent {
    /// Whether it offers the action of this id.
    pub fn offers(&self, action: &str) -> bool {
        let ids = self.actions.as_array().into_iter().flatten().map(|offered| &offered["id"]);
        ids.into_iter().any(|id| id == action)
    }
}

/// The job of `account` that a follow-up names, if it is there and succeeded.
///
/// # Errors
/// When the database fails.
pub async fn parent(db: &PgPool, account: AccountId, job: JobId) -> Result<Option<Parent>, sqlx::Error> {
    sqlx::query_as!(
        Parent,
        r#"select j.provider, a.provider_ref, coalesce(j.output -> 'actions', 'null') as "actions!"
           from jobs j left join attempts a on a.job_id = j.id and a.attempt = j.attempts
           where j.id = $1 and j.account_id = $2 and j.status = 'succeeded'"#,
        job.0,
        account.0,
    )
    .fetch_optional(db)
    .await
}

/// The id in an input's field `job`, for tasks that follow up.
pub fn parent_id(input: &Value) -> Option<JobId> {
    input.get("job")?.as_str()?.parse().ok()
}
