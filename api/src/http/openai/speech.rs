//! `POST /v1/audio/speech`: a text read aloud; the sound is the whole answer.
//!
//! Deliberately absent: sound while it is made, for a recording is checked before anybody pays for it; and instructions for how it
//! is to be said, where the model takes none: they are refused, for without them it would be another recording.

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
use crate::{Ctx, ErrorBody, access::Caller, http::openapi::CallHeaders};
use shared::catalog::Model;

/// Where it is asked for.
const PATH: &str = "/v1/audio/speech";
/// What this path makes, in the catalogue's word.
const TASK: &str = "audio.speech";
/// Fields that are called otherwise here.
const NAMES: Names = &[("input", "text"), ("response_format", "format")];
/// The field that says how a text is to be read.
const INSTRUCTIONS: &str = "instructions";

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
                (FileContent = "audio/mp4"),
                (FileContent = "audio/pcm")
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
    settle(model, &mut fields)?;
    Ok((model, fit::input(model, &fields, NAMES)))
}

/// Refuses what cannot be had, and takes a voice's name out of the object it may come in.
///
/// # Errors
/// 400 naming the field.
fn settle(model: &Model, fields: &mut Map<String, Value>) -> Result<(), OpenAiError> {
    let is_instructed = fields.get(INSTRUCTIONS).is_some_and(|said| !said.is_null() && said != "");
    if is_instructed && model.schema["properties"].get(INSTRUCTIONS).is_none() {
        return Err(OpenAiError::unsupported(INSTRUCTIONS, &model.id));
    }
    let form = fields.get("stream_format").filter(|value| !value.is_null());
    if form.is_some_and(|form| form != "audio") {
        let message = "sound is sent whole here: leave stream_format out";
        return Err(OpenAiError::bad_request("unsupported_value", "stream_format", message));
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
    use shared::catalog::Catalog;

    use super::*;

    /// What a request with this field comes to.
    fn settled(field: &str, value: Value) -> Result<Map<String, Value>, OpenAiError> {
        let catalog = Catalog::load().expect("the catalogue");
        let mut fields = Map::from_iter([(field.to_owned(), value)]);
        settle(catalog.get("tts-1").expect("a model"), &mut fields).map(|()| fields)
    }

    #[test]
    fn a_voice_is_named_bare_or_in_an_object() {
        for voice in [json!("nova"), json!({"id": "nova"})] {
            assert_eq!(settled("voice", voice).expect("a request")["voice"], "nova");
        }
        let nobody = json!({"id": null});
        let fields = settled("voice", nobody.clone()).expect("the schema refuses it");
        assert_eq!(fields["voice"], nobody, "and is not told that nothing was said");
    }

    #[test]
    fn events_in_place_of_sound_and_instructions_that_nobody_follows_are_refused() {
        for (field, value, is_good) in [
            ("stream_format", json!("audio"), true),
            ("stream_format", json!(null), true),
            ("stream_format", json!("sse"), false),
            ("instructions", json!(""), true),
            ("instructions", json!(null), true),
            ("instructions", json!("softly"), false),
        ] {
            assert_eq!(settled(field, value.clone()).is_ok(), is_good, "{field} {value}");
        }
    }
}
