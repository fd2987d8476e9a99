//! MiniMax video, version 2: content is a list, a task carries its URL, and one that waits can be cancelled.
//!
//! Errors are put as in version 1, for lack of a better source, and a callback is the task as its query shows it. Reference pictures, films and sounds are absent.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use super::{complain, refuse_key, reply, success, voice};
use crate::{
    Sim, Simulator, answer, callback,
    content::mp4,
    fields::{Complaint, Fields, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Task},
};

/// The paths it answers at.
pub(super) fn routes() -> Router<Sim> {
    Router::new()
        .route("/minimax/v2/video_generation", post(submit))
        .route("/minimax/v2/video_generation/{id}", delete(cancel))
        .route("/minimax/v2/query/video_generation/{id}", get(query))
}

/// The name of this version's work in the account book.
const CALL: &str = "video_generation_v2";
/// What a cancelled task says of its end.
const CANCELLED: &str = "cancelled";
/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 7000;

/// A video order, understood.
struct Order {
    prompt: String,
    frame: (u16, u16),
    seconds: u16,
    callback_url: Option<String>,
}

/// Takes a new task.
pub(crate) async fn submit(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Minimax, Op::Submit, CALL, &order.prompt, None);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, order.frame, order.seconds);
        if sim.tasks.add(task.clone()).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&task.id));
        if let Some(url) = order.callback_url {
            let root = answer::root_url(&headers);
            callback::when_final(&sim, &task, url, move |task| ring(task, &root));
        }
        success(json!({ "task_id": task.id }))
    };
    sim.attend(&visit, voice, work).await
}

/// Tells how a task is doing.
pub(crate) async fn query(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = find(&sim, &id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.report_v2(&visit, &task, &root)).await
}

fn find(sim: &Sim, id: &str) -> Option<Task> {
    sim.tasks.find(Provider::Minimax, id).filter(|task| task.call == CALL)
}

/// Cancels a task that nobody has begun, or deletes one that is over.
pub(crate) async fn cancel(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = find(&sim, &id) else { return voice(&Trouble::Missing) };
    // Until it was first asked after, a task counts as waiting.
    let cancelled = sim.tasks.update(&task.id, |task| {
        let waits = task.ending.is_none() && task.polls == 0;
        if waits {
            task.ending = Some(Ending::Failed);
            task.failure = Some(CANCELLED.to_owned());
        }
        waits
    });
    if cancelled.await == Some(true) {
        success(json!({ "task_id": id, "action": "cancel", "status": CANCELLED }))
    } else {
        reply(json!({}), 2013, "invalid params, the task cannot be cancelled now")
    }
}

/// The callback of a final task.
fn ring(task: &Task, root: &str) -> callback::Ring {
    let body = match task.ending {
        Some(Ending::Succeeded) => finished(task, task.issued, root),
        Some(Ending::Refused) => failed(task, 1027, SENSITIVE),
        _ => failed(task, 1000, FAILED),
    };
    callback::Ring { headers: Vec::new(), body }
}

/// What MiniMax says of a task that it could not do, and of one that it would not.
const FAILED: &str = "generation failed";
const SENSITIVE: &str = "output new_sensitive";

impl Simulator {
    async fn report_v2(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        success(match self.look(visit, &task.id).await {
            Sight::Missing => return voice(&Trouble::Missing),
            Sight::Waiting => show(task, "queued"),
            Sight::Working => show(task, "running"),
            Sight::Unknown => show(task, "reticulating"),
            Sight::Failed(why) if why.as_deref() == Some(CANCELLED) => show(task, CANCELLED),
            Sight::Failed(code) => {
                failed(task, code.and_then(|code| code.parse().ok()).unwrap_or(1000), FAILED)
            }
            Sight::Refused => failed(task, 1027, SENSITIVE),
            Sight::Hollow => show(task, "succeeded"),
            Sight::Succeeded { issue } => finished(task, issue, root),
        })
    }
}

/// A task in a state, without its video.
fn show(task: &Task, status: &str) -> Value {
    json!({ "task": { "id": task.id, "model": "MiniMax-H3", "status": status } })
}

fn finished(task: &Task, issue: u32, root: &str) -> Value {
    let mut shown = show(task, "succeeded");
    shown["task"]["content"] = json!({ "url": files::url(root, task, issue) });
    shown["task"]["usage"] = json!({ "total_seconds": task.seconds, "output_seconds": task.seconds });
    shown
}

fn failed(task: &Task, code: u32, text: &str) -> Value {
    let mut shown = show(task, "failed");
    shown["task"]["error"] = json!({ "code": code, "message": text });
    shown
}

impl Order {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&[
            "model",
            "content",
            "resolution",
            "duration",
            "ratio",
            "callback_url",
            "aigc_watermark",
        ])?;
        if fields.choice("model", &["MiniMax-H3"])?.is_none() {
            return Err(Complaint::of("model", "model is required"));
        }
        let lines = if fields.choice("resolution", &["768P", "2K"])? == Some("2K") { 1440 } else { 768 };
        let callback_url = fields.optional_text("callback_url", 2048)?.map(str::to_owned);
        fields.flag("aigc_watermark")?;
        let seconds = fields.integer("duration", 4..=15)?.unwrap_or(5);
        let ratios = ["adaptive", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16"];
        let ratio = fields.choice("ratio", &ratios)?.filter(|ratio| *ratio != "adaptive");
        let mut prompt = None;
        let mut roles = Vec::new();
        for item in fields.list("content")? {
            let item = Fields::of(item, "content")?;
            match item.choice("type", &["text", "image_url"])? {
                Some("image_url") => roles.push(read_picture(&item)?),
                _ if prompt.is_some() => return Err(Complaint::of("content", "there must be one text")),
                _ => {
                    item.only(&["type", "text"])?;
                    prompt = Some(item.text("text", PROMPT_CHARS_MAX)?.to_owned());
                }
            }
        }
        let Some(prompt) = prompt else { return Err(Complaint::of("content", "a text is required")) };
        if roles.is_empty() && ratio.is_none() {
            return Err(Complaint::of("ratio", "ratio is required for a video from text"));
        }
        let (width, height) = ratio.and_then(|ratio| ratio.split_once(':')).unwrap_or(("16", "9"));
        Ok(Self {
            prompt,
            frame: mp4::frame_of(width.parse().unwrap_or(16), height.parse().unwrap_or(9), lines),
            seconds: u16::try_from(seconds).unwrap_or(5),
            callback_url,
        })
    }
}

/// The role of a picture; a second one in the same role is let pass.
fn read_picture(item: &Fields<'_>) -> Result<String, Complaint> {
    item.only(&["type", "image_url", "role"])?;
    let Some(role) = item.choice("role", &["first_frame", "last_frame"])? else {
        return Err(Complaint::of("role", "role is required"));
    };
    let Some(image) = item.get("image_url") else {
        return Err(Complaint::of("image_url", "image_url is required"));
    };
    let url = Fields::of(image, "image_url")?.text("url", usize::MAX)?;
    let is_picture = ["http://", "https://", "data:image/"].iter().any(|start| url.starts_with(start));
    if is_picture {
        Ok(role.to_owned())
    } else {
        Err(Complaint::of("image_url", "it must be a URL or a data URL"))
    }
}
