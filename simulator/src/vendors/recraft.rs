//! Recraft: pictures from words, and tools that trace, cut out, enlarge and set a picture elsewhere; all within the request.
//!
//! Results are base64 or files at an address, as the request asks. Only PNG is made here, and SVG by tracing, so models and styles
//! that draw vectors are refused. Of the tools that edit, only the one that replaces the background is here.

mod order;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, clock,
    content::{png, svg},
    fault::Kind,
    fields::{Complaint, read_json},
    files,
    form::Form,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    task::{Ending, Makes, Task},
    vendors::openai::WRONG_KEY,
};
use order::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Recraft  POST /recraft/v1/images/generations          (JSON, png)
           POST …/images/vectorize | removeBackground | replaceBackground | crispUpscale | creativeUpscale   (multipart)
           GET  /recraft/v1/users/me
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/recraft/v1/images/generations", post(generate))
        .route("/recraft/v1/images/{tool}", post(apply))
        .route("/recraft/v1/users/me", get(account))
}

/// Draws pictures from words.
async fn generate(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    match read_json(&headers, &body).and_then(|body| Order::of_words(&body)) {
        Ok(order) => sim.serve_recraft(&order, "generations", &headers).await,
        Err(complaint) => complain(&complaint),
    }
}

/// Makes something of a picture.
async fn apply(State(sim): State<Sim>, Path(tool): Path<String>, request: Request) -> Response {
    let headers = request.headers().clone();
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    if !order::is_tool(&tool) {
        return voice(&Trouble::Missing);
    }
    match Form::receive(request).await.and_then(|form| Order::of_picture(&tool, &form)) {
        Ok(order) => sim.serve_recraft(&order, &tool, &headers).await,
        Err(complaint) => complain(&complaint),
    }
}

/// Tells whose key it is and what is left on the account.
async fn account(headers: HeaderMap) -> Response {
    let me = json!({ "id": "a1b2c3", "email": "someone@example.com", "name": "Someone", "credits": 4200 });
    refuse_key(&headers).unwrap_or_else(|| answer::json(StatusCode::OK, &me))
}

impl Simulator {
    async fn serve_recraft(&self, order: &Order, call: &str, headers: &HeaderMap) -> Response {
        let visit = Visit::new(Provider::Recraft, Op::Submit, call, &order.prompt, None);
        let root = answer::root_url(headers);
        self.attend(&visit, voice, self.make_all(&visit, order, &root)).await
    }

    async fn make_all(&self, visit: &Visit, order: &Order, root: &str) -> Response {
        let number = self.tasks.next_id();
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
        let frame = (side(order.size.0), side(order.size.1));
        let task = Task::new(number, visit, frame, 0).making(order.makes);
        let task = Task { ending: Some(Ending::Succeeded), issued: 1, ..task };
        let is_hollow = self.strike(visit, Kind::NoResult).is_some();
        let mut images = Vec::new();
        for n in (0..order.count).filter(|_| !is_hollow) {
            let mut image = json!({ "image_id": format!("{number:016x}-{n}") });
            if order.inline {
                let size = self.sized(visit, order.size);
                let Ok(file) = draw(task.seed(n), order.makes, size).await else {
                    return voice(&Trouble::Broken(None));
                };
                image["b64_json"] = json!(STANDARD.encode(self.spoil_inline(visit, &task.seed(n), file)));
            } else {
                image["url"] = json!(files::nth_url(root, &task, task.issued, n));
            }
            images.push(image);
        }
        if !order.inline && self.tasks.add(task).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        self.accept(visit, Some(&number.to_string()));
        let mut body = json!({ "created": clock::now_secs(), "credits": order.credits * order.count });
        if order.is_list {
            body["data"] = json!(images);
        } else {
            body["image"] = images.into_iter().next().unwrap_or(Value::Null);
        }
        answer::json(StatusCode::OK, &body)
    }
}

async fn draw(seed: Seed, makes: Makes, size: (u32, u32)) -> anyhow::Result<Vec<u8>> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    match makes {
        Makes::Svg => Ok(svg::drawing(&seed, (side(size.0), side(size.1)))),
        _ => png::draw(seed, size).await,
    }
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn error(status: StatusCode, code: &str, text: &str) -> Response {
    answer::json(status, &json!({ "code": code, "message": text }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "recraft: bad request");
    error(StatusCode::BAD_REQUEST, "invalid_request_parameter", &complaint.text)
}

/// How Recraft says no, as far as anybody could tell; how it refuses a content, nobody could.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(_) => {
            error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "too many requests")
        }
        Trouble::Quota(_) => error(StatusCode::PAYMENT_REQUIRED, "not_enough_credits", "not enough credits"),
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "unauthorized", "invalid api token"),
        Trouble::BadInput(_) | Trouble::Refused => {
            error(StatusCode::BAD_REQUEST, "invalid_request_parameter", "invalid request")
        }
        Trouble::Broken(status) => error(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "internal_error",
            "internal server error",
        ),
        Trouble::Missing => error(StatusCode::NOT_FOUND, "not_found", "not found"),
    }
}
