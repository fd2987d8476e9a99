//! Replicate: predictions by official name or by version, polled, canceled, and files uploaded for them.
//!
//! Each model has an input of its own, see [`model`], and what it answers with is of its own shape. A file given as a data URL
//! must be small, as the vendor advises; larger ones are uploaded first. Webhooks are signed (Standard Webhooks).

mod model;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Multipart, Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    Sim, Simulator, answer, callback, clock,
    fields::{Complaint, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Makes, Task},
    vendors::openai::WRONG_KEY,
};
use model::{Model, Order};

/// For the front page.
pub(crate) const INDEX: &str = "\
  Replicate POST /replicate/v1/predictions | /replicate/v1/models/OWNER/NAME/predictions
           GET  /replicate/v1/predictions/ID    POST …/ID/cancel
           POST /replicate/v1/files             GET  /replicate/v1/account | /replicate/v1/webhooks/default/secret
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/replicate/v1/predictions", post(submit))
        .route("/replicate/v1/models/{owner}/{name}/predictions", post(submit_official))
        .route("/replicate/v1/predictions/{id}", get(query))
        .route("/replicate/v1/predictions/{id}/cancel", post(cancel))
        .route("/replicate/v1/files", post(upload))
        .route("/replicate/v1/account", get(account))
        .route("/replicate/v1/webhooks/default/secret", get(webhook_secret))
}

/// What webhooks are signed with; the vendor shows it behind `whsec_` in base 64.
pub(crate) const WEBHOOK_SECRET: &[u8] = b"a secret of the simulator";

/// Words that end a task otherwise than `failed`, as values of the fault `task_fail`.
const OTHER_ENDS: [&str; 2] = ["aborted", "canceled"];

/// Takes a prediction by version.
async fn submit(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    take(&sim, None, &headers, &body).await
}

/// Takes a prediction of an official model.
async fn submit_official(
    State(sim): State<Sim>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&sim, Some(format!("{owner}/{name}")), &headers, &body).await
}

async fn take(sim: &Sim, official: Option<String>, headers: &HeaderMap, body: &[u8]) -> Response {
    if let Some(refusal) = refuse_key(headers) {
        return refusal;
    }
    let read = read_json(headers, body)
        .and_then(|body| Model::of(official.as_deref(), &body).map(|model| (model, body)));
    let (model, body) = match read {
        Ok((Some(model), body)) => (model, body),
        Ok((None, _)) if official.is_some() => return voice(&Trouble::Missing),
        Ok((None, _)) => {
            return error(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid version or not permitted",
                "The specified version does not exist (or perhaps you don't have permission to use it?)",
            );
        }
        Err(complaint) => return complain(&complaint),
    };
    let order = match Order::read(model, &body) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Replicate, Op::Submit, model.name, &order.prompt, None);
    sim.attend(&visit, voice, begin(sim, &visit, order)).await
}

async fn begin(sim: &Sim, visit: &Visit, order: Order) -> Response {
    let task = Task::new(sim.tasks.next_id(), visit, order.frame, order.count).making(Makes::Png);
    if sim.tasks.add(task.clone()).await.is_err() {
        return voice(&Trouble::Broken(None));
    }
    sim.accept(visit, Some(&task.id));
    if let Some(url) = order.webhook {
        callback::when_final(sim, &task, url, ring);
    }
    answer::json(StatusCode::CREATED, &prediction(&task, "starting"))
}

/// Tells how a prediction is doing.
async fn query(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = sim.tasks.find(Provider::Replicate, &id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show_prediction(&visit, task, &root)).await
}

/// Stops a prediction; one that is over stays as it is.
async fn cancel(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    if sim.tasks.find(Provider::Replicate, &id).is_none() {
        return voice(&Trouble::Missing);
    }
    let stopped = sim.tasks.update(&id, |task| {
        if task.ending.is_none() {
            task.ending = Some(Ending::Failed);
            task.failure = Some("canceled".to_owned());
        }
        task.clone()
    });
    match stopped.await {
        Some(task) => answer::json(StatusCode::OK, &prediction(&task, ending(&task))),
        None => voice(&Trouble::Missing),
    }
}

/// Takes a file that a prediction will be given.
async fn upload(headers: HeaderMap, mut form: Multipart) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    while let Ok(Some(part)) = form.next_field().await {
        if part.name() != Some("content") {
            continue;
        }
        let media_type = part.content_type().unwrap_or("application/octet-stream").to_owned();
        let Ok(bytes) = part.bytes().await else { break };
        let id = format!("file-{}-{}", clock::now_ms(), bytes.len());
        let get = format!("{}/replicate/v1/files/{id}", answer::root_url(&headers));
        let body = json!({ "id": id, "name": "content", "content_type": media_type, "size": bytes.len(), "urls": { "get": get } });
        return answer::json(StatusCode::CREATED, &body);
    }
    complain(&Complaint::of("content", "content is required"))
}

/// Tells whose key it is.
async fn account(headers: HeaderMap) -> Response {
    refuse_key(&headers).unwrap_or_else(|| {
        let body = json!({ "type": "organization", "username": "simulator", "name": "Simulator", "github_url": null });
        answer::json(StatusCode::OK, &body)
    })
}

async fn webhook_secret() -> Json<Value> {
    Json(json!({ "key": format!("whsec_{}", STANDARD.encode(WEBHOOK_SECRET)) }))
}

impl Simulator {
    async fn show_prediction(&self, visit: &Visit, task: Task, root: &str) -> Response {
        let sight = self.look(visit, &task.id).await;
        let task = self.tasks.find(Provider::Replicate, &task.id).unwrap_or(task);
        let mut shown = prediction(
            &task,
            match &sight {
                Sight::Missing => return voice(&Trouble::Missing),
                Sight::Waiting => "starting",
                Sight::Working => "processing",
                Sight::Unknown => "reticulating",
                Sight::Failed(_) | Sight::Refused | Sight::Hollow | Sight::Succeeded { .. } => ending(&task),
            },
        );
        if let Sight::Succeeded { issue } = sight {
            let urls: Vec<_> =
                (0..u32::from(task.seconds)).map(|n| files::nth_url(root, &task, issue, n)).collect();
            let listed = Model::named(&task.call).is_some_and(|model| model.lists);
            shown["output"] = if listed { json!(urls) } else { json!(urls.first()) };
        }
        answer::json(StatusCode::OK, &shown)
    }
}

/// The word for how a final task ended.
fn ending(task: &Task) -> &'static str {
    let other = |word: &&'static str| task.failure.as_deref() == Some(*word);
    match task.ending {
        Some(Ending::Succeeded) => "succeeded",
        Some(Ending::Refused) => "failed",
        Some(Ending::Failed) => OTHER_ENDS.into_iter().find(|word| other(word)).unwrap_or("failed"),
        None => "processing",
    }
}

fn prediction(task: &Task, status: &str) -> Value {
    let error = match task.ending {
        Some(Ending::Refused) => {
            json!("NSFW content detected. Try running it again, or try a different prompt.")
        }
        Some(Ending::Failed) if status == "failed" => {
            json!(task.failure.as_deref().unwrap_or("Prediction failed for an unknown reason."))
        }
        _ => Value::Null,
    };
    let metrics =
        if task.ending.is_some() { json!({ "predict_time": 1.5, "total_time": 2.0 }) } else { json!({}) };
    json!({
        "id": task.id, "model": task.call, "version": "hidden", "input": {}, "output": null, "logs": "", "error": error,
        "status": status, "metrics": metrics, "created_at": "2026-01-01T00:00:00Z", "started_at": null,
        "completed_at": null, "urls": {}, "source": "api", "data_removed": false,
    })
}

/// The webhook of a final prediction.
fn ring(task: &Task) -> callback::Ring {
    let body = prediction(task, ending(task));
    let (id, seconds) = (format!("msg_{}", task.id), clock::now_secs());
    let signed = format!("{id}.{seconds}.{body}");
    let mut headers = vec![("webhook-id", id), ("webhook-timestamp", seconds.to_string())];
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET) {
        mac.update(signed.as_bytes());
        headers.push(("webhook-signature", format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))));
    }
    callback::Ring { headers, body }
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn error(status: StatusCode, title: &str, detail: &str) -> Response {
    answer::json(status, &json!({ "title": title, "detail": detail, "status": status.as_u16() }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "replicate: bad request");
    let detail = format!("- input.{}: {}", complaint.field.as_deref().unwrap_or("?"), complaint.text);
    error(StatusCode::UNPROCESSABLE_ENTITY, "Input validation failed", &detail)
}

/// How Replicate says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let text = "Request was throttled. Your rate limit resets soon.";
            let refusal = error(StatusCode::TOO_MANY_REQUESTS, "", text);
            match hint.seconds() {
                Some(seconds) => answer::with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(_) => {
            let text = "You have insufficient credit to run this model.";
            error(StatusCode::PAYMENT_REQUIRED, "Insufficient credit", text)
        }
        Trouble::Auth => {
            let text = "You did not pass a valid authentication token";
            error(StatusCode::UNAUTHORIZED, "Unauthenticated", text)
        }
        Trouble::BadInput(_) => {
            error(StatusCode::UNPROCESSABLE_ENTITY, "Input validation failed", "- input: bad")
        }
        Trouble::Refused => {
            let text = "The input was flagged as sensitive. Please try again with different inputs.";
            error(StatusCode::UNPROCESSABLE_ENTITY, "Input refused", text)
        }
        Trouble::Broken(status) => error(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "Internal server error",
            "Please try again.",
        ),
        Trouble::Missing => {
            error(StatusCode::NOT_FOUND, "Not found", "The requested resource could not be found.")
        }
    }
}
