//! Google Veo: an operation is begun, asked after by its name, and leaves a film behind the door of the Files API.
//!
//! The film is at an address that wants the key and sends on to where it is. A filtered film is an operation that is done, with
//! a count in place of a film. Nothing can be cancelled or listed. Webhooks are told of the event with the operation as its data.

mod request;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, callback,
    fields::{Complaint, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Task},
    vendors::openai::WRONG_KEY,
};
use request::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Veo      POST /veo/v1beta/models/MODEL:predictLongRunning
           GET  /veo/v1beta/models/MODEL/operations/ID | /veo/v1beta/models
           GET  /veo/v1beta/files/ID:download          (with the key; sends on to the film)
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/veo/v1beta/models", get(models))
        .route("/veo/v1beta/models/{call}", post(submit))
        .route("/veo/v1beta/models/{model}/operations/{id}", get(query))
        .route("/veo/v1beta/files/{call}", get(download))
}

/// Which URL of a film is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct Ticket {
    issue: Option<u32>,
}

/// Lists the models.
pub(crate) async fn models(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let models: Vec<_> =
        request::MODELS.iter().map(|model| json!({ "name": format!("models/{model}") })).collect();
    answer::json(StatusCode::OK, &json!({ "models": models }))
}

/// Begins an operation.
pub(crate) async fn submit(
    State(sim): State<Sim>,
    Path(call): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some((model, "predictLongRunning")) = call.split_once(':') else {
        return voice(&Trouble::Missing);
    };
    if !request::MODELS.contains(&model) {
        return voice(&Trouble::Missing);
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(model, &body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Veo, Op::Submit, model, &order.prompt, None);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, order.frame, order.seconds);
        if sim.tasks.add(task.clone()).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&task.id));
        for url in order.webhooks {
            let root = answer::root_url(&headers);
            callback::when_final(&sim, &task, url, move |task| ring(task, &root));
        }
        answer::json(StatusCode::OK, &json!({ "name": name(&task) }))
    };
    sim.attend(&visit, voice, work).await
}

/// Tells how an operation is doing.
pub(crate) async fn query(
    State(sim): State<Sim>,
    Path((model, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = sim.tasks.find(Provider::Veo, &id).filter(|task| task.call == model) else {
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.operation(&visit, &task, &root)).await
}

/// Sends whoever has the key on to the film.
pub(crate) async fn download(
    State(sim): State<Sim>,
    Path(call): Path<String>,
    Query(ticket): Query<Ticket>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let task = call.strip_suffix(":download").and_then(|id| sim.tasks.find(Provider::Veo, id));
    let Some(task) = task else { return voice(&Trouble::Missing) };
    let place = files::url(&answer::root_url(&headers), &task, ticket.issue.unwrap_or_default());
    let response = answer::bytes(StatusCode::FOUND, "text/html", "");
    answer::with_header(response, "location", &place)
}

/// The event of a final operation.
fn ring(task: &Task, root: &str) -> callback::Ring {
    let data = match task.ending {
        Some(Ending::Succeeded) => finished(task, task.issued, root),
        Some(Ending::Refused) => filtered(task),
        _ => failed(task, task.failure.as_deref()),
    };
    callback::Ring { headers: Vec::new(), body: json!({ "type": "video.generated", "data": data }) }
}

impl Simulator {
    async fn operation(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        let name = name(task);
        let body = match self.look(visit, &task.id).await {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => json!({ "name": name }),
            Sight::Working => json!({ "name": name, "done": false }),
            Sight::Unknown => json!({ "name": name, "metadata": { "state": "RETICULATING" }, "done": false }),
            Sight::Failed(why) => failed(task, why.as_deref()),
            Sight::Refused => filtered(task),
            Sight::Hollow => done(task, &json!({})),
            Sight::Succeeded { issue } => finished(task, issue, root),
        };
        answer::json(StatusCode::OK, &body)
    }
}

fn done(task: &Task, films: &Value) -> Value {
    json!({ "name": name(task), "done": true, "response": { "generateVideoResponse": films } })
}

fn finished(task: &Task, issue: u32, root: &str) -> Value {
    let uri = format!("{root}/veo/v1beta/files/{}:download?alt=media&issue={issue}", task.id);
    done(task, &json!({ "generatedSamples": [{ "video": { "uri": uri } }] }))
}

fn filtered(task: &Task) -> Value {
    let reason = "The video was filtered because it may violate a policy.";
    done(task, &json!({ "raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [reason] }))
}

fn failed(task: &Task, why: Option<&str>) -> Value {
    let why = why.unwrap_or("Video generation failed due to an internal server issue.");
    json!({ "name": name(task), "done": true, "error": { "code": 13, "message": why } })
}

fn name(task: &Task) -> String {
    format!("models/{}/operations/{}", task.call, task.id)
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match headers.get("x-goog-api-key").and_then(|key| key.to_str().ok()) {
        Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(key) if !key.is_empty() => None,
        _ => Some(error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "The request carries no API key.", None)),
    }
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "veo: bad request");
    error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &complaint.text, None)
}

fn error(status: StatusCode, word: &str, text: &str, details: Option<Value>) -> Response {
    let mut error = json!({ "code": status.as_u16(), "message": text, "status": word });
    if let Some(details) = details {
        error["details"] = details;
    }
    answer::json(status, &json!({ "error": error }))
}

/// How Google says no.
fn voice(trouble: &Trouble) -> Response {
    const EXHAUSTED: &str = "RESOURCE_EXHAUSTED";
    match trouble {
        Trouble::RateLimited(hint) => {
            let details = hint.seconds().map(|seconds| {
                json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s") }])
            });
            error(StatusCode::TOO_MANY_REQUESTS, EXHAUSTED, "Too many requests for this model.", details)
        }
        Trouble::Quota(_) => {
            let violation = json!({ "quotaId": "PredictLongRunningRequestsPerDayPerProjectPerModel" });
            let details = json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation] }]);
            error(StatusCode::TOO_MANY_REQUESTS, EXHAUSTED, "The quota of this day is spent.", Some(details))
        }
        Trouble::Auth => {
            let details =
                json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "API key not valid.", Some(details))
        }
        Trouble::BadInput(_) => {
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Request contains an invalid argument.", None)
        }
        // Google judges the content while the operation runs; at the door there is no form for it.
        Trouble::Refused => {
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "The prompt is not allowed.", None)
        }
        Trouble::Broken(status) => {
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let word = match status {
                StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
                StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
                _ => "INTERNAL",
            };
            error(status, word, "An internal error has occurred.", None)
        }
        Trouble::Missing => {
            error(StatusCode::NOT_FOUND, "NOT_FOUND", "There is no such model or operation.", None)
        }
    }
}
