//! Suno by sunoapi.org: a number as code under a status that is mostly 200, two songs a task, a callback that must be given.
//!
//! The callback is posted once, when the task is final, and in snake_case, where the question is answered in camelCase.

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

use super::suno::{SONG_SECONDS, SONGS};
use crate::{
    Sim, Simulator, answer, callback,
    fields::{Complaint, Fields, read_json},
    files,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    progress::Sight,
    task::{Ending, Makes, Task},
    vendors::openai::WRONG_KEY,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  sunoapi  POST /sunoapi/api/v1/generate
           GET  /sunoapi/api/v1/generate/record-info?taskId=ID | /sunoapi/api/v1/generate/credit
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/sunoapi/api/v1/generate", post(submit))
        .route("/sunoapi/api/v1/generate/record-info", get(query))
        .route("/sunoapi/api/v1/generate/credit", get(credit))
}

const MODELS: &[&str] = &["V4", "V4_5", "V4_5PLUS", "V4_5ALL", "V5", "V5_5"];
/// The vendor's limits: of a description, and of lyrics, style and title at the oldest model and at the others.
const DESCRIPTION_CHARS_MAX: usize = 500;
const LYRICS_CHARS_MAX: (usize, usize) = (3000, 5000);
const STYLE_CHARS_MAX: (usize, usize) = (200, 1000);
const TITLE_CHARS_MAX: (usize, usize) = (80, 100);
/// Addresses that never lead anywhere end so (RFC 6761, 6.4); nobody is looked for there.
const NOWHERE: &str = ".invalid/";
/// What is left on the account.
const CREDITS: i64 = 1234;

/// Which task is meant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskQuery {
    task_id: Option<String>,
}

/// A request, understood.
struct Order {
    prompt: String,
    callback: String,
}

/// Takes a new task.
async fn submit(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(&body)) {
        Ok(order) => order,
        Err(complaint) => {
            tracing::warn!(complaint = complaint.text, "sunoapi: bad request");
            return reply(400, &complaint.text, &Value::Null);
        }
    };
    let visit = Visit::new(Provider::Sunoapi, Op::Submit, "generate", &order.prompt, None);
    let root = answer::root_url(&headers);
    let work = async {
        let task = Task::new(sim.tasks.next_id(), &visit, (16, 16), SONG_SECONDS).making(Makes::Mp3);
        if sim.tasks.add(task.clone()).await.is_err() {
            return voice(&Trouble::Broken(None));
        }
        sim.accept(&visit, Some(&task.id));
        if !order.callback.ends_with(NOWHERE) {
            callback::when_final(&sim, &task, order.callback.clone(), move |task| ring(task, &root));
        }
        reply(200, "success", &json!({ "taskId": task.id }))
    };
    sim.attend(&visit, voice, work).await
}

impl Order {
    fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&[
            "customMode",
            "instrumental",
            "model",
            "callBackUrl",
            "prompt",
            "style",
            "title",
            "negativeTags",
            "vocalGender",
            "styleWeight",
            "weirdnessConstraint",
            "audioWeight",
            "personaId",
        ])?;
        let needed = |name: &str| Complaint::of(name, format!("{name} cannot be empty"));
        let is_custom = fields.flag("customMode")?.ok_or_else(|| needed("customMode"))?;
        let is_instrumental = fields.flag("instrumental")?.ok_or_else(|| needed("instrumental"))?;
        let model = fields.choice("model", MODELS)?.ok_or_else(|| needed("model"))?;
        let callback = fields.text("callBackUrl", 2048)?.to_owned();
        let limit = |(oldest, others)| if model == "V4" { oldest } else { others };
        if !is_custom {
            for name in ["style", "title"] {
                if fields.get(name).is_some() {
                    return Err(Complaint::of(name, format!("{name} belongs to the custom mode")));
                }
            }
            let prompt = fields.text("prompt", DESCRIPTION_CHARS_MAX)?.to_owned();
            return Ok(Self { prompt, callback });
        }
        let style = fields.text("style", limit(STYLE_CHARS_MAX))?;
        let title = fields.text("title", limit(TITLE_CHARS_MAX))?;
        let lyrics = match is_instrumental {
            true => fields.optional_text("prompt", limit(LYRICS_CHARS_MAX))?,
            false => Some(fields.text("prompt", limit(LYRICS_CHARS_MAX))?),
        };
        let prompt = lyrics.map_or_else(|| format!("{title} {style}"), |lyrics| format!("{lyrics} {style}"));
        Ok(Self { prompt, callback })
    }
}

/// Tells how a task is doing.
async fn query(State(sim): State<Sim>, Query(query): Query<TaskQuery>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let Some(task) = query.task_id.and_then(|id| sim.tasks.find(Provider::Sunoapi, &id)) else {
        return voice(&Trouble::Missing);
    };
    let visit = task.visit(Op::Poll);
    let root = answer::root_url(&headers);
    sim.attend(&visit, voice, sim.show_record(&visit, &task, &root)).await
}

/// Tells what is left on the account.
async fn credit(headers: HeaderMap) -> Response {
    refuse_key(&headers).unwrap_or_else(|| reply(200, "success", &json!(CREDITS)))
}

impl Simulator {
    async fn show_record(&self, visit: &Visit, task: &Task, root: &str) -> Response {
        let shown = |status: &str, songs: Value| {
            let response = json!({ "taskId": task.id, "sunoData": songs });
            reply(
                200,
                "success",
                &json!({
                    "taskId": task.id, "status": status, "response": response, "type": "chirp-v5",
                    "errorCode": null, "errorMessage": null,
                }),
            )
        };
        match self.look(visit, &task.id).await {
            Sight::Missing => voice(&Trouble::Missing),
            Sight::Waiting => shown("PENDING", Value::Null),
            Sight::Working => shown("FIRST_SUCCESS", songs(task, "", Case::Camel)),
            Sight::Unknown => shown("RETICULATING", Value::Null),
            Sight::Failed(word) => shown(word.as_deref().unwrap_or("GENERATE_AUDIO_FAILED"), Value::Null),
            Sight::Refused => shown("SENSITIVE_WORD_ERROR", Value::Null),
            Sight::Hollow => shown("SUCCESS", songs(task, "", Case::Camel)),
            Sight::Succeeded { issue } => {
                let task = Task { issued: issue, ..task.clone() };
                shown("SUCCESS", songs(&task, root, Case::Camel))
            }
        }
    }
}

/// How fields are written.
#[derive(Clone, Copy)]
enum Case {
    Camel,
    Snake,
}

/// The songs of a task; without a root they can only be streamed yet.
fn songs(task: &Task, root: &str, case: Case) -> Value {
    let song = |n: u32| {
        let audio = if root.is_empty() { String::new() } else { files::nth_url(root, task, task.issued, n) };
        let (stream, image) =
            (format!("https://cdn.example/{n}.mp3"), format!("https://cdn.example/{}-{n}.jpeg", task.id));
        let (id, title) = (format!("{}-{n}", task.id), format!("Song {}", task.seed(n).name()));
        let lyrics = format!("la la {}", task.prompt);
        match case {
            Case::Camel => json!({
                "id": id, "audioUrl": audio, "streamAudioUrl": stream, "imageUrl": image, "prompt": lyrics,
                "modelName": "chirp-v5", "title": title, "tags": "folk", "createTime": task.created_ms,
                "duration": f64::from(task.seconds),
            }),
            Case::Snake => json!({
                "id": id, "audio_url": audio, "source_audio_url": audio, "stream_audio_url": stream, "image_url": image,
                "prompt": lyrics, "model_name": "chirp-v5", "title": title, "tags": "folk",
                "createTime": task.created_ms, "duration": f64::from(task.seconds),
            }),
        }
    };
    Value::Array((0..SONGS).map(song).collect())
}

/// The callback of a task that is over.
fn ring(task: &Task, root: &str) -> callback::Ring {
    let (code, kind, data) = match task.ending {
        Some(Ending::Succeeded) => (200, "complete", songs(task, root, Case::Snake)),
        _ => (400, "error", json!([])),
    };
    let data = json!({ "callbackType": kind, "task_id": task.id, "data": data });
    callback::Ring { headers: Vec::new(), body: json!({ "code": code, "msg": kind, "data": data }) }
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match answer::bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

fn reply(code: u16, text: &str, data: &Value) -> Response {
    answer::json(StatusCode::OK, &json!({ "code": code, "msg": text, "data": data }))
}

/// How the vendor says no.
fn voice(trouble: &Trouble) -> Response {
    let say = |code, text| reply(code, text, &Value::Null);
    match trouble {
        Trouble::RateLimited(_) => say(430, "your call frequency is too high"),
        Trouble::Quota(_) => say(429, "the current credits are insufficient"),
        Trouble::Auth => say(401, "you do not have access permissions"),
        Trouble::BadInput(_) | Trouble::Refused => say(400, "invalid parameters"),
        Trouble::Broken(status) => {
            let mut response = say(500, "server exception");
            *response.status_mut() = status.unwrap_or(StatusCode::OK);
            response
        }
        Trouble::Missing => say(404, "record not found"),
    }
}
