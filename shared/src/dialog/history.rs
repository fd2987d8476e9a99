//! From a request and what was said before to what a job is given to read, and to what the dialog will keep of it.
//!
//! A pure function, so that the job's input is complete when it is submitted and never changes. What goes before is what vendors
//! take: it begins with a question, and no call of a tool in it is left without an answer. What is kept is words: pictures and
//! recordings are named and not repeated, since their addresses end and their bytes would be paid for again with each question.
//! Deliberately absent: the model's schema, which whoever calls checks before and after.

use serde_json::{Map, Value, json};

use super::{Dialog, Recalled};

/// Most characters of one message of a dialog: as many as a text of a request may have (`catalog/tasks/text.chat.json`).
pub const MESSAGE_CHARS: usize = 50_000;

/// Roles of instructions, which are the request's and the dialog's own and no part of what is said.
const INSTRUCTIONS: [&str; 2] = ["system", "developer"];
/// Fields of a message, besides role and content, without which it means something else.
const MEANT: [&str; 3] = ["name", "tool_calls", "tool_call_id"];

/// How much may go before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of messages as JSON.
    pub bytes: usize,
    /// Messages, those of the request included.
    pub messages: usize,
}

/// A request that goes on from what was said before.
#[derive(Debug, Clone, PartialEq)]
pub struct Continued {
    /// What the job is given.
    pub input: Value,
    /// What the dialog keeps of the request when the job succeeds: messages in OpenAI's form. `None`: nothing, and not the
    /// answer either.
    pub said: Option<Value>,
}

/// A message is longer than a dialog takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLong {
    /// The field of the input that holds it.
    pub param: String,
}

/// Puts a dialog's instructions, unless the request has its own, and as much of what was said before as there is room for, before
/// a request. An input that is no chat's is given back as it is, for whoever checks it to refuse.
///
/// # Errors
/// When a message of the request is too long to be kept.
pub fn go_on(recalled: &Recalled, mut input: Value, room: Room) -> Result<Continued, TooLong> {
    let dialog = &recalled.dialog;
    let Some(fields) = input.as_object_mut() else { return Ok(Continued { input, said: None }) };
    let Some(own) = own_messages(fields) else { return Ok(Continued { input, said: None }) };
    let said = if dialog.keeps_history { Some(said(fields, &own)?) } else { None };
    instruct(dialog, fields, &own);
    let leading = own.iter().take_while(|message| is_instruction(message)).count();
    let (leading, own) = own.split_at(leading);
    let room = Room { messages: room.messages.saturating_sub(leading.len() + own.len()), ..room };
    let history = before(&recalled.history, own.first(), room);
    // Without any, a request stays as it was sent.
    if !history.is_empty() {
        fields.remove("prompt");
        fields.insert("messages".into(), [leading, history.as_slice(), own].concat().into());
    }
    Ok(Continued { input, said })
}

/// The messages that a request brings, a prompt being one.
fn own_messages(fields: &Map<String, Value>) -> Option<Vec<Value>> {
    match (fields.get("messages"), fields.get("prompt")) {
        (Some(Value::Array(messages)), None) => Some(messages.clone()),
        (None, Some(Value::String(prompt))) => Some(vec![json!({ "role": "user", "content": prompt })]),
        _ => None,
    }
}

/// What is kept of the messages of a request.
fn said(fields: &Map<String, Value>, own: &[Value]) -> Result<Value, TooLong> {
    let mut said = Vec::new();
    for (at, message) in own.iter().enumerate().filter(|(_, message)| !is_instruction(message)) {
        let kept = in_words(message);
        if chars(&kept) > MESSAGE_CHARS {
            let is_prompt = fields.contains_key("prompt");
            let param = if is_prompt { "input.prompt".into() } else { format!("input.messages.{at}") };
            return Err(TooLong { param });
        }
        said.push(kept);
    }
    Ok(said.into())
}

/// Gives a request the dialog's instructions where it has none.
fn instruct(dialog: &Dialog, fields: &mut Map<String, Value>, own: &[Value]) {
    let has_own =
        fields.get("system").is_some_and(|system| !system.is_null()) || own.iter().any(is_instruction);
    if let (Some(system), false) = (&dialog.system, has_own) {
        fields.insert("system".into(), json!(system));
    }
}

/// The newest messages that there is room for, from a question on; `next` is what follows them.
fn before(history: &[Value], next: Option<&Value>, room: Room) -> Vec<Value> {
    let mut bytes = 0;
    let fits = |message: &&Value| {
        bytes += message.to_string().len();
        bytes <= room.bytes && chars(message) <= MESSAGE_CHARS
    };
    let count = history.iter().rev().take(room.messages).take_while(fits).count();
    let newest = &history[history.len() - count..];
    let followers = newest.iter().skip(1).map(Some).chain([next]);
    let answered = newest.iter().zip(followers).map(|(message, follower)| answered(message, follower));
    answered.filter(says_something).skip_while(|message| role(message) != "user").collect()
}

/// A message without calls of tools that nobody answered; vendors refuse a conversation with such.
fn answered(message: &Value, follower: Option<&Value>) -> Value {
    let mut message = message.clone();
    if follower.is_none_or(|follower| role(follower) != "tool")
        && let Some(fields) = message.as_object_mut()
    {
        fields.remove("tool_calls");
    }
    message
}

/// Whether a message has words or calls a tool. A model that spent all it had on thinking said nothing.
fn says_something(message: &Value) -> bool {
    let is_empty = match &message["content"] {
        Value::String(text) => text.is_empty(),
        Value::Array(parts) => parts.is_empty(),
        _ => true,
    };
    !is_empty || message.get("tool_calls").is_some()
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

fn is_instruction(message: &Value) -> bool {
    INSTRUCTIONS.contains(&role(message))
}

/// A message as a dialog keeps it.
fn in_words(message: &Value) -> Value {
    let content = match &message["content"] {
        Value::Array(parts) => parts.iter().map(part_in_words).collect(),
        other => other.clone(),
    };
    let mut kept = json!({ "role": message["role"], "content": content });
    for name in MEANT {
        if let Some(value) = message.get(name).filter(|value| !value.is_null()) {
            kept[name] = value.clone();
        }
    }
    kept
}

fn part_in_words(part: &Value) -> Value {
    let text = match part["type"].as_str() {
        Some("text" | "input_text") => return json!({ "type": "text", "text": part["text"] }),
        Some("image_url" | "input_image") => "[a picture]",
        Some("input_audio") => "[a recording]",
        Some("video_url") => "[a film]",
        _ => "[a file]",
    };
    json!({ "type": "text", "text": text })
}

/// Characters of all texts in it.
fn chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(chars).sum(),
        // What the form itself says does not count: a prompt may be as long as one without a dialog.
        Value::Object(fields) => {
            let texts = fields.iter().filter(|(name, _)| !["role", "type"].contains(&name.as_str()));
            texts.map(|(_, value)| chars(value)).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;
    use crate::id::DialogId;

    const WIDE: Room = Room { bytes: 1_000_000, messages: 1000 };

    fn recalled(system: Option<&str>, history: Value) -> Recalled {
        let dialog = Dialog {
            id: DialogId::new(),
            user: None,
            key: None,
            title: None,
            model: None,
            system: system.map(str::to_owned),
            uses_history: true,
            keeps_history: true,
            message_count: 0,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        Recalled { dialog, history: history.as_array().unwrap().clone() }
    }

    fn user(text: &str) -> Value {
        json!({ "role": "user", "content": text })
    }

    fn answer(text: &str) -> Value {
        json!({ "role": "assistant", "content": text })
    }

    fn check(system: Option<&str>, history: Value, input: Value, expected: Value) {
        let continued = go_on(&recalled(system, history), input.clone(), WIDE).unwrap();
        assert_eq!(continued.input, expected, "{input}");
    }

    #[test]
    fn a_question_comes_after_what_was_said_and_that_after_the_instructions() {
        let history = json!([user("a"), answer("b")]);
        check(
            Some("be brief"),
            history.clone(),
            json!({ "prompt": "c", "temperature": 1 }),
            json!({ "system": "be brief", "messages": [user("a"), answer("b"), user("c")], "temperature": 1 }),
        );
        let told = json!({ "role": "system", "content": "be long" });
        check(
            Some("be brief"),
            history.clone(),
            json!({ "messages": [told, user("c"), told, user("d")] }),
            json!({ "messages": [told, user("a"), answer("b"), user("c"), told, user("d")] }),
        );
        check(
            Some("be brief"),
            history,
            json!({ "prompt": "c", "system": "be long" }),
            json!({ "system": "be long", "messages": [user("a"), answer("b"), user("c")] }),
        );
    }

    #[test]
    fn the_first_question_stays_as_it_was_sent() {
        check(None, json!([]), json!({ "prompt": "c" }), json!({ "prompt": "c" }));
        check(Some("s"), json!([]), json!({ "prompt": "c" }), json!({ "prompt": "c", "system": "s" }));
        for odd in [json!({}), json!("c"), json!({ "prompt": 1 }), json!({ "prompt": "c", "messages": [] })] {
            check(Some("s"), json!([user("a"), answer("b")]), odd.clone(), odd);
        }
    }

    #[test]
    fn what_is_kept_of_a_request_is_what_was_said_in_words() {
        let picture = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } });
        let call =
            json!([{ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{}" } }]);
        let input = json!({ "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [{ "type": "text", "text": "what is this?", "more": 1 }, picture], "name": "ann" },
            { "role": "assistant", "content": null, "tool_calls": call, "reasoning": "long" },
            { "role": "tool", "tool_call_id": "c1", "content": "a fox" },
        ] });
        let continued = go_on(&recalled(None, json!([])), input.clone(), WIDE).unwrap();
        assert_eq!(continued.input, input, "the job sees it whole");
        let texts =
            json!([{ "type": "text", "text": "what is this?" }, { "type": "text", "text": "[a picture]" }]);
        let kept = json!([
            { "role": "user", "content": texts, "name": "ann" },
            { "role": "assistant", "content": null, "tool_calls": call },
            { "role": "tool", "tool_call_id": "c1", "content": "a fox" },
        ]);
        assert_eq!(continued.said, Some(kept));
        let mut silent = recalled(None, json!([]));
        silent.dialog.keeps_history = false;
        assert_eq!(go_on(&silent, json!({ "prompt": "x" }), WIDE).unwrap().said, None);
    }

    #[test]
    fn a_message_that_is_too_long_to_be_kept_is_named() {
        let at = |input: Value| go_on(&recalled(None, json!([])), input, WIDE).map_err(|error| error.param);
        assert!(at(json!({ "prompt": "ы".repeat(MESSAGE_CHARS) })).is_ok(), "characters, not bytes");
        assert_eq!(at(json!({ "prompt": "x".repeat(MESSAGE_CHARS + 1) })), Err("input.prompt".into()));
        let half = json!({ "type": "text", "text": "x".repeat(MESSAGE_CHARS / 2 + 1) });
        let parts = json!({ "messages": [user("a"), { "role": "user", "content": [half, half] }] });
        assert_eq!(at(parts), Err("input.messages.1".into()));
        let mut silent = recalled(None, json!([]));
        silent.dialog.keeps_history = false;
        assert!(
            go_on(&silent, json!({ "prompt": "x".repeat(MESSAGE_CHARS + 1) }), WIDE).is_ok(),
            "nothing is kept"
        );
    }

    #[test]
    fn the_newest_that_fit_come_along_from_a_question_on() {
        let history = json!([user("a"), answer("b"), user("c"), answer("d")]);
        let size = user("a").to_string().len() + answer("b").to_string().len();
        let check = |bytes: usize, messages: usize, expected: Value| {
            let room = Room { bytes, messages };
            let input =
                go_on(&recalled(None, history.clone()), json!({ "prompt": "e" }), room).unwrap().input;
            let found = if input.get("messages").is_some() { input["messages"].clone() } else { json!([]) };
            assert_eq!(found, expected, "{room:?}");
        };
        check(2 * size, 5, json!([user("a"), answer("b"), user("c"), answer("d"), user("e")]));
        check(2 * size - 1, 5, json!([user("c"), answer("d"), user("e")]));
        check(2 * size, 4, json!([user("c"), answer("d"), user("e")]));
        check(size, 3, json!([user("c"), answer("d"), user("e")]));
        check(size - 1, 3, json!([]));
        check(2 * size, 1, json!([]));
        check(0, 0, json!([]));
    }

    #[test]
    fn a_call_that_nobody_answered_and_an_answer_without_words_are_left_out() {
        let call = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "c1" }] });
        let result = json!({ "role": "tool", "tool_call_id": "c1", "content": "x" });
        check(
            None,
            json!([user("a"), call, user("b"), answer("")]),
            json!({ "prompt": "c" }),
            json!({ "messages": [user("a"), user("b"), user("c")] }),
        );
        let whole = json!([user("a"), call, result, answer("d")]);
        check(
            None,
            whole,
            json!({ "prompt": "c" }),
            json!({ "messages": [user("a"), call, result, answer("d"), user("c")] }),
        );
        check(
            None,
            json!([user("a"), call]),
            json!({ "messages": [result] }),
            json!({ "messages": [user("a"), call, result] }),
        );
        let too_long = json!([user("a"), answer(&"x".repeat(MESSAGE_CHARS + 1)), user("b"), answer("d")]);
        check(
            None,
            too_long,
            json!({ "prompt": "c" }),
            json!({ "messages": [user("b"), answer("d"), user("c")] }),
        );
    }

    #[test]
    fn whatever_was_said_what_goes_before_is_a_tail_of_it_within_its_room() {
        let said = ("user|assistant|tool", "[a-zы]{0,20}")
            .prop_map(|(role, text)| json!({ "role": role, "content": text }));
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        proptest!(config, |(history in vec(said, 0..12), bytes in 0..600_usize, messages in 0..12_usize)| {
            let taken = before(&history, None, Room { bytes, messages });
            prop_assert!(taken.len() <= messages);
            prop_assert!(taken.iter().map(|message| message.to_string().len()).sum::<usize>() <= bytes);
            prop_assert!(taken.first().is_none_or(|first| role(first) == "user"));
            let spoken: Vec<_> = history.iter().filter(|message| says_something(message)).cloned().collect();
            prop_assert!(spoken.ends_with(&taken));
        });
    }
}
