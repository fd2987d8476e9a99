//! MiniMax: Hailuo by version 1 of its interface ([`v1`]), H3 by version 2 ([`v2`]), each a vendor of its own with one key.
//!
//! What both share is here: one way to send, and codes that say what went wrong, whatever the HTTP status. After a lost answer
//! both give up: MiniMax takes no name of ours, and a second video costs 28–56 cents and more, so a failed job (nothing charged)
//! is better than two bills ("maybe never"). Deliberately absent: subjects, reference films and sounds.

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    ErrorClass, ProviderError,
    http::{self, ASK_TIMEOUT, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, is_id},
};

pub mod v1;
pub mod v2;

/// The way to MiniMax, for both versions.
#[derive(Debug)]
struct Line {
    http: reqwest::Client,
    base_url: String,
}

impl Line {
    /// A line to `base_url` (without its version).
    fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    /// Sends a request and reads its answer as `T`, which must hold no error.
    async fn call<T: DeserializeOwned>(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<T, ProviderError> {
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        let answer = http::send(request, stake, MAX_JSON_BYTES).await?;
        let envelope: Envelope = serde_json::from_slice(&answer.body).unwrap_or_default();
        let complaint = envelope.complaint();
        if complaint.is_none() && answer.status.is_success() {
            return answer.json();
        }
        if stake == Stake::Submit && text_of(&envelope.task_id).is_some() {
            return Err(answer.nonsense("an error that names a task"));
        }
        let (class, words) =
            complaint.unwrap_or_else(|| (answer.class(), "an error without MiniMax's shape".to_owned()));
        Err(answer.error(class, &words))
    }
}

/// What any answer may hold; a field of another type than usual does not hide the verdict beside it.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    base_resp: Option<Verdict>,
    /// Of a task of version 1, where the answer is about one.
    #[serde(default)]
    status: Value,
    #[serde(default)]
    task_id: Value,
    /// How some answers of version 2 say no.
    #[serde(default)]
    error: Value,
}

impl Envelope {
    /// The error in an answer, whatever its HTTP status, and its words.
    fn complaint(&self) -> Option<(ErrorClass, String)> {
        if let Some(Verdict { status_code, status_msg }) =
            self.base_resp.as_ref().filter(|told| told.status_code != 0)
        {
            let class = judge(*status_code, self.status.as_str().unwrap_or_default());
            return Some((class, format!("code {status_code}: {status_msg}")));
        }
        let failure = Failure::deserialize(&self.error).ok()?;
        let code = failure.number()?;
        Some((class_of(code), format!("code {code}: {}", failure.message)))
    }
}

#[derive(Debug, Deserialize)]
struct Verdict {
    status_code: i64,
    #[serde(default)]
    status_msg: String,
}

/// Why something failed, in version 2.
#[derive(Debug, Default, Deserialize)]
struct Failure {
    /// A number or a text with a number in it; seen in both forms.
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// The code, where it is a number.
    fn number(&self) -> Option<i64> {
        self.code.as_i64().or_else(|| self.code.as_str()?.parse().ok())
    }
}

/// What an error code means; beside the word that a task of version 1 failed, every code is the reason for a verdict.
fn judge(code: i64, status: &str) -> ErrorClass {
    match class_of(code) {
        ErrorClass::Refused => ErrorClass::Refused,
        _ if status == v1::FAILED => ErrorClass::Failed,
        class => class,
    }
}

fn class_of(code: i64) -> ErrorClass {
    match code {
        // 2038 is an account without the identity check, 2061 a plan without this model.
        1004 | 2038 | 2049 | 2061 => ErrorClass::Auth,
        1008 => ErrorClass::Quota,
        1002 | 1039 | 1041 => ErrorClass::RateLimited,
        1026 | 1027 => ErrorClass::Refused,
        1042 | 2013 => ErrorClass::BadInput,
        // 1000, 1001, 1024 and 1033 are faults of theirs; a code not listed is no verdict on the input.
        _ => ErrorClass::Unavailable,
    }
}

/// An id, which is a string in one answer and a number in the next. A number too long to be read exactly is none.
fn text_of(id: &Value) -> Option<String> {
    match id {
        Value::String(text) if is_id(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn codes_become_classes() {
        let check = |code, expected| assert_eq!(class_of(code), expected, "{code}");
        check(1000, ErrorClass::Unavailable);
        check(1002, ErrorClass::RateLimited);
        check(1004, ErrorClass::Auth);
        check(1008, ErrorClass::Quota);
        check(1026, ErrorClass::Refused);
        check(1027, ErrorClass::Refused);
        check(1039, ErrorClass::RateLimited);
        check(1042, ErrorClass::BadInput);
        check(2013, ErrorClass::BadInput);
        check(2049, ErrorClass::Auth);
        check(2061, ErrorClass::Auth);
        check(4242, ErrorClass::Unavailable);
    }

    #[test]
    fn a_failed_task_is_a_verdict_whatever_its_code() {
        let check =
            |code, status: &str, expected| assert_eq!(judge(code, status), expected, "{code} {status}");
        check(1000, "Fail", ErrorClass::Failed);
        check(1027, "Fail", ErrorClass::Refused);
        check(1000, "Processing", ErrorClass::Unavailable);
        check(1002, "", ErrorClass::RateLimited);
    }

    #[test]
    fn an_error_is_found_in_every_shape() {
        let check = |body: Value, expected: Option<ErrorClass>| {
            let envelope: Envelope = serde_json::from_value(body.clone()).unwrap_or_default();
            let found = envelope.complaint().map(|(class, _)| class);
            assert_eq!(found, expected, "{body}");
        };
        check(json!({"task_id": "1", "base_resp": {"status_code": 0, "status_msg": "success"}}), None);
        check(json!({"task_id": "1"}), None);
        check(json!({"base_resp": {"status_code": 1008}}), Some(ErrorClass::Quota));
        check(json!({"error": {"code": 1026, "message": "sensitive"}}), Some(ErrorClass::Refused));
        check(json!({"error": {"code": "2013", "message": "no"}}), Some(ErrorClass::BadInput));
        check(json!({"error": {"code": "not_found"}}), None);
        check(json!({"base_resp": {"status_code": 1008}, "status": 3}), Some(ErrorClass::Quota));
        check(json!(["no object"]), None);
    }

    #[test]
    fn ids_come_as_text_or_number() {
        let check = |id: Value, expected: Option<&str>| assert_eq!(text_of(&id).as_deref(), expected);
        check(json!("205"), Some("205"));
        check(json!(205), Some("205"));
        check(json!(""), None);
        check(json!(2.05e30), None);
        check(json!("20\u{0}5"), None);
        check(Value::Null, None);
    }
}
