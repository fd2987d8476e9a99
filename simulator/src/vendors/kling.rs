//! Kling video: a task is submitted, polled by its id or by the client's own name for it, and carries its URL.
//!
//! `external_task_id` is unique in the account, so a second submit under the same name is refused: that is what
//! makes an ambiguous submit safe to resolve. Callbacks are accepted and never made.

pub(crate) mod auth;
mod request;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer,
    fields::{Complaint, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::Task,
};
use request::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Kling    POST /kling/v1/videos/text2video | image2video
           GET  /kling/v1/videos/KIND/TASK_ID_OR_EXTERNAL_TASK_ID
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/kling/v1/videos/{kind}", post(submit))
        .route("/kling/v1/videos/{kind}/{id}", get(query))
}

/// The kinds of video this account may make.
const KINDS: &[&str] = &["text2video", "image2video"];

/// Takes a new task.
pub(crate) async fn submit(
    State(sim): State<Sim>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(rejection) = auth::check(&headers) {
        return error(StatusCode::UNAUTHORIZED, rejection.code, rejection.text);
    }
    if !KINDS.contains(&kind.as_str()) {
        return error(StatusCode::NOT_FOUND, 1202, "The requested method is invalid");
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(&kind, &body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit =
        Visit::new(Provider::Kling, Op::Submit, &kind, &order.prompt, order.external_task_id.as_deref());
    sim.attend(&visit, voice, sim.take_order(&visit, &order)).await
}

/// Tells how a task is doing.
pub(crate) async fn query(
    State(sim): State<Sim>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(rejection) = auth::check(&headers) {
        return error(StatusCode::UNAUTHORIZED, rejection.code, rejection.text);
    }
    let Some(task) = sim.tasks.find(Provider::Kling, &name).filter(|task| task.call == kind) else {
        sim.ledger().count(&Visit::new(Provider::Kling, Op::Poll, &kind, "", None));
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.tell(&visit, task, &root)).await
}

impl Simulator {
    async fn take_order(&self, visit: &Visit, order: &Order) -> Response {
        let task = Task::new(self.tasks.next_id(), visit, order.frame, order.seconds);
        let mut data = status(&task, "submitted");
        data["created_at"] = json!(task.created_ms);
        let id = task.id.clone();
        if self.tasks.add(task).await.is_err() {
            self.ledger().note(visit, None, false);
            return error(StatusCode::BAD_REQUEST, 1201, "external_task_id already exists");
        }
        self.accept(visit, Some(&id));
        success(&data)
    }

    async fn tell(&self, visit: &Visit, task: Task, root: &str) -> Response {
        let sight = self.look(visit, &task.id).await;
        let task = self.tasks.find(Provider::Kling, &task.id).unwrap_or(task);
        success(&match sight {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => status(&task, "submitted"),
            Sight::Working => status(&task, "processing"),
            Sight::Unknown => status(&task, "reticulating"),
            Sight::Failed(why) => {
                failed(&task, why.as_deref().unwrap_or("Generation failed, please try again"))
            }
            Sight::Refused => failed(&task, "Failure to pass the risk control system"),
            Sight::Hollow => finished(&task, &json!([])),
            Sight::Succeeded { issue } => {
                let url = files::url(root, &task, issue);
                let video = json!({ "id": format!("{}-0", task.id), "url": url, "duration": task.seconds.to_string() });
                finished(&task, &json!([video]))
            }
        })
    }
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

fn finished(task: &Task, videos: &Value) -> Value {
    let mut data = status(task, "succeed");
    data["task_result"] = json!({ "videos": videos });
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
        Trouble::Refused => error(StatusCode::BAD_REQUEST, 1301, "Failure to pass the risk control system"),
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
