//! What of an input is text: everything that a provider may read as the caller's words.
//!
//! At the top the model's schema tells: a field that takes only certain values, or only what fits a pattern, holds no words, and
//! file fields are of that kind. Below, in messages and tools, everything is text but what names or holds something else.
//! When in doubt a string is text. Deliberately absent: what pictures and recordings show or say.

use serde_json::Value;

/// Keywords of a schema by which a field has no room for words.
const CLOSED: [&str; 4] = ["contentMediaType", "enum", "const", "pattern"];

/// The field of a follow-up that names one of the actions its job offers, which is checked at submit and by the adapter.
const ACTION: &str = "action";

/// Fields within messages and tools, in OpenAI's form, whose strings name something or hold a file.
const NAMES: [&str; 10] =
    ["type", "role", "id", "tool_call_id", "file_id", "url", "image_url", "data", "file_data", "format"];

/// Every text of an input to a model with this schema. Without a schema, as for a model that is offered no more, a string that
/// begins as a file's address does is taken for one.
pub fn of<'a>(input: &'a Value, schema: Option<&Value>) -> Vec<&'a str> {
    let mut texts = Vec::new();
    for (field, value) in input.as_object().into_iter().flatten() {
        if takes_words(field, value, schema) {
            gather(value, &mut texts);
        }
    }
    texts
}

fn takes_words(field: &str, value: &Value, schema: Option<&Value>) -> bool {
    if field == ACTION {
        return false;
    }
    match schema {
        Some(schema) => {
            let field = &schema["properties"][field];
            !CLOSED.iter().any(|keyword| field.get(*keyword).is_some())
        }
        None => !value.as_str().is_some_and(names_a_file),
    }
}

fn names_a_file(text: &str) -> bool {
    ["data:", "https://", "http://", "file_", "job_"].iter().any(|start| text.starts_with(start))
        && !text.contains(char::is_whitespace)
}

fn gather<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| gather(item, texts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if !(value.is_string() && NAMES.contains(&name.as_str())) {
                    gather(value, texts);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::catalog::Catalog;

    use super::*;

    fn check(model: &str, input: Value, expected: &[&str]) {
        let catalog = Catalog::load().unwrap();
        let mut found = of(&input, catalog.get(model).map(|model| &model.schema));
        found.sort_unstable();
        assert_eq!(found, expected, "{model} {input}");
    }

    #[test]
    fn words_are_text_and_choices_files_and_ids_are_not() {
        let image = "https://example.com/a picture.png";
        check("nano-banana", json!({"prompt": "a fox", "aspect_ratio": "16:9"}), &["a fox"]);
        check("nano-banana-edit", json!({"prompt": "bluer", "image": image}), &["bluer"]);
        check(
            "kling",
            json!({"prompt": "a", "negative_prompt": "b", "seconds": 5, "image": image}),
            &["a", "b"],
        );
        check("tts-1", json!({"text": "good morning", "voice": "alloy", "format": "wav"}), &["good morning"]);
        let song = json!({"lyrics": "la", "title": "Fox", "style": "folk", "instrumental": false});
        check("suno", song, &["Fox", "folk", "la"]);
        check("vectorize", json!({"image": "data:image/png;base64,AAAA"}), &[]);
        check("whisper-1", json!({"audio": image, "language": "en"}), &[]);
        check("face-swap", json!({"image": image, "source": image, "consent": true}), &[]);
        check("midjourney-blend", json!({"image": image, "image_2": image, "aspect_ratio": "2:3"}), &[]);
        let job = "job_0123456789abcdef0123456789abcdef";
        check("midjourney-action", json!({"job": job, "action": "MJ::JOB::variation::1::x"}), &[]);
        check("midjourney-video-extend", json!({"job": job, "motion": "low", "prompt": "on"}), &["on"]);
    }

    #[test]
    fn an_address_in_the_place_of_words_is_read_as_words() {
        check(
            "midjourney",
            json!({"prompt": "https://example.com/1.png a fox --ar 1:1"}),
            &["https://example.com/1.png a fox --ar 1:1"],
        );
        check("nano-banana", json!({"prompt": "https://a,fox"}), &["https://a,fox"]);
        check("nano-banana", json!({"prompt": " \n"}), &[]);
    }

    #[test]
    fn all_that_is_said_in_a_conversation_is_text() {
        check("gpt-4o", json!({"prompt": "b", "system": "a", "temperature": 0.5}), &["a", "b"]);
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let recording = json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}});
        let function = json!({"name": "look", "arguments": "{\"for\":\"f\"}"});
        let input = json!({
            "messages": [
                {"role": "system", "content": "a"},
                {"role": "user", "content": [{"type": "text", "text": "b"}, picture, recording]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
                {"role": "tool", "tool_call_id": "c1", "content": "c"},
            ],
            "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}],
            "reasoning_effort": "low",
            "stop": ["e"],
        });
        check("gpt-4o", input, &["a", "b", "c", "d", "e", "look", "look", "{\"for\":\"f\"}"]);
    }

    #[test]
    fn without_a_schema_what_looks_like_a_file_is_one() {
        let file = "file_0123456789abcdef0123456789abcdef";
        let input = json!({"prompt": "a fox", "image": "https://example.com/a.png", "mask": file, "style": "data: folk"});
        check("gone", input, &["a fox", "data: folk"]);
    }
}
