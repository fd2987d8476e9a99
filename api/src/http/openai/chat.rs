//! `POST /v1/chat/completions`: a chat, whole or word by word.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    asked::Sent,
    completion,
    described::{ChatCompletion, ChatRequest},
    error::OpenAiError,
    failures::CallFailures,
    run, stream,
};
use crate::{
    Ctx, ErrorBody,
    access::Caller,
    http::{openapi::CallHeaders, order::NewJob},
    request::Body,
};

/// Where it is asked for.
const PATH: &str = "/v1/chat/completions";
/// What is made here.
const TASKS: [&str; 1] = ["text.chat"];

/// Answers a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    params(CallHeaders),
    request_body(description = "As OpenAI has it; what is not known is ignored. `dialog`, a field of ours, is the id of a dialog to go on in.", content = ChatRequest),
    responses(
        (
            status = 200,
            description = "As OpenAI has it: whole, or with `stream` as events. The data of each is a `chat.completion.chunk`, of \
                the last one `[DONE]`; should the job fail after the first word, it is an error in its place.",
            content(
                (ChatCompletion = "application/json"),
                (Value = "text/event-stream", example = streamed)
            )
        ),
        CallFailures,
        (status = 404, description = "`model_not_found`, `dialog_not_found`", body = ErrorBody),
        (status = 409, description = "`dialog_full`: the dialog holds as many messages as it may", body = ErrorBody),
    )
)]
pub async fn create(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body<Map<String, Value>>,
) -> Result<Response, OpenAiError> {
    let sent = Sent::new(body.value);
    let limit = sent.limit_name();
    let model = run::model(&ctx, sent.model()?, &TASKS)?;
    let asked = sent.read(model)?;
    let new = NewJob::of(&model.id, asked.input).with_metadata(asked.metadata).in_dialog(asked.dialog);
    let ordered = run::order(&ctx, &caller, &headers, PATH, new, body.hash).await;
    let ordered = ordered.map_err(|error| error.renamed("max_tokens", limit))?;
    if asked.is_streamed {
        stream::answer(&ctx, &ordered, asked.tells_usage).await
    } else {
        run::answer(&ctx, &ordered, |_, job| async move { Ok(completion::whole(&job)) }).await
    }
}

/// What a stream looks like, for the document of the API.
fn streamed() -> String {
    let chunk = |delta: Value, finish_reason: Value| {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason });
        let chunk = json!({
            "id": "chatcmpl-01930a1c2f3e7b4a8d5c6e7f8a9b0c1d", "object": "chat.completion.chunk", "created": 1_800_000_000,
            "model": "gpt-4o", "system_fingerprint": null, "choices": [choice],
        });
        format!("data: {chunk}\n\n")
    };
    let first = chunk(json!({ "role": "assistant", "content": "Hello" }), Value::Null);
    first + &chunk(json!({}), json!("stop")) + "data: [DONE]\n\n"
}
