//! fal's queue: a request is submitted at its model's path, and lives under owner and name of the model only.
//!
//! A request that is over is always `COMPLETED`: some failures are told with the state, others only where the result is asked
//! for. Each model has an input and an answer of its own, see [`model`]. Webhooks are not signed.

mod model;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, callback,
    fault::Kind,
    fields::{Complaint, read_json},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Task},
    vendors::openai::WRONG_KEY,
};
use model::{Model, Order};

/// For the front page.
pub(crate) const INDEX: &str = "\
  fal      POST /fal/OWNER/NAME[/PATH][?fal_webhook=URL]
           GET  /fal/OWNER/NAME/requests/ID/status | …/ID    PUT …/ID/cancel
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new().route("/fal/{*path}", get(query).post(submit).put(cancel))
}

/// Takes a request.
async fn submit(
    State(sim): State<Sim>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(model) = Model::at(&path) else {
        return error(StatusCode::NOT_FOUND, &json!(format!("Application '{path}' not found")));
    };
    let webhook = match read_query(query.as_deref()) {
        Ok(webhook) => webhook,
        Err(complaint) => return complain(&complaint),
    };
    let order = match read_json(&headers, &body).and_then(|body| Order::read(model, &body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Fal, Op::Submit, model.path, &order.prompt, None);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, begin(&sim, &visit, model, &order, webhook, root)).await
}

async fn begin(
    sim: &Sim,
    visit: &Visit,
    model: &'static Model,
    order: &Order,
    webhook: Option<String>,
    root: String,
) -> Response {
    let task = Task::new(sim.tasks.next_id(), visit, order.frame, order.count).making(model.makes);
    if sim.tasks.add(task.clone()).await.is_err() {
        return voice(&Trouble::Broken(None));
    }
    sim.accept(visit, Some(&task.id));
    let home = format!("{root}/fal/{}/requests/{}", model.home(), task.id);
    if let Some(url) = webhook {
        callback::when_final(sim, &task, url, move |task| ring(model, task, &root));
    }
    let body = json!({
        "request_id": task.id, "gateway_request_id": task.id, "status": "IN_QUEUE", "queue_position": 0,
        "response_url": home, "status_url": format!("{home}/status"), "cancel_url": format!("{home}/cancel"),
    });
    answer::json(StatusCode::OK, &body)
}

/// Tells how a request is doing, or what came of it.
async fn query(State(sim): State<Sim>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let (path, wants_state) = match path.strip_suffix("/status") {
        Some(path) => (path, true),
        None => (path.as_str(), false),
    };
    let Some((model, task)) = sim.find_request(path) else { return voice(&Trouble::Missing) };
    if wants_state {
        let visit = task.visit(Op::Poll);
        return sim.attend(&visit, voice, sim.show_state(&visit, &task)).await;
    }
    let visit = task.visit(Op::File);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show_result(&visit, model, &task, &root)).await
}

/// Stops a request that is not over.
async fn cancel(State(sim): State<Sim>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let found = path.strip_suffix("/cancel").and_then(|path| sim.find_request(path));
    let Some((_, task)) = found else { return voice(&Trouble::Missing) };
    let was_open = sim.tasks.update(&task.id, |task| {
        let is_open = task.ending.is_none();
        if is_open {
            task.ending = Some(Ending::Failed);
            task.failure = Some("client_cancelled".to_owned());
        }
        is_open
    });
    if was_open.await == Some(true) {
        return answer::json(StatusCode::ACCEPTED, &json!({ "status": "CANCELLATION_REQUESTED" }));
    }
    answer::json(StatusCode::BAD_REQUEST, &json!({ "status": "ALREADY_COMPLETED" }))
}

impl Simulator {
    /// The request at `OWNER/NAME/requests/ID`; further parts of its model's path must not be there.
    fn find_request(&self, path: &str) -> Option<(&'static Model, Task)> {
        let (home, id) = path.split_once("/requests/")?;
        let task = self.tasks.find(Provider::Fal, id)?;
        let model = Model::at(&task.call)?;
        (model.home() == home).then_some((model, task))
    }

    async fn show_state(&self, visit: &Visit, task: &Task) -> Response {
        let running = |word: &str, more: (&str, Value)| {
            let mut body = json!({ "status": word, "request_id": task.id });
            body[more.0] = more.1;
            answer::json(StatusCode::ACCEPTED, &body)
        };
        let sight = self.look(visit, &task.id).await;
        // The result is asked for in a second step, which must see the same.
        let is_hollow = sight == Sight::Hollow;
        self.tasks.update(&task.id, |task| task.strikes.insert(Kind::NoResult, u32::from(is_hollow))).await;
        let mut body = json!({
            "status": "COMPLETED", "request_id": task.id, "logs": [], "metrics": { "inference_time": 1.5 },
        });
        match sight {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => return running("IN_QUEUE", ("queue_position", json!(1))),
            Sight::Working => return running("IN_PROGRESS", ("logs", json!([]))),
            Sight::Unknown => return running("RETICULATING", ("logs", json!([]))),
            Sight::Failed(why) => {
                body["error"] = json!("The request failed");
                body["error_type"] = json!(why.as_deref().unwrap_or("runner_disconnected"));
            }
            Sight::Refused | Sight::Hollow | Sight::Succeeded { .. } => {}
        }
        answer::json(StatusCode::OK, &body)
    }

    async fn show_result(&self, visit: &Visit, model: &Model, task: &Task, root: &str) -> Response {
        if self.strike(visit, Kind::Purged).is_some() {
            return voice(&Trouble::Missing);
        }
        match task.ending {
            None => error(StatusCode::BAD_REQUEST, &json!("Request is still in progress")),
            Some(Ending::Refused) => voice(&Trouble::Refused),
            Some(Ending::Failed) => {
                let word = task.failure.as_deref().unwrap_or("runner_disconnected");
                let body = json!({ "detail": "The request failed", "error_type": word });
                answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
            Some(Ending::Succeeded) => {
                let is_hollow = task.strikes.get(&Kind::NoResult).is_some_and(|strikes| *strikes > 0);
                answer::json(StatusCode::OK, &model.output(task, root, is_hollow))
            }
        }
    }
}

/// The webhook of a request that is over.
fn ring(model: &Model, task: &Task, root: &str) -> callback::Ring {
    let mut body = json!({ "request_id": task.id, "gateway_request_id": task.id, "status": "OK" });
    if callback::succeeded(task) {
        body["payload"] = model.output(task, root, false);
    } else {
        body["status"] = json!("ERROR");
        body["error"] = json!(task.failure.as_deref().unwrap_or("Unexpected status code: 422"));
    }
    callback::Ring { headers: Vec::new(), body }
}

/// The address to ring at in a query, which may hold nothing else.
fn read_query(query: Option<&str>) -> Result<Option<String>, Complaint> {
    let Some(query) = query else { return Ok(None) };
    let url = query.strip_prefix("fal_webhook=").filter(|url| !url.contains('&'));
    let url = url.ok_or_else(|| Complaint::general("there is no such parameter"))?;
    percent_decoded(url).map(Some).ok_or_else(|| Complaint::of("fal_webhook", "fal_webhook is no URL"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match told.and_then(|told| told.strip_prefix("Key ")) {
        None | Some("" | WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn error(status: StatusCode, detail: &Value) -> Response {
    answer::json(status, &json!({ "detail": detail }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "fal: bad request");
    let field = complaint.field.as_deref().unwrap_or("body");
    let item = json!({ "loc": ["body", field], "msg": complaint.text, "type": "value_error", "input": {} });
    error(StatusCode::UNPROCESSABLE_ENTITY, &json!([item]))
}

/// How fal says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(StatusCode::TOO_MANY_REQUESTS, &json!("Too many concurrent requests"));
            match hint.seconds() {
                Some(seconds) => answer::with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(flavour) if flavour.as_deref() == Some("402") => {
            error(StatusCode::PAYMENT_REQUIRED, &json!("Payment required"))
        }
        Trouble::Quota(_) => {
            error(StatusCode::FORBIDDEN, &json!("User is locked. Reason: Exhausted balance."))
        }
        Trouble::Auth => {
            error(StatusCode::UNAUTHORIZED, &json!("Cannot access application without a valid key"))
        }
        Trouble::BadInput(_) => complain(&Complaint::general("bad request")),
        Trouble::Refused => {
            let msg = "The content could not be processed because it contained material flagged by a content checker.";
            let item = json!({ "loc": ["body", "prompt"], "msg": msg, "type": "content_policy_violation", "input": {} });
            error(StatusCode::UNPROCESSABLE_ENTITY, &json!([item]))
        }
        Trouble::Broken(status) => {
            error(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &json!("Internal Server Error"))
        }
        Trouble::Missing => error(StatusCode::NOT_FOUND, &json!("Request not found")),
    }
}
