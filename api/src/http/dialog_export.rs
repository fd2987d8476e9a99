//! A whole dialog as a file: JSON for programs, Markdown for people.
//!
//! It is written page by page as the caller reads it, so it may be of any length, and no connection to the database waits for a
//! slow reader. An error cuts the answer off, so that a file that ends well is whole.

use std::fmt::Write;

use axum::{body::Body, extract::State, response::Response};
use futures::stream;
use serde_json::Value;

use super::{
    dialog_view::{DialogExport, MessageView},
    dialogs::find,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    request::{PathId, Query, word},
    schema,
    sheet::download,
};
use shared::{
    dialog::{self, Dialog, Message, Owner},
    id::DialogId,
};

/// Messages that are read and sent at once.
const PAGE_MESSAGES: i64 = 100;

/// In which form a dialog is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Markdown,
}

impl Form {
    const ALL: [Self; 2] = [Self::Json, Self::Markdown];

    const fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.word() == word)
    }

    /// How its files' names end, and what they are.
    const fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("json", "application/json"),
            Self::Markdown => ("md", "text/markdown; charset=utf-8"),
        }
    }

    fn head(self, dialog: &Dialog) -> String {
        match self {
            Self::Json => {
                let mut head = json(&DialogExport::begun(dialog));
                // The messages go before the brackets that end it.
                head.truncate(head.len() - "]}".len());
                head
            }
            Self::Markdown => markdown_head(dialog),
        }
    }

    fn message(self, message: &Message, is_first: bool) -> String {
        match self {
            Self::Json if is_first => format!("\n{}", json(&MessageView::of(message))),
            Self::Json => format!(",\n{}", json(&MessageView::of(message))),
            Self::Markdown => markdown(message),
        }
    }

    const fn tail(self) -> &'static str {
        match self {
            Self::Json => "\n]}\n",
            Self::Markdown => "",
        }
    }
}

fn json<T: serde::Serialize>(shown: &T) -> String {
    serde_json::to_string(shown).expect("a view has nothing that JSON cannot say")
}

/// A dialog with all that was said in it, in the order in which it was.
#[utoipa::path(
    get,
    path = "/v1/dialogs/{id}/export",
    params(
        ("id" = inline(schema::DialogId), Path, description = "Which dialog"),
        ("format" = inline(Option<schema::DialogForm>), Query, description = "How it is written; `json`, unless said otherwise"),
    ),
    responses(
        (
            status = 200,
            description = "A file with the dialog and its messages",
            content((DialogExport = "application/json"), (String = "text/markdown")),
            headers(("content-disposition" = String, description = "What to call the file."))
        ),
        (status = 404, description = "`dialog_not_found`", body = ErrorBody),
    )
)]
pub async fn export(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
    mut query: Query,
) -> Result<Response, ApiError> {
    let form = word(&mut query, "format", Form::from_word, &Form::ALL.map(Form::word))?.unwrap_or(Form::Json);
    query.finish()?;
    let dialog = find(&ctx, &caller, id).await?;
    let owner = Owner::of(&caller);
    // The first page before the answer begins, so that a database that is away is still told as an error.
    let messages = dialog::messages_from(&ctx.db, owner, id, 0, PAGE_MESSAGES).await?;
    let begun = Export { ctx, owner, id, form, head: form.head(&dialog), messages };
    let pages = stream::try_unfold(Some(begun), async |export| match export {
        Some(export) => export.next().await.map(Some),
        None => Ok(None),
    });
    let (ending, content_type) = form.kind();
    Ok(download(&format!("{id}.{ending}"), content_type, Body::from_stream(pages)))
}

/// A file in the making.
struct Export {
    ctx: Ctx,
    owner: Owner,
    id: DialogId,
    form: Form,
    /// What goes before the messages and was not sent.
    head: String,
    /// Read and not sent.
    messages: Vec<Message>,
}

impl Export {
    /// The page that was read, and the file with the page after it.
    async fn next(mut self) -> Result<(String, Option<Self>), sqlx::Error> {
        let mut text = std::mem::take(&mut self.head);
        let begins = !text.is_empty();
        for (at, message) in self.messages.iter().enumerate() {
            text += &self.form.message(message, begins && at == 0);
        }
        let is_whole = i64::try_from(self.messages.len()).unwrap_or(PAGE_MESSAGES) == PAGE_MESSAGES;
        let Some(last) = self.messages.last().filter(|_| is_whole).map(|message| message.n) else {
            return Ok((text + self.form.tail(), None));
        };
        let next = dialog::messages_from(&self.ctx.db, self.owner, self.id, last, PAGE_MESSAGES).await;
        self.messages =
            next.inspect_err(|error| tracing::error!(%error, "the file of a dialog was cut off"))?;
        Ok((text, Some(self)))
    }
}

fn markdown_head(dialog: &Dialog) -> String {
    let title = dialog.title.clone().unwrap_or_else(|| format!("Dialog {}", dialog.id));
    let begun = dialog.created_at.format("%-d %B %Y, %H:%M UTC");
    let mut text = format!("# {title}\n\n{}, begun {begun}", dialog.id);
    if let Some(model) = &dialog.model {
        let _ = write!(text, ", answered by {model}");
    }
    text += "\n";
    if let Some(system) = &dialog.system {
        let _ = write!(text, "\n## system\n\n{system}\n");
    }
    text
}

fn markdown(message: &Message) -> String {
    let said = message.created_at.format("%-d %B %Y, %H:%M UTC");
    let mut text = format!("\n## {} ({said})\n", message.role);
    let parts = match &message.content {
        Value::String(text) => vec![text.as_str()],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    };
    for part in parts {
        let _ = write!(text, "\n{part}\n");
    }
    let calls = message.more.as_ref().and_then(|more| more["tool_calls"].as_array());
    for call in calls.into_iter().flatten() {
        let function = &call["function"];
        let word = |name: &str| function[name].as_str().unwrap_or_default();
        let _ = write!(text, "\n`{}({})`\n", word("name"), word("arguments"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use shared::id::{JobId, KeyId};

    use super::*;

    fn dialog() -> Dialog {
        Dialog {
            id: "dlg_0123456789abcdef0123456789abcdef".parse().unwrap(),
            user: None,
            key: Some(KeyId::new()),
            title: Some("Foxes".into()),
            model: Some("gpt-4o".into()),
            system: Some("Be brief.".into()),
            uses_history: true,
            keeps_history: true,
            message_count: 2,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn message(n: i32, role: &str, content: Value, more: Option<Value>) -> Message {
        let role = role.to_owned();
        Message { n, role, content, more, job: JobId::new(), created_at: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_file_for_programs_is_one_object_however_many_messages_there_are() {
        let said = [
            message(1, "user", json!("hi \"there\""), None),
            message(2, "assistant", Value::Null, Some(json!({ "tool_calls": [1] }))),
        ];
        for count in 0..=said.len() {
            let listed = said[..count].iter().enumerate();
            let written: String = listed.map(|(at, message)| Form::Json.message(message, at == 0)).collect();
            let whole = Form::Json.head(&dialog()) + &written + Form::Json.tail();
            let read: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!((&read["title"], &read["object"]), (&json!("Foxes"), &json!("dialog")));
            let messages = read["messages"].as_array().unwrap();
            assert_eq!(messages.len(), count);
            assert!(count < 1 || messages[0]["content"] == "hi \"there\"");
            assert!(count < 2 || messages[1]["tool_calls"] == json!([1]));
        }
    }

    #[test]
    fn a_file_for_people_is_read_from_top_to_bottom() {
        let parts =
            json!([{ "type": "text", "text": "what is this?" }, { "type": "text", "text": "[a picture]" }]);
        let calls = json!({ "tool_calls": [{ "function": { "name": "look", "arguments": "{\"at\":1}" } }] });
        let text = Form::Markdown.head(&dialog())
            + &Form::Markdown.message(&message(1, "user", parts, None), true)
            + &Form::Markdown.message(&message(2, "assistant", Value::Null, Some(calls)), false);
        let expected = "# Foxes\n\ndlg_0123456789abcdef0123456789abcdef, begun 1 January 1970, 00:00 UTC, answered by gpt-4o\n\n\
                        ## system\n\nBe brief.\n\n## user (1 January 1970, 00:00 UTC)\n\nwhat is this?\n\n[a picture]\n\n\
                        ## assistant (1 January 1970, 00:00 UTC)\n\n`look({\"at\":1})`\n";
        assert_eq!(text, expected);
    }
}
