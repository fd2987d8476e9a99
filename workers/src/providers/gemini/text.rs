//! Chats with Gemini: `streamGenerateContent`, put into OpenAI's form and back.
//!
//! A stream has no last word of its own: an answer is whole when it has a finish reason. Tokens of thinking are billed as the
//! answer's, and are counted with it. Deliberately absent: tools, log probabilities, and pictures by URL, which Google does
//! not fetch.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fault, Gemini, class_of_fault, class_of_finish, fault};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::{self, Stake},
    openai::{
        chat::{self, Completion},
        draft::Draft,
    },
    sse::{self, Events, Opened},
};

/// One event of a stream, in the form of a whole answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(default)]
    prompt_feedback: Option<super::PromptFeedback>,
    /// Counts so far; the last are the total.
    #[serde(default)]
    usage_metadata: Option<Usage>,
    #[serde(default)]
    error: Option<CodedFault>,
}

#[derive(Debug, Deserialize)]
struct CodedFault {
    #[serde(default)]
    code: u16,
    #[serde(flatten)]
    fault: Fault,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    content: Content,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
    /// A summary of the thinking, not the answer.
    #[serde(default)]
    thought: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    prompt_token_count: Option<u64>,
    #[serde(default)]
    candidates_token_count: u64,
    #[serde(default)]
    thoughts_token_count: u64,
    #[serde(default)]
    cached_content_token_count: u64,
}

/// Sends the conversation and listens to the answer.
pub async fn complete(gemini: &Gemini, call: &Call) -> Result<Artifacts, ProviderError> {
    let request = gemini.post(call, "streamGenerateContent?alt=sse").json(&body(call)?);
    match sse::open(request, Stake::Submit).await? {
        Opened::Events(events) => listen(events, call).await,
        Opened::Answer(answer) if answer.status.is_success() => {
            let mut heard = Heard::default();
            heard.hear(answer.json()?)?;
            if !heard.is_whole() {
                return Err(answer.nonsense("the answer has no end"));
            }
            heard.finish()
        }
        Opened::Answer(answer) => Err(fault(&answer)),
    }
}

fn body(call: &Call) -> Result<Value, ProviderError> {
    let (mut instructions, mut contents) = (Vec::new(), Vec::new());
    for message in chat::messages(call)? {
        let parts = parts(&message["content"])?;
        match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => instructions.extend(parts),
            "user" => contents.push(json!({"role": "user", "parts": parts})),
            "assistant" => contents.push(json!({"role": "model", "parts": parts})),
            _ => return Err(bad("this model takes messages of system, user and assistant")),
        }
    }
    let mut body = json!({"contents": contents, "generationConfig": config(&call.input)});
    if !instructions.is_empty() {
        body["systemInstruction"] = json!({"parts": instructions});
    }
    Ok(body)
}

fn config(input: &Value) -> Value {
    let mut config = json!({});
    for (ours, theirs) in [
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("max_tokens", "maxOutputTokens"),
        ("seed", "seed"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
    ] {
        if let Some(value) = input.get(ours).filter(|value| !value.is_null()) {
            config[theirs] = value.clone();
        }
    }
    match input.get("stop") {
        Some(Value::String(stop)) => config["stopSequences"] = json!([stop]),
        Some(Value::Array(stops)) => config["stopSequences"] = json!(stops),
        _ => {}
    }
    let format = &input["response_format"];
    if format["type"] == "json_object" || format["type"] == "json_schema" {
        config["responseMimeType"] = json!("application/json");
    }
    if format["json_schema"]["schema"].is_object() {
        config["responseJsonSchema"] = format["json_schema"]["schema"].clone();
    }
    config
}

fn parts(content: &Value) -> Result<Vec<Value>, ProviderError> {
    match content {
        Value::String(text) => Ok(vec![json!({"text": text})]),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => Err(bad("a message has no content")),
    }
}

fn part(part: &Value) -> Result<Value, ProviderError> {
    match part["type"].as_str() {
        Some("text") => Ok(json!({"text": part["text"]})),
        Some("image_url") => {
            let url = part["image_url"]["url"].as_str().unwrap_or_default();
            let (kind, data) = url
                .strip_prefix("data:")
                .and_then(|data| data.split_once(";base64,"))
                .ok_or_else(|| bad("this model takes pictures as data URLs"))?;
            Ok(json!({"inlineData": {"mimeType": kind, "data": data}}))
        }
        _ => Err(bad("this model takes texts and pictures")),
    }
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

/// Hears a stream to its end.
async fn listen(mut events: Events, call: &Call) -> Result<Artifacts, ProviderError> {
    let mut heard = Heard::default();
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) if heard.is_whole() => break,
            Ok(None) => return Err(events.nonsense("the stream ended before the answer did")),
            Err(error) => return Err(error),
        };
        let event =
            serde_json::from_str(&event.data).map_err(|_| events.nonsense("an event cannot be read"))?;
        let choices = heard.hear(event)?;
        if !choices.is_empty() {
            call.deltas.tell(choices.into());
        }
    }
    heard.finish()
}

/// What is known so far.
#[derive(Debug, Default)]
struct Heard {
    draft: Draft,
    usage: Option<Usage>,
}

impl Heard {
    /// Takes an event in, and gives what it adds in OpenAI's form.
    fn hear(&mut self, event: Event) -> Result<Vec<Value>, ProviderError> {
        if let Some(CodedFault { code, fault }) = event.error {
            return Err(self.broken_off(code, &fault));
        }
        if let Some(reason) = event.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            let words = format!("the prompt was blocked: {}", http::quote(&reason));
            return Err(ProviderError::new(ErrorClass::Refused, words));
        }
        let choices = event.candidates.into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
        self.draft.add(&choices);
        self.usage = event.usage_metadata.or(self.usage.take());
        Ok(choices)
    }

    fn is_whole(&self) -> bool {
        self.draft.is_finished(1)
    }

    /// An error in the middle: what was written by then may be billed.
    fn broken_off(&self, code: u16, fault: &Fault) -> ProviderError {
        let class = class_of_fault(fault).or_else(|| http::class_of_code(code));
        let class = match class {
            Some(ErrorClass::Unavailable) if self.draft.has_begun() => ErrorClass::Ambiguous,
            Some(class) => class,
            None => Stake::Submit.unanswered(),
        };
        ProviderError::new(class, http::quote(&format!("{} {}", fault.status, fault.message)))
            .retry_after(super::retry_delay(&fault.details))
    }

    fn finish(self) -> Result<Artifacts, ProviderError> {
        chat::read(Completion {
            choices: self.draft.into_choices(),
            usage: self.usage.map(|usage| usage.to_openai()),
            ..Completion::default()
        })
    }
}

/// A candidate's piece in OpenAI's form.
fn choice(candidate: Candidate) -> Result<Value, ProviderError> {
    let texts = candidate.content.parts.into_iter().filter(|part| !part.thought).filter_map(|part| part.text);
    let reason = candidate.finish_reason.as_deref().map(finish_reason).transpose()?;
    let mut choice = json!({"index": candidate.index, "delta": {}, "finish_reason": reason});
    if let Some(text) = texts.reduce(|said, text| said + &text) {
        choice["delta"]["content"] = text.into();
    }
    Ok(choice)
}

/// OpenAI's word for a finish reason that leaves a usable answer.
fn finish_reason(reason: &str) -> Result<&'static str, ProviderError> {
    match reason {
        "STOP" => Ok("stop"),
        "MAX_TOKENS" => Ok("length"),
        other => {
            let words = format!("no answer: {}", http::quote(other));
            Err(ProviderError::new(class_of_finish(other), words))
        }
    }
}

impl Usage {
    fn to_openai(&self) -> Value {
        let written = self.candidates_token_count.saturating_add(self.thoughts_token_count);
        json!({
            "prompt_tokens": self.prompt_token_count,
            "completion_tokens": written,
            "total_tokens": self.prompt_token_count.map(|read| read.saturating_add(written)),
            "prompt_tokens_details": {"cached_tokens": self.cached_content_token_count},
            "completion_tokens_details": {"reasoning_tokens": self.thoughts_token_count},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(input: Value) -> Result<Value, ProviderError> {
        body(&Call::new("text.chat", "gemini-2.5-flash", input, "job_1-1"))
    }

    #[test]
    fn a_conversation_becomes_contents() {
        let input = json!({
            "temperature": 0.5, "max_tokens": 9, "stop": "END",
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
                {"role": "assistant", "content": "a fox"},
            ],
        });
        let expected = json!({
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "what?"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
                {"role": "model", "parts": [{"text": "a fox"}]},
            ],
            "generationConfig": {
                "temperature": 0.5, "maxOutputTokens": 9, "stopSequences": ["END"],
                "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            },
        });
        assert_eq!(body_of(input).unwrap(), expected);
    }

    #[test]
    fn what_the_vendor_has_no_place_for_is_refused() {
        let check = |messages: Value| {
            let found = body_of(json!({"messages": messages}));
            assert_eq!(found.unwrap_err().class, ErrorClass::BadInput, "{messages}");
        };
        check(json!([{"role": "tool", "content": "noon"}]));
        check(json!([{"role": "user", "content": null}]));
        check(
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]),
        );
        check(json!([{"role": "user", "content": [{"type": "input_audio"}]}]));
    }

    fn hear(events: &[Value]) -> Result<Artifacts, ProviderError> {
        let mut heard = Heard::default();
        for event in events {
            heard.hear(serde_json::from_value(event.clone()).unwrap())?;
        }
        assert!(heard.is_whole(), "{events:?}");
        heard.finish()
    }

    fn say(text: &str, reason: Option<&str>) -> Value {
        json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason}]})
    }

    #[test]
    fn pieces_are_joined_and_thoughts_are_billed_but_not_told() {
        let thought = json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}]}}]});
        let mut last = say("птица", Some("STOP"));
        last["usageMetadata"] =
            json!({"promptTokenCount": 4, "candidatesTokenCount": 5, "thoughtsTokenCount": 6});
        let made = hear(&[thought, say("жар-", None), last]).unwrap();
        assert_eq!(made.text.as_deref(), Some("жар-птица"));
        assert_eq!(made.extra, Some(json!({"finish_reason": "stop"})));
        let usage = made.usage.unwrap();
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
            (&json!(4), &json!(11), &json!(15))
        );
    }

    #[test]
    fn an_answer_is_judged_by_its_end() {
        let check = |events: &[Value], expected: Result<&str, ErrorClass>| {
            let found = hear(events).map(|made| made.text.unwrap()).map_err(|error| error.class);
            assert_eq!(found, expected.map(str::to_owned), "{events:?}");
        };
        check(&[say("cut", Some("MAX_TOKENS"))], Ok("cut"));
        check(&[say("half", None), say("", Some("SAFETY"))], Err(ErrorClass::Refused));
        check(&[say("half", Some("SOMETHING_NEW"))], Err(ErrorClass::Broken));
        check(&[json!({"candidates": [{"finishReason": "STOP"}]})], Err(ErrorClass::Broken));
        check(&[json!({"promptFeedback": {"blockReason": "SAFETY"}})], Err(ErrorClass::Refused));
        let fault =
            |code: u16, status: &str| json!({"error": {"code": code, "status": status, "message": "no"}});
        check(&[fault(429, "RESOURCE_EXHAUSTED")], Err(ErrorClass::RateLimited));
        check(&[fault(503, "UNAVAILABLE")], Err(ErrorClass::Unavailable));
        check(&[say("half", None), fault(503, "UNAVAILABLE")], Err(ErrorClass::Ambiguous));
        check(&[fault(0, "")], Err(ErrorClass::Ambiguous));
    }
}
