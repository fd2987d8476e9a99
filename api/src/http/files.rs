//! Files over HTTP: send one in, look, list, fetch, delete.
//!
//! What was sent in and what jobs made are found by the same ids; the list has what was sent in, for what jobs made stands in
//! their outputs. Fields are ours, with OpenAI's `bytes` and `filename` beside them for its clients.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::upload;
use crate::{
    ApiError, Ctx,
    access::Caller,
    form::Form,
    page,
    request::{PathId, Query, page_limit},
};
use shared::{
    file::{self, File},
    id::{AccountId, FileId},
    upload as uploads,
};

/// Takes a file in, to be used as an input of jobs.
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::open(request, &ctx.process).await?;
    let place = match ctx.uploads.enter(caller.account) {
        Ok(place) => place,
        Err(refusal) => {
            form.discard().await;
            return Err(refusal);
        }
    };
    // Goes on when the caller has gone, to throw away what was stored so far.
    let received = ctx.process.spawn(upload::receive(ctx.clone(), caller.account, form, place));
    let file = received.await.map_err(|error| {
        tracing::error!(%error, "an upload panicked");
        ApiError::internal()
    })??;
    let location = [(header::LOCATION, format!("/v1/files/{}", file.id))];
    Ok((StatusCode::CREATED, location, Json(view(&ctx, &file).await?)).into_response())
}

/// A page of what the account sent in, newest first.
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take("after")?;
    query.finish()?;
    let found = uploads::list(&ctx.db, caller.account, after, limit + 1, ctx.clock.now()).await?;
    let (found, has_more) = page::cut(found, limit);
    let last = found.last().map(|file| file.id);
    let mut data = Vec::with_capacity(found.len());
    for file in &found {
        data.push(view(&ctx, file).await?);
    }
    Ok(Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last })))
}

/// One file.
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<FileId>,
) -> Result<Json<Value>, ApiError> {
    let file = find(&ctx, caller.account, id).await?;
    Ok(Json(view(&ctx, &file).await?))
}

/// Sends the caller on to where the file is, for as long as the signature works.
pub async fn content(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<FileId>,
) -> Result<Response, ApiError> {
    let file = find(&ctx, caller.account, id).await?;
    let url = ctx.storage.signed_url(&file.storage_key).await?;
    let headers = [(header::LOCATION, url), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// Deletes a file that was sent in, object and row. What a job made goes with its time: it may be the result of several jobs.
pub async fn remove(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<FileId>,
) -> Result<Json<Value>, ApiError> {
    let file = find(&ctx, caller.account, id).await?;
    if let Some(job) = file.job {
        let message = format!("this file is a result of {job} and is deleted when it expires, not before");
        return Err(ApiError::conflict("file_of_job", message));
    }
    ctx.storage.delete(&file.storage_key).await.map_err(|error| {
        tracing::error!(file.id = %id, error = format!("{error:#}"), "file {id} not deleted");
        ApiError::unavailable()
    })?;
    file::forget(&ctx.db, id).await?;
    tracing::info!(file.id = %id, account.id = %caller.account, "file {id} deleted by its owner");
    Ok(Json(json!({ "id": id, "object": "file", "deleted": true })))
}

async fn find(ctx: &Ctx, account: AccountId, id: FileId) -> Result<File, ApiError> {
    let found = file::find(&ctx.db, account, id, ctx.clock.now()).await?;
    found.ok_or_else(|| ApiError::not_found("file_not_found", Some("id"), "there is no such file"))
}

async fn view(ctx: &Ctx, file: &File) -> Result<Value, ApiError> {
    let url = ctx.storage.signed_url(&file.storage_key).await?;
    let name = name(file);
    Ok(json!({
        "id": file.id, "object": "file", "name": name, "purpose": file.purpose, "job": file.job,
        "mime_type": file.mime_type, "size_bytes": file.size_bytes, "width": file.width, "height": file.height,
        "duration_seconds": file.duration_seconds, "url": url, "created_at": file.created_at,
        "expires_at": file.expires_at, "filename": name, "bytes": file.size_bytes,
    }))
}

/// What its sender calls it; of a result, its job, its place there and the extension it is stored with.
fn name(file: &File) -> String {
    match (&file.name, file.job) {
        (None, Some(job)) => {
            let extension = file.storage_key.rsplit('.').next().unwrap_or_default();
            format!("{job}-{}.{extension}", file.position.unwrap_or(0))
        }
        (name, _) => name.clone().unwrap_or_default(),
    }
}
