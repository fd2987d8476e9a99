//! `POST /v1/chat/completions`: a chat, whole or word by word.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use serde_json::{Map, Value};

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
            description = "As OpenAI has it: whole, or with `stream` as events",
            content((ChatCompletion = "application/json"), (Value = "text/event-stream"))
        ),
        CallFailures,
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
