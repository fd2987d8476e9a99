//! `POST /v1/moderations`: whether texts may be shown to people.
//!
//! Deliberately absent: pictures, which no model of ours for this task looks at.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    described::{Moderation, ModerationRequest},
    error::OpenAiError,
    failures::CallFailures,
    fit,
    form::{Form, Wish},
    run, unreadable,
};
use crate::{ApiError, Ctx, access::Caller, http::openapi::CallHeaders};
use shared::id::JobId;

/// Where it is asked for.
const PATH: &str = "/v1/moderations";
/// What this path makes, in the catalogue's word.
const TASK: &str = "text.moderate";
/// The model of a request that names none, as at OpenAI.
const MODEL: &str = "omni-moderation-latest";

/// Judges texts.
#[utoipa::path(
    post,
    path = "/v1/moderations",
    params(CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored.", content = ModerationRequest),
    responses(
        (status = 200, description = "As OpenAI has it", body = Moderation),
        CallFailures,
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OpenAiError> {
    let wish = read(&ctx, &form);
    let ordered = form.order(&ctx, &caller, &headers, PATH, wish, &[]).await?;
    run::answer(&ctx, &ordered, |_, job| async move {
        let output = job.output.as_ref().unwrap_or(&Value::Null);
        answer(job.id, &job.model, output).ok_or_else(|| unreadable(&job))
    })
    .await
}

fn read<'a>(ctx: &'a Ctx, form: &Form) -> Result<Wish<'a>, OpenAiError> {
    let model = run::model(ctx, fit::named(&form.fields, Some(MODEL))?, &[TASK])?;
    check(&form.fields)?;
    Ok((model, fit::input(model, &form.fields, &[])))
}

/// Whether what is to be judged are texts.
///
/// # Errors
/// 400 for parts such as pictures.
fn check(fields: &Map<String, Value>) -> Result<(), ApiError> {
    let items = fields.get("input").and_then(Value::as_array);
    if items.into_iter().flatten().any(Value::is_object) {
        let message =
            "only texts are judged here: send a text or a list of texts, not parts such as image_url";
        return Err(ApiError::bad_request("unsupported_value", "input", message));
    }
    Ok(())
}

/// The answer to a job that ended well; `None` when its output holds no judgements.
fn answer(job: JobId, model: &str, output: &Value) -> Option<Value> {
    let results: Vec<_> = output["results"].as_array()?.iter().map(judgement).collect();
    Some(json!({ "id": format!("modr-{}", job.0.simple()), "model": model, "results": results }))
}

/// A judgement with all four fields: where the vendor did not say what it looked at, it was the text.
fn judgement(told: &Value) -> Value {
    let mut told = told.clone();
    let categories = told["categories"].as_object().into_iter().flatten();
    let of_text: Map<String, Value> = categories.map(|(name, _)| (name.clone(), json!(["text"]))).collect();
    if let Some(fields) = told.as_object_mut() {
        fields.entry("category_applied_input_types").or_insert(of_text.into());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judgements_are_whole_and_told_under_the_jobs_id() {
        let job: JobId = "job_0123456789abcdef0123456789abcdef".parse().expect("an id");
        let whole = json!({"flagged": true, "categories": {"hate": true}, "category_scores": {"hate": 0.9},
            "category_applied_input_types": {"hate": ["text"]}});
        let mut bare = whole.clone();
        bare.as_object_mut().expect("fields").remove("category_applied_input_types");
        let made =
            answer(job, MODEL, &json!({"flagged": true, "results": [whole, bare]})).expect("an answer");
        assert_eq!(made["id"], "modr-0123456789abcdef0123456789abcdef");
        assert_eq!(made["results"], json!([whole, whole]));
        assert_eq!(answer(job, MODEL, &json!({"text": "no"})), None);
    }

    #[test]
    fn pictures_are_refused() {
        let fields = |input: Value| Map::from_iter([("input".to_owned(), input)]);
        assert!(
            check(&fields(json!([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}])))
                .is_err()
        );
        assert!(check(&fields(json!(["a", "b"]))).is_ok());
        assert!(check(&fields(json!("a"))).is_ok());
    }
}
