//! The error object of OpenAI's protocol: in an unsuccessful answer, in a successful one, and in the middle of a stream.
//!
//! Vendors that share the protocol share the object and differ in its codes, so each brings a [`Judge`] of its own.

use serde::Deserialize;
use serde_json::Value;

use crate::providers::{
    ErrorClass, ProviderError,
    http::{self, Answer, Stake},
};

/// What went wrong, in the vendor's words.
#[derive(Debug, Default, Deserialize)]
pub struct Fault {
    #[serde(default)]
    message: Option<String>,
    /// OpenAI's word for the kind of error.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// A word; OpenRouter and some relays put an HTTP status here.
    #[serde(default)]
    code: Option<Value>,
    /// What OpenRouter tells beside it.
    #[serde(default)]
    pub metadata: Value,
}

/// The class that a vendor's error names more exactly than the status of its answer does.
pub type Judge = fn(&Fault) -> Option<ErrorClass>;

impl Fault {
    /// The code where it is a word.
    pub fn word(&self) -> &str {
        self.code.as_ref().and_then(Value::as_str).unwrap_or_default()
    }

    /// The code where it is a number, or one in quotes.
    pub fn number(&self) -> Option<u16> {
        let code = self.code.as_ref()?;
        code.as_u64().and_then(|number| number.try_into().ok()).or_else(|| code.as_str()?.parse().ok())
    }

    fn words(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or_default();
        let code = self.code.as_ref().map_or_else(String::new, |code| match code {
            Value::String(word) => word.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        format!("{kind} {code} {}", self.message.as_deref().unwrap_or_default())
    }

    /// The error that came under a status of success: a fault of the vendor's may have been billed by then, above all
    /// once it `has_begun` to answer.
    pub fn under_success(&self, judge: Judge, has_begun: bool) -> ProviderError {
        let class = judge(self).or_else(|| self.number().and_then(http::class_of_code));
        let class = match class {
            Some(ErrorClass::Unavailable) if has_begun => ErrorClass::Ambiguous,
            Some(class) => class,
            None => Stake::Submit.unanswered(),
        };
        ProviderError::new(class, http::quote(&self.words()))
    }
}

/// What [`Fault`] stands in.
#[derive(Debug, Deserialize)]
struct Failure {
    error: Fault,
}

/// The error in an unsuccessful answer.
pub fn in_answer(answer: &Answer, judge: Judge) -> ProviderError {
    let Ok(Failure { error }) = serde_json::from_slice::<Failure>(&answer.body) else {
        return answer.error(answer.class(), "an error without OpenAI's shape");
    };
    let class = judge(&error).unwrap_or_else(|| answer.class());
    answer.error(class, &error.words())
}

/// OpenAI's own judge, by `code` first and then by `type`.
pub fn judge(fault: &Fault) -> Option<ErrorClass> {
    class_of(fault.word()).or_else(|| class_of(fault.kind.as_deref().unwrap_or_default()))
}

/// The class that one of OpenAI's words for an error names.
pub fn class_of(word: &str) -> Option<ErrorClass> {
    match word {
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "billing_hard_limit_reached" => Some(ErrorClass::Quota),
        "content_policy_violation" | "moderation_blocked" => Some(ErrorClass::Refused),
        "invalid_api_key" | "model_not_found" => Some(ErrorClass::Auth),
        "rate_limit_exceeded" => Some(ErrorClass::RateLimited),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(fault: Value, expected: Option<ErrorClass>) {
        let read: Fault = serde_json::from_value(fault.clone()).unwrap();
        assert_eq!(judge(&read), expected, "{fault}");
    }

    #[test]
    fn codes_say_more_than_the_status() {
        check(json!({"code": "insufficient_quota"}), Some(ErrorClass::Quota));
        check(json!({"type": "insufficient_quota", "code": null}), Some(ErrorClass::Quota));
        check(json!({"code": "credit_balance_exhausted"}), Some(ErrorClass::Quota));
        check(json!({"code": "moderation_blocked"}), Some(ErrorClass::Refused));
        check(json!({"code": "model_not_found", "type": "invalid_request_error"}), Some(ErrorClass::Auth));
        check(json!({"code": "rate_limit_exceeded", "type": "requests"}), Some(ErrorClass::RateLimited));
        check(json!({"code": "context_length_exceeded"}), None);
        check(json!({"code": 500}), None);
        check(json!({}), None);
    }

    fn check_under_success(fault: Value, has_begun: bool, expected: ErrorClass) {
        let read: Fault = serde_json::from_value(fault.clone()).unwrap();
        assert_eq!(read.under_success(judge, has_begun).class, expected, "{fault}");
    }

    #[test]
    fn an_error_after_the_status_is_judged_by_its_codes_and_may_be_billed() {
        check_under_success(json!({"code": "rate_limit_exceeded"}), true, ErrorClass::RateLimited);
        check_under_success(json!({"code": "content_policy_violation"}), true, ErrorClass::Refused);
        check_under_success(json!({"type": "server_error", "code": null}), false, ErrorClass::Ambiguous);
        check_under_success(json!({"code": 502}), false, ErrorClass::Unavailable);
        check_under_success(json!({"code": "503"}), false, ErrorClass::Unavailable);
        check_under_success(json!({"code": 502}), true, ErrorClass::Ambiguous);
        check_under_success(json!({"code": 402}), true, ErrorClass::Quota);
        check_under_success(json!({"code": 7}), true, ErrorClass::Ambiguous);
        check_under_success(json!({}), false, ErrorClass::Ambiguous);
    }
}
