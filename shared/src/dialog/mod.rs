//! Conversations: what was said and answered in them, and what of that goes before the next question.
//!
//! A dialog is written by its owner, its messages only by the commit that ends a job of it (`job/close.sql`), and only if the
//! job succeeded: so each question and its answer are in it once, together, in the order in which the jobs ended. What a job
//! is given to read is put together when it is submitted ([`recall`], [`go_on`]) and never changes after that. A dialog that a
//! person began is theirs alone; one that a key began is any key's of the account, since programs change their keys.
//! Deliberately absent: whoever answers, what it costs, and the audit log: like jobs, dialogs have rows of their own.

mod history;
mod messages;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    account::Caller,
    id::{AccountId, DialogId, KeyId, UserId},
};

pub use history::{Continued, MESSAGE_CHARS, Room, TooLong, go_on};
pub use messages::{Message, forget, messages, messages_from};

/// The task whose jobs have dialogs.
pub const TASK: &str = "text.chat";
/// Most messages of one dialog, so that it can be read, packed and deleted in one go; 5000 questions with their answers.
pub const MESSAGES_MAX: i32 = 10_000;
/// Most messages that are read to go before the next one: a conversation of short words fills no more.
const RECALLED_MAX: i64 = 400;

/// A conversation.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Its id.
    pub id: DialogId,
    /// The person who began it.
    pub user: Option<UserId>,
    /// The key that began it, if no person did.
    pub key: Option<KeyId>,
    /// For people.
    pub title: Option<String>,
    /// Public name of the model for jobs that name none.
    pub model: Option<String>,
    /// Instructions that go before everything.
    pub system: Option<String>,
    /// Whether what was said goes before what is said next.
    pub uses_history: bool,
    /// Whether what is said is kept; if not, nothing goes before it either.
    pub keeps_history: bool,
    /// Messages that are kept.
    pub message_count: i32,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it was last changed, or something was said in it.
    pub updated_at: DateTime<Utc>,
}

/// Whose dialogs: one person's in an account, or those that the account's keys began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    account: AccountId,
    person: Option<UserId>,
}

impl Owner {
    /// Those that `caller` may see.
    pub fn of(caller: &Caller) -> Self {
        Self { account: caller.account, person: caller.actor.user() }
    }

    fn person(self) -> Option<Uuid> {
        self.person.map(|user| user.0)
    }
}

/// A dialog to be begun.
#[derive(Debug, Clone)]
pub struct NewDialog {
    /// For people.
    pub title: Option<String>,
    /// Public name of a model.
    pub model: Option<String>,
    /// Instructions.
    pub system: Option<String>,
    /// Whether what was said goes before what is said next.
    pub uses_history: bool,
    /// Whether what is said is kept.
    pub keeps_history: bool,
}

/// What is to be changed of a dialog; what is `None` stays, an inner `None` clears.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// For people.
    pub title: Option<Option<String>>,
    /// Public name of a model.
    pub model: Option<Option<String>>,
    /// Instructions.
    pub system: Option<Option<String>>,
    /// Whether what was said goes before what is said next.
    pub uses_history: Option<bool>,
    /// Whether what is said is kept from now on. What was kept before stays until it is forgotten.
    pub keeps_history: Option<bool>,
}

/// Why no dialog was begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The account has as many as it may.
    #[error("the account has {0} dialogs already")]
    TooMany(i64),
    /// The account is not active any more.
    #[error("the account is not active")]
    Inactive,
    /// The database failed.
    #[error("begin a dialog")]
    Db(#[from] sqlx::Error),
}

/// Begins a dialog of `caller`, whose account may have `most` of them.
///
/// # Errors
/// See [`BeginError`]; on any of them there is none.
pub async fn begin(
    db: &PgPool,
    caller: &Caller,
    new: &NewDialog,
    most: i64,
    now: DateTime<Utc>,
) -> Result<Dialog, BeginError> {
    let account = caller.account;
    let mut tx = db.begin().await?;
    // Under the account's lock those that begin at once are counted one after the other, and none begins behind an erasure.
    let is_active = sqlx::query_scalar!(
        r#"select status = 'active' as "is_active!" from accounts where id = $1 for no key update"#,
        account.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    if is_active != Some(true) {
        return Err(BeginError::Inactive);
    }
    let begun = sqlx::query_as!(
        Dialog,
        r#"insert into dialogs (id, account_id, user_id, key_id, title, model, system, uses_history, keeps_history, created_at,
                                updated_at)
           select $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::text, $6::text, $7::text, $8::boolean, $9::boolean, $10::timestamptz, $10
           where (select count(*) from dialogs where account_id = $2) < $11::bigint
           returning id as "id: _", user_id as "user: _", key_id as "key: _", title, model, system, uses_history, keeps_history,
                     message_count, created_at, updated_at"#,
        DialogId::new().0,
        account.0,
        caller.actor.user().map(|user| user.0),
        caller.actor.key().map(|key| key.0),
        new.title.as_deref(),
        new.model.as_deref(),
        new.system.as_deref(),
        new.uses_history,
        new.keeps_history,
        now,
        most,
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(BeginError::TooMany(most))?;
    tx.commit().await?;
    Ok(begun)
}

/// A dialog of `owner`.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &PgPool, owner: Owner, id: DialogId) -> Result<Option<Dialog>, sqlx::Error> {
    sqlx::query_as!(
        Dialog,
        r#"select id as "id: _", user_id as "user: _", key_id as "key: _", title, model, system, uses_history, keeps_history,
                  message_count, created_at, updated_at
           from dialogs where id = $1 and account_id = $2 and user_id is not distinct from $3"#,
        id.0,
        owner.account.0,
        owner.person(),
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` dialogs of `owner`, the last begun first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &PgPool,
    owner: Owner,
    after: Option<DialogId>,
    limit: i64,
) -> Result<Vec<Dialog>, sqlx::Error> {
    sqlx::query_as!(
        Dialog,
        r#"select id as "id: _", user_id as "user: _", key_id as "key: _", title, model, system, uses_history, keeps_history,
                  message_count, created_at, updated_at
           from dialogs
           where account_id = $1 and user_id is not distinct from $2
             and id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by id desc limit $4"#,
        owner.account.0,
        owner.person(),
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Changes a dialog of `owner`; gives it as it is now. `None`: there is no such dialog.
///
/// # Errors
/// When the database fails.
pub async fn change(
    db: &PgPool,
    owner: Owner,
    id: DialogId,
    changes: &Changes,
    now: DateTime<Utc>,
) -> Result<Option<Dialog>, sqlx::Error> {
    sqlx::query_as!(
        Dialog,
        r#"update dialogs
           set title = case when $4::boolean then $5::text else title end, model = case when $6::boolean then $7::text else model end,
               system = case when $8::boolean then $9::text else system end,
               uses_history = coalesce($10::boolean, uses_history), keeps_history = coalesce($11::boolean, keeps_history),
               updated_at = $12
           where id = $1 and account_id = $2 and user_id is not distinct from $3
           returning id as "id: _", user_id as "user: _", key_id as "key: _", title, model, system, uses_history, keeps_history,
                     message_count, created_at, updated_at"#,
        id.0,
        owner.account.0,
        owner.person(),
        changes.title.is_some(),
        changes.title.as_ref().and_then(Option::as_deref),
        changes.model.is_some(),
        changes.model.as_ref().and_then(Option::as_deref),
        changes.system.is_some(),
        changes.system.as_ref().and_then(Option::as_deref),
        changes.uses_history,
        changes.keeps_history,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Deletes a dialog of `owner` with all that was said in it. `false`: there is no such dialog. Its jobs stay; those that are
/// open answer whoever asked and are kept nowhere else.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &PgPool, owner: Owner, id: DialogId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!(
        "delete from dialogs where id = $1 and account_id = $2 and user_id is not distinct from $3",
        id.0,
        owner.account.0,
        owner.person(),
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// A dialog, and what of it may go before the next message.
#[derive(Debug, Clone)]
pub struct Recalled {
    /// Which.
    pub dialog: Dialog,
    /// The newest of its messages in OpenAI's form, the oldest of them first; none where its history is off.
    pub history: Vec<Value>,
}

/// A dialog of `owner` with its newest messages, as many as `history_bytes` hold as JSON.
///
/// # Errors
/// When the database fails.
pub async fn recall(
    db: &PgPool,
    owner: Owner,
    id: DialogId,
    history_bytes: i64,
) -> Result<Option<Recalled>, sqlx::Error> {
    let found = sqlx::query_file!(
        "src/dialog/recall.sql",
        id.0,
        owner.account.0,
        owner.person(),
        history_bytes,
        RECALLED_MAX,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| Recalled {
        history: if let Some(Value::Array(messages)) = row.history { messages } else { Vec::new() },
        dialog: Dialog {
            id: row.id,
            user: row.user,
            key: row.key,
            title: row.title,
            model: row.model,
            system: row.system,
            uses_history: row.uses_history,
            keeps_history: row.keeps_history,
            message_count: row.message_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
        },
    }))
}
