//! Improving a result: the same input with a wish more, in a form that every vendor understands.
//!
//! A conversation goes on: after what was asked comes the answer, and the wish as the next message. A prompt gets a paragraph
//! more, `Change: ` and the wish. What is not asked for in words, such as a transcript or a cut-out, is not improved by them.
//! Deliberately absent: whether the model takes so long an input; its schema says so.

use serde_json::{Value, json};

/// Most improvements in a row, each of the one before.
pub const ITERATIONS_MAX: i16 = 3;

/// The input that a task answered with `answer`, and what is wished of it now. `None`: words change nothing there.
pub fn improved(task: &str, input: &Value, answer: Option<&str>, wish: &str) -> Option<Value> {
    let mut improved = input.clone();
    let fields = improved.as_object_mut()?;
    if task != "text.chat" {
        let prompt = input.get("prompt")?.as_str()?;
        fields.insert("prompt".into(), json!(format!("{prompt}\n\nChange: {wish}")));
        return Some(improved);
    }
    let asked = match (fields.remove("messages"), fields.remove("prompt")) {
        (Some(Value::Array(messages)), _) => messages,
        (_, Some(prompt)) => vec![json!({ "role": "user", "content": prompt })],
        _ => return None,
    };
    let said =
        [json!({ "role": "assistant", "content": answer? }), json!({ "role": "user", "content": wish })];
    fields.insert("messages".into(), asked.into_iter().chain(said).collect());
    Some(improved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(task: &str, input: Value, answer: Option<&str>, expected: Option<Value>) {
        assert_eq!(improved(task, &input, answer, "shorter"), expected, "{task} {input}");
    }

    #[test]
    fn a_conversation_goes_on_with_the_answer_and_the_wish() {
        let said = |before: Value| {
            let mut messages = before.as_array().expect("messages").clone();
            messages.push(json!({ "role": "assistant", "content": "a kiln is an oven" }));
            messages.push(json!({ "role": "user", "content": "shorter" }));
            json!(messages)
        };
        let asked = json!([{ "role": "user", "content": "what is a kiln" }]);
        let answer = Some("a kiln is an oven");
        check(
            "text.chat",
            json!({ "prompt": "what is a kiln", "system": "be brief", "seed": 1 }),
            answer,
            Some(json!({ "messages": said(asked.clone()), "system": "be brief", "seed": 1 })),
        );
        check(
            "text.chat",
            json!({ "messages": asked }),
            answer,
            Some(json!({ "messages": said(asked.clone()) })),
        );
        check("text.chat", json!({ "messages": asked }), None, None);
    }

    #[test]
    fn a_prompt_gets_a_paragraph_more_each_time() {
        let first = json!({ "prompt": "a fox", "size": "64x64" });
        let second = json!({ "prompt": "a fox\n\nChange: shorter", "size": "64x64" });
        let third = json!({ "prompt": "a fox\n\nChange: shorter\n\nChange: shorter", "size": "64x64" });
        check("image.generate", first, None, Some(second.clone()));
        check("image.generate", second, None, Some(third));
    }

    #[test]
    fn what_is_not_asked_for_in_words_is_not_improved_by_them() {
        check("audio.speech", json!({ "text": "hello" }), None, None);
        check("image.vectorize", json!({ "image": "https://example.com/a.png" }), None, None);
        check("audio.transcribe", json!({ "audio": "https://example.com/a.mp3" }), Some("hello"), None);
    }
}
