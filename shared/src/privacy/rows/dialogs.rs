//! Rows about the account's conversations, those of its people and those that its keys began.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::{ROWS, Read, place};
use crate::{
    id::{AccountId, DialogId, JobId, KeyId, UserId},
    privacy::Page,
};

/// Messages of one page: an answer may be some hundred kilobytes long.
const MESSAGES: i64 = 100;

#[derive(Serialize)]
struct Dialog {
    id: DialogId,
    user: Option<UserId>,
    api_key: Option<KeyId>,
    title: Option<String>,
    model: Option<String>,
    system: Option<String>,
    uses_history: bool,
    keeps_history: bool,
    message_count: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

pub(in crate::privacy) async fn dialogs(db: &PgPool, account: AccountId, after: Option<&str>) -> Read {
    let found = sqlx::query_as!(
        Dialog,
        r#"select id as "id: _", user_id as "user: _", key_id as "api_key: _", title, model, system, uses_history, keeps_history,
                  message_count, created_at, updated_at
           from dialogs
           where account_id = $1 and id > coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after,
        ROWS,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, ROWS, |row| place(row.id.0)))
}

#[derive(Serialize)]
struct Message {
    dialog: DialogId,
    n: i32,
    role: String,
    content: Value,
    more: Option<Value>,
    job: JobId,
    created_at: DateTime<Utc>,
}

/// In the order of their dialogs; a place names dialog and number.
pub(in crate::privacy) async fn dialog_messages(
    db: &PgPool,
    account: AccountId,
    after: Option<&str>,
) -> Read {
    let after = after.and_then(|place| place.split_once(' '));
    let found = sqlx::query_as!(
        Message,
        r#"select m.dialog_id as "dialog: _", m.n, m.role, m.content, m.more, m.job_id as "job: _", m.created_at
           from dialogs d join dialog_messages m on m.dialog_id = d.id
           where d.account_id = $1 and d.id >= coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000')
             and (m.dialog_id, m.n) > (coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000'), coalesce($3::text::integer, 0))
           order by m.dialog_id, m.n limit $4"#,
        account.0,
        after.map(|(dialog, _)| dialog),
        after.map(|(_, n)| n),
        MESSAGES,
    )
    .fetch_all(db)
    .await?;
    Ok(Page::of(found, MESSAGES, |row| format!("{} {}", place(row.dialog.0), row.n)))
}
