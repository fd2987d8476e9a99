//! Google Veo on the Gemini API: films from text or from their first and last frame, as operations that are asked after.
//!
//! After a lost answer the adapter gives up: Google takes no name of ours and lists no operations, and a second film of
//! eight seconds costs up to 3.20 USD, so a failed job (nothing charged) is better than two bills ("maybe never"). An
//! operation that is done may hold a film, an error, or neither: a film that was filtered leaves only its count. The film is at
//! an address that wants our key and sends on to another; the key goes to Google's hosts alone.
//! Not confirmed by anybody: that filtered films are not billed, and that films stay for two days. Deliberately absent:
//! reference pictures, extending a film, and cancelling, which Google does not offer for these operations.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, ErrorClass, InputFile, Pending, Provider,
    ProviderError, Step, Vendor, gemini,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, is_id},
};

/// How it is configured: with the key and the address of Gemini.
pub const VENDOR: Vendor = Vendor {
    name: "veo",
    key_variables: &["GEMINI_API_KEY"],
    base_variable: "GEMINI_BASE_URL",
    base_url: "https://generativelanguage.googleapis.com/v1beta",
    simulator_path: "veo/v1beta",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &[
        "that 1080p needs eight seconds",
        "that filtered films are not billed",
        "how long a film stays at its address",
    ],
    adapter: |http, base_url| Arc::new(Veo::new(http, base_url)),
};

/// When to look for an operation; Google's examples look every 10–20 s.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The header that carries the key.
const KEY_HEADER: &str = "x-goog-api-key";

/// What the hosts of Google's interfaces end with.
const GOOGLES_HOSTS: &str = ".googleapis.com";

/// The adapter for Veo.
#[derive(Debug)]
pub struct Veo {
    http: reqwest::Client,
    base_url: String,
}

impl Veo {
    /// An adapter that calls `base_url` (with its version).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Answer, ProviderError> {
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.header(KEY_HEADER, key.expose_secret()).timeout(timeout);
        let answer = http::send(request, stake, MAX_JSON_BYTES).await?;
        match answer.status.as_u16() {
            200..=299 => Ok(answer),
            // Google's own side ran out of time, so the operation may exist.
            504 => Err(answer.nonsense("a timeout of the vendor's own")),
            _ => Err(gemini::fault(&answer)),
        }
    }

    /// What a finished operation means.
    fn finished(&self, operation: Operation, key: &SecretString) -> Result<Artifacts, ProviderError> {
        if let Some(error) = operation.error {
            return Err(verdict(&error));
        }
        let made = operation.response.unwrap_or_default().generate_video_response.unwrap_or_default();
        let films = made.generated_samples.into_iter().filter_map(|sample| sample.video?.uri);
        let files: Vec<_> = films.filter(|uri| !uri.is_empty()).map(|uri| self.film(uri, key)).collect();
        if !files.is_empty() {
            return Ok(Artifacts { files, ..Artifacts::default() });
        }
        if made.rai_media_filtered_count > 0 || !made.rai_media_filtered_reasons.is_empty() {
            let reasons = http::quote(&made.rai_media_filtered_reasons.join("; "));
            return Err(ProviderError::new(ErrorClass::Refused, format!("the film was filtered: {reasons}")));
        }
        Err(ProviderError::new(ErrorClass::Broken, "the operation is done without a film"))
    }

    /// The film at an address, with our key where that is one of Google's or the one we call anyway.
    fn film(&self, uri: String, key: &SecretString) -> Artifact {
        let host = |url: &str| Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let is_googles = Url::parse(&uri).is_ok_and(|url| {
            url.scheme() == "https" && url.host_str().is_some_and(|host| host.ends_with(GOOGLES_HOSTS))
        });
        let headers = if is_googles || host(&uri) == host(&self.base_url) {
            vec![(KEY_HEADER.to_owned(), key.expose_secret().to_owned())]
        } else {
            Vec::new()
        };
        Artifact::Remote { url: uri, headers }
    }
}

#[async_trait]
impl Provider for Veo {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let url = format!("{}/models/{}:predictLongRunning", self.base_url, call.upstream_model);
        let request = self.http.post(url).json(&request(call)?);
        let answer = self.send(&call.key, request, Stake::Submit).await?;
        let operation: Operation = answer.json()?;
        match operation.name.as_deref() {
            // It becomes the path that is asked.
            Some(name) if name.split('/').all(is_id) => Ok(pending(name)),
            _ => Err(answer.nonsense("accepted without the name of an operation")),
        }
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let url = format!("{}/{provider_ref}", self.base_url);
        let operation: Operation = self.send(&call.key, self.http.get(url), Stake::Ask).await?.json()?;
        if !operation.done {
            return Ok(pending(provider_ref));
        }
        self.finished(operation, &call.key).map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/models", self.base_url));
        self.send(key, request, Stake::Ask).await.map(|_| Some(Checkup::default()))
    }
}

fn pending(name: &str) -> Step {
    let (provider_ref, phase) = (name.to_owned(), "generating at provider".to_owned());
    Step::Pending(Pending { provider_ref, look_again: LOOK_AGAIN, progress: None, phase })
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let bad = |why: String| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(format!("veo is not wired for {}", call.task)));
    }
    let prompt = call.text("prompt").ok_or_else(|| bad("a film needs a prompt".to_owned()))?;
    let mut instance = json!({"prompt": prompt});
    for (field, theirs) in [("image", "image"), ("end_image", "lastFrame")] {
        if let Some(file) = call.file(field) {
            instance[theirs] = picture(file);
        }
    }
    let mut parameters = Map::new();
    for (field, theirs) in [
        ("aspect_ratio", "aspectRatio"),
        ("seconds", "durationSeconds"),
        ("resolution", "resolution"),
        ("negative_prompt", "negativePrompt"),
    ] {
        if let Some(value) = call.input.get(field).filter(|value| !value.is_null()) {
            parameters.insert(theirs.to_owned(), value.clone());
        }
    }
    let mut body = json!({"instances": [instance], "parameters": parameters});
    if let Some(callback) = &call.callback_url {
        body["webhookConfig"] = json!({"uris": [callback]});
    }
    Ok(body)
}

fn picture(file: &InputFile) -> Value {
    json!({"bytesBase64Encoded": BASE64_STANDARD.encode(&file.bytes), "mimeType": file.mime_type})
}

#[derive(Debug, Default, Deserialize)]
struct Operation {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    response: Option<Made>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    /// A number of gRPC.
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    #[serde(default)]
    generate_video_response: Option<Films>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Films {
    #[serde(default)]
    generated_samples: Vec<Sample>,
    #[serde(default)]
    rai_media_filtered_count: u32,
    #[serde(default)]
    rai_media_filtered_reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    #[serde(default)]
    video: Option<Film>,
}

#[derive(Debug, Deserialize)]
struct Film {
    #[serde(default)]
    uri: Option<String>,
}

/// The verdict of an operation that ended in an error. That the policy stopped it is told only by the words.
fn verdict(error: &Failure) -> ProviderError {
    let words = error.message.to_ascii_lowercase();
    let is_refused =
        ["usage guidelines", "policies", "safety", "sensitive"].iter().any(|phrase| words.contains(phrase));
    let class = if is_refused { ErrorClass::Refused } else { ErrorClass::Failed };
    ProviderError::new(
        class,
        format!("the operation failed: code {} {}", error.code, http::quote(&error.message)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veo() -> Veo {
        Veo::new(reqwest::Client::builder().build().unwrap(), VENDOR.base_url.to_owned())
    }

    fn file(field: &str) -> InputFile {
        InputFile { field: field.to_owned(), mime_type: "image/png".to_owned(), bytes: vec![1; 3].into() }
    }

    #[test]
    fn inputs_become_veo_requests() {
        let input = json!({"prompt": "a fox", "seconds": 8, "aspect_ratio": "9:16", "resolution": "720p",
                           "negative_prompt": "rain"});
        let mut call = Call::new("video.generate", "veo", input, "job_1-1")
            .with_files(vec![file("image"), file("end_image")]);
        call.callback_url = Some("https://kiln.example/hook".to_owned());
        let picture = json!({"bytesBase64Encoded": "AQEB", "mimeType": "image/png"});
        let expected = json!({
            "instances": [{"prompt": "a fox", "image": picture, "lastFrame": picture}],
            "parameters": {"aspectRatio": "9:16", "durationSeconds": 8, "resolution": "720p", "negativePrompt": "rain"},
            "webhookConfig": {"uris": ["https://kiln.example/hook"]},
        });
        assert_eq!(request(&call).unwrap(), expected);
        let bare = Call::new("video.generate", "veo", json!({"prompt": "a fox"}), "job_1-1");
        assert_eq!(request(&bare).unwrap(), json!({"instances": [{"prompt": "a fox"}], "parameters": {}}));
        let empty = Call::new("video.generate", "veo", json!({}), "job_1-1");
        assert_eq!(request(&empty).unwrap_err().class, ErrorClass::BadInput);
    }

    fn check(operation: Value, expected: Result<usize, ErrorClass>) {
        let found = veo().finished(serde_json::from_value(operation.clone()).unwrap(), &"key".into());
        assert_eq!(found.map(|made| made.files.len()).map_err(|error| error.class), expected, "{operation}");
    }

    #[test]
    fn a_finished_operation_is_judged_by_what_is_in_it() {
        let films = |films: Value| json!({"done": true, "response": {"generateVideoResponse": films}});
        check(films(json!({"generatedSamples": [{"video": {"uri": "https://x/1"}}]})), Ok(1));
        check(films(json!({"generatedSamples": [{"video": {"uri": ""}}]})), Err(ErrorClass::Broken));
        check(films(json!({"generatedSamples": [{}]})), Err(ErrorClass::Broken));
        check(films(json!({"raiMediaFilteredCount": 1})), Err(ErrorClass::Refused));
        check(films(json!({"raiMediaFilteredReasons": ["a child"]})), Err(ErrorClass::Refused));
        check(films(json!({})), Err(ErrorClass::Broken));
        check(json!({"done": true}), Err(ErrorClass::Broken));
        let error = |message: &str| json!({"done": true, "error": {"code": 3, "message": message}});
        check(error("the prompt violates our usage guidelines"), Err(ErrorClass::Refused));
        check(error("internal"), Err(ErrorClass::Failed));
    }

    #[test]
    fn the_key_goes_to_google_alone() {
        let gets_key = |uri: &str| {
            let Artifact::Remote { headers, .. } = veo().film(uri.to_owned(), &"key".into()) else {
                panic!("a film is fetched")
            };
            !headers.is_empty()
        };
        assert!(gets_key("https://generativelanguage.googleapis.com/v1beta/files/x:download?alt=media"));
        assert!(gets_key("https://storage.googleapis.com/x"));
        assert!(!gets_key("https://storage.example.com/x"));
        assert!(!gets_key("https://evilgoogleapis.com/x"));
        assert!(!gets_key("http://storage.googleapis.com/x"));
    }
}
