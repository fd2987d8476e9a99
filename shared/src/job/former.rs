//! A job that another one is made after: how it was ordered, and how it ended.
//!
//! A retry orders the same again; an improvement orders it with a wish more. Either is a job of its own, priced and held for
//! anew. Deliberately absent: jobs that take a result further (`parent.rs`).

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{PgPool, types::Json};

use super::{Descent, ITERATIONS_MAX, Priority, Turn, Webhook, Wishes};
use crate::id::{AccountId, DialogId, JobId};

/// A job as it was ordered, and what became of it.
#[derive(Debug, Clone)]
pub struct Former {
    /// Its id.
    pub id: JobId,
    /// `open`, or how it ended.
    pub status: String,
    /// Public model name.
    pub model: String,
    /// Task word.
    pub task: String,
    /// As it was ordered, with the files in it, and in a dialog with what was said before.
    pub input: Value,
    /// The answer or transcript, if that is what it made.
    pub text: Option<String>,
    /// The caller's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// How soon it was wanted.
    pub priority: Priority,
    /// Who was told of its end.
    pub webhook: Option<Webhook>,
    /// What else its request wished.
    pub wishes: Wishes,
    /// Which job it was made after itself.
    pub descent: Descent,
    /// Its part in a dialog, which may be gone.
    pub turn: Option<Turn>,
}

impl Former {
    /// Whether it ended with a result.
    pub fn has_succeeded(&self) -> bool {
        self.status == "succeeded"
    }

    /// Whether it ended without one.
    pub fn has_failed(&self) -> bool {
        !["open", "succeeded"].contains(&self.status.as_str())
    }

    /// How a job descends that makes this one again. It improves what this one was to improve.
    pub fn retry(&self) -> Descent {
        Descent { retry_of: Some(self.id), ..self.descent }
    }

    /// How a job descends that improves the result of this one; `None`: it was improved as often as may be.
    pub fn improvement(&self) -> Option<Descent> {
        let iteration = self.descent.iteration.unwrap_or(0) + 1;
        let improves = Some(self.id);
        (iteration <= ITERATIONS_MAX).then_some(Descent {
            retry_of: None,
            improves,
            iteration: Some(iteration),
        })
    }
}

/// A job of `account`, or `None` when it has no such job.
///
/// # Errors
/// When the database fails, or holds wishes that this version does not know: rather no job than one where its owner does not want it.
pub async fn former(db: &PgPool, account: AccountId, job: JobId) -> Result<Option<Former>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select status, model, task, input, output ->> 'text' as "text?", metadata as "metadata: Json<BTreeMap<String, String>>",
                  priority, webhook_url, webhook_events, wishes as "wishes: Json<Wishes>", retry_of as "retry_of: JobId",
                  improves as "improves: JobId", iteration, dialog_id as "dialog: DialogId", dialog_said
           from jobs where id = $1 and account_id = $2"#,
        job.0,
        account.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Former {
        id: job,
        status: row.status,
        model: row.model,
        task: row.task,
        input: row.input,
        text: row.text,
        metadata: row.metadata.0,
        priority: Priority::of_rank(row.priority),
        webhook: row.webhook_url.map(|url| Webhook { url, events: row.webhook_events }),
        wishes: row.wishes.map(|Json(wishes)| wishes).unwrap_or_default(),
        descent: Descent { retry_of: row.retry_of, improves: row.improves, iteration: row.iteration },
        turn: row.dialog.map(|dialog| Turn { dialog, said: row.dialog_said }),
    }))
}
