//! A Midjourney proxy, of trueai's kind: work is submitted, its task polled, its result carries buttons for more.
//!
//! HTTP is 200 whatever happens to a submit; the truth is in `code`. Pressing some buttons opens a window: the task waits in
//! `MODAL` until a second submit answers it, and only that one would be billed. One that was pressed before answers with what it
//! made then. `state` is kept and told, and is not unique. The notify hook is rung once, when the task is final.

mod buttons;
mod order;
mod view;

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
    fault::Kind,
    fields::{Complaint, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    task::{Ending, Task},
    vendors::openai::WRONG_KEY,
};
use order::{Order, Window};

/// For the front page.
pub(crate) const INDEX: &str = "\
  Midjourney POST /midjourney/mj/submit/imagine | action | modal | blend | describe | video
           POST /midjourney/mj/insight-face/swap
           GET  /midjourney/mj/task/ID/fetch | task/list | task/queue    POST …/task/ID/cancel
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/midjourney/mj/submit/modal", post(answer_window))
        .route("/midjourney/mj/submit/{kind}", post(submit))
        .route("/midjourney/mj/insight-face/swap", post(swap))
        .route("/midjourney/mj/task/{id}/fetch", get(fetch))
        .route("/midjourney/mj/task/{id}/cancel", post(cancel))
        .route("/midjourney/mj/task/list", get(list))
        .route("/midjourney/mj/task/queue", get(queue))
}

/// Takes new work.
async fn submit(
    State(sim): State<Sim>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&sim, &kind, &headers, &body).await
}

/// Takes a new swap of faces.
async fn swap(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    take(&sim, "swap", &headers, &body).await
}

async fn take(sim: &Sim, kind: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    if let Some(refusal) = refuse_key(headers) {
        return refusal;
    }
    let find = |id: &str| sim.tasks.find(Provider::Midjourney, id);
    let order = match read_json(headers, body).and_then(|body| Order::read(kind, &body, find)) {
        Ok(Some(order)) => order,
        Ok(None) => return answer::bytes(StatusCode::NOT_FOUND, "text/plain", ""),
        Err(complaint) => return complain(&complaint),
    };
    let visit =
        Visit::new(Provider::Midjourney, Op::Submit, order.action, &order.prompt, order.state.as_deref());
    sim.attend(&visit, voice, begin(sim, &visit, order, answer::root_url(headers))).await
}

/// Takes the second step of a task that waits for it.
async fn answer_window(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let read = read_json(&headers, &body)
        .and_then(|body| Window::read(&body, |id| sim.tasks.find(Provider::Midjourney, id)));
    let window = match read {
        Ok(window) => window,
        Err(complaint) => return complain(&complaint),
    };
    let Window { task, prompt } = window;
    let visit = Visit::new(task.provider, Op::Submit, &task.call, &prompt, task.client_ref.as_deref());
    let work = async {
        let released = sim.tasks.update(&task.id, |task| {
            task.prompt.clone_from(&prompt);
            std::mem::take(&mut task.is_on_hold)
        });
        if released.await != Some(true) {
            sim.ledger().note(&visit, None, false);
            return reply(4, "the task does not wait for anything", Value::Null, json!({}));
        }
        sim.accept(&visit, Some(&task.id));
        reply(1, "Submit success", json!(task.id), json!({}))
    };
    sim.attend(&visit, voice, work).await
}

/// Tells how a task is doing.
async fn fetch(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = sim.tasks.find(Provider::Midjourney, &id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show(&visit, &task, &root)).await
}

/// Stops a task that is not over.
async fn cancel(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    if sim.tasks.find(Provider::Midjourney, &id).is_none() {
        return voice(&Trouble::Missing);
    }
    let was_open = sim.tasks.update(&id, |task| {
        let is_open = task.ending.is_none();
        if is_open {
            task.ending = Some(Ending::Failed);
            task.failure = Some(view::CANCELED.to_owned());
        }
        is_open
    });
    match was_open.await {
        Some(true) => reply(1, "success", json!(id), json!({})),
        _ => reply(4, "the task is over", Value::Null, json!({})),
    }
}

/// Every task, as it was when it was last looked at.
async fn list(State(sim): State<Sim>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let visit = Visit::new(Provider::Midjourney, Op::Poll, "list", "", None);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show_all(&root)).await
}

/// What waits: nothing ever does here.
async fn queue(headers: HeaderMap) -> Response {
    refuse_key(&headers).unwrap_or_else(|| answer::json(StatusCode::OK, &json!([])))
}

/// Begins the task of an order, unless the same button was pressed before.
async fn begin(sim: &Sim, visit: &Visit, order: Order, root: String) -> Response {
    if let Some(earlier) = sim.pressed_before(&order) {
        sim.ledger().note(visit, Some(&earlier.id), false);
        let url = files::url(&root, &earlier, earlier.issued);
        let properties = json!({ "status": "SUCCESS", "imageUrl": url });
        return reply(21, "the task exists already", json!(earlier.id), properties);
    }
    let mut task = Task::new(sim.tasks.next_id(), visit, order.frame, order.seconds).making(order.makes);
    task.is_on_hold = order.opens_window;
    if sim.tasks.add(task.clone()).await.is_err() {
        // The name is taken. The proxy does not mind and does the work again.
        task.client_ref = None;
        if sim.tasks.add(task.clone()).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
    }
    if let Some(url) = order.hook {
        let ring =
            move |task: &Task| callback::Ring { headers: Vec::new(), body: view::of_ended(task, &root) };
        callback::when_final(sim, &task, url, ring);
    }
    if task.is_on_hold {
        sim.ledger().note(visit, Some(&task.id), false);
        return reply(21, "Waiting for window confirm", json!(task.id), json!({ "remix": true }));
    }
    sim.accept(visit, Some(&task.id));
    reply(1, "Submit success", json!(task.id), json!({ "discordInstanceId": "1118138338562560102" }))
}

impl Simulator {
    /// The task that has taken the same picture out of the four before.
    fn pressed_before(&self, order: &Order) -> Option<Task> {
        let same = |task: &Task| {
            task.provider == Provider::Midjourney && task.call == order.action && task.prompt == order.prompt
        };
        let earlier =
            self.tasks.all().into_iter().find(|task| same(task) && task.ending == Some(Ending::Succeeded));
        earlier.filter(|_| order.action == "UPSCALE")
    }

    async fn show(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        if task.is_on_hold && task.ending.is_none() {
            return answer::json(StatusCode::OK, &view::of(task, "MODAL", ""));
        }
        let sight = self.look(visit, &task.id).await;
        let task = self.tasks.find(Provider::Midjourney, &task.id).unwrap_or_else(|| task.clone());
        match view::seen(&task, &sight, root) {
            Some(shown) => answer::json(StatusCode::OK, &shown),
            None => voice(&Trouble::Missing),
        }
    }

    /// The list does not move a task on. What cannot be found by its id is not in it.
    async fn show_all(&self, root: &str) -> Response {
        let mut shown = Vec::new();
        for task in self.tasks.all().into_iter().filter(|task| task.provider == Provider::Midjourney) {
            let visit = task.visit(Op::Poll);
            let hidden = self.tasks.update(&task.id, |task| {
                self.strike(&visit, Kind::Purged).is_some()
                    || self.strikes(&visit, task, Kind::Missing, Some(1))
            });
            if hidden.await == Some(false) {
                shown.push(view::of_ended(&task, root));
            }
        }
        answer::json(StatusCode::OK, &Value::Array(shown))
    }
}

/// The refusal of a missing or wrong key; `None` lets the request in. Either header will do.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    let own = headers.get("mj-api-secret").and_then(|value| value.to_str().ok());
    match own.or_else(|| answer::bearer(headers)) {
        None | Some("" | WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn reply(code: u16, description: &str, result: Value, properties: Value) -> Response {
    let body =
        json!({ "code": code, "description": description, "result": result, "properties": properties });
    answer::json(StatusCode::OK, &body)
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "midjourney: bad request");
    reply(4, &complaint.text, Value::Null, json!({}))
}

/// How the proxy says no.
fn voice(trouble: &Trouble) -> Response {
    let say = |code, text| reply(code, text, Value::Null, json!({}));
    match trouble {
        Trouble::RateLimited(_) => reply(
            23,
            "the queue is full, try again later",
            Value::Null,
            json!({ "discordInstanceId": "1118138338562560102" }),
        ),
        Trouble::Quota(flavour) if flavour.as_deref() == Some("30") => say(30, "no quota is left"),
        Trouble::Quota(_) => say(4, "quota_not_enough"),
        Trouble::Auth => answer::bytes(StatusCode::UNAUTHORIZED, "text/plain", ""),
        Trouble::BadInput(_) => say(4, "validation failed"),
        Trouble::Refused => reply(
            24,
            "may contain sensitive words",
            Value::Null,
            json!({ "promptEn": "…", "bannedWord": "…" }),
        ),
        Trouble::Broken(None) => say(9, "failure"),
        Trouble::Broken(Some(status)) => {
            let mut response = say(9, "failure");
            *response.status_mut() = *status;
            response
        }
        Trouble::Missing => answer::json(StatusCode::NOT_FOUND, &json!({ "message": "not found" })),
    }
}
