//! Suno by sunoapi.org: `/api/v1/generate`, `/api/v1/generate/record-info`.
//!
//! Most answers are a 200, and the number in them decides. It will not begin without an address to call back, and says of a
//! task whose callback was not heard that it failed, though the songs may be there; so that word alone is no verdict. Where
//! nobody shall be called, it is given an address that cannot exist.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{SUBMIT_TIMEOUT, Track, Wish, made, pending};
use crate::providers::{
    AfterAmbiguity, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, is_id},
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "sunoapi",
    key_variables: &["SUNOAPI_API_KEY"],
    base_variable: "SUNOAPI_BASE_URL",
    base_url: "https://api.sunoapi.org",
    simulator_path: "sunoapi",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &[
        "that a callback address which cannot be reached does no harm to a task",
        "where the words that were sung stand in an answer",
        "whether files are kept for 14 or 15 days",
        "prices",
    ],
    adapter: |http, base_url| Arc::new(SunoApi::new(http, base_url)),
};

/// An address that never leads anywhere (RFC 6761, 6.4), for a field that must not be empty.
const NOBODY: &str = "https://nobody.invalid/";

/// Longest title that every model takes, in characters.
const TITLE_CHARS_MAX: usize = 80;

/// The adapter for sunoapi.org.
#[derive(Debug)]
pub struct SunoApi {
    http: reqwest::Client,
    base_url: String,
}

impl SunoApi {
    /// An adapter that calls `base_url` (without `/api/v1`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Value, ProviderError> {
        let timeout = if stake == Stake::Submit { SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        read(&http::send(request, stake, MAX_JSON_BYTES).await?, stake)
    }
}

#[async_trait]
impl Provider for SunoApi {
    fn name(&self) -> &'static str {
        "sunoapi"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.http.post(format!("{}/api/v1/generate", self.base_url)).json(&request(call)?);
        let taken = self.send(&call.key, request, Stake::Submit).await?;
        match taken["taskId"].as_str() {
            Some(id) if is_id(id) => Ok(pending(id, true, None)),
            _ => Err(ProviderError::new(ErrorClass::Ambiguous, "accepted without a task id")),
        }
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let address = format!("{}/api/v1/generate/record-info", self.base_url);
        let unavailable = |why: String| ProviderError::new(ErrorClass::Unavailable, why);
        let url = Url::parse_with_params(&address, [("taskId", provider_ref)])
            .map_err(|error| unavailable(format!("sunoapi's address: {error}")))?;
        let task: Task = serde_json::from_value(self.send(&call.key, self.http.get(url), Stake::Ask).await?)
            .map_err(|_| unavailable("the answer holds no task".to_owned()))?;
        step(provider_ref, task)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/api/v1/generate/credit", self.base_url));
        let left = self.send(key, request, Stake::Ask).await?;
        let amount = left.as_i64().map(Decimal::from);
        Ok(Some(Checkup { credit: amount.map(|amount| Credit { amount, unit: "credits".to_owned() }) }))
    }
}

/// Longest description of a song, and longest style of one with lyrics, as the vendor counts them.
const ABOUT_CHARS_MAX: usize = 500;
const STYLE_CHARS_MAX: usize = 1000;

/// With lyrics, or a style for a piece that nobody sings, every part is told by itself; else everything is in one description.
fn request(call: &Call) -> Result<Value, ProviderError> {
    let wish = Wish::of(call)?;
    let mut body = json!({
        "model": call.upstream_model, "instrumental": wish.is_instrumental,
        "callBackUrl": call.callback_url.as_deref().unwrap_or(NOBODY),
    });
    let is_custom = wish.lyrics.is_some() || (wish.is_instrumental && wish.style.is_some());
    body["customMode"] = json!(is_custom);
    if !is_custom {
        let about = wish.about.unwrap_or_default();
        let about = wish.style.map_or_else(|| about.to_owned(), |style| format!("{about}, {style}"));
        within(&about, ABOUT_CHARS_MAX, "prompt and style")?;
        body["prompt"] = json!(about);
        return Ok(body);
    }
    let style = wish.style_and_subject();
    let style = style.ok_or_else(|| {
        ProviderError::new(ErrorClass::BadInput, "beside lyrics it wants a style or a prompt")
    })?;
    within(&style, STYLE_CHARS_MAX, "style and prompt")?;
    body["style"] = json!(style);
    body["title"] = json!(wish.title.map_or_else(|| title_of(&wish), str::to_owned));
    if let Some(lyrics) = wish.lyrics {
        body["prompt"] = json!(lyrics);
    }
    Ok(body)
}

/// What the vendor takes is said before it is asked.
fn within(text: &str, most: usize, what: &str) -> Result<(), ProviderError> {
    if text.chars().count() <= most {
        return Ok(());
    }
    let why = format!("{what} have more than {most} characters together");
    Err(ProviderError::new(ErrorClass::BadInput, why))
}

/// The first line of what is sung, or else of what it is about.
fn title_of(wish: &Wish<'_>) -> String {
    let text = wish.lyrics.or(wish.about).unwrap_or_default();
    text.trim().lines().next().unwrap_or_default().chars().take(TITLE_CHARS_MAX).collect()
}

#[derive(Debug, Deserialize)]
struct Envelope {
    code: i64,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    data: Value,
}

/// The data of an answer whose code is 200.
fn read(answer: &Answer, stake: Stake) -> Result<Value, ProviderError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        if answer.status.is_success() {
            return Err(answer.nonsense("an answer without the vendor's shape"));
        }
        return Err(answer.error(answer.class(), "an error without the vendor's shape"));
    };
    if answer.status.is_success() && envelope.code == 200 {
        return Ok(envelope.data);
    }
    let words = format!("code {}: {}", envelope.code, envelope.msg.unwrap_or_default());
    Err(answer.error(class_of(envelope.code, stake).unwrap_or_else(|| answer.class()), &words))
}

fn class_of(code: i64, stake: Stake) -> Option<ErrorClass> {
    match code {
        // 413 is a prompt that is too long.
        400 | 413 => Some(ErrorClass::BadInput),
        401 => Some(ErrorClass::Auth),
        404 if stake == Stake::Submit => Some(ErrorClass::Auth),
        // 455 is maintenance; a task that is not there may be a store that lags behind.
        404 | 455 | 500 => Some(ErrorClass::Unavailable),
        405 | 430 => Some(ErrorClass::RateLimited),
        // Unlike everywhere else: no credits left.
        429 => Some(ErrorClass::Quota),
        // Good, under a status that is not: let that decide.
        200 => None,
        _ => Some(ErrorClass::Unavailable),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    status: String,
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    error_message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    suno_data: Option<Vec<Song>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Song {
    #[serde(default)]
    audio_url: Option<String>,
    #[serde(default)]
    image_url: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    tags: Option<String>,
}

/// What a task's state means for the job.
fn step(provider_ref: &str, task: Task) -> Result<Step, ProviderError> {
    let songs = task.response.unwrap_or_default().suno_data.unwrap_or_default();
    let tracks: Vec<Track> = songs.into_iter().map(Track::from).collect();
    let failed = |class| {
        let why = task.error_message.unwrap_or_default();
        Err(ProviderError::new(class, format!("the task failed: {}", http::quote(&why))))
    };
    match task.status.as_str() {
        "PENDING" => Ok(pending(provider_ref, true, None)),
        "SUCCESS" => made(tracks).map(Step::Done),
        "CREATE_TASK_FAILED" | "GENERATE_AUDIO_FAILED" => failed(ErrorClass::Failed),
        "SENSITIVE_WORD_ERROR" => failed(ErrorClass::Refused),
        // Only the callback is known to have failed: with all songs there it is done, and otherwise perhaps at work.
        "CALLBACK_EXCEPTION" if !tracks.is_empty() && tracks.iter().all(Track::is_there) => {
            made(tracks).map(Step::Done)
        }
        _ => Ok(pending(provider_ref, false, None)),
    }
}

impl From<Song> for Track {
    fn from(song: Song) -> Self {
        Self {
            audio_url: song.audio_url,
            title: song.title,
            lyrics: song.prompt,
            style: song.tags,
            cover_url: song.image_url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(input: Value) -> Result<Value, ErrorClass> {
        request(&Call::new("audio.music", "V5", input, "job_1-1")).map_err(|error| error.class)
    }

    fn check_request(input: Value, mut expected: Value) {
        expected["model"] = json!("V5");
        expected["callBackUrl"] = json!(NOBODY);
        assert_eq!(ordered(input), Ok(expected));
    }

    #[test]
    fn inputs_become_the_vendors_requests() {
        check_request(
            json!({ "prompt": "a fox" }),
            json!({ "customMode": false, "instrumental": false, "prompt": "a fox" }),
        );
        check_request(
            json!({ "prompt": "a fox", "style": "folk", "title": "Fox" }),
            json!({ "customMode": false, "instrumental": false, "prompt": "a fox, folk" }),
        );
        check_request(
            json!({ "prompt": "a fox", "style": "folk", "instrumental": true }),
            json!({ "customMode": true, "instrumental": true, "style": "folk, a fox", "title": "a fox" }),
        );
        check_request(
            json!({ "lyrics": "\nla la\nlo", "style": "folk" }),
            json!({ "customMode": true, "instrumental": false, "style": "folk", "title": "la la", "prompt": "\nla la\nlo" }),
        );
        assert_eq!(ordered(json!({ "lyrics": "la la" })), Err(ErrorClass::BadInput));
        let mut ringing = Call::new("audio.music", "V5", json!({ "prompt": "a fox" }), "job_1-1");
        ringing.callback_url = Some("https://kiln.example/ring".into());
        assert_eq!(request(&ringing).unwrap()["callBackUrl"], "https://kiln.example/ring");
    }

    #[test]
    fn codes_become_classes() {
        let check = |status, code: i64, expected| {
            let body = json!({ "code": code, "msg": "x", "data": null }).to_string();
            let answer = Answer::told(status, &body, Stake::Submit);
            assert_eq!(
                read(&answer, Stake::Submit).map_err(|error| error.class),
                expected,
                "{status} {code}"
            );
        };
        check(200, 200, Ok(Value::Null));
        check(200, 400, Err(ErrorClass::BadInput));
        check(200, 401, Err(ErrorClass::Auth));
        check(200, 404, Err(ErrorClass::Auth));
        check(405, 405, Err(ErrorClass::RateLimited));
        check(200, 413, Err(ErrorClass::BadInput));
        check(429, 429, Err(ErrorClass::Quota));
        check(200, 430, Err(ErrorClass::RateLimited));
        check(200, 455, Err(ErrorClass::Unavailable));
        check(200, 500, Err(ErrorClass::Unavailable));
        check(503, 200, Err(ErrorClass::Unavailable));
        assert_eq!(class_of(404, Stake::Ask), Some(ErrorClass::Unavailable));
        let page = Answer::told(200, "<html>", Stake::Submit);
        assert_eq!(read(&page, Stake::Submit).unwrap_err().class, ErrorClass::Ambiguous);
    }

    /// The state of a task in one word: phase, the number of its files, or the class of its failure.
    fn check_state(status: &str, songs: Value, expected: &str) {
        let task =
            json!({ "taskId": "7", "status": status, "response": { "sunoData": songs }, "errorCode": null });
        let found = match step("7", serde_json::from_value(task).unwrap()) {
            Ok(Step::Pending(pending)) => pending.phase,
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{status} {songs}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        let song = |url: &str| json!({ "audioUrl": url, "streamAudioUrl": "https://x/stream" });
        let both = || json!([song("https://x/1.mp3"), song("https://x/2.mp3")]);
        let one = || json!([song("https://x/1.mp3"), song("")]);
        check_state("PENDING", Value::Null, "queued at provider");
        check_state("TEXT_SUCCESS", one(), "generating at provider");
        check_state("FIRST_SUCCESS", one(), "generating at provider");
        check_state("RETICULATING", both(), "generating at provider");
        check_state("SUCCESS", both(), "2 files");
        check_state("SUCCESS", json!([]), "Broken");
        check_state("CREATE_TASK_FAILED", Value::Null, "Failed");
        check_state("GENERATE_AUDIO_FAILED", both(), "Failed");
        check_state("SENSITIVE_WORD_ERROR", Value::Null, "Refused");
        check_state("CALLBACK_EXCEPTION", both(), "2 files");
        check_state("CALLBACK_EXCEPTION", one(), "generating at provider");
        check_state("CALLBACK_EXCEPTION", Value::Null, "generating at provider");
    }
}
