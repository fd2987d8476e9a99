//! MiniMax Hailuo video, version 1: submit, poll until there is a file id, then ask where the file is. Version 2 is in `v2.rs`.
//!
//! HTTP is 200 whatever happens; the truth is in `base_resp`. Only a fault that names a status, or stands for a
//! proxy, answers otherwise. A film has the shape of its first frame. A callback says how a task ended, in a word of its own.

mod v2;

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, callback,
    content::mp4,
    fault::Kind,
    fields::{Complaint, Fields, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    picture,
    progress::Sight,
    task::{Ending, Task},
    vendors::openai::WRONG_KEY,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  MiniMax  POST /minimax/v1/video_generation
           GET  /minimax/v1/query/video_generation?task_id=ID
           GET  /minimax/v1/files/retrieve?file_id=ID
           POST /minimax/v2/video_generation           DELETE /minimax/v2/video_generation/ID
           GET  /minimax/v2/query/video_generation/ID
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/minimax/v1/video_generation", post(submit))
        .route("/minimax/v1/query/video_generation", get(query))
        .route("/minimax/v1/files/retrieve", get(retrieve))
        .merge(v2::routes())
}

const MODELS: &[&str] = &[
    "MiniMax-Hailuo-2.3",
    "MiniMax-Hailuo-2.3-Fast",
    "MiniMax-Hailuo-02",
    "T2V-01",
    "T2V-01-Director",
    "I2V-01",
    "I2V-01-Director",
    "I2V-01-live",
    "S2V-01",
];
/// Models that cannot start without a picture.
const PICTURE_MODELS: &[&str] = &["MiniMax-Hailuo-2.3-Fast", "I2V-01", "I2V-01-Director", "I2V-01-live"];
/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 2000;
/// The vendor's limit for a first frame.
const PICTURE_BYTES_MAX: usize = 20 * 1024 * 1024;
/// The name of this version's work in the account book.
const CALL: &str = "video_generation";
/// A file's id is its task's id further up, so that neither is taken for the other.
const FILE_ID_OFFSET: u64 = 2_000_000_000_000_000;

/// Which task is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskQuery {
    task_id: Option<String>,
}

/// Which file is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct FileQuery {
    file_id: Option<String>,
}

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
            callback::when_final(&sim, &task, url, ring);
        }
        success(json!({ "task_id": task.id }))
    };
    sim.attend(&visit, voice, work).await
}

/// The callback of a final task.
fn ring(task: &Task) -> callback::Ring {
    let body = if callback::succeeded(task) {
        json!({ "task_id": task.id, "status": "success", "file_id": file_id(task).to_string() })
    } else {
        json!({ "task_id": task.id, "status": "failed", "file_id": "" })
    };
    callback::Ring { headers: Vec::new(), body }
}

/// Tells how a task is doing.
pub(crate) async fn query(
    State(sim): State<Sim>,
    Query(query): Query<TaskQuery>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let task = query.task_id.and_then(|id| sim.tasks.find(Provider::Minimax, &id));
    let Some(task) = task.filter(|task| task.call == CALL) else { return voice(&Trouble::Missing) };
    let visit = task.visit(Op::Poll);
    sim.attend(&visit, voice, sim.report(&visit, &task)).await
}

/// Tells where a finished task's file is.
pub(crate) async fn retrieve(
    State(sim): State<Sim>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let file_id = query.file_id.and_then(|id| id.parse::<u64>().ok());
    let task_id = file_id.and_then(|id| id.checked_sub(FILE_ID_OFFSET));
    let task = task_id.and_then(|id| sim.tasks.find(Provider::Minimax, &id.to_string()));
    let Some(task) = task.filter(|task| task.ending == Some(Ending::Succeeded)) else {
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::File);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.locate(&visit, &task, &root)).await
}

impl Simulator {
    async fn report(&self, visit: &Visit, task: &Task) -> Response {
        let status = |word: &str| success(json!({ "task_id": task.id, "status": word, "file_id": "" }));
        match self.look(visit, &task.id).await {
            Sight::Missing => voice(&Trouble::Missing),
            Sight::Waiting if task.polls == 0 => status("Preparing"),
            Sight::Waiting => status("Queueing"),
            Sight::Working => status("Processing"),
            Sight::Unknown => status("Reticulating"),
            Sight::Hollow => status("Success"),
            Sight::Failed(code) => {
                let code = code.and_then(|code| code.parse().ok()).unwrap_or_default();
                let text = if code == 0 { "success" } else { "generation failed" };
                reply(json!({ "task_id": task.id, "status": "Fail", "file_id": "" }), code, text)
            }
            Sight::Refused => {
                let body = json!({ "task_id": task.id, "status": "Fail", "file_id": "" });
                reply(body, 1027, "output new_sensitive")
            }
            Sight::Succeeded { .. } => success(json!({
                "task_id": task.id, "status": "Success", "file_id": file_id(task).to_string(),
                "video_width": task.frame.0, "video_height": task.frame.1,
            })),
        }
    }

    async fn locate(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        let seen = self.tasks.update(&task.id, |task| {
            if self.strike(visit, Kind::Purged).is_some() || self.strikes(visit, task, Kind::Missing, Some(1))
            {
                return None;
            }
            task.issued += 1;
            Some(task.issued)
        });
        let Some(issue) = seen.await.flatten() else { return voice(&Trouble::Missing) };
        if self.strike(visit, Kind::NoResult).is_some() {
            return success(json!({ "file": { "file_id": file_id(task), "download_url": "" } }));
        }
        let Ok(video) = mp4::video(&task.seed(0), task.frame, task.seconds) else {
            return voice(&Trouble::Broken(None));
        };
        let url = files::url(root, task, issue);
        success(json!({ "file": {
            "file_id": file_id(task), "bytes": video.len(), "created_at": task.updated_ms / 1000,
            "filename": "output_aigc.mp4", "purpose": "video_generation",
            "download_url": url, "backup_download_url": url,
        }}))
    }
}

impl Order {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        let Some(model) = fields.choice("model", MODELS)? else {
            return Err(Complaint::of("model", "model is required"));
        };
        fields.flag("prompt_optimizer")?;
        fields.flag("fast_pretreatment")?;
        fields.flag("aigc_watermark")?;
        let callback_url = fields.optional_text("callback_url", 2048)?.map(str::to_owned);
        let first_frame = match fields.get("first_frame_image") {
            Some(_) => Some(picture::size(&fields, "first_frame_image", PICTURE_BYTES_MAX)?),
            None => None,
        };
        if first_frame.is_none() && PICTURE_MODELS.contains(&model) {
            return Err(Complaint::of("first_frame_image", format!("{model} needs first_frame_image")));
        }
        let prompt = match fields.optional_text("prompt", PROMPT_CHARS_MAX)? {
            None if first_frame.is_some() => "",
            _ => fields.text("prompt", PROMPT_CHARS_MAX)?,
        };
        let seconds = match fields.integer("duration", 6..=10)? {
            None | Some(6) => 6,
            Some(10) => 10,
            Some(other) => {
                return Err(Complaint::of("duration", format!("duration must be 6 or 10, got {other}")));
            }
        };
        let lines = match fields.choice("resolution", &["512P", "720P", "768P", "1080P"])? {
            Some("1080P") if seconds == 10 => {
                return Err(Complaint::of("resolution", "1080P does not support a duration of 10 seconds"));
            }
            named => named.and_then(|named| named.trim_end_matches('P').parse().ok()).unwrap_or(768),
        };
        let (width, height) = first_frame.unwrap_or((16, 9));
        let frame = mp4::frame_of(width.into(), height.into(), lines);
        Ok(Self { prompt: prompt.to_owned(), frame, seconds, callback_url })
    }
}

fn file_id(task: &Task) -> u64 {
    FILE_ID_OFFSET + task.id.parse::<u64>().unwrap_or_default()
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None => {
            let text = "login fail: Please carry the API secret key in the 'Authorization' field of the request header";
            Some(reply(json!({}), 1004, text))
        }
        Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn success(body: Value) -> Response {
    reply(body, 0, "success")
}

fn reply(mut body: Value, code: u32, text: &str) -> Response {
    body["base_resp"] = json!({ "status_code": code, "status_msg": text });
    answer::json(StatusCode::OK, &body)
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "minimax: bad request");
    reply(json!({}), 2013, &format!("invalid params, {}", complaint.text))
}

/// How MiniMax says no.
fn voice(trouble: &Trouble) -> Response {
    let say = |code, text| reply(json!({}), code, text);
    match trouble {
        Trouble::RateLimited(_) => say(1002, "rate limit exceeded"),
        Trouble::Quota(_) => say(1008, "insufficient balance"),
        Trouble::Auth => say(2049, "invalid api key"),
        Trouble::BadInput(_) => say(2013, "invalid params"),
        Trouble::Refused => say(1026, "input new_sensitive"),
        Trouble::Broken(status) => {
            let mut response = say(1000, "unknown error");
            *response.status_mut() = status.unwrap_or(StatusCode::OK);
            response
        }
        Trouble::Missing => say(2013, "invalid params, not exist"),
    }
}
