//! OpenAI's videos, as relays still speak them: a task, and its content at the same place behind the same key.
//!
//! A request is JSON, or a form where there is a first frame. Answers about a task that is not over say when to ask again.
//! The list is always empty. Remixes, edits, extensions and deleting are absent.

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest as _, Multipart, Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{complain, identified, refuse_key, voice};
use crate::{
    Sim, Simulator, answer,
    fields::{Complaint, Fields, read_json},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Task},
};

/// The paths it answers at.
pub(super) fn routes() -> Router<Sim> {
    Router::new()
        .route("/openai/v1/videos", post(create).get(list))
        .route("/openai/v1/videos/{id}", get(retrieve))
        .route("/openai/v1/videos/{id}/content", get(content))
}

/// When to ask again, in milliseconds.
const POLL_AFTER_MS: &str = "3000";
/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 32_000;
/// What the id of every video begins with.
const ID_START: &str = "video_";

/// A video to be made, understood.
struct Order {
    prompt: String,
    frame: (u16, u16),
    seconds: u16,
}

/// Which file of a video is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct Variant {
    variant: Option<String>,
}

/// The list of videos, which holds none.
pub(crate) async fn list(headers: HeaderMap) -> Response {
    let empty = json!({ "object": "list", "data": [], "has_more": false });
    refuse_key(&headers).unwrap_or_else(|| answer::json(StatusCode::OK, &empty))
}

/// Takes a new video.
pub(crate) async fn create(State(sim): State<Sim>, headers: HeaderMap, request: Request) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = match read(&headers, request).await.and_then(|body| Order::read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Openai, Op::Submit, "videos", &order.prompt, None).lasting(true);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, order.frame, order.seconds);
        let shown = show(&task, "queued", 0);
        let id = task.id.clone();
        if sim.tasks.add(task).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&id));
        waiting(&shown, &id)
    };
    sim.attend(&visit, voice, work).await
}

/// The fields of a request, whether it is JSON or a form; of a file only that it is there.
async fn read(headers: &HeaderMap, request: Request) -> Result<Value, Complaint> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.starts_with("multipart/form-data") {
        let body = Bytes::from_request(request, &()).await;
        return read_json(headers, &body.map_err(|_| Complaint::general("the body cannot be read"))?);
    }
    let torn = |_| Complaint::general("the form cannot be read");
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| Complaint::general("no form"))?;
    let mut fields = Map::new();
    while let Some(part) = form.next_field().await.map_err(torn)? {
        let name = part.name().unwrap_or_default().to_owned();
        let is_file = part.file_name().is_some();
        let bytes = part.bytes().await.map_err(torn)?;
        if is_file && image::guess_format(&bytes).is_err() {
            return Err(Complaint::of(&name, "the file is not an image"));
        }
        let value =
            if is_file { json!({ "file": bytes.len() }) } else { json!(String::from_utf8_lossy(&bytes)) };
        fields.insert(name, value);
    }
    Ok(fields.into())
}

/// Tells how a video is doing.
pub(crate) async fn retrieve(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = find(&sim, &id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    sim.attend(&visit, voice, sim.video(&visit, &task)).await
}

fn find(sim: &Sim, id: &str) -> Option<Task> {
    let number = id.strip_prefix(ID_START)?;
    sim.tasks.find(Provider::Openai, number).filter(|task| task.call == "videos")
}

/// The film itself.
pub(crate) async fn content(
    State(sim): State<Sim>,
    Path(id): Path<String>,
    Query(Variant { variant }): Query<Variant>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    if variant.is_some_and(|variant| variant != "video") {
        return complain(&Complaint::of("variant", "only the video is kept"));
    }
    let task = find(&sim, &id).filter(|task| task.ending == Some(Ending::Succeeded));
    let Some(task) = task else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Download);
    let work = sim.hand_out(&visit, &task, 0, task.issued);
    sim.attend(&visit, voice, work).await
}

impl Simulator {
    async fn video(&self, visit: &Visit, task: &Task) -> Response {
        let id = &task.id;
        let failed = |code: &str, text: &str| {
            let mut shown = show(task, "failed", 100);
            shown["error"] = json!({ "code": code, "message": text });
            answer::json(StatusCode::OK, &shown)
        };
        match self.look(visit, id).await {
            Sight::Missing => voice(&Trouble::Missing),
            Sight::Waiting => waiting(&show(task, "queued", 0), id),
            Sight::Working => waiting(&show(task, "in_progress", 50), id),
            Sight::Unknown => waiting(&show(task, "reticulating", 50), id),
            Sight::Failed(why) => failed("video_generation_failed", why.as_deref().unwrap_or("It failed.")),
            Sight::Refused => {
                failed("moderation_blocked", "Your request was blocked by our moderation system.")
            }
            // A video that is complete has no URL in it: that its content is missing shows when it is fetched.
            Sight::Hollow | Sight::Succeeded { .. } => {
                let mut shown = show(task, "completed", 100);
                shown["completed_at"] = json!(task.updated_ms / 1000);
                shown["expires_at"] = json!(task.updated_ms / 1000 + 3600);
                answer::json(StatusCode::OK, &shown)
            }
        }
    }
}

/// An answer about a task that is not over.
fn waiting(shown: &Value, id: &str) -> Response {
    let response = identified(answer::json(StatusCode::OK, shown), &format!("req_{id}"));
    answer::with_header(response, "openai-poll-after-ms", POLL_AFTER_MS)
}

fn show(task: &Task, status: &str, progress: u8) -> Value {
    let size = format!("{}x{}", task.frame.0, task.frame.1);
    json!({
        "id": format!("{ID_START}{}", task.id), "object": "video", "model": "sora-2", "status": status,
        "progress": progress, "created_at": task.created_ms / 1000, "completed_at": null, "expires_at": null,
        "seconds": task.seconds.to_string(), "size": size, "prompt": task.prompt,
        "remixed_from_video_id": null, "error": null,
    })
}

impl Order {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&["prompt", "model", "seconds", "size", "input_reference"])?;
        let model = fields.choice("model", &["sora-2", "sora-2-pro"])?.unwrap_or("sora-2");
        let sizes: &[&str] = if model == "sora-2" {
            &["720x1280", "1280x720"]
        } else {
            &["720x1280", "1280x720", "1024x1792", "1792x1024"]
        };
        let frame = match fields.choice("size", sizes)? {
            Some("1280x720") => (1280, 720),
            Some("1792x1024") => (1792, 1024),
            Some("1024x1792") => (1024, 1792),
            _ => (720, 1280),
        };
        let seconds = fields.choice("seconds", &["4", "8", "12"])?.unwrap_or("4");
        Ok(Self {
            prompt: fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned(),
            frame,
            seconds: seconds.parse().unwrap_or(4),
        })
    }
}
