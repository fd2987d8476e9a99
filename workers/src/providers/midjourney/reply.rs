//! What a proxy answers to a submit. It is mostly a 200, and the code in it decides.

use serde::Deserialize;
use serde_json::Value;

use crate::providers::{
    ErrorClass, ProviderError,
    http::{Answer, is_id},
};

/// A submit that the proxy took.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// The task of this id is queued, at work, or was done before.
    Begun(String),
    /// The task of this id waits for a second step.
    Window(String),
}

#[derive(Debug, Deserialize)]
struct Reply {
    code: i64,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    properties: Value,
}

/// The verdict on a submit; `follows_up` says whether it names an earlier task.
///
/// # Errors
/// Everything that the proxy did not take; [`ErrorClass::Ambiguous`] for a code that nobody knows.
pub(super) fn read(answer: &Answer, follows_up: bool) -> Result<Taken, ProviderError> {
    // trueai's proxy says so when it has forgotten the earlier task; else the address is wrong, which is our fault.
    if answer.status.as_u16() == 404 && follows_up {
        return Err(answer.error(ErrorClass::BadInput, "the earlier task is not there"));
    }
    let Ok(reply) = serde_json::from_slice::<Reply>(&answer.body) else {
        if answer.status.is_success() {
            return Err(answer.nonsense("an answer without the proxy's shape"));
        }
        return Err(answer.error(answer.class(), "an error without the proxy's shape"));
    };
    let description = reply.description.unwrap_or_default();
    let words = format!("code {}: {description}", reply.code);
    if let Some(class) = class_of(reply.code, &description) {
        return Err(answer.error(class, &words));
    }
    // A proxy before the proxy whose own call was lost answers so; the work may have been begun.
    if !answer.status.is_success() {
        let is_plain =
            matches!(answer.class(), ErrorClass::Auth | ErrorClass::Quota | ErrorClass::RateLimited);
        return Err(if is_plain { answer.error(answer.class(), &words) } else { answer.nonsense(&words) });
    }
    let id = id(&reply.result).ok_or_else(|| answer.nonsense("taken without a task's id"))?;
    match reply.code {
        // 22: it waits behind others.
        1 | 22 => Ok(Taken::Begun(id)),
        // Done before, and its picture is there; or a window, which has none.
        21 if has_picture(&reply.properties) => Ok(Taken::Begun(id)),
        21 => Ok(Taken::Window(id)),
        _ => Err(answer.nonsense(&words)),
    }
}

/// A task's id, which is a string, or a number in some forks. One too long to be read exactly is none.
pub(super) fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if is_id(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn has_picture(properties: &Value) -> bool {
    properties["imageUrl"].as_str().is_some_and(|url| !url.is_empty())
}

fn class_of(code: i64, description: &str) -> Option<ErrorClass> {
    match code {
        // No account at Midjourney that could do it, or a failure on the way there.
        3 | 9 => Some(ErrorClass::Unavailable),
        4 if description.contains("quota_not_enough") => Some(ErrorClass::Quota),
        4 => Some(ErrorClass::BadInput),
        23 => Some(ErrorClass::RateLimited),
        24 => Some(ErrorClass::Refused),
        30 => Some(ErrorClass::Quota),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::http::Stake;

    fn check(status: u16, body: &Value, follows_up: bool, expected: Result<Taken, ErrorClass>) {
        let answer = Answer::told(status, &body.to_string(), Stake::Submit);
        assert_eq!(read(&answer, follows_up).map_err(|error| error.class), expected, "{status} {body}");
    }

    #[test]
    fn codes_become_tasks_windows_and_classes() {
        let reply = |code: i64| json!({ "code": code, "description": "x", "result": "42", "properties": {} });
        let begun = || Ok(Taken::Begun("42".into()));
        check(200, &reply(1), false, begun());
        check(200, &reply(22), false, begun());
        check(200, &reply(21), true, Ok(Taken::Window("42".into())));
        let done = json!({ "status": "SUCCESS", "imageUrl": "https://cdn.example/1.png" });
        check(200, &json!({ "code": 21, "result": 42, "properties": done }), true, begun());
        check(200, &json!({ "code": 1, "result": null }), false, Err(ErrorClass::Ambiguous));
        check(200, &reply(77), false, Err(ErrorClass::Ambiguous));
        check(200, &reply(3), false, Err(ErrorClass::Unavailable));
        check(200, &reply(4), false, Err(ErrorClass::BadInput));
        check(200, &reply(9), false, Err(ErrorClass::Unavailable));
        check(200, &reply(23), false, Err(ErrorClass::RateLimited));
        check(200, &reply(24), false, Err(ErrorClass::Refused));
        check(200, &reply(30), false, Err(ErrorClass::Quota));
        check(429, &reply(30), false, Err(ErrorClass::Quota));
        let empty = json!({ "code": 4, "description": "quota_not_enough" });
        check(400, &empty, false, Err(ErrorClass::Quota));
    }

    #[test]
    fn what_has_not_the_proxys_shape_is_judged_by_its_status() {
        check(401, &json!(""), false, Err(ErrorClass::Auth));
        check(200, &json!("<html>"), false, Err(ErrorClass::Ambiguous));
        check(404, &json!({}), true, Err(ErrorClass::BadInput));
        check(404, &json!({}), false, Err(ErrorClass::Auth));
        check(503, &json!({ "error": "away" }), false, Err(ErrorClass::Unavailable));
    }
}
