//! Speech from text, and text from speech.
//!
//! Speech comes back as bare bytes without a word on usage; transcripts come as JSON or, for subtitles, as text.

use reqwest::{
    Body,
    header::CONTENT_TYPE,
    multipart::{Form, Part},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{OpenAi, fault};
use crate::{
    media,
    providers::{
        Artifact, Artifacts, Call, ErrorClass, ProviderError,
        http::{self, Answer, MAX_CHAT_BYTES, MAX_INLINE_BYTES, SPEECH_TIMEOUT, Stake, TRANSCRIBE_TIMEOUT},
    },
};

/// The voice of OpenAI's own examples, for callers who name none; the vendor demands one.
const DEFAULT_VOICE: &str = "alloy";

/// Has the text read aloud.
pub async fn speak(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let request = openai.post(call, "/audio/speech").timeout(SPEECH_TIMEOUT).json(&speech_request(call)?);
    let answer = http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?;
    if !answer.status.is_success() {
        return Err(fault(&answer));
    }
    let said = media_type(&answer);
    if said.starts_with("text/") || said.starts_with("application/json") {
        return Err(answer.nonsense(&format!("{said} in place of sound")));
    }
    if answer.body.is_empty() {
        return Err(answer.error(ErrorClass::Broken, "the speech is empty"));
    }
    Ok(Artifacts { files: vec![Artifact::Inline(answer.body)], ..Artifacts::default() })
}

fn speech_request(call: &Call) -> Result<Value, ProviderError> {
    let text =
        call.text("text").ok_or_else(|| ProviderError::new(ErrorClass::BadInput, "speech needs a text"))?;
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(call.upstream_model)),
        ("input".to_owned(), json!(text)),
        ("voice".to_owned(), json!(call.text("voice").unwrap_or(DEFAULT_VOICE))),
    ]);
    for (field, theirs) in
        [("format", "response_format"), ("speed", "speed"), ("instructions", "instructions")]
    {
        if let Some(value) = call.input.get(field).filter(|value| !value.is_null()) {
            body.insert(theirs.to_owned(), value.clone());
        }
    }
    Ok(body.into())
}

/// Has a recording written down.
pub async fn transcribe(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let format = call.text("format").unwrap_or("json");
    let request =
        openai.post(call, "/audio/transcriptions").timeout(TRANSCRIBE_TIMEOUT).multipart(form(call, format)?);
    let answer = http::send(request, Stake::Submit, MAX_CHAT_BYTES).await?;
    if !answer.status.is_success() {
        return Err(fault(&answer));
    }
    if format == "json" || format == "verbose_json" {
        return Ok(read(answer.json()?));
    }
    let text = String::from_utf8(answer.body.to_vec())
        .map_err(|_| answer.nonsense("the transcript is not utf-8"))?;
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let is_page =
        start.starts_with("<!") || start.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("<html"));
    let said = media_type(&answer);
    if is_page || said.starts_with("text/html") || said.starts_with("application/json") {
        return Err(answer.nonsense("a page or a message in place of a transcript"));
    }
    Ok(Artifacts { text: Some(text), ..Artifacts::default() })
}

/// What the answer says to be, in lower case.
fn media_type(answer: &Answer) -> String {
    let said = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.unwrap_or_default().trim().to_ascii_lowercase()
}

fn form(call: &Call, format: &str) -> Result<Form, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    let file = call.file("audio").ok_or_else(|| bad("a transcription needs a recording"))?;
    // The vendor tells formats by the file's name, so it gets one that fits the bytes.
    let extension =
        media::sniff(&file.bytes).ok_or_else(|| bad("the recording is of no known format"))?.extension();
    let part = Part::stream_with_length(Body::from(file.bytes.clone()), file.bytes.len() as u64)
        .file_name(format!("audio.{extension}"))
        .mime_str(&file.mime_type)
        .map_err(|_| bad("the recording has no proper media type"))?;
    let mut form = Form::new()
        .part("file", part)
        .text("model", call.upstream_model.clone())
        .text("response_format", format.to_owned());
    for field in ["language", "prompt"] {
        if let Some(value) = call.text(field) {
            form = form.text(field, value.to_owned());
        }
    }
    if let Some(temperature) = call.input.get("temperature").and_then(Value::as_f64) {
        form = form.text("temperature", temperature.to_string());
    }
    for granularity in granularities(&call.input) {
        form = form.text("timestamp_granularities[]", granularity.to_owned());
    }
    Ok(form)
}

/// What is to have times of its own: words, segments or both.
fn granularities(input: &Value) -> impl Iterator<Item = &str> {
    let named = input.get("timestamp_granularities").and_then(Value::as_array);
    named.into_iter().flatten().filter_map(Value::as_str)
}

#[derive(Debug, Deserialize)]
struct Transcript {
    text: String,
    #[serde(default)]
    usage: Option<Value>,
    /// Of `verbose_json`: language, duration, segments and words.
    #[serde(flatten)]
    details: Map<String, Value>,
}

fn read(transcript: Transcript) -> Artifacts {
    let extra = (!transcript.details.is_empty()).then(|| transcript.details.into());
    Artifacts { text: Some(transcript.text), usage: transcript.usage, extra, ..Artifacts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: Value) -> Call {
        Call::new("audio.speech", "tts-1", input, "job_1-1")
    }

    #[test]
    fn speech_is_asked_for_in_openai_words() {
        let made = speech_request(&call(json!({"text": "hi", "format": "opus", "speed": 1.5}))).unwrap();
        let expected = json!({"model": "tts-1", "input": "hi", "voice": "alloy", "response_format": "opus", "speed": 1.5});
        assert_eq!(made, expected);
        assert_eq!(speech_request(&call(json!({}))).unwrap_err().class, ErrorClass::BadInput);
    }

    fn check_transcript(answer: Value, text: &str, usage: Option<Value>, extra: Option<Value>) {
        let made = read(serde_json::from_value(answer).unwrap());
        assert_eq!((made.text.as_deref(), made.usage, made.extra), (Some(text), usage, extra));
    }

    #[test]
    fn transcripts_keep_what_the_vendor_adds() {
        let usage = json!({"type": "duration", "seconds": 27});
        check_transcript(json!({"text": "hi", "usage": usage}), "hi", Some(usage), None);
        check_transcript(
            json!({"text": "", "language": "english", "segments": [], "words": []}),
            "",
            None,
            Some(json!({"language": "english", "segments": [], "words": []})),
        );
    }

    #[test]
    fn words_get_times_where_they_are_wanted() {
        let input = json!({"audio": "file_1", "timestamp_granularities": ["word", "segment"]});
        assert_eq!(granularities(&input).collect::<Vec<_>>(), ["word", "segment"]);
        assert_eq!(granularities(&json!({"audio": "file_1"})).count(), 0);
    }
}
