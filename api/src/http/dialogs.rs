//! Dialogs over HTTP: begun, seen, changed, forgotten. What is said in them is said by jobs, see `talk.rs`.
//!
//! A person sees the dialogs that they began, and a key those that keys of its account began. They need no permission of their
//! own: whoever may see and make jobs sees and says no more by way of a dialog.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{fields, models};
use crate::{
    ApiError, Ctx,
    access::Caller,
    page,
    request::{Body, PathId, Query, page_limit, present},
};
use shared::{
    account,
    dialog::{self, Changes, Dialog, MESSAGE_CHARS, Message, Owner},
    id::DialogId,
};

/// Longest body: room for instructions of as many characters as a message has, each written as an escape of two halves.
pub const BYTES_MAX: usize = 640 * 1024;

/// A dialog as it is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewDialog {
    title: Option<String>,
    model: Option<String>,
    system: Option<String>,
    uses_history: Option<bool>,
    keeps_history: Option<bool>,
}

/// What is to be changed of a dialog; what is absent stays, null clears.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialogPatch {
    #[serde(default, deserialize_with = "present")]
    title: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    model: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    system: Option<Option<String>>,
    uses_history: Option<bool>,
    keeps_history: Option<bool>,
}

/// Begins a dialog.
pub async fn begin(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    body: Option<Body<NewDialog>>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let asked = body.map(|body| body.value).unwrap_or_default();
    let new = dialog::NewDialog {
        title: asked.title.map(|title| fields::name("title", &title)).transpose()?,
        model: asked.model.map(|model| chat_model(&ctx, &caller, model)).transpose()?,
        system: asked.system.map(instructions).transpose()?.flatten(),
        uses_history: asked.uses_history.unwrap_or(true),
        keeps_history: asked.keeps_history.unwrap_or(true),
    };
    let begun = dialog::begin(&ctx.db, &caller, &new, ctx.dialogs.per_account, ctx.clock.now()).await?;
    tracing::info!(dialog.id = %begun.id, account.id = %caller.account, "dialog {} begun", begun.id);
    Ok((StatusCode::CREATED, Json(view(&begun))))
}

/// A page of the caller's dialogs, the last begun first.
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<DialogId>("after")?;
    query.finish()?;
    let found = dialog::list(&ctx.db, Owner::of(&caller), after, limit + 1).await?;
    Ok(page::answer(found, limit, |dialog| dialog.id, |dialog| view(&dialog)))
}

/// One dialog, without what was said in it.
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&find(&ctx, &caller, id).await?)))
}

/// Changes what a dialog is called, who answers in it, and what goes before a message; from the next job on.
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
    body: Body<DialogPatch>,
) -> Result<Json<Value>, ApiError> {
    let patch = body.value;
    let title = |given: String| fields::name("title", &given);
    let model = |given: String| chat_model(&ctx, &caller, given);
    let changes = Changes {
        title: patch.title.map(|given| given.map(title).transpose()).transpose()?,
        model: patch.model.map(|given| given.map(model).transpose()).transpose()?,
        system: patch.system.map(|given| given.map_or(Ok(None), instructions)).transpose()?,
        uses_history: patch.uses_history,
        keeps_history: patch.keeps_history,
    };
    let changed = dialog::change(&ctx.db, Owner::of(&caller), id, &changes, ctx.clock.now()).await?;
    Ok(Json(view(&changed.ok_or_else(|| unknown("id"))?)))
}

/// Deletes a dialog with all that was said in it.
pub async fn delete(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<Value>, ApiError> {
    if !dialog::delete(&ctx.db, Owner::of(&caller), id).await? {
        return Err(unknown("id"));
    }
    tracing::info!(dialog.id = %id, account.id = %caller.account, "dialog {id} deleted");
    Ok(Json(json!({ "object": "dialog", "id": id, "deleted": true })))
}

/// A page of what was said in a dialog, the last said first.
pub async fn messages(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<i32>("after")?;
    query.finish()?;
    find(&ctx, &caller, id).await?;
    let found = dialog::messages(&ctx.db, Owner::of(&caller), id, after, limit + 1).await?;
    Ok(page::answer(found, limit, |message| message.n, |message| show_message(&message)))
}

/// Forgets all that was said in a dialog, which goes on from nothing.
pub async fn forget(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<Value>, ApiError> {
    let emptied = dialog::forget(&ctx.db, Owner::of(&caller), id, ctx.clock.now()).await?;
    Ok(Json(view(&emptied.ok_or_else(|| unknown("id"))?)))
}

/// A dialog of the caller.
///
/// # Errors
/// 404 when there is no such dialog, or it is somebody else's.
pub async fn find(ctx: &Ctx, caller: &account::Caller, id: DialogId) -> Result<Dialog, ApiError> {
    dialog::find(&ctx.db, Owner::of(caller), id).await?.ok_or_else(|| unknown("id"))
}

/// The answer to a dialog that is not there, which `param` names.
pub fn unknown(param: &str) -> ApiError {
    ApiError::not_found("dialog_not_found", Some(param), "there is no such dialog")
}

/// A dialog for its owner.
pub fn view(dialog: &Dialog) -> Value {
    json!({
        "id": dialog.id, "object": "dialog", "title": dialog.title, "model": dialog.model, "system": dialog.system,
        "uses_history": dialog.uses_history, "keeps_history": dialog.keeps_history, "message_count": dialog.message_count,
        "user": dialog.user, "api_key": dialog.key, "created_at": dialog.created_at, "updated_at": dialog.updated_at,
    })
}

/// A message for its owner, in OpenAI's form and with what it lacks.
pub fn show_message(message: &Message) -> Value {
    let mut shown = json!({
        "object": "dialog.message", "n": message.n, "role": message.role, "content": message.content,
        "job": message.job, "created_at": message.created_at,
    });
    if let (Some(fields), Some(Value::Object(more))) = (shown.as_object_mut(), &message.more) {
        fields.extend(more.clone());
    }
    shown
}

/// A model that holds conversations and that the caller may use.
fn chat_model(ctx: &Ctx, caller: &account::Caller, id: String) -> Result<String, ApiError> {
    let model = ctx.catalog.get(&id).ok_or_else(|| models::unknown(&id))?;
    if !caller.may_use(&id) {
        return Err(models::not_allowed(&id));
    }
    if model.task != dialog::TASK {
        let message =
            format!("{id} holds no conversations: a dialog is for models of the task {}", dialog::TASK);
        return Err(ApiError::bad_request("invalid_model", "model", message));
    }
    Ok(id)
}

/// Instructions; blank ones are none.
fn instructions(text: String) -> Result<Option<String>, ApiError> {
    if text.chars().count() > MESSAGE_CHARS {
        let message = format!("system has at most {MESSAGE_CHARS} characters");
        return Err(ApiError::bad_request("invalid_text", "system", message));
    }
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}
