//! Kling: a task is submitted, polled by its id or by the client's own name for it, and carries its URLs. Videos, effects and
//! pictures each have their path, and are found under no other.
//!
//! `external_task_id` is unique in the account, so a second submit under the same name is refused: that is what
//! makes an ambiguous submit safe to resolve. A callback is the task as its query shows it, without the envelope.

pub(crate) mod auth;
mod request;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use crate::{
    Sim, Simulator, answer, callback,
    fault::Kind,
    fields::{Complaint, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Makes, Task},
};
use request::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Kling    POST /kling/v1/videos/text2video | image2video | effects, /kling/v1/images/generations
           GET  the same, with /TASK_ID_OR_EXTERNAL_TASK_ID    GET /kling/account/costs
           Faults of an effect are asked for by its name: it has no prompt.
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/kling/v1/videos/{kind}", post(submit))
        .route("/kling/v1/videos/{kind}/{id}", get(query))
        .route("/kling/v1/images/{kind}", post(submit_picture))
        .route("/kling/v1/images/{kind}/{id}", get(query_picture))
        .route("/kling/account/costs", get(costs))
}

/// The kinds of video this account may make.
const KINDS: &[&str] = &["text2video", "image2video", "effects"];
/// The kinds of picture.
const PICTURE_KINDS: &[&str] = &["generations"];

/// Takes a new task for a video.
pub(crate) async fn submit(
    State(sim): State<Sim>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&sim, KINDS, &kind, &headers, &body).await
}

/// Takes a new task for pictures.
pub(crate) async fn submit_picture(
    State(sim): State<Sim>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&sim, PICTURE_KINDS, &kind, &headers, &body).await
}

async fn take(sim: &Sim, kinds: &[&str], kind: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    if let Err(rejection) = auth::check(headers) {
        return error(StatusCode::UNAUTHORIZED, rejection.code, rejection.text);
    }
    if !kinds.contains(&kind) {
        return error(StatusCode::NOT_FOUND, 1202, "The requested method is invalid");
    }
    let order = match read_json(headers, body).and_then(|body| Order::read(kind, &body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit =
        Visit::new(Provider::Kling, Op::Submit, kind, &order.prompt, order.external_task_id.as_deref());
    sim.attend(&visit, voice, accept(sim, &visit, order, answer::root_url(headers))).await
}

/// Tells how a task for a video is doing.
pub(crate) async fn query(
    State(sim): State<Sim>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    tell(&sim, KINDS, &kind, &name, &headers).await
}

/// Tells how a task for pictures is doing.
pub(crate) async fn query_picture(
    State(sim): State<Sim>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    tell(&sim, PICTURE_KINDS, &kind, &name, &headers).await
}

async fn tell(sim: &Sim, kinds: &[&str], kind: &str, name: &str, headers: &HeaderMap) -> Response {
    if let Err(rejection) = auth::check(headers) {
        return error(StatusCode::UNAUTHORIZED, rejection.code, rejection.text);
    }
    let task = sim.tasks.find(Provider::Kling, name);
    let Some(task) = task.filter(|task| task.call == kind && kinds.contains(&kind)) else {
        sim.ledger().count(&Visit::new(Provider::Kling, Op::Poll, kind, "", None));
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(headers);
    sim.attend(&visit, voice, sim.tell(&visit, task, &root)).await
}

/// Tells what the packs of the account have left.
pub(crate) async fn costs(Query(query): Query<Map<String, Value>>, headers: HeaderMap) -> Response {
    if let Err(rejection) = auth::check(&headers) {
        return error(StatusCode::UNAUTHORIZED, rejection.code, rejection.text);
    }
    if !["start_time", "end_time"].iter().all(|name| query.contains_key(*name)) {
        return error(StatusCode::BAD_REQUEST, 1201, "start_time and end_time are needed");
    }
    success(&json!({ "code": 0, "msg": "success", "resource_pack_subscribe_infos": [] }))
}

async fn accept(sim: &Sim, visit: &Visit, order: Order, root: String) -> Response {
    if let Some(refusal) = sim.refuse_by_code(visit) {
        sim.ledger().note(visit, None, false);
        return refusal;
    }
    let task = Task::new(sim.tasks.next_id(), visit, order.frame, order.quantity).making(order.makes);
    if sim.tasks.add(task.clone()).await.is_err() {
        sim.ledger().note(visit, None, false);
        return error(StatusCode::BAD_REQUEST, 1201, "external_task_id already exists");
    }
    sim.accept(visit, Some(&task.id));
    if let Some(url) = order.callback_url {
        callback::when_final(sim, &task, url, move |task| ring(task, &root));
    }
    success(&status(&task, "submitted"))
}

/// The callback of a final task.
fn ring(task: &Task, root: &str) -> callback::Ring {
    let body = match task.ending {
        Some(Ending::Succeeded) => finished(task, made(task, task.issued, root)),
        Some(Ending::Refused) => failed(task, REFUSED),
        _ => failed(task, task.failure.as_deref().unwrap_or(FAILED)),
    };
    callback::Ring { headers: Vec::new(), body }
}

/// What Kling says of a task that it could not do, and of one that it would not.
const FAILED: &str = "Generation failed, please try again";
const REFUSED: &str = "Failure to pass the risk control system";

impl Simulator {
    /// A no that the code in the envelope tells and the status does not.
    fn refuse_by_code(&self, visit: &Visit) -> Option<Response> {
        let fault = self.strike(visit, Kind::Code)?;
        let code = fault.count().and_then(|code| u16::try_from(code).ok()).unwrap_or(5000);
        Some(error(StatusCode::OK, code, "The code says what is wrong"))
    }

    async fn tell(&self, visit: &Visit, task: Task, root: &str) -> Response {
        if let Some(refusal) = self.refuse_by_code(visit) {
            return refusal;
        }
        let sight = self.look(visit, &task.id).await;
        let task = self.tasks.find(Provider::Kling, &task.id).unwrap_or(task);
        success(&match sight {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => status(&task, "submitted"),
            Sight::Working => status(&task, "processing"),
            Sight::Unknown => status(&task, "reticulating"),
            Sight::Failed(why) => failed(&task, why.as_deref().unwrap_or(FAILED)),
            Sight::Refused => failed(&task, REFUSED),
            Sight::Hollow if task.makes == Makes::Png => finished(&task, json!({ "images": [] })),
            Sight::Hollow => finished(&task, json!({ "videos": [] })),
            Sight::Succeeded { issue } => finished(&task, made(&task, issue, root)),
        })
    }
}

/// The files of a task, under URLs of that issue.
fn made(task: &Task, issue: u32, root: &str) -> Value {
    if task.makes == Makes::Png {
        // A picture has no length: the task's quantity is how many there are.
        let image = |n: u32| json!({ "index": n, "url": files::nth_url(root, task, issue, n) });
        let images: Vec<_> = (0..u32::from(task.seconds)).map(image).collect();
        return json!({ "images": images });
    }
    let (id, url) = (format!("{}-0", task.id), files::url(root, task, issue));
    json!({ "videos": [{ "id": id, "url": url, "duration": task.seconds.to_string() }] })
}

fn success(data: &Value) -> Response {
    let body = json!({ "code": 0, "message": "SUCCEED", "request_id": request_id(), "data": data });
    answer::json(StatusCode::OK, &body)
}

fn status(task: &Task, word: &str) -> Value {
    let mut info = json!({});
    if let Some(client_ref) = &task.client_ref {
        info["external_task_id"] = json!(client_ref);
    }
    json!({
        "task_id": task.id, "task_status": word, "task_status_msg": "", "task_info": info,
        "created_at": task.created_ms, "updated_at": task.updated_ms,
    })
}

fn failed(task: &Task, why: &str) -> Value {
    let mut data = status(task, "failed");
    data["task_status_msg"] = json!(why);
    data
}

fn finished(task: &Task, result: Value) -> Value {
    let mut data = status(task, "succeed");
    data["task_result"] = result;
    data["final_unit_deduction"] = json!((task.seconds / 5).max(1).to_string());
    data
}

fn request_id() -> String {
    format!("req-{}", crate::clock::now_ms())
}

fn error(status: StatusCode, code: u16, text: &str) -> Response {
    answer::json(status, &json!({ "code": code, "message": text, "request_id": request_id() }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "kling: bad request");
    // 1200 is for the request as a whole, 1201 for one parameter of it.
    let code = if complaint.field.is_some() { 1201 } else { 1200 };
    error(StatusCode::BAD_REQUEST, code, &complaint.text)
}

/// How Kling says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(_) => {
            error(StatusCode::TOO_MANY_REQUESTS, 1303, "parallel task over resource pack limit")
        }
        Trouble::Quota(flavour) => {
            let arrears = flavour.as_deref() == Some("1101");
            let (code, text) =
                if arrears { (1101, "Account in arrears") } else { (1102, "Account balance not enough") };
            error(StatusCode::TOO_MANY_REQUESTS, code, text)
        }
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, 1002, "Authorization is invalid"),
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, 1201, "Invalid request parameters"),
        Trouble::Refused => error(StatusCode::BAD_REQUEST, 1301, REFUSED),
        Trouble::Broken(status) => {
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match status {
                StatusCode::SERVICE_UNAVAILABLE => error(status, 5001, "Server is temporarily unavailable"),
                StatusCode::GATEWAY_TIMEOUT => error(status, 5002, "Internal server timeout"),
                _ => error(status, 5000, "Internal server error"),
            }
        }
        Trouble::Missing => error(StatusCode::NOT_FOUND, 1203, "The requested resource is not found"),
    }
}
