//! Files over HTTP: send one in, look, list, fetch, delete.
//!
//! What was sent in and what jobs made are found by the same ids; the list has what was sent in, for what jobs made stands in
//! their outputs. Fields are ours, with OpenAI's `bytes` and `filename` beside them for its clients.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, SchemaFormat, Type,
        schema::{AdditionalProperties, Schema},
    },
};

use super::{
    account_view::Deleted,
    upload::{self, PURPOSE_LEN},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    form::Form,
    page::{self, List, Paging},
    request::{PathId, Query, page_limit},
    schema,
};
use shared::{
    file::{self, File},
    id::{AccountId, FileId, JobId},
    upload as uploads,
};

/// A file that an account sent in, or that one of its jobs made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub struct FileView {
    #[schema(value_type = schema::FileId)]
    id: FileId,
    #[schema(pattern = "^file$")]
    object: &'static str,
    /// What its sender calls it.
    name: String,
    /// What its sender says it is for.
    #[schema(required)]
    purpose: Option<String>,
    /// The job that made it; null of one that was sent in.
    #[schema(value_type = Option<schema::JobId>, required)]
    job: Option<JobId>,
    /// What its bytes say it is.
    mime_type: String,
    #[schema(minimum = 0)]
    size_bytes: i64,
    /// Pixels, of a result.
    #[schema(required, minimum = 0)]
    width: Option<i32>,
    /// Pixels, of a result.
    #[schema(required, minimum = 0)]
    height: Option<i32>,
    /// Of a result.
    #[schema(required, minimum = 0)]
    duration_seconds: Option<f64>,
    /// Where it can be fetched for a while, without credentials; made anew at each look.
    url: String,
    created_at: DateTime<Utc>,
    /// When it is deleted.
    expires_at: DateTime<Utc>,
    /// As `name`, for OpenAI's clients.
    filename: String,
    /// As `size_bytes`, for OpenAI's clients.
    #[schema(minimum = 0)]
    bytes: i64,
}

/// The form that a file is sent in with, for the document; `upload` reads it piece by piece.
#[derive(Debug)]
pub struct UploadForm;

impl PartialSchema for UploadForm {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        let kinds = uploads::FORMATS.map(|format| format.mime_type()).join(", ");
        let file = text().format(Some(format)).description(Some(format!("One of {kinds}, by its bytes.")));
        let purpose = text().min_length(Some(1)).max_length(Some(PURPOSE_LEN)).pattern(Some(r"\S"));
        ObjectBuilder::new()
            .property("file", file)
            .property("purpose", purpose.description(Some("What it is for, in your own words.")))
            .required("file")
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .into()
    }
}

impl ToSchema for UploadForm {}

/// Takes a file in, to be used as an input of jobs.
#[utoipa::path(
    post,
    path = "/v1/files",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (
            status = 201,
            description = "The file as it is kept",
            body = FileView,
            headers(("location" = String, description = "Where it is.")),
        ),
        (
            status = 413,
            description = "`file_too_large`, `upload_quota_exceeded` or `request_too_large`",
            body = ErrorBody
        ),
        (status = 415, description = "`unsupported_file_type` or `unsupported_media_type`", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::open(request, &ctx.process, ctx.waits).await?;
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
#[utoipa::path(
    get,
    path = "/v1/files",
    params(
        Paging,
        ("after" = inline(Option<schema::FileId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of files", body = List<FileView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<FileView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take("after")?;
    query.finish()?;
    let found = uploads::list(&ctx.db, caller.account, after, limit + 1, ctx.clock.now()).await?;
    let (found, has_more) = page::cut(found, limit);
    let last = found.last().map(|file| file.id.to_string());
    let mut data = Vec::with_capacity(found.len());
    for file in &found {
        data.push(view(&ctx, file).await?);
    }
    Ok(Json(List::cut_off(data, has_more, last)))
}

/// One file.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    params(("id" = inline(schema::FileId), Path, description = "Which file")),
    responses(
        (status = 200, description = "The file", body = FileView),
        (status = 404, description = "`file_not_found`", body = ErrorBody),
    )
)]
pub async fn show(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<FileId>,
) -> Result<Json<FileView>, ApiError> {
    let file = find(&ctx, caller.account, id).await?;
    Ok(Json(view(&ctx, &file).await?))
}

/// Sends the caller on to where the file is, for as long as the signature works.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    params(("id" = inline(schema::FileId), Path, description = "Which file")),
    responses(
        (
            status = 302,
            description = "It is there",
            headers(("location" = String, description = "A signed URL of the storage.")),
        ),
        (status = 404, description = "`file_not_found`", body = ErrorBody),
    )
)]
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
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    params(("id" = inline(schema::FileId), Path, description = "Which file")),
    responses(
        (status = 200, description = "It is deleted", body = Deleted),
        (status = 404, description = "`file_not_found`", body = ErrorBody),
        (status = 409, description = "`file_of_job`", body = ErrorBody),
    )
)]
pub async fn remove(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<FileId>,
) -> Result<Json<Deleted>, ApiError> {
    let file = find(&ctx, caller.account, id).await?;
    if let Some(job) = file.job {
        let message = format!("this file is a result of {job} and is deleted when it expires, not before");
        return Err(ApiError::conflict("file_of_job", message));
    }
    let deleted = file::delete(&ctx.db, &ctx.storage, id, &file.storage_key, None).await;
    deleted.map_err(|error| {
        tracing::error!(file.id = %id, error = format!("{error:#}"), "file {id} not deleted");
        ApiError::unavailable()
    })?;
    tracing::info!(file.id = %id, account.id = %caller.account, "file {id} deleted by its owner");
    Ok(Json(Deleted::of("file", id)))
}

async fn find(ctx: &Ctx, account: AccountId, id: FileId) -> Result<File, ApiError> {
    let found = file::find(&ctx.db, account, id, ctx.clock.now()).await?;
    found.ok_or_else(|| ApiError::not_found("file_not_found", Some("id"), "there is no such file"))
}

async fn view(ctx: &Ctx, file: &File) -> Result<FileView, ApiError> {
    let url = ctx.storage.signed_url(&file.storage_key).await?;
    let name = name(file);
    Ok(FileView {
        id: file.id,
        object: "file",
        name: name.clone(),
        purpose: file.purpose.clone(),
        job: file.job,
        mime_type: file.mime_type.clone(),
        size_bytes: file.size_bytes,
        width: file.width,
        height: file.height,
        duration_seconds: file.duration_seconds,
        url,
        created_at: file.created_at,
        expires_at: file.expires_at,
        filename: name,
        bytes: file.size_bytes,
    })
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
