//! What was said in a dialog: read from either end, or forgotten.
//!
//! Messages are numbered from 1 without a gap and only forgotten all together, so a dialog's count is its last number.
//! Deliberately absent: writing them, which is the end of a job's.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;

use super::{Dialog, Owner};
use crate::id::{DialogId, JobId};

/// Something that was said.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its place in the dialog, from 1.
    pub n: i32,
    /// `user`, `assistant` or `tool`.
    pub role: String,
    /// A text, a list of parts that are texts, or null where only tools are called.
    pub content: Value,
    /// Other fields of the message, such as `tool_calls`: an object.
    pub more: Option<Value>,
    /// The job that it was said to, or that answered.
    pub job: JobId,
    /// When that job ended.
    pub created_at: DateTime<Utc>,
}

/// Up to `limit` messages of a dialog of `owner`, the last said first, said before the one numbered `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn messages(
    db: &PgPool,
    owner: Owner,
    dialog: DialogId,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<Message>, sqlx::Error> {
    sqlx::query_as!(
        Message,
        r#"select m.n, m.role, m.content, m.more, m.job_id as "job: _", m.created_at
           from dialogs d join dialog_messages m on m.dialog_id = d.id
           where d.id = $1 and d.account_id = $2 and d.user_id is not distinct from $3
             and ($4::integer is null or m.n < $4)
           order by m.n desc limit $5"#,
        dialog.0,
        owner.account.0,
        owner.person(),
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` messages of a dialog of `owner` in the order in which they were said, from the one after the number `after`.
///
/// # Errors
/// When the database fails.
pub async fn messages_from(
    db: &PgPool,
    owner: Owner,
    dialog: DialogId,
    after: i32,
    limit: i64,
) -> Result<Vec<Message>, sqlx::Error> {
    sqlx::query_as!(
        Message,
        r#"select m.n, m.role, m.content, m.more, m.job_id as "job: _", m.created_at
           from dialogs d join dialog_messages m on m.dialog_id = d.id
           where d.id = $1 and d.account_id = $2 and d.user_id is not distinct from $3 and m.n > $4
           order by m.n limit $5"#,
        dialog.0,
        owner.account.0,
        owner.person(),
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Forgets all that was said in a dialog of `owner`; gives it as it is then. `None`: there is no such dialog. What a job that
/// is open brings along was read before and is not taken from it; what comes of it is the first that is kept again.
///
/// # Errors
/// When the database fails; then nothing is forgotten.
pub async fn forget(
    db: &PgPool,
    owner: Owner,
    dialog: DialogId,
    now: DateTime<Utc>,
) -> Result<Option<Dialog>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let emptied = sqlx::query_as!(
        Dialog,
        r#"update dialogs set message_count = 0, updated_at = $4
           where id = $1 and account_id = $2 and user_id is not distinct from $3
           returning id as "id: _", user_id as "user: _", key_id as "key: _", title, model, system, uses_history, keeps_history,
                     message_count, created_at, updated_at"#,
        dialog.0,
        owner.account.0,
        owner.person(),
        now,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(emptied) = emptied else { return Ok(None) };
    // A statement of its own, which sees what was said while the first one waited for the row.
    sqlx::query!("delete from dialog_messages where dialog_id = $1", dialog.0).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some(emptied))
}
