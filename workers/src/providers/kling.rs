//! Kling: videos from text or a first frame, as tasks that are asked after.
//!
//! Every submit carries our own name of the attempt as `external_task_id`, which Kling keeps unique and lets us look
//! up: so after a lost answer we look, and never pay twice. Status words we do not know mean "still at work", never
//! success. Deliberately absent: callbacks (unsigned, so only ever a hint), effects, lip-sync, and cancelling, which
//! Kling does not offer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, is_id},
};

/// How it is configured. The address is that outside China.
pub const VENDOR: Vendor = Vendor {
    name: "kling",
    key_variables: &["KLING_ACCESS_KEY", "KLING_SECRET_KEY"],
    base_variable: "KLING_BASE_URL",
    base_url: "https://api-singapore.klingai.com",
    simulator_path: "kling",
    simulated_key: "simulator:simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &["what lengths and ratios each model takes"],
    adapter: |http, base_url| Arc::new(Kling::new(http, base_url)),
};

/// How long a token of ours is valid, as Kling's examples have it.
const TOKEN_SECS: u64 = 1800;

/// How far back a token begins to be valid, for clocks that run behind ours; from the same examples.
const TOKEN_BACKDATE_SECS: u64 = 5;

/// A token is renewed this long before it ends, well over the longest request.
const TOKEN_MARGIN_SECS: u64 = 300;

/// When to look for a task that waits in Kling's queue.
const LOOK_QUEUED: Duration = Duration::from_secs(5);

/// When to look for a task that is being worked on; videos take 30–300 s.
const LOOK_WORKING: Duration = Duration::from_secs(10);

/// Kling's code for "no such resource": the model of a submit, the task of a question.
const CODE_NOT_FOUND: i64 = 1203;

/// The adapter for Kling.
#[derive(Debug)]
pub struct Kling {
    http: reqwest::Client,
    base_url: String,
    /// By access key.
    tokens: Mutex<HashMap<String, Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    word: SecretString,
    expires_at: u64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Claims {
    iss: String,
    exp: u64,
    nbf: u64,
}

impl Kling {
    /// An adapter that calls `base_url` (without `/v1`) with tokens made from access key and secret key.
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url), tokens: Mutex::default() }
    }

    /// The token in use for a key, or a new one when that is about to end.
    fn token(&self, key: &SecretString, now: u64) -> Result<SecretString, ProviderError> {
        let Some((access_key, secret_key)) = key.expose_secret().split_once(':') else {
            return Err(ProviderError::new(ErrorClass::Auth, "the key is not of the form access:secret"));
        };
        let mut kept = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = kept.get(access_key).filter(|token| token.expires_at > now + TOKEN_MARGIN_SECS) {
            return Ok(token.word.clone());
        }
        let iss = access_key.to_owned();
        let claims = Claims { iss, exp: now + TOKEN_SECS, nbf: now - TOKEN_BACKDATE_SECS };
        let key = EncodingKey::from_secret(secret_key.as_bytes());
        let word: SecretString = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .map_err(|error| ProviderError::new(ErrorClass::Auth, format!("cannot sign a token: {error}")))?
            .into();
        kept.insert(access_key.to_owned(), Token { word: word.clone(), expires_at: claims.exp });
        Ok(word)
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Answer, ProviderError> {
        // Real time, whatever clock the jobs go by: the vendor compares it with its own.
        let token = self.token(key, jsonwebtoken::get_current_timestamp())?;
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(token.expose_secret()).timeout(timeout);
        http::send(request, stake, MAX_JSON_BYTES).await
    }

    async fn ask(&self, key: &SecretString, kind: &str, id: &str) -> Result<Answer, ProviderError> {
        self.send(key, self.http.get(format!("{}/v1/videos/{kind}/{id}", self.base_url)), Stake::Ask).await
    }

    /// Our own task as Kling sees it. An answer about another one says nothing of ours, least of all where its film is.
    async fn look(&self, call: &Call, kind: &str, id: &str) -> Result<Step, ProviderError> {
        let answer = self.ask(&call.key, kind, id).await?;
        let task = read(&answer, Stake::Ask)?;
        if task.task_id != id {
            return Err(answer.nonsense("an answer about another task"));
        }
        step(kind, task)
    }
}

#[async_trait]
impl Provider for Kling {
    fn name(&self) -> &'static str {
        "kling"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::Lookup
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let kind = kind_of(call);
        let body = request(call)?;
        let url = format!("{}/v1/videos/{kind}", self.base_url);
        let answer = self.send(&call.key, self.http.post(url).json(&body), Stake::Submit).await?;
        step(kind, read(&answer, Stake::Submit)?)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let (kind, id) = provider_ref.split_once('/').ok_or_else(|| {
            ProviderError::new(ErrorClass::Broken, format!("{provider_ref:?} is no reference of kling"))
        })?;
        self.look(call, kind, id).await
    }

    async fn lookup(&self, call: &Call) -> Result<Option<Step>, ProviderError> {
        let kind = kind_of(call);
        let answer = self.ask(&call.key, kind, &call.client_ref).await?;
        if says_never_seen(&answer) {
            return Ok(None);
        }
        step(kind, read(&answer, Stake::Ask)?).map(Some)
    }
}

/// The path that the call takes; it is part of every reference, because Kling's tasks live under it. Decided by the input
/// and not by the fetched file, which a lookup does not have.
fn kind_of(call: &Call) -> &'static str {
    if call.input.get("image").is_some() { "image2video" } else { "text2video" }
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(&format!("kling is not wired for {}", call.task)));
    }
    let image = call.file("image");
    if image.is_none() && call.text("prompt").is_none() {
        return Err(bad("a video needs a prompt or a first frame"));
    }

    let mut body = Map::from_iter([
        ("model_name".to_owned(), json!(call.upstream_model)),
        ("external_task_id".to_owned(), json!(call.client_ref)),
    ]);
    for field in ["prompt", "negative_prompt", "mode"] {
        if let Some(text) = call.text(field) {
            body.insert(field.to_owned(), json!(text));
        }
    }
    if let Some(seconds) = call.input.get("seconds").and_then(duration) {
        body.insert("duration".to_owned(), json!(seconds));
    }
    if call.input.get("audio") == Some(&Value::Bool(true)) {
        body.insert("sound".to_owned(), json!("on"));
    }
    if let Some(image) = image {
        // Bare base64: Kling refuses the `data:` prefix that everybody else wants. The shape follows the image.
        body.insert("image".to_owned(), json!(BASE64_STANDARD.encode(&image.bytes)));
        if let Some(tail) = call.file("end_image") {
            body.insert("image_tail".to_owned(), json!(BASE64_STANDARD.encode(&tail.bytes)));
        }
    } else if let Some(ratio) = call.text("aspect_ratio") {
        body.insert("aspect_ratio".to_owned(), json!(ratio));
    }
    Ok(body.into())
}

/// Kling wants the seconds as a string.
fn duration(seconds: &Value) -> Option<String> {
    match seconds {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Task {
    task_id: String,
    #[serde(default)]
    task_status: String,
    #[serde(default)]
    task_status_msg: Option<String>,
    #[serde(default)]
    task_result: Option<TaskResult>,
    #[serde(default)]
    final_unit_deduction: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct TaskResult {
    #[serde(default)]
    videos: Vec<Video>,
}

#[derive(Debug, Deserialize)]
struct Video {
    #[serde(default)]
    url: String,
}

/// The task in an answer. Kling's code decides, whatever the status: a 200 may carry an error.
fn read(answer: &Answer, stake: Stake) -> Result<Task, ProviderError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        if answer.status.is_success() {
            return Err(answer.nonsense("an answer without Kling's shape"));
        }
        return Err(answer.error(answer.class(), "an error without Kling's shape"));
    };
    let names_task = envelope.data["task_id"].as_str().is_some_and(is_id);
    if envelope.code != 0 || !answer.status.is_success() {
        if stake == Stake::Submit && names_task {
            return Err(answer.nonsense("an error that names a task"));
        }
        let class = class_of(envelope.code, stake).unwrap_or_else(|| {
            if answer.status.is_success() { ErrorClass::Unavailable } else { answer.class() }
        });
        return Err(answer.error(class, &format!("code {}: {}", envelope.code, envelope.message)));
    }
    let task = names_task.then(|| serde_json::from_value(envelope.data).ok()).flatten();
    task.ok_or_else(|| answer.nonsense("the answer holds no task"))
}

/// Whether Kling itself, and not a proxy before it, says that it knows no such task.
fn says_never_seen(answer: &Answer) -> bool {
    serde_json::from_slice::<Envelope>(&answer.body)
        .is_ok_and(|envelope| envelope.code == CODE_NOT_FOUND || answer.status.as_u16() == 404)
}

fn class_of(code: i64, stake: Stake) -> Option<ErrorClass> {
    match code {
        // 1103 is a missing right, 1304 an address that is not on the account's list.
        1000..=1004 | 1103 | 1304 => Some(ErrorClass::Auth),
        1100..=1102 => Some(ErrorClass::Quota),
        1200 | 1201 => Some(ErrorClass::BadInput),
        // A method or a model that is not there is our configuration's fault; a task that is not there may be
        // a store that lags behind.
        1202 | CODE_NOT_FOUND => match stake {
            Stake::Submit => Some(ErrorClass::Auth),
            Stake::Ask => Some(ErrorClass::Unavailable),
        },
        1300 | 1301 => Some(ErrorClass::Refused),
        1302 | 1303 => Some(ErrorClass::RateLimited),
        5000 | 5001 => Some(ErrorClass::Unavailable),
        // Kling's own side timed out, so the task may exist; looking it up costs nothing.
        5002 => Some(stake.unanswered()),
        _ => None,
    }
}

/// What a task's state means for the job.
fn step(kind: &str, task: Task) -> Result<Step, ProviderError> {
    let pending = |phase: &str, look_again| {
        let provider_ref = format!("{kind}/{}", task.task_id);
        Ok(Step::Pending(Pending { provider_ref, look_again, progress: None, phase: phase.to_owned() }))
    };
    match task.task_status.as_str() {
        "submitted" => pending("queued at provider", LOOK_QUEUED),
        "succeed" => finished(task).map(Step::Done),
        "failed" => {
            let why = task.task_status_msg.unwrap_or_default();
            Err(ProviderError::new(class_of_failure(&why), format!("the task failed: {}", http::quote(&why))))
        }
        _ => pending("generating at provider", LOOK_WORKING),
    }
}

fn finished(task: Task) -> Result<Artifacts, ProviderError> {
    let videos = task.task_result.unwrap_or_default().videos.into_iter();
    let files: Vec<_> = videos
        .filter(|video| !video.url.is_empty())
        .map(|video| Artifact::Remote { url: video.url, headers: Vec::new() })
        .collect();
    if files.is_empty() {
        return Err(ProviderError::new(ErrorClass::Broken, "the task succeeded without a video"));
    }
    let usage = task.final_unit_deduction.map(|units| json!({"final_unit_deduction": units}));
    Ok(Artifacts { files, usage, ..Artifacts::default() })
}

/// Kling tells a task that its moderation stopped only by the words of the message.
fn class_of_failure(why: &str) -> ErrorClass {
    let why = why.to_ascii_lowercase();
    let is_refused = ["risk control", "sensitive", "content policy"].iter().any(|words| why.contains(words));
    if is_refused { ErrorClass::Refused } else { ErrorClass::Failed }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::providers::InputFile;

    fn check_code(code: i64, stake: Stake, expected: Option<ErrorClass>) {
        assert_eq!(class_of(code, stake), expected, "{code} {stake:?}");
    }

    #[test]
    fn codes_become_classes() {
        check_code(1004, Stake::Submit, Some(ErrorClass::Auth));
        check_code(1102, Stake::Submit, Some(ErrorClass::Quota));
        check_code(1103, Stake::Submit, Some(ErrorClass::Auth));
        check_code(1201, Stake::Submit, Some(ErrorClass::BadInput));
        check_code(1203, Stake::Submit, Some(ErrorClass::Auth));
        check_code(1203, Stake::Ask, Some(ErrorClass::Unavailable));
        check_code(1301, Stake::Submit, Some(ErrorClass::Refused));
        check_code(1303, Stake::Submit, Some(ErrorClass::RateLimited));
        check_code(5001, Stake::Submit, Some(ErrorClass::Unavailable));
        check_code(5002, Stake::Submit, Some(ErrorClass::Ambiguous));
        check_code(5002, Stake::Ask, Some(ErrorClass::Unavailable));
        check_code(9999, Stake::Submit, None);
    }

    /// The state of a task in one word: its phase, the number of its files, or the class of its failure.
    fn check_state(task: Value, expected: &str) {
        let found = match step("text2video", serde_json::from_value(task.clone()).unwrap()) {
            Ok(Step::Pending(pending)) => format!("{} {}", pending.phase, pending.provider_ref),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{task}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        let task = |status: &str| json!({"task_id": "7", "task_status": status});
        check_state(task("submitted"), "queued at provider text2video/7");
        check_state(task("processing"), "generating at provider text2video/7");
        check_state(task("post_processing"), "generating at provider text2video/7");
        check_state(task(""), "generating at provider text2video/7");
        check_state(task("succeed"), "Broken");
        check_state(task("failed"), "Failed");
        let refused = "Failure to pass the risk control system";
        check_state(json!({"task_id": "7", "task_status": "failed", "task_status_msg": refused}), "Refused");
        let made = |url: &str| json!({"videos": [{"id": "1", "url": url, "duration": "5"}]});
        check_state(
            json!({"task_id": "7", "task_status": "succeed", "task_result": made("https://x/1.mp4")}),
            "1 files",
        );
        check_state(json!({"task_id": "7", "task_status": "succeed", "task_result": made("")}), "Broken");
    }

    fn call(input: Value, files: Vec<InputFile>) -> Call {
        Call::new("video.generate", "kling-v2-6", input, "job_1-1").with_files(files)
    }

    #[test]
    fn inputs_become_kling_requests() {
        let input = json!({"prompt": "a fox", "seconds": 5, "aspect_ratio": "16:9"});
        let text = call(input.clone(), Vec::new());
        let expected = json!({
            "model_name": "kling-v2-6", "external_task_id": "job_1-1", "prompt": "a fox", "duration": "5",
            "aspect_ratio": "16:9",
        });
        assert_eq!((kind_of(&text), request(&text).unwrap()), ("text2video", expected));

        let (field, mime_type) = ("image".to_owned(), "image/png".to_owned());
        let mut input = input;
        input["image"] = json!("https://example.com/fox.png");
        let image = call(input, vec![InputFile { field, mime_type, bytes: vec![1; 3].into() }]);
        let expected = json!({
            "model_name": "kling-v2-6", "external_task_id": "job_1-1", "prompt": "a fox", "duration": "5",
            "image": "AQEB",
        });
        assert_eq!((kind_of(&image), request(&image).unwrap()), ("image2video", expected));
    }

    #[test]
    fn a_token_is_kept_until_shortly_before_it_ends() {
        let kling = Kling::new(reqwest::Client::builder().build().unwrap(), VENDOR.base_url.to_owned());
        let key = "access:secret".into();
        let word = |now| kling.token(&key, now).unwrap().expose_secret().to_owned();
        let now = jsonwebtoken::get_current_timestamp();
        let first = word(now);
        assert_eq!(word(now + TOKEN_SECS - TOKEN_MARGIN_SECS - 1), first);
        assert_ne!(word(now + TOKEN_SECS - TOKEN_MARGIN_SECS), first);

        let mut rules = Validation::new(Algorithm::HS256);
        rules.validate_nbf = true;
        let verifying = DecodingKey::from_secret(b"secret");
        let claims = jsonwebtoken::decode::<Claims>(&first, &verifying, &rules).unwrap().claims;
        assert_eq!(claims, Claims { iss: "access".to_owned(), exp: now + 1800, nbf: now - 5 });
        assert!(!format!("{kling:?}").contains(&first));
    }
}
