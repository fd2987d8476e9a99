//! Suno by a relay of new-api's kind: a word as code, two songs a task, no callbacks.
//!
//! A 200 may carry an error; other statuses always do. The status words are the relay's own, not Suno's.

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
    fields::{Complaint, Fields, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Makes, Task},
    vendors::openai::WRONG_KEY,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  Suno     POST /suno/suno/submit/music    GET /suno/suno/fetch/ID          (a relay of new-api's kind)
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new().route("/suno/suno/submit/music", post(submit)).route("/suno/suno/fetch/{id}", get(fetch))
}

/// The longest text that is read.
const TEXT_CHARS_MAX: usize = 5000;
/// How long a song is; real ones have minutes.
pub(crate) const SONG_SECONDS: u16 = 4;
/// How many songs a task makes.
pub(crate) const SONGS: u32 = 2;

/// Takes a new task.
async fn submit(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let prompt = match read_json(&headers, &body).and_then(|body| read(&body)) {
        Ok(prompt) => prompt,
        Err(complaint) => {
            tracing::warn!(complaint = complaint.text, "suno: bad request");
            return error(StatusCode::BAD_REQUEST, "invalid_request", &complaint.text);
        }
    };
    let visit = Visit::new(Provider::Suno, Op::Submit, "MUSIC", &prompt, None);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, (16, 16), SONG_SECONDS).making(Makes::Mp3);
        let id = task.id.clone();
        if sim.tasks.add(task).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&id));
        success(&json!(id))
    };
    sim.attend(&visit, voice, work).await
}

/// The words of a request: a description, or lyrics.
fn read(body: &Value) -> Result<String, Complaint> {
    let fields = Fields::of(body, "body")?;
    fields.only(&[
        "gpt_description_prompt",
        "prompt",
        "mv",
        "title",
        "tags",
        "make_instrumental",
        "continue_at",
        "continue_clip_id",
        "task_id",
    ])?;
    let model = fields.optional_text("mv", 64)?.unwrap_or("chirp-v3-0");
    if !model.starts_with("chirp-") {
        return Err(Complaint::of("mv", format!("unknown model {model}")));
    }
    fields.optional_text("title", TEXT_CHARS_MAX)?;
    fields.optional_text("tags", TEXT_CHARS_MAX)?;
    fields.flag("make_instrumental")?;
    let both = fields.get("gpt_description_prompt").is_some() && fields.get("prompt").is_some();
    if both {
        return Err(Complaint::of("prompt", "a description and lyrics exclude each other"));
    }
    let name = if fields.get("prompt").is_some() { "prompt" } else { "gpt_description_prompt" };
    fields.text(name, TEXT_CHARS_MAX).map(str::to_owned)
}

/// Tells how a task is doing.
async fn fetch(State(sim): State<Sim>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = sim.tasks.find(Provider::Suno, &id) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show_relayed(&visit, &task, &root)).await
}

impl Simulator {
    async fn show_relayed(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        let shown = |status: &str, progress: &str, why: &str, clips: Value| {
            success(&json!({
                "task_id": task.id, "action": "MUSIC", "status": status, "fail_reason": why, "progress": progress,
                "submit_time": task.created_ms / 1000, "start_time": task.created_ms / 1000, "finish_time": 0,
                "data": clips,
            }))
        };
        match self.look(visit, &task.id).await {
            Sight::Missing => voice(&Trouble::Missing),
            Sight::Waiting if task.polls == 0 => shown("SUBMITTED", "0%", "", Value::Null),
            Sight::Waiting => shown("QUEUED", "20%", "", Value::Null),
            Sight::Working => shown("IN_PROGRESS", "50%", "", clips(task, "", "streaming")),
            Sight::Unknown => shown("RETICULATING", "50%", "", Value::Null),
            Sight::Failed(why) => {
                shown("FAILURE", "100%", why.as_deref().unwrap_or("internal error"), Value::Null)
            }
            Sight::Refused => {
                let why = "song description flagged for moderation";
                shown("FAILURE", "100%", why, Value::Null)
            }
            Sight::Hollow => shown("SUCCESS", "100%", "", clips(task, "", "complete")),
            Sight::Succeeded { issue } => {
                let task = Task { issued: issue, ..task.clone() };
                shown("SUCCESS", "100%", "", clips(&task, root, "complete"))
            }
        }
    }
}

/// The songs of a task; without a root they have no address yet.
fn clips(task: &Task, root: &str, status: &str) -> Value {
    let clip = |n: u32| {
        let audio = if root.is_empty() { String::new() } else { files::nth_url(root, task, task.issued, n) };
        json!({
            "id": format!("{}-{n}", task.id), "video_url": "", "audio_url": audio,
            "image_url": format!("https://cdn.example/{}-{n}.jpeg", task.id), "image_large_url": "",
            "major_model_version": "v3", "model_name": "chirp-v3", "status": status, "text": "",
            "title": format!("Song {}", task.seed(n).name()),
            "metadata": {
                "tags": "folk", "prompt": format!("la la {}", task.prompt), "duration": f64::from(task.seconds),
                "error_type": null, "error_message": null,
            },
        })
    };
    Value::Array((0..SONGS).map(clip).collect())
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn success(data: &Value) -> Response {
    answer::json(StatusCode::OK, &json!({ "code": "success", "message": "", "data": data }))
}

fn error(status: StatusCode, code: &str, text: &str) -> Response {
    answer::json(status, &json!({ "code": code, "message": text, "data": null }))
}

/// How the relay says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit", "too many requests");
            match hint.seconds() {
                Some(seconds) => answer::with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(_) => error(StatusCode::FORBIDDEN, "quota_not_enough", "quota is not enough"),
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "invalid_token", "the token is not valid"),
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, "invalid_request", "the request is not valid"),
        Trouble::Refused => error(StatusCode::BAD_REQUEST, "invalid_request", "the prompt is sensitive"),
        Trouble::Broken(status) => {
            error(status.unwrap_or(StatusCode::OK), "upstream_error", "the upstream has failed")
        }
        Trouble::Missing => error(StatusCode::NOT_FOUND, "task_not_exist", "there is no such task"),
    }
}
