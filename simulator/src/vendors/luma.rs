//! Luma: films by the Dream Machine interface and by the one for agents, which differ in nearly every word.
//!
//! A generation is begun (201), asked after by its id, and carries the URL of its film. Pictures are taken by their address
//! alone, on trust: nothing is fetched. A deleted generation is not found any more. Dream Machine posts the generation to a
//! callback address.

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
  Luma     POST /luma/dream-machine/v1/generations | /luma/dream-machine/v1/generations/video
           GET, DELETE /luma/dream-machine/v1/generations/ID    GET /luma/dream-machine/v1/credits
           POST /luma/agents/v1/generations            GET /luma/agents/v1/generations/ID
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/luma/dream-machine/v1/generations", post(dream))
        .route("/luma/dream-machine/v1/generations/video", post(dream))
        .route("/luma/dream-machine/v1/generations/{id}", get(look_at_dream).delete(forget))
        .route("/luma/dream-machine/v1/credits", get(credits))
        .route("/luma/agents/v1/generations", post(work))
        .route("/luma/agents/v1/generations/{id}", get(look_at_work))
}

/// The names of the two interfaces in the account book.
const DREAM: &str = "dream_machine";
const AGENTS: &str = "agents";
/// What a deleted generation says of its end.
const DELETED: &str = "deleted";

/// Begins a generation of Dream Machine.
pub(crate) async fn dream(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    begin(&sim, DREAM, &headers, &body, Order::read_dream).await
}

/// Begins a generation for agents.
pub(crate) async fn work(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    begin(&sim, AGENTS, &headers, &body, Order::read_work).await
}

async fn begin(
    sim: &Sim,
    call: &str,
    headers: &HeaderMap,
    body: &[u8],
    read: fn(&Value) -> Result<Order, Complaint>,
) -> Response {
    if let Some(refusal) = refuse_key(headers) {
        return refusal;
    }
    let order = match read_json(headers, body).and_then(|body| read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Luma, Op::Submit, call, &order.prompt, None);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, order.frame, order.seconds);
        if sim.tasks.add(task.clone()).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&task.id));
        if let Some(url) = order.callback_url {
            let root = answer::root_url(headers);
            callback::when_final(sim, &task, url, move |task| ring(task, &root));
        }
        answer::json(StatusCode::CREATED, &show(&task, "queued"))
    };
    sim.attend(&visit, voice, work).await
}

/// Tells how a generation of Dream Machine is doing.
pub(crate) async fn look_at_dream(
    State(sim): State<Sim>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    look_at(&sim, DREAM, &id, &headers).await
}

/// Tells how a generation for agents is doing.
pub(crate) async fn look_at_work(
    State(sim): State<Sim>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    look_at(&sim, AGENTS, &id, &headers).await
}

async fn look_at(sim: &Sim, call: &str, id: &str, headers: &HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(headers) {
        return refusal;
    }
    let Some(task) = find(sim, call, id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(headers);
    sim.attend(&visit, voice, sim.generation_of_luma(&visit, task, &root)).await
}

fn find(sim: &Sim, call: &str, id: &str) -> Option<Task> {
    let task = sim.tasks.find(Provider::Luma, id).filter(|task| task.call == call)?;
    (task.failure.as_deref() != Some(DELETED)).then_some(task)
}

/// Deletes a generation of Dream Machine.
pub(crate) async fn forget(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = find(&sim, DREAM, &id) else { return voice(&Trouble::Missing) };
    let deleted = sim.tasks.update(&task.id, |task| {
        task.ending = Some(Ending::Failed);
        task.failure = Some(DELETED.to_owned());
    });
    if deleted.await.is_none() {
        return voice(&Trouble::Missing);
    }
    answer::bytes(StatusCode::NO_CONTENT, "application/json", "")
}

/// Tells what is left on the account, in cents.
pub(crate) async fn credits(headers: HeaderMap) -> Response {
    refuse_key(&headers)
        .unwrap_or_else(|| answer::json(StatusCode::OK, &json!({ "credit_balance": 12345.0 })))
}

/// The callback of a final generation.
fn ring(task: &Task, root: &str) -> callback::Ring {
    let body = match task.ending {
        Some(Ending::Succeeded) => finished(task, task.issued, root),
        Some(Ending::Refused) => failed(task, MODERATED, "content_moderated"),
        _ => failed(task, FAILED, "generation_failed"),
    };
    callback::Ring { headers: Vec::new(), body }
}

/// What Luma says of a generation that it could not do, and of one that it would not.
const FAILED: &str = "The generation has failed";
const MODERATED: &str = "Frame moderation failed";

impl Simulator {
    async fn generation_of_luma(&self, visit: &Visit, task: Task, root: &str) -> Response {
        let sight = self.look(visit, &task.id).await;
        let working = if task.call == DREAM { "dreaming" } else { "processing" };
        let shown = match sight {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => show(&task, "queued"),
            Sight::Working => show(&task, working),
            Sight::Unknown => show(&task, "reticulating"),
            Sight::Failed(why) => failed(&task, FAILED, why.as_deref().unwrap_or("generation_failed")),
            Sight::Refused => failed(&task, MODERATED, "content_moderated"),
            Sight::Hollow => show(&task, "completed"),
            Sight::Succeeded { issue } => finished(&task, issue, root),
        };
        answer::json(StatusCode::OK, &shown)
    }
}

/// A generation in a state, without its film.
fn show(task: &Task, state: &str) -> Value {
    let created = chrono::DateTime::from_timestamp_millis(task.created_ms).unwrap_or_default();
    let mut shown = json!({ "id": task.id, "state": state, "created_at": created.to_rfc3339() });
    if task.call == DREAM {
        shown["generation_type"] = json!("video");
        shown["failure_reason"] = Value::Null;
        shown["assets"] = Value::Null;
    } else {
        shown["type"] = json!("video");
        shown["output"] = json!([]);
    }
    shown
}

fn finished(task: &Task, issue: u32, root: &str) -> Value {
    let url = files::url(root, task, issue);
    let mut shown = show(task, "completed");
    if task.call == DREAM {
        shown["assets"] = json!({ "video": url, "image": null, "progress_video": null });
    } else {
        shown["output"] = json!([{ "type": "video", "url": url }]);
    }
    shown
}

fn failed(task: &Task, reason: &str, code: &str) -> Value {
    let mut shown = show(task, "failed");
    shown["failure_reason"] = json!(reason);
    if task.call != DREAM {
        shown["failure_code"] = json!(code);
    }
    shown
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None => Some(error(StatusCode::FORBIDDEN, "Not authenticated")),
        Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "luma: bad request");
    error(StatusCode::UNPROCESSABLE_ENTITY, &complaint.text)
}

fn error(status: StatusCode, detail: &str) -> Response {
    answer::json(status, &json!({ "detail": detail }))
}

/// How Luma says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(_) => error(StatusCode::TOO_MANY_REQUESTS, "Too many concurrent generations"),
        Trouble::Quota(_) => error(StatusCode::BAD_REQUEST, "Insufficient credits"),
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "Invalid API key"),
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, "Invalid request"),
        Trouble::Refused => {
            error(StatusCode::BAD_REQUEST, "Prompt not allowed because advanced moderation failed")
        }
        Trouble::Broken(status) => {
            error(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "Internal Server Error")
        }
        Trouble::Missing => error(StatusCode::NOT_FOUND, "Generation not found"),
    }
}
