//! Chat completions, heard while they are written.
//!
//! The caller's sampling fields pass through untouched, since the model's schema has checked them; only the name of the
//! answer's limit is the vendor's. A policy refusal can come as a finish reason or as a text of its own. A stream is whole
//! when it says `[DONE]` or when every answer in it has a finish reason: one that ends before may have been billed.
//!
//! Several vendors speak this protocol; what they do otherwise is their [`Dialect`].

use reqwest::RequestBuilder;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    draft::Draft,
    fault::{self, Fault, Judge},
};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::{Answer, Stake},
    sse::{self, Events, Opened},
};

/// How a vendor that speaks this protocol differs from the others.
#[derive(Debug)]
pub struct Dialect {
    /// Its name for the longest an answer may be.
    pub limit: &'static str,
    /// Input fields that it knows under the same name.
    pub same_name: &'static [&'static str],
    /// Puts what only this vendor wants into a request.
    pub adjust: fn(&Call, &mut Map<String, Value>),
    /// Judges its errors.
    pub judge: Judge,
    /// Fields of its answer, beside the choices, that callers want.
    pub beside: &'static [&'static str],
    /// Where in its `usage` it says what it bills, as a JSON pointer to an amount in USD.
    pub cost: Option<&'static str>,
}

/// OpenAI itself.
pub const OPENAI: Dialect = Dialect {
    // Reasoning models refuse the old name, and the others take the new one.
    limit: "max_completion_tokens",
    same_name: &[
        "frequency_penalty",
        "logprobs",
        "max_completion_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "verbosity",
    ],
    adjust: |_, _| {},
    judge: fault::judge,
    beside: &[],
    cost: None,
};

/// An answer that came to its end, in OpenAI's form.
#[derive(Debug, Default)]
pub struct Completion {
    /// The answers.
    pub choices: Vec<Value>,
    /// What the vendor counted, in OpenAI's words.
    pub usage: Option<Value>,
    /// What callers get beside the answers.
    pub beside: Map<String, Value>,
    /// What the vendor says it bills.
    pub cost_usd: Option<Decimal>,
}

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Deserialize)]
struct Heard {
    #[serde(default)]
    choices: Vec<Value>,
    #[serde(default)]
    usage: Option<Value>,
    /// The error that came after a status of success.
    #[serde(default)]
    error: Option<Fault>,
    #[serde(flatten)]
    beside: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
}

/// Sends the conversation by `request`, which has all but its body, and listens to the answer.
pub async fn complete(
    request: RequestBuilder,
    call: &Call,
    dialect: &Dialect,
) -> Result<Artifacts, ProviderError> {
    let request = request.json(&body(call, dialect)?);
    match sse::open(request, Stake::Submit).await? {
        Opened::Events(events) => read(listen(events, call, dialect).await?),
        Opened::Answer(answer) if answer.status.is_success() => read(whole(&answer, dialect)?),
        Opened::Answer(answer) => Err(fault::in_answer(&answer, dialect.judge)),
    }
}

fn body(call: &Call, dialect: &Dialect) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.upstream_model));
    body.insert("messages".to_owned(), Value::Array(messages(call)?));
    copy(call, "max_tokens", dialect.limit, &mut body);
    for field in dialect.same_name {
        copy(call, field, field, &mut body);
    }
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    (dialect.adjust)(call, &mut body);
    Ok(Value::Object(body))
}

fn copy(call: &Call, from: &str, to: &str, body: &mut Map<String, Value>) {
    if let Some(value) = call.input.get(from).filter(|value| !value.is_null()) {
        body.insert(to.to_owned(), value.clone());
    }
}

/// The conversation: `messages` as they are or one from `prompt`, with `system` before either.
///
/// # Errors
/// [`ErrorClass::BadInput`] where there is neither.
pub fn messages(call: &Call) -> Result<Vec<Value>, ProviderError> {
    let system = call.text("system").map(|text| json!({"role": "system", "content": text}));
    let talk = match (call.input.get("messages").and_then(Value::as_array), call.text("prompt")) {
        (Some(messages), _) => messages.clone(),
        (None, Some(prompt)) => vec![json!({"role": "user", "content": prompt})],
        (None, None) => {
            let why = "a chat needs messages or a prompt";
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
    };
    Ok(system.into_iter().chain(talk).collect())
}

/// Hears a stream to its end.
async fn listen(mut events: Events, call: &Call, dialect: &Dialect) -> Result<Completion, ProviderError> {
    let wanted = call.input.get("n").and_then(Value::as_u64).unwrap_or(1);
    let (mut draft, mut completion) = (Draft::default(), Completion::default());
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            // Nothing is missing but the count, and that can be estimated.
            Ok(None) | Err(_) if draft.is_finished(wanted) => break,
            Ok(None) => return Err(events.nonsense("the stream ended before the answer did")),
            Err(error) => return Err(error),
        };
        if event.data == "[DONE]" {
            if draft.has_begun() && !draft.is_finished(1) {
                return Err(events.nonsense("the stream says it is done, and its answer is not"));
            }
            break;
        }
        let heard: Heard = serde_json::from_str(&event.data)
            .map_err(|_| events.nonsense("a chunk of the stream cannot be read"))?;
        if let Some(fault) = heard.error {
            return Err(fault.under_success(dialect.judge, draft.has_begun()));
        }
        draft.add(&heard.choices).ok_or_else(|| events.nonsense("a chunk's choices cannot be read"))?;
        if !heard.choices.is_empty() {
            call.deltas.tell(heard.choices.into());
        }
        completion.note(heard.usage, heard.beside, dialect);
    }
    completion.choices = draft.into_choices();
    Ok(completion)
}

/// An answer that did not come as a stream.
fn whole(answer: &Answer, dialect: &Dialect) -> Result<Completion, ProviderError> {
    let heard: Heard = answer.json()?;
    if let Some(fault) = heard.error {
        return Err(fault.under_success(dialect.judge, true));
    }
    let mut completion = Completion { choices: heard.choices, ..Completion::default() };
    completion.note(heard.usage, heard.beside, dialect);
    Ok(completion)
}

impl Completion {
    /// Keeps what a chunk tells beside the choices; the last word counts.
    fn note(&mut self, usage: Option<Value>, beside: Map<String, Value>, dialect: &Dialect) {
        if let Some(usage) = usage {
            let cost = dialect.cost.and_then(|pointer| usage.pointer(pointer));
            self.cost_usd = cost.and_then(amount).or(self.cost_usd);
            self.usage = Some(usage);
        }
        let wanted =
            |name: &String, value: &Value| dialect.beside.contains(&name.as_str()) && !value.is_null();
        self.beside.extend(beside.into_iter().filter(|(name, value)| wanted(name, value)));
    }
}

/// A JSON number as it is written, where it can be an amount of money.
pub fn amount(value: &Value) -> Option<Decimal> {
    let text = value.as_number()?.to_string();
    let amount = text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()?;
    (amount >= Decimal::ZERO).then_some(amount)
}

/// Turns an answer that came to its end into a result, or into what it says went wrong.
pub fn read(completion: Completion) -> Result<Artifacts, ProviderError> {
    let broken = |why: &str| ProviderError::new(ErrorClass::Broken, why);
    let first = completion.choices.first().ok_or_else(|| broken("the completion has no choices"))?;
    let choice: Choice = serde_json::from_value(first.clone())
        .map_err(|_| broken("the first choice of the completion is not one"))?;
    let Message { content, refusal, tool_calls, reasoning, reasoning_content } = choice.message;
    let reason = choice.finish_reason.unwrap_or_default();
    if reason == "content_filter" || refusal.is_some_and(|words| !words.is_empty()) {
        return Err(ProviderError::new(ErrorClass::Refused, "the model refused to answer"));
    }
    if reason.is_empty() {
        return Err(ProviderError::new(ErrorClass::Ambiguous, "the answer does not say that it is whole"));
    }
    // OpenRouter's and DeepSeek's words for an answer that was given up half way; it may have been billed.
    if reason == "error" || reason == "insufficient_system_resource" {
        return Err(ProviderError::new(ErrorClass::Ambiguous, "the answer was given up half way"));
    }

    let tool_calls = tool_calls.filter(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
    // A reasoning model may spend its whole limit on thinking; that is an empty answer, and it was billed.
    let may_be_silent = tool_calls.is_some() || reason == "length";
    let text = match content {
        Some(text) if !text.is_empty() || may_be_silent => text,
        None if may_be_silent => String::new(),
        _ => return Err(broken("the completion has neither text nor tool calls")),
    };

    let mut extra = completion.beside;
    extra.insert("finish_reason".to_owned(), json!(reason));
    let told = [
        ("tool_calls", tool_calls),
        ("logprobs", choice.logprobs),
        ("reasoning", reasoning.or(reasoning_content)),
        ("choices", (completion.choices.len() > 1).then_some(completion.choices.into())),
    ];
    for (name, value) in told {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            extra.insert(name.to_owned(), value);
        }
    }
    Ok(Artifacts {
        text: Some(text),
        usage: completion.usage,
        extra: Some(extra.into()),
        cost_usd: completion.cost_usd,
        ..Artifacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: Value) -> Call {
        Call::new("text.chat", "gpt-4o-mini", input, "job_1-1")
    }

    fn check_request(input: Value, mut expected: Value) {
        expected["stream"] = json!(true);
        expected["stream_options"] = json!({"include_usage": true});
        assert_eq!(body(&call(input), &OPENAI).unwrap(), expected);
    }

    #[test]
    fn inputs_become_openai_requests() {
        check_request(
            json!({"prompt": "hi", "system": "be brief", "max_tokens": 5, "temperature": 0, "seed": null}),
            json!({
                "model": "gpt-4o-mini", "max_completion_tokens": 5, "temperature": 0,
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            }),
        );
        check_request(
            json!({"messages": [{"role": "user", "content": "hi"}], "prompt": "ignored", "unknown": 1}),
            json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}),
        );
        assert_eq!(body(&call(json!({})), &OPENAI).unwrap_err().class, ErrorClass::BadInput);
    }

    fn check_answer(choices: Value, expected: Result<&str, ErrorClass>) {
        let completion = Completion { choices: choices.as_array().unwrap().clone(), ..Completion::default() };
        let found = read(completion).map(|made| made.text.unwrap()).map_err(|error| error.class);
        assert_eq!(found, expected.map(str::to_owned), "{choices}");
    }

    #[test]
    fn answers_are_read_by_their_finish_reason() {
        let say = |content: Value, reason: &str| json!([{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}]);
        check_answer(say(json!("hello"), "stop"), Ok("hello"));
        check_answer(say(json!("cut of"), "length"), Ok("cut of"));
        check_answer(say(Value::Null, "length"), Ok(""));
        check_answer(say(Value::Null, "stop"), Err(ErrorClass::Broken));
        check_answer(say(json!(""), "content_filter"), Err(ErrorClass::Refused));
        check_answer(say(json!("half"), "error"), Err(ErrorClass::Ambiguous));
        check_answer(say(json!("half"), "insufficient_system_resource"), Err(ErrorClass::Ambiguous));
        check_answer(json!([]), Err(ErrorClass::Broken));
        check_answer(json!([{"message": {"content": null, "refusal": "no"}}]), Err(ErrorClass::Refused));
        let calls = |reason: Option<&str>| json!([{"message": {"content": null, "tool_calls": [{"id": "a"}]}, "finish_reason": reason}]);
        check_answer(calls(Some("tool_calls")), Ok(""));
        check_answer(calls(None), Err(ErrorClass::Ambiguous));
        check_answer(say(json!(""), "stop"), Err(ErrorClass::Broken));
    }

    #[test]
    fn what_callers_need_besides_the_text_is_kept() {
        let choice = json!({"message": {"content": null, "tool_calls": [{"id": "a"}], "reasoning_content": "hm"}, "finish_reason": "tool_calls"});
        let dialect = Dialect { beside: &["citations"], cost: Some("/cost"), ..OPENAI };
        let mut completion = Completion { choices: vec![choice], ..Completion::default() };
        let beside = json!({"citations": ["https://example.com"], "model": "x"}).as_object().unwrap().clone();
        let usage = json!({"prompt_tokens": 3, "cost": 0.00012});
        completion.note(Some(usage.clone()), beside, &dialect);
        completion.note(None, Map::new(), &dialect);
        let made = read(completion).unwrap();
        let expected = json!({
            "finish_reason": "tool_calls", "tool_calls": [{"id": "a"}], "reasoning": "hm",
            "citations": ["https://example.com"],
        });
        assert_eq!((made.extra, made.usage), (Some(expected), Some(usage)));
        assert_eq!(made.cost_usd, Some(Decimal::new(12, 5)));
    }

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        let check = |value: Value, expected: Option<&str>| {
            let found = amount(&value).map(|amount| amount.to_string());
            assert_eq!(found.as_deref(), expected, "{value}");
        };
        check(json!(0.0042), Some("0.0042"));
        check(json!(2.5e-7), Some("0.00000025"));
        check(json!(0), Some("0"));
        check(json!(-1), None);
        check(json!("0.1"), None);
        check(json!(1e300), None);
    }
}
