//! Kling: videos from text or a first frame, effects with people in pictures, and pictures, as tasks that are asked after.
//!
//! Every submit carries our own name of the attempt as `external_task_id`, which Kling keeps unique and lets us look
//! up: so after a lost answer we look, and never pay twice. Status words we do not know mean "still at work", never
//! success. What a request is made of is in `order.rs`. Deliberately absent: lip-sync, and cancelling, which Kling does
//! not offer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, ErrorClass, Pending, Provider, ProviderError, Step,
    Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, is_id},
};
use order::Kind;

mod order;

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
    unverified: &[
        "what lengths and ratios each model takes",
        "the fields of a request for a picture, and that its task is found by our name",
        "that the fields of an effect belong into its `input`",
        "the prices",
    ],
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

/// How far back the question for an account's costs looks: a day. It only has to be some time.
const COSTS_SPAN_MS: u64 = 86_400_000;

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
    /// What it was signed with: an access key may get another secret.
    secret_key: SecretString,
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
        let lasts = |token: &&Token| {
            token.secret_key.expose_secret() == secret_key && token.expires_at > now + TOKEN_MARGIN_SECS
        };
        if let Some(token) = kept.get(access_key).filter(lasts) {
            return Ok(token.word.clone());
        }
        let iss = access_key.to_owned();
        let claims = Claims { iss, exp: now + TOKEN_SECS, nbf: now - TOKEN_BACKDATE_SECS };
        let key = EncodingKey::from_secret(secret_key.as_bytes());
        let word: SecretString = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .map_err(|error| ProviderError::new(ErrorClass::Auth, format!("cannot sign a token: {error}")))?
            .into();
        let token = Token { secret_key: secret_key.into(), word: word.clone(), expires_at: claims.exp };
        kept.insert(access_key.to_owned(), token);
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

    async fn ask(&self, key: &SecretString, kind: Kind, id: &str) -> Result<Answer, ProviderError> {
        let url = format!("{}/v1/{}/{id}", self.base_url, kind.path());
        self.send(key, self.http.get(url), Stake::Ask).await
    }

    /// Our own task as Kling sees it. An answer about another one says nothing of ours, least of all where its film is.
    async fn look(&self, call: &Call, kind: Kind, id: &str) -> Result<Step, ProviderError> {
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
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::Lookup
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let kind = Kind::of(call);
        let body = order::request(kind, call)?;
        let url = format!("{}/v1/{}", self.base_url, kind.path());
        let answer = self.send(&call.key, self.http.post(url).json(&body), Stake::Submit).await?;
        step(kind, read(&answer, Stake::Submit)?)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let parts = provider_ref.split_once('/').and_then(|(word, id)| Some((Kind::parse(word)?, id)));
        let (kind, id) = parts.ok_or_else(|| {
            ProviderError::new(ErrorClass::Broken, format!("{provider_ref:?} is no reference of kling"))
        })?;
        self.look(call, kind, id).await
    }

    async fn lookup(&self, call: &Call) -> Result<Option<Step>, ProviderError> {
        let kind = Kind::of(call);
        let answer = self.ask(&call.key, kind, &call.client_ref).await?;
        if says_never_seen(&answer) {
            return Ok(None);
        }
        step(kind, read(&answer, Stake::Ask)?).map(Some)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        // What the account's packs have left is told for a time, in milliseconds; that we are answered is all we ask for.
        let now = jsonwebtoken::get_current_timestamp() * 1000;
        let url =
            format!("{}/account/costs?start_time={}&end_time={now}", self.base_url, now - COSTS_SPAN_MS);
        let answer = self.send(key, self.http.get(url), Stake::Ask).await?;
        envelope(&answer, Stake::Ask).map(|_| Some(Checkup::default()))
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
    videos: Vec<Made>,
    #[serde(default)]
    images: Vec<Made>,
}

#[derive(Debug, Deserialize)]
struct Made {
    #[serde(default)]
    url: String,
}

/// The task in an answer.
fn read(answer: &Answer, stake: Stake) -> Result<Task, ProviderError> {
    let task =
        serde_json::from_value(envelope(answer, stake)?).ok().filter(|task: &Task| is_id(&task.task_id));
    task.ok_or_else(|| answer.nonsense("the answer holds no task"))
}

/// What an answer is about. Kling's code decides, whatever the status: a 200 may carry an error.
fn envelope(answer: &Answer, stake: Stake) -> Result<Value, ProviderError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        if answer.status.is_success() {
            return Err(answer.nonsense("an answer without Kling's shape"));
        }
        return Err(answer.error(answer.class(), "an error without Kling's shape"));
    };
    if envelope.code != 0 || !answer.status.is_success() {
        if stake == Stake::Submit && envelope.data["task_id"].as_str().is_some_and(is_id) {
            return Err(answer.nonsense("an error that names a task"));
        }
        let class = class_of(envelope.code, stake).unwrap_or_else(|| {
            if answer.status.is_success() { ErrorClass::Unavailable } else { answer.class() }
        });
        return Err(answer.error(class, &format!("code {}: {}", envelope.code, envelope.message)));
    }
    Ok(envelope.data)
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
fn step(kind: Kind, task: Task) -> Result<Step, ProviderError> {
    let pending = |phase: &str, look_again| {
        let provider_ref = format!("{}/{}", kind.word(), task.task_id);
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
    let TaskResult { videos, images } = task.task_result.unwrap_or_default();
    let files: Vec<_> = videos
        .into_iter()
        .chain(images)
        .filter(|made| !made.url.is_empty())
        .map(|made| Artifact::Remote { url: made.url, headers: Vec::new() })
        .collect();
    if files.is_empty() {
        return Err(ProviderError::new(ErrorClass::Broken, "the task succeeded without a file"));
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
        let found = match step(Kind::Text, serde_json::from_value(task.clone()).unwrap()) {
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
        let pictures = json!({"images": [{"index": 0, "url": "https://x/0.png"}, {"index": 1, "url": "https://x/1.png"}]});
        check_state(json!({"task_id": "7", "task_status": "succeed", "task_result": pictures}), "2 files");
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
        let rotated = kling.token(&"access:other".into(), now).unwrap();
        assert_ne!(rotated.expose_secret(), first, "another secret signs anew");

        let mut rules = Validation::new(Algorithm::HS256);
        rules.validate_nbf = true;
        let verifying = DecodingKey::from_secret(b"secret");
        let claims = jsonwebtoken::decode::<Claims>(&first, &verifying, &rules).unwrap().claims;
        assert_eq!(claims, Claims { iss: "access".to_owned(), exp: now + 1800, nbf: now - 5 });
        assert!(!format!("{kling:?}").contains(&first));
    }
}
