//! The result of a chat in the form of OpenAI's `chat.completion`.
//!
//! A job's output has the first answer at its top and, where there are several, all of them as `choices`; counts and calls of
//! tools are in OpenAI's words already. What only one vendor tells is left out, but for sources, which some clients look for.

use serde_json::{Map, Value, json};

use shared::{id::JobId, job::Job};

/// Parts of a vendor's counts that OpenAI has as well.
const DETAILS: [&str; 2] = ["prompt_tokens_details", "completion_tokens_details"];
/// Where an answer was looked up, in Perplexity's words.
const SOURCES: [&str; 2] = ["citations", "search_results"];

/// What an answer is called: the job's own id in OpenAI's form.
pub fn id(job: JobId) -> String {
    format!("chatcmpl-{}", job.0.simple())
}

/// The whole answer.
pub fn whole(job: &Job) -> Value {
    let output = job.output.as_ref().unwrap_or(&Value::Null);
    let mut completion = json!({
        "id": id(job.id), "object": "chat.completion", "created": job.created_at.timestamp(), "model": job.model,
        "choices": choices(output), "usage": usage(output), "system_fingerprint": null,
    });
    for (name, found) in sources(output) {
        completion[name] = found.clone();
    }
    completion
}

/// Where the answer was looked up, if it was.
pub fn sources(output: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    SOURCES.into_iter().filter_map(move |name| Some((name, output.get(name)?)))
}

/// Every answer of an output, in order.
pub fn choices(output: &Value) -> Vec<Value> {
    match output["choices"].as_array() {
        Some(several) => (0_u64..).zip(several).map(|(place, answer)| choice(place, answer)).collect(),
        None => {
            let message = json!({
                "content": output["text"], "tool_calls": output["tool_calls"], "reasoning": output["reasoning"],
            });
            let answer = json!({
                "message": message, "logprobs": output["logprobs"], "finish_reason": output["finish_reason"],
            });
            vec![choice(0, &answer)]
        }
    }
}

fn choice(place: u64, answer: &Value) -> Value {
    let told = &answer["message"];
    let calls = told["tool_calls"].as_array().filter(|calls| !calls.is_empty());
    // Beside calls, an empty text is none.
    let content = told["content"].as_str().filter(|text| !(text.is_empty() && calls.is_some()));
    let annotations = told["annotations"].as_array().cloned().unwrap_or_default();
    let mut message = json!({
        "role": "assistant", "content": content, "refusal": told["refusal"], "annotations": annotations,
    });
    if let Some(calls) = calls {
        message["tool_calls"] = json!(calls);
    }
    let reasoning = told["reasoning"].as_str().or_else(|| told["reasoning_content"].as_str());
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    json!({
        "index": answer["index"].as_u64().unwrap_or(place), "message": message, "logprobs": answer["logprobs"],
        "finish_reason": answer["finish_reason"].as_str().unwrap_or("stop"),
    })
}

/// What was counted, where the vendor has told it.
pub fn usage(output: &Value) -> Option<Value> {
    let told = output["usage"].as_object()?;
    let count = |name: &str| told.get(name).and_then(Value::as_u64);
    let (read, written) = (count("prompt_tokens"), count("completion_tokens"));
    let total = count("total_tokens").or_else(|| read?.checked_add(written?));
    let mut usage = Map::new();
    for (name, count) in [("prompt_tokens", read), ("completion_tokens", written), ("total_tokens", total)] {
        usage.insert(name.into(), count?.into());
    }
    for name in DETAILS {
        if let Some(details) = told.get(name).filter(|details| details.is_object()) {
            usage.insert(name.into(), details.clone());
        }
    }
    Some(usage.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_stands_at_the_top_of_an_output() {
        let check = |output: Value, message: Value, reason: &str| {
            let made = choices(&output);
            let expected = json!([{ "index": 0, "message": message, "logprobs": output["logprobs"], "finish_reason": reason }]);
            assert_eq!(Value::from(made), expected, "{output}");
        };
        check(
            json!({ "text": "yes", "finish_reason": "length", "logprobs": { "content": [] } }),
            json!({ "role": "assistant", "content": "yes", "refusal": null, "annotations": [] }),
            "length",
        );
        let calls =
            json!([{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        check(
            json!({ "text": "", "finish_reason": "tool_calls", "tool_calls": calls, "reasoning": "hm" }),
            json!({ "role": "assistant", "content": null, "refusal": null, "annotations": [], "tool_calls": calls, "reasoning_content": "hm" }),
            "tool_calls",
        );
        check(
            json!({ "text": "" }),
            json!({ "role": "assistant", "content": "", "refusal": null, "annotations": [] }),
            "stop",
        );
    }

    #[test]
    fn several_answers_are_those_of_the_vendor_in_openais_form() {
        let answer = |index: u64, text: &str| json!({ "index": index, "message": { "role": "assistant", "content": text, "other": 1 }, "finish_reason": "stop", "native_finish_reason": "STOP" });
        let made = choices(&json!({ "text": "one", "choices": [answer(0, "one"), answer(1, "two")] }));
        assert_eq!(made.len(), 2);
        assert_eq!((&made[1]["index"], &made[1]["message"]["content"]), (&json!(1), &json!("two")));
        assert!(made[1].get("native_finish_reason").is_none() && made[1]["message"].get("other").is_none());
    }

    #[test]
    fn counts_are_openais_and_say_nothing_of_what_we_pay() {
        let told = json!({ "prompt_tokens": 3, "completion_tokens": 4, "cost": 0.1, "prompt_tokens_details": { "cached_tokens": 1 } });
        let expected = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": { "cached_tokens": 1 } });
        assert_eq!(usage(&json!({ "usage": told })), Some(expected));
        assert_eq!(usage(&json!({ "usage": { "prompt_tokens": 3 } })), None);
        assert_eq!(usage(&json!({ "usage": null })), None);
        assert_eq!(usage(&json!({})), None);
    }
}
