//! `POST /v1/audio/transcriptions`: a recording written down, as JSON, as text or as subtitles.
//!
//! The form is part of what is ordered, as subtitles are the vendor's own. Deliberately absent: a transcript while it is
//! written, how sure each word is, who speaks, and where a recording is cut. Who asks for one of these is refused.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::{
    described::{Transcript, TranscriptionForm},
    error::OpenAiError,
    failures::CallFailures,
    fit::{self, Names},
    form::{Form, Wish},
    run, unreadable,
};
use crate::{Ctx, ErrorBody, access::Caller, http::openapi::CallHeaders};
use shared::catalog::Model;

/// Where it is asked for.
const PATH: &str = "/v1/audio/transcriptions";
/// What this path makes, in the catalogue's word.
const TASK: &str = "audio.transcribe";
/// Fields that are called otherwise here.
const NAMES: Names = &[("file", "audio"), ("response_format", "format")];

/// Fields that ask for what no model here tells: how sure it is of each word, and who speaks.
const UNTOLD: [&str; 3] = ["include", "known_speaker_names", "known_speaker_references"];

/// Fields of an output that tell more of a recording than its words.
const DETAILS: [&str; 5] = ["task", "language", "duration", "segments", "words"];

/// Writes a recording down.
#[utoipa::path(
    post,
    path = "/v1/audio/transcriptions",
    params(CallHeaders),
    request_body(
        description = "As OpenAI has it; what is not known is ignored.",
        content = TranscriptionForm,
        content_type = "multipart/form-data"
    ),
    responses(
        (
            status = 200,
            description = "As OpenAI has it: JSON, or with response_format text, srt or vtt the bare text",
            content((Transcript = "application/json"), (String = "text/plain"))
        ),
        CallFailures,
        (
            status = 413,
            description = "`request_too_large`, `file_too_large` or `upload_quota_exceeded`",
            body = ErrorBody
        ),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let written = Written::of(&form.fields);
    let wish = read(&ctx, &form);
    let ordered = form.order(&ctx, &caller, &headers, PATH, wish, NAMES).await?;
    if written == Written::Bare {
        let job = ordered.succeeded(&ctx).await?;
        let text = job.output.as_ref().and_then(|output| output["text"].as_str());
        let text = text.ok_or_else(|| unreadable(&job))?.to_owned();
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        return Ok(ordered.sign((kind, text).into_response()));
    }
    run::answer(&ctx, &ordered, move |_, job| async move {
        let output = job.output.as_ref().unwrap_or(&Value::Null);
        answer(output, written).ok_or_else(|| unreadable(&job))
    })
    .await
}

fn read<'a>(ctx: &'a Ctx, form: &Form) -> Result<Wish<'a>, OpenAiError> {
    let model = run::model(ctx, fit::named(&form.fields, None)?, &[TASK])?;
    check(model, &form.fields)?;
    let mut fields = form.fields.clone();
    if let Some(file) = form.file("file")? {
        fields.insert("file".to_owned(), file);
    }
    Ok((model, fit::input(model, &fields, NAMES)))
}

/// How a transcript is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// `{"text","usage"}`.
    Json,
    /// The same with times.
    Verbose,
    /// Text or subtitles, bare.
    Bare,
}

impl Written {
    /// What a request asks for; the schema knows which there are.
    fn of(fields: &Map<String, Value>) -> Self {
        match fields.get("response_format").and_then(Value::as_str) {
            None | Some("json") => Self::Json,
            Some("verbose_json") => Self::Verbose,
            Some(_) => Self::Bare,
        }
    }
}

/// The answer to a job that ended well; `None` when its output holds no transcript.
fn answer(output: &Value, written: Written) -> Option<Value> {
    let text = output["text"].as_str()?;
    let usage = output.get("usage").filter(|usage| usage.is_object());
    let detail = |name: &&str| Some(((*name).to_owned(), output.get(*name)?.clone()));
    let details = match written {
        Written::Verbose => DETAILS.iter().filter_map(detail).collect(),
        _ => Map::new(),
    };
    Some(told(text, usage, details))
}

fn told(text: &str, usage: Option<&Value>, details: Map<String, Value>) -> Value {
    let mut answer = details;
    answer.insert("text".to_owned(), json!(text));
    if let Some(usage) = usage {
        answer.insert("usage".to_owned(), usage.clone());
    }
    answer.into()
}

/// Refuses what cannot be had.
///
/// # Errors
/// 400 naming the field.
fn check(model: &Model, fields: &Map<String, Value>) -> Result<(), OpenAiError> {
    let said = |field: &str| fields.get(field).filter(|value| !value.is_null());
    if said("stream").is_some_and(|stream| *stream != json!(false) && *stream != json!("false")) {
        let message = "a transcript is sent whole here: leave stream out";
        return Err(OpenAiError::bad_request("unsupported_value", "stream", message));
    }
    if said("chunking_strategy").is_some_and(|strategy| strategy != "auto") {
        let message = "where a recording is cut is left to the model: say auto, or leave it out";
        return Err(OpenAiError::bad_request("unsupported_value", "chunking_strategy", message));
    }
    let is_empty = |value: &Value| value == "" || value.as_array().is_some_and(Vec::is_empty);
    if let Some(field) = UNTOLD.into_iter().find(|field| said(field).is_some_and(|value| !is_empty(value))) {
        return Err(OpenAiError::unsupported(field, &model.id));
    }
    let is_timed = said("timestamp_granularities").is_some();
    if is_timed && fields.get("response_format").is_none_or(|form| form != "verbose_json") {
        let message = "timestamp_granularities needs response_format verbose_json";
        return Err(OpenAiError::bad_request("invalid_value", "timestamp_granularities", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::catalog::Catalog;

    use super::*;

    #[test]
    fn each_form_of_a_transcript_is_answered_in_its_own_way() {
        for (format, expected) in [
            (json!(null), Written::Json),
            (json!("json"), Written::Json),
            (json!("verbose_json"), Written::Verbose),
            (json!("srt"), Written::Bare),
            (json!("vtt"), Written::Bare),
            (json!("text"), Written::Bare),
        ] {
            let fields = Map::from_iter([("response_format".to_owned(), format.clone())]);
            assert_eq!(Written::of(&fields), expected, "{format}");
        }
        let output = json!({"text": "hi", "segments": [], "files": [], "usage": null});
        assert_eq!(answer(&output, Written::Json), Some(json!({"text": "hi"})));
        assert_eq!(answer(&output, Written::Verbose), Some(json!({"text": "hi", "segments": []})));
        assert_eq!(answer(&json!({"files": []}), Written::Json), None);
    }

    #[test]
    fn what_is_told_of_a_recording_depends_on_the_form() {
        let usage = json!({"type": "duration", "seconds": 3});
        let details = Map::from_iter([("language".to_owned(), json!("english"))]);
        assert_eq!(
            told("hi", Some(&usage), details),
            json!({"language": "english", "text": "hi", "usage": usage})
        );
        assert_eq!(told("hi", None, Map::new()), json!({"text": "hi"}));
    }

    #[test]
    fn what_no_transcript_tells_and_times_without_a_place_for_them_are_refused() {
        let catalog = Catalog::load().expect("the catalogue");
        let model = catalog.get("whisper-1").expect("a model");
        let check = |fields: Value| check(model, fields.as_object().expect("fields")).is_ok();
        assert!(!check(json!({"include": ["logprobs"]})) && check(json!({"include": []})));
        assert!(!check(json!({"known_speaker_names": ["Ada"]})));
        assert!(!check(json!({"chunking_strategy": {"type": "server_vad"}})));
        assert!(check(json!({"chunking_strategy": "auto", "include": null})));
        assert!(!check(json!({"stream": true})) && !check(json!({"stream": "true"})));
        assert!(check(json!({"stream": false})) && check(json!({"stream": "false"})));
        assert!(!check(json!({"timestamp_granularities": ["word"]})));
        assert!(check(json!({"timestamp_granularities": ["word"], "response_format": "verbose_json"})));
    }
}
