//! Dialogs and what was said in them, as their owner sees them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::schema;
use shared::{
    dialog::{Dialog, Message},
    id::{DialogId, JobId, KeyId, UserId},
};

/// A dialog for its owner.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dialog)]
pub struct DialogView {
    #[schema(value_type = schema::DialogId)]
    id: DialogId,
    #[schema(pattern = "^dialog$")]
    object: &'static str,
    /// For people.
    #[schema(required)]
    title: Option<String>,
    /// Who answers where a job names no model.
    #[schema(required)]
    model: Option<String>,
    /// Instructions that go before everything.
    #[schema(required)]
    system: Option<String>,
    /// Whether what was said goes before what is said next.
    uses_history: bool,
    /// Whether what is said is kept; if not, nothing goes before it either.
    keeps_history: bool,
    /// Messages that are kept.
    #[schema(minimum = 0)]
    message_count: i32,
    /// The person who began it.
    #[schema(value_type = Option<schema::UserId>, required)]
    user: Option<UserId>,
    /// The key that began it, if no person did.
    #[schema(value_type = Option<schema::KeyId>, required)]
    api_key: Option<KeyId>,
    created_at: DateTime<Utc>,
    /// When it was last changed, or something was said in it.
    updated_at: DateTime<Utc>,
}

impl DialogView {
    /// How a dialog is shown.
    pub fn of(dialog: &Dialog) -> Self {
        Self {
            id: dialog.id,
            object: "dialog",
            title: dialog.title.clone(),
            model: dialog.model.clone(),
            system: dialog.system.clone(),
            uses_history: dialog.uses_history,
            keeps_history: dialog.keeps_history,
            message_count: dialog.message_count,
            user: dialog.user,
            api_key: dialog.key,
            created_at: dialog.created_at,
            updated_at: dialog.updated_at,
        }
    }
}

/// A message for its owner, in OpenAI's form, with what it may have beside, such as `tool_calls`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DialogMessage)]
pub struct MessageView {
    #[schema(pattern = r"^dialog\.message$")]
    object: &'static str,
    /// Its place in the dialog, from 1.
    #[schema(minimum = 1)]
    n: i32,
    /// `user`, `assistant` or `tool`.
    role: String,
    /// A text, a list of parts that are texts, or null where only tools are called.
    content: Value,
    /// The job that it was said to, or that answered.
    #[schema(value_type = schema::JobId)]
    job: JobId,
    /// When that job ended.
    created_at: DateTime<Utc>,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

/// A dialog with all that was said in it, the first said first, as a file has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DialogExport {
    #[serde(flatten)]
    dialog: DialogView,
    messages: Vec<MessageView>,
}

impl DialogExport {
    /// The file of a dialog in which nothing is said.
    pub fn begun(dialog: &Dialog) -> Self {
        Self { dialog: DialogView::of(dialog), messages: Vec::new() }
    }
}

impl MessageView {
    /// How a message is shown.
    pub fn of(message: &Message) -> Self {
        Self {
            object: "dialog.message",
            n: message.n,
            role: message.role.clone(),
            content: message.content.clone(),
            job: message.job,
            created_at: message.created_at,
            more: message.more.as_ref().and_then(Value::as_object).cloned().unwrap_or_default(),
        }
    }
}
