//! `/v1/videos`: films as OpenAI's clients order, ask after, fetch and delete them.
//!
//! A video is a job (`video.rs`), so it is also found at `/v1/jobs`, and what is said here of its status is said for
//! OpenAI's clients. Whoever deletes one that is not there yet cancels it, and never sees it again: a result that comes before
//! the cancel is paid for, as with any job, and deleted. A remix is what a model can make that goes on from another job. A
//! thumbnail is the preview of the film, which is there where workers have ffmpeg. Deliberately absent: sprite sheets, which
//! nobody makes, and edits, extensions and characters.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{
    content,
    described::{self, FileContent, VideoDeleted, VideoForm, VideoList, VideoRemixRequest, VideoRequest},
    error::OpenAiError,
    failures::CallFailures,
    fit::{self, Names},
    form::{Form, Wish},
    run::{self, Ordered},
    shape,
    video::{self, Video, VideoId},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::Caller,
    http::openapi::CallHeaders,
    page::{self, Paging},
    request::{PathId, Query, page_limit, word},
    schema,
};
use shared::{
    account,
    catalog::Model,
    file,
    id::{AccountId, JobId},
    job::{self, Cancel, Filter, Job, Medium, StoredFile},
};

/// Where films are asked for.
const PATH: &str = "/v1/videos";
const REMIX_PATH: &str = "/v1/videos/{id}/remix";
/// What is made from words, and what goes on from another film, in the catalogue's words.
const GENERATE: &str = "video.generate";
const EXTEND: &str = "video.extend";
/// The model of a request that names none, as at OpenAI.
const MODEL: &str = "sora-2";
/// Fields that are called otherwise here.
const NAMES: Names = &[("input_reference", "image")];
/// Fields without which it would be another film.
const NEEDED: [(&str, &str); 2] = [("input_reference", "image"), ("seconds", "seconds")];

/// Tells OpenAI's clients when to ask again, in milliseconds.
const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
/// As long as those who poll a job are told to wait.
const POLL_AFTER_MS: u32 = 2000;

/// Jobs that are looked at in one statement for a list, and the most statements.
const LOOK: i64 = 100;
const LOOKS_MAX: usize = 10;

/// Orders a film.
#[utoipa::path(
    post,
    path = "/v1/videos",
    params(CallHeaders),
    request_body(
        description = "As OpenAI has it; what is not known is ignored.",
        content((VideoRequest = "application/json"), (VideoForm = "multipart/form-data"))
    ),
    responses(
        (
            status = 200,
            description = "As OpenAI has it",
            body = described::Video,
            headers(("openai-poll-after-ms" = u32, description = "When to ask again, unless it is over."))
        ),
        CallFailures,
        (
            status = 413,
            description = "`request_too_large`, `file_too_large` or `upload_quota_exceeded`",
            body = ErrorBody
        ),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let wish = read(&ctx, &form);
    let ordered = form.order(&ctx, &caller, &headers, PATH, wish, NAMES).await?;
    begun(&ctx, &ordered).await
}

/// Orders a film that goes on from another one, where that one's maker can.
#[utoipa::path(
    post,
    path = "/v1/videos/{id}/remix",
    params(("id" = inline(schema::VideoId), Path, description = "Which film"), CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored.", content = VideoRemixRequest),
    responses(
        (
            status = 200,
            description = "As OpenAI has it",
            body = described::Video,
            headers(("openai-poll-after-ms" = u32, description = "When to ask again, unless it is over."))
        ),
        CallFailures,
        (status = 400, description = "The request is wrong, `video_not_ready` or `remix_unsupported`", body = ErrorBody),
        (status = 404, description = "`video_not_found`", body = ErrorBody),
    )
)]
pub async fn remix(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(VideoId(id)): PathId<VideoId>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let wish = follow_up(&ctx, &caller, id, &form).await;
    let ordered = form.about(id).order(&ctx, &caller, &headers, REMIX_PATH, wish, NAMES).await?;
    begun(&ctx, &ordered).await
}

/// How a film fares.
#[utoipa::path(
    get,
    path = "/v1/videos/{id}",
    params(("id" = inline(schema::VideoId), Path, description = "Which film")),
    responses(
        (
            status = 200,
            description = "As OpenAI has it",
            body = described::Video,
            headers(("openai-poll-after-ms" = u32, description = "When to ask again, unless it is over."))
        ),
        (status = 404, description = "`video_not_found`", body = ErrorBody),
    )
)]
pub async fn retrieve(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(VideoId(id)): PathId<VideoId>,
) -> Result<Response, OpenAiError> {
    let (job, file) = find(&ctx, caller.account, id).await?;
    Ok(answer(&Video::new(&ctx.catalog, job, file.as_ref())))
}

/// In which order films are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    /// OpenAI's words.
    const WORDS: [&str; 2] = ["asc", "desc"];

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "asc" => Some(Self::OldestFirst),
            "desc" => Some(Self::NewestFirst),
            _ => None,
        }
    }
}

/// A page of the account's films, newest first unless told otherwise.
#[utoipa::path(
    get,
    path = "/v1/videos",
    params(
        Paging,
        ("after" = inline(Option<schema::VideoId>), Query, description = "The `last_id` of the page before"),
        (
            "order" = Option<String>,
            Query,
            pattern = "^(asc|desc)$",
            description = "`asc` lists the oldest first, `desc` the newest, and so does a request that does not say"
        ),
    ),
    responses(
        (status = 200, description = "As OpenAI has it", body = VideoList),
    )
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, OpenAiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<VideoId>("after")?;
    let order = word(&mut query, "order", Order::from_word, &Order::WORDS)?.unwrap_or(Order::NewestFirst);
    let (jobs, has_more) = page(&ctx, caller.account, order, after.map(|id| id.0), limit).await?;
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let files = job::files_of(&ctx.db, &ids).await?;
    let show = |job: Job| {
        let file = files.iter().find(|(owner, ..)| *owner == job.id).map(|(.., file)| file);
        Video::new(&ctx.catalog, job, file)
    };
    let data: Vec<_> = jobs.into_iter().map(show).collect();
    let (first, last) = (data.first().map(Video::id), data.last().map(Video::id));
    Ok(Json(
        json!({ "object": "list", "data": data, "has_more": has_more, "first_id": first, "last_id": last }),
    ))
}

/// So many films that are shown, and whether more follow. OpenAI's clients take an empty page for the last one, so those that
/// are not shown are looked past, as far as is reasonable.
async fn page(
    ctx: &Ctx,
    account: AccountId,
    order: Order,
    mut after: Option<JobId>,
    limit: i64,
) -> Result<(Vec<Job>, bool), ApiError> {
    let (mut found, mut is_last) = (Vec::new(), false);
    for _ in 0..LOOKS_MAX {
        let jobs = match order {
            Order::NewestFirst => {
                let filter = Filter { medium: Some(Medium::Video), after, ..Filter::default() };
                job::list(&ctx.db, account, &filter, LOOK).await?
            }
            Order::OldestFirst => job::list_oldest(&ctx.db, account, Medium::Video, after, LOOK).await?,
        };
        is_last = i64::try_from(jobs.len()).is_ok_and(|count| count < LOOK);
        after = jobs.last().map(|job| job.id).or(after);
        found.extend(jobs.into_iter().filter(video::is_shown));
        if is_last || i64::try_from(found.len()).is_ok_and(|count| count > limit) {
            break;
        }
    }
    let (found, has_more) = page::cut(found, limit);
    Ok((found, has_more || !is_last))
}

/// The film itself, or a picture of it.
#[utoipa::path(
    get,
    path = "/v1/videos/{id}/content",
    params(
        ("id" = inline(schema::VideoId), Path, description = "Which film"),
        (
            "variant" = Option<String>, Query, pattern = "^(video|thumbnail)$",
            description = "The film itself, or its first picture, which some deployments make"
        ),
    ),
    responses(
        (
            status = 200,
            description = "The film or the picture",
            content((FileContent = "video/mp4"), (FileContent = "image/jpeg"))
        ),
        (status = 400, description = "`video_not_ready`, or the request is wrong", body = ErrorBody),
        (
            status = 404,
            description = "`video_not_found`, `video_failed`, `file_not_found` or `variant_not_found`",
            body = ErrorBody
        ),
    )
)]
pub async fn content(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(VideoId(id)): PathId<VideoId>,
    mut query: Query,
) -> Result<Response, OpenAiError> {
    let wants_thumbnail = match query.take::<String>("variant")?.as_deref() {
        None | Some("video") => false,
        Some("thumbnail") => true,
        Some("spritesheet") => return Err(no_variant().into()),
        Some(_) => {
            return Err(OpenAiError::bad_request(
                "invalid_value",
                "variant",
                "variant can only be video or thumbnail here",
            ));
        }
    };
    let (job, file) = find(&ctx, caller.account, id).await?;
    match file {
        Some(file) if wants_thumbnail => {
            let key = file.preview_key.ok_or_else(no_variant)?;
            Ok(content::preview(&ctx.storage, &key).await?)
        }
        Some(file) => Ok(content::file(&ctx.storage, &file).await?),
        None if job.output.is_some() => Err(content::gone().into()),
        None if job.is_final() => {
            Err(ApiError::not_found("video_failed", None, "this video failed and has no content").into())
        }
        None => {
            let message = "this video is not finished; ask for its status until it is";
            Err(OpenAiError::bad_request("video_not_ready", "id", message))
        }
    }
}

/// Deletes a film before its time, or cancels one that is not there yet, which is not shown any more whatever its end.
#[utoipa::path(
    delete,
    path = "/v1/videos/{id}",
    params(("id" = inline(schema::VideoId), Path, description = "Which film")),
    responses(
        (status = 200, description = "As OpenAI has it", body = VideoDeleted),
        (status = 404, description = "`video_not_found`", body = ErrorBody),
    )
)]
pub async fn remove(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(VideoId(id)): PathId<VideoId>,
) -> Result<Json<Value>, OpenAiError> {
    find(&ctx, caller.account, id).await?;
    let canceled = job::cancel(&ctx.db, caller.account, id, ctx.clock.now()).await?.ok_or_else(unknown)?;
    canceled.wakes(id).into_iter().for_each(|wake| ctx.wakes.send(wake));
    let is_over = match canceled {
        Cancel::Canceled => false,
        // A result may come before the cancel, even before this.
        Cancel::Requested(_) => job::discard(&ctx.db, caller.account, id).await?,
        Cancel::AlreadyFinal => true,
    };
    if is_over {
        delete_files(&ctx, caller.account, id).await?;
        job::discard(&ctx.db, caller.account, id).await?;
    }
    Ok(Json(json!({ "id": VideoId(id), "object": "video.deleted", "deleted": true })))
}

/// Deletes what a job made, each object and then its row. No other job has these files: a film is never the answer to another
/// request.
async fn delete_files(ctx: &Ctx, account: AccountId, job: JobId) -> Result<(), ApiError> {
    for (_, id, _, stored) in job::files_of(&ctx.db, &[job]).await? {
        let StoredFile { storage_key, preview_key, .. } = &stored;
        let deleted = file::delete(&ctx.db, &ctx.storage, id, storage_key, preview_key.as_deref()).await;
        deleted.map_err(|error| {
            tracing::error!(file.id = %id, error = format!("{error:#}"), "file {id} not deleted");
            ApiError::unavailable()
        })?;
        tracing::info!(file.id = %id, job.id = %job, account.id = %account, "file {id} deleted by its owner");
    }
    Ok(())
}

fn no_variant() -> ApiError {
    let message = "there is no such picture of this film: leave variant out for the film itself";
    ApiError::not_found("variant_not_found", Some("variant"), message)
}

/// The answer to an order.
async fn begun(ctx: &Ctx, ordered: &Ordered) -> Result<Response, OpenAiError> {
    let job = job::find(&ctx.db, ordered.account, ordered.job).await?.ok_or_else(unknown)?;
    let file = content::first_of(ctx, &job).await?;
    Ok(ordered.sign(answer(&Video::new(&ctx.catalog, job, file.as_ref()))))
}

/// A video, and when to ask after it again.
fn answer(video: &Video) -> Response {
    let mut response = Json(video).into_response();
    if !video.is_over() {
        response.headers_mut().insert(POLL_AFTER, HeaderValue::from(POLL_AFTER_MS));
    }
    response
}

/// A film of the account that is shown, and its file once it is there.
async fn find(ctx: &Ctx, account: AccountId, id: JobId) -> Result<(Job, Option<StoredFile>), ApiError> {
    let job = job::find(&ctx.db, account, id).await?.ok_or_else(unknown)?;
    let file = content::first_of(ctx, &job).await?;
    if video::is_shown(&job) { Ok((job, file)) } else { Err(unknown()) }
}

fn unknown() -> ApiError {
    ApiError::not_found("video_not_found", Some("id"), "there is no such video, or no longer")
}

fn read<'a>(ctx: &'a Ctx, form: &Form) -> Result<Wish<'a>, OpenAiError> {
    let model = run::model(ctx, fit::named(&form.fields, Some(MODEL))?, &[GENERATE])?;
    let mut fields = form.fields.clone();
    if let Some(frame) = reference(form)? {
        fields.insert("input_reference".to_owned(), frame);
    }
    check_needed(model, &fields)?;
    let mut input = fit::input(model, &fields, NAMES);
    shape::film(model, &fields, &mut input)?;
    Ok((model, input))
}

/// The first frame as an input names it: a file of the form, or what an object says.
fn reference(form: &Form) -> Result<Option<Value>, OpenAiError> {
    if let Some(file) = form.file("input_reference")? {
        return Ok(Some(file));
    }
    let Some(Value::Object(named)) = form.fields.get("input_reference") else { return Ok(None) };
    let said = |field: &str| named.get(field).filter(|value| !value.is_null());
    match said("image_url").or_else(|| said("file_id")) {
        Some(frame) => Ok(Some(frame.clone())),
        None => {
            let message = "input_reference is a file, or an object with image_url or file_id";
            Err(OpenAiError::bad_request("invalid_value", "input_reference", message))
        }
    }
}

fn check_needed(model: &Model, fields: &Map<String, Value>) -> Result<(), OpenAiError> {
    let is_said = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
    let is_known = |field: &str| model.schema["properties"].get(field).is_some();
    match NEEDED.iter().find(|(theirs, ours)| is_said(theirs) && !is_known(ours)) {
        Some((field, _)) => Err(OpenAiError::unsupported(field, &model.id)),
        None => Ok(()),
    }
}

/// What goes on from a film: a model that takes further what the film's own maker made.
async fn follow_up<'a>(
    ctx: &'a Ctx,
    caller: &account::Caller,
    id: JobId,
    form: &Form,
) -> Result<Wish<'a>, OpenAiError> {
    let (job, _) = find(ctx, caller.account, id).await?;
    let parent = job::parent(&ctx.db, caller.account, id).await?.ok_or_else(|| {
        ApiError::bad_request("video_not_ready", "id", "only a video that was finished can be remixed")
    })?;
    let goes_on = |model: &&Model| {
        let is_by_its_maker = model.routes.iter().any(|route| route.provider == parent.provider);
        model.task == EXTEND && is_by_its_maker && caller.may_use(&model.id)
    };
    let model = ctx.catalog.models().iter().find(goes_on).ok_or_else(|| {
        let message = format!("there is no model that takes further what {} makes", job.model);
        ApiError::bad_request("remix_unsupported", "id", message)
    })?;
    let mut input = fit::input(model, &form.fields, &[]);
    input.insert("job".to_owned(), json!(id));
    Ok((model, input))
}

#[cfg(test)]
mod tests {
    use shared::catalog::Catalog;

    use super::*;

    fn form(fields: Value) -> Form {
        Form::new(fields.as_object().expect("fields").clone(), Vec::new())
    }

    #[test]
    fn a_first_frame_is_named_in_an_object_or_not_at_all() {
        let found =
            |fields: Value| reference(&form(fields)).map_err(|error| error.body()["error"]["param"].clone());
        let address = json!("https://example.com/a.png");
        assert_eq!(found(json!({"input_reference": {"image_url": address}})), Ok(Some(address)));
        assert_eq!(found(json!({"input_reference": {"file_id": "file_1"}})), Ok(Some(json!("file_1"))));
        assert_eq!(found(json!({})), Ok(None));
        for nothing in [json!({"url": "x"}), json!({"image_url": null})] {
            assert_eq!(found(json!({"input_reference": nothing})), Err(json!("input_reference")));
        }
        let other = json!({"input_reference": {"image_url": null, "file_id": "file_1"}});
        assert_eq!(found(other), Ok(Some(json!("file_1"))));
    }

    #[test]
    fn what_makes_another_film_is_not_passed_over() {
        let catalog = Catalog::load().expect("the catalogue");
        let check = |model: &str, fields: Value| {
            check_needed(catalog.get(model).expect("a model"), &form(fields).fields).is_ok()
        };
        assert!(check("sora-2", json!({"seconds": "4", "input_reference": "file_1"})));
        assert!(!check("midjourney-video", json!({"seconds": "4"})));
        assert!(check("midjourney-video", json!({"seconds": null, "user": "u1"})));
    }
}
