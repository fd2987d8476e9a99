//! `POST /v1/audio/speech`: a text read aloud; the sound is the whole answer.
//!
//! Deliberately absent: sound while it is made. A recording is checked before anybody pays for it.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::{
    content,
    described::{FileContent, SpeechRequest},
    error::OpenAiError,
    failures::CallFailures,
    fit::{self, Names},
    form::{Form, Wish},
    run,
};
use crate::{ApiError, Ctx, ErrorBody, access::Caller, http::openapi::CallHeaders};

/// Where it is asked for.
const PATH: &str = "/v1/audio/speech";
/// What this path makes, in the catalogue's word.
const TASK: &str = "audio.speech";
/// Fields that are called otherwise here.
const NAMES: Names = &[("input", "text"), ("response_format", "format")];

/// Reads a text aloud.
#[utoipa::path(
    post,
    path = "/v1/audio/speech",
    params(CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored.", content = SpeechRequest),
    responses(
        (
            status = 200,
            description = "The speech: what its bytes are, whatever was asked for",
            content(
                (FileContent = "audio/mpeg"),
                (FileContent = "audio/wav"),
                (FileContent = "audio/flac"),
                (FileContent = "audio/aac"),
                (FileContent = "audio/ogg"),
                (FileContent = "audio/mp4")
            )
        ),
        CallFailures,
        (status = 404, description = "`model_not_found`; of a request sent again, `file_not_found`", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let wish = read(&ctx, &form);
    let ordered = form.order(&ctx, &caller, &headers, PATH, wish, NAMES).await?;
    let job = ordered.succeeded(&ctx).await?;
    let sound = content::first_of(&ctx, &job).await?.ok_or_else(content::gone)?;
    Ok(ordered.sign(content::file(&ctx.storage, &sound).await?))
}

fn read<'a>(ctx: &'a Ctx, form: &Form) -> Result<Wish<'a>, OpenAiError> {
    let model = run::model(ctx, fit::named(&form.fields, None)?, &[TASK])?;
    let mut fields = form.fields.clone();
    settle(&mut fields)?;
    Ok((model, fit::input(model, &fields, NAMES)))
}

/// Refuses what cannot be had, and takes a voice's name out of the object it may come in.
///
/// # Errors
/// 400 naming the field.
fn settle(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    let form = fields.get("stream_format").filter(|value| !value.is_null());
    if form.is_some_and(|form| form != "audio") {
        let message = "sound is sent whole here: leave stream_format out";
        return Err(ApiError::bad_request("unsupported_value", "stream_format", message));
    }
    let named = fields.get("voice").and_then(|voice| voice.get("id")).filter(|id| !id.is_null());
    if let Some(id) = named.cloned() {
        fields.insert("voice".to_owned(), id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_voice_is_named_bare_or_in_an_object() {
        for voice in [json!("nova"), json!({"id": "nova"})] {
            let mut fields = Map::from_iter([("voice".to_owned(), voice)]);
            settle(&mut fields).expect("a request");
            assert_eq!(fields["voice"], "nova");
        }
        let nobody = json!({"id": null});
        let mut fields = Map::from_iter([("voice".to_owned(), nobody.clone())]);
        settle(&mut fields).expect("the schema refuses it");
        assert_eq!(fields["voice"], nobody, "and is not told that nothing was said");
    }

    #[test]
    fn events_in_place_of_sound_are_refused() {
        for (form, is_good) in [(json!("audio"), true), (json!(null), true), (json!("sse"), false)] {
            let mut fields = Map::from_iter([("stream_format".to_owned(), form)]);
            assert_eq!(settle(&mut fields).is_ok(), is_good);
        }
    }
}
