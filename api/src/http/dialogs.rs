//! Dialogs over HTTP: begun, seen, changed, forgotten. What is said in them is said by jobs, see `talk.rs`.
//!
//! A person sees the dialogs that they began, and a key those that keys of its account began. They need no permission of their
//! own: whoever may see and make jobs sees and says no more by way of a dialog.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    account_view::Deleted,
    dialog_view::{DialogView, MessageView},
    fields, models,
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    page::{List, Paging},
    request::{Body, PathId, Query, page_limit, present},
    schema,
};
use shared::{
    account,
    dialog::{self, Changes, Dialog, MESSAGE_CHARS, Owner},
    id::DialogId,
};

/// Longest body: room for instructions of as many characters as a message has, each written as an escape of two halves.
pub const BYTES_MAX: usize = 640 * 1024;

/// A dialog as it is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewDialog {
    /// What it is called.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    title: Option<String>,
    /// Who answers where a job names no model: one of the task `text.chat`.
    model: Option<String>,
    /// Instructions that go before everything.
    #[schema(max_length = 50_000)]
    system: Option<String>,
    /// Whether what was said goes before what is said next; yes, unless said otherwise.
    uses_history: Option<bool>,
    /// Whether what is said is kept; yes, unless said otherwise.
    keeps_history: Option<bool>,
}

/// What is to be changed of a dialog; what is absent stays, null clears.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DialogPatch {
    /// What it is called.
    #[serde(default, deserialize_with = "present")]
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    title: Option<Option<String>>,
    /// Who answers where a job names no model.
    #[serde(default, deserialize_with = "present")]
    model: Option<Option<String>>,
    /// Instructions that go before everything.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 50_000)]
    system: Option<Option<String>>,
    /// Whether what was said goes before what is said next.
    uses_history: Option<bool>,
    /// Whether what is said is kept from now on.
    keeps_history: Option<bool>,
}

/// Begins a dialog.
#[utoipa::path(
    post,
    path = "/v1/dialogs",
    request_body(content = Option<NewDialog>),
    responses(
        (status = 201, description = "The dialog", body = DialogView),
        (status = 404, description = "`model_not_found`", body = ErrorBody),
        (status = 409, description = "`too_many_dialogs`", body = ErrorBody),
    )
)]
pub async fn begin(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    body: Option<Body<NewDialog>>,
) -> Result<(StatusCode, Json<DialogView>), ApiError> {
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
    Ok((StatusCode::CREATED, Json(DialogView::of(&begun))))
}

/// A page of the caller's dialogs, the last begun first.
#[utoipa::path(
    get,
    path = "/v1/dialogs",
    params(
        Paging,
        ("after" = inline(Option<schema::DialogId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of dialogs", body = List<DialogView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<DialogView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<DialogId>("after")?;
    query.finish()?;
    let found = dialog::list(&ctx.db, Owner::of(&caller), after, limit + 1).await?;
    Ok(Json(List::of(found, limit, |dialog| dialog.id, |dialog| DialogView::of(&dialog))))
}

/// One dialog, without what was said in it.
#[utoipa::path(
    get,
    path = "/v1/dialogs/{id}",
    params(("id" = inline(schema::DialogId), Path, description = "Which dialog")),
    responses(
        (status = 200, description = "The dialog", body = DialogView),
        (status = 404, description = "`dialog_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<DialogView>, ApiError> {
    Ok(Json(DialogView::of(&find(&ctx, &caller, id).await?)))
}

/// Changes what a dialog is called, who answers in it, and what goes before a message; from the next job on.
#[utoipa::path(
    patch,
    path = "/v1/dialogs/{id}",
    params(("id" = inline(schema::DialogId), Path, description = "Which dialog")),
    request_body = DialogPatch,
    responses(
        (status = 200, description = "The dialog as it is now", body = DialogView),
        (status = 404, description = "`dialog_not_found`, `model_not_found`", body = ErrorBody),
    )
)]
pub async fn change(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
    body: Body<DialogPatch>,
) -> Result<Json<DialogView>, ApiError> {
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
    Ok(Json(DialogView::of(&changed.ok_or_else(|| unknown("id"))?)))
}

/// Deletes a dialog with all that was said in it.
#[utoipa::path(
    delete,
    path = "/v1/dialogs/{id}",
    params(("id" = inline(schema::DialogId), Path, description = "Which dialog")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 404, description = "`dialog_not_found`", body = ErrorBody),
    )
)]
pub async fn delete(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<Deleted>, ApiError> {
    if !dialog::delete(&ctx.db, Owner::of(&caller), id).await? {
        return Err(unknown("id"));
    }
    tracing::info!(dialog.id = %id, account.id = %caller.account, "dialog {id} deleted");
    Ok(Json(Deleted::of("dialog", id)))
}

/// A page of what was said in a dialog, the last said first.
#[utoipa::path(
    get,
    path = "/v1/dialogs/{id}/messages",
    params(
        ("id" = inline(schema::DialogId), Path, description = "Which dialog"),
        Paging,
        ("after" = inline(Option<i32>), Query, description = "The `last_id` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of messages", body = List<MessageView>),
        (status = 404, description = "`dialog_not_found`", body = ErrorBody),
    )
)]
pub async fn messages(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
    mut query: Query,
) -> Result<Json<List<MessageView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<i32>("after")?;
    query.finish()?;
    find(&ctx, &caller, id).await?;
    let found = dialog::messages(&ctx.db, Owner::of(&caller), id, after, limit + 1).await?;
    Ok(Json(List::of(found, limit, |message| message.n, |message| MessageView::of(&message))))
}

/// Forgets all that was said in a dialog, which goes on from nothing.
#[utoipa::path(
    delete,
    path = "/v1/dialogs/{id}/messages",
    params(("id" = inline(schema::DialogId), Path, description = "Which dialog")),
    responses(
        (status = 200, description = "The dialog, in which nothing is said", body = DialogView),
        (status = 404, description = "`dialog_not_found`", body = ErrorBody),
    )
)]
pub async fn forget(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<DialogId>,
) -> Result<Json<DialogView>, ApiError> {
    let emptied = dialog::forget(&ctx.db, Owner::of(&caller), id, ctx.clock.now()).await?;
    Ok(Json(DialogView::of(&emptied.ok_or_else(|| unknown("id"))?)))
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
