//! Stability AI, v2beta: pictures from words, enlarged, cut out, cleaned; two of the tools as tasks.
//!
//! A result is bare bytes or JSON, as the `Accept` header says, and HTTP 200 even where it was blurred by the content filter. Only
//! PNG is made here, so other output formats are refused. Inpainting, outpainting, search and replace, and the control tools are
//! absent.

mod order;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator,
    answer::{self, with_header},
    content::png,
    fault::Kind,
    fields::Complaint,
    form::Form,
    interference::{Artefact, Trouble},
    ledger::{Op, Provider, Visit},
    progress::Sight,
    seed::Seed,
    task::{Makes, Task},
    vendors::openai::WRONG_KEY,
    wire,
};
use order::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Stability POST /stability/v2beta/stable-image/generate/core | ultra | sd3          (multipart, png)
           POST …/upscale/fast | conservative | creative    (the last as a task)
           POST …/edit/erase | remove-background | replace-background-and-relight    (the last as a task)
           GET  /stability/v2beta/results/ID    GET /stability/v1/user/balance
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/stability/v2beta/stable-image/{group}/{tool}", post(submit))
        .route("/stability/v2beta/results/{id}", get(result))
        .route("/stability/v1/user/balance", get(balance))
}

/// The largest request that the vendor takes.
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
/// What the vendor says of a result that its filter has blurred.
const FILTERED: &str = "CONTENT_FILTERED";

/// Does the work at once, or takes a task.
pub(crate) async fn submit(
    State(sim): State<Sim>,
    Path((group, tool)): Path<(String, String)>,
    request: Request,
) -> Response {
    if let Some(refusal) = refuse_key(request.headers()) {
        return refusal;
    }
    let wants_json = wants_json(request.headers());
    let path = format!("{group}/{tool}");
    if !order::is_known(&path) {
        return voice(&Trouble::Missing);
    }
    let form = match Form::receive(request).await {
        Ok(form) if form.bytes() > REQUEST_BYTES_MAX => {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "the request exceeds 10MiB");
        }
        Ok(form) => form,
        Err(complaint) => return complain(&complaint),
    };
    let order = match Order::read(&path, &form) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Stability, Op::Submit, &path, &order.prompt, None).lasting(order.lasts);
    let work = async {
        if order.lasts { sim.begin(&visit, &order).await } else { sim.draw(&visit, &order, wants_json).await }
    };
    sim.attend(&visit, voice, work).await
}

/// Gives the result of a task, or says that it is not there yet.
pub(crate) async fn result(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = sim.tasks.find(Provider::Stability, &id) else {
        sim.ledger().count(&Visit::new(Provider::Stability, Op::Poll, "results", "", None));
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::Poll);
    sim.attend(&visit, voice, sim.hand_over(&visit, &task, wants_json(&headers))).await
}

/// Tells what is left on the account.
pub(crate) async fn balance(headers: HeaderMap) -> Response {
    refuse_key(&headers).unwrap_or_else(|| answer::json(StatusCode::OK, &json!({ "credits": 123.4 })))
}

impl Simulator {
    async fn draw(&self, visit: &Visit, order: &Order, wants_json: bool) -> Response {
        let id = format!("{:016x}", self.tasks.next_id());
        let seed = Seed::of(&order.prompt, &id);
        let size = self.sized(visit, order.size);
        let Ok(picture) = png::draw(seed, size).await else { return voice(&Trouble::Broken(None)) };
        self.accept(visit, Some(&id));
        let reason = self.finish_reason(visit);
        if wants_json {
            let picture = self.spoil_inline(visit, &seed, picture);
            return in_json(&picture, &reason);
        }
        bare(self.spoil(visit, &seed, picture), &reason).await
    }

    async fn begin(&self, visit: &Visit, order: &Order) -> Response {
        let number = self.tasks.next_id();
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
        let frame = (side(order.size.0), side(order.size.1));
        let task =
            Task { id: format!("{number:064x}"), ..Task::new(number, visit, frame, 0).making(Makes::Png) };
        let id = task.id.clone();
        if self.tasks.add(task).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        self.accept(visit, Some(&id));
        answer::json(StatusCode::OK, &json!({ "id": id }))
    }

    async fn hand_over(&self, visit: &Visit, task: &Task, wants_json: bool) -> Response {
        let waiting =
            |word: &str| answer::json(StatusCode::ACCEPTED, &json!({ "id": task.id, "status": word }));
        let reason = match self.look(visit, &task.id).await {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting | Sight::Working => return waiting("in-progress"),
            Sight::Unknown => return waiting("reticulating"),
            Sight::Failed(_) => return voice(&Trouble::Broken(None)),
            Sight::Refused | Sight::Hollow => FILTERED,
            Sight::Succeeded { .. } => "SUCCESS",
        };
        // The file comes with the answer, so what can befall a download befalls it here.
        let download = task.visit(Op::Download);
        let seed = task.seed(0);
        let size = self.sized(&download, (task.frame.0.into(), task.frame.1.into()));
        let Ok(picture) = png::draw(seed, size).await else { return voice(&Trouble::Broken(None)) };
        if wants_json {
            return in_json(&self.spoil_inline(&download, &seed, picture), reason);
        }
        bare(self.spoil(&download, &seed, picture), reason).await
    }

    fn finish_reason(&self, visit: &Visit) -> String {
        match self.strike(visit, Kind::NoResult) {
            Some(fault) => fault.value.unwrap_or_else(|| FILTERED.to_owned()),
            None => "SUCCESS".to_owned(),
        }
    }
}

async fn bare(artefact: Artefact, reason: &str) -> Response {
    let response = answer::bytes(StatusCode::OK, "image/png", artefact.bytes);
    let response = with_header(with_header(response, "finish-reason", reason), "seed", "343940597");
    if artefact.cut { wire::cut_short(response).await } else { response }
}

fn in_json(picture: &[u8], reason: &str) -> Response {
    let body = json!({ "image": STANDARD.encode(picture), "finish_reason": reason, "seed": 343_940_597 });
    answer::json(StatusCode::OK, &body)
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.starts_with("application/json")
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn error(status: StatusCode, name: &str, text: &str) -> Response {
    let body: Value = json!({ "id": "4212a4b66fbe1cedca4bf2133d35dca5", "name": name, "errors": [text] });
    answer::json(status, &body)
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "stability: bad request");
    error(StatusCode::BAD_REQUEST, "bad_request", &complaint.text)
}

/// How Stability says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(_) => error(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            "You have exceeded the rate limit of 150 requests within a 10 second period.",
        ),
        Trouble::Quota(_) => error(
            StatusCode::PAYMENT_REQUIRED,
            "payment_required",
            "You lack sufficient credits to make this request.",
        ),
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "unauthorized", "authorization: invalid api key"),
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, "bad_request", "some-field: is required"),
        Trouble::Refused => error(
            StatusCode::FORBIDDEN,
            "content_moderation",
            "Your request was flagged by our content moderation system.",
        ),
        Trouble::Broken(status) => error(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "internal_error",
            "An unexpected server error has occurred, please try again later.",
        ),
        Trouble::Missing => error(StatusCode::NOT_FOUND, "not_found", "The resource was not found."),
    }
}
