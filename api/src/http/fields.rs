//! What people may say of themselves and their accounts: each field read once, an error names it.
//!
//! Text is trimmed; text that may be absent and is blank counts as absent. Names are one line, since they appear in mails and
//! lists.

use chrono::{DateTime, Datelike, Utc};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use crate::{ApiError, Ctx};
use shared::account::{Email, InvalidEmail, check_password};

/// Most characters of a name.
const NAME_CHARS: usize = 200;
/// Most characters of a description.
const DESCRIPTION_CHARS: usize = 2000;
/// Most characters of a postal address.
const ADDRESS_CHARS: usize = 500;
/// Most characters of a website's URL: what browsers and proxies agree to carry.
const URL_CHARS: usize = 2000;
/// Most digits of a phone number, with its plus: fifteen by E.164, and room for an extension.
const PHONE_CHARS: usize = 20;
/// Fewest digits of a phone number.
const PHONE_DIGITS_MIN: usize = 5;

/// A consent to how we treat personal data, as it comes with a request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GivenConsent)]
pub struct Consent {
    /// Of the document `personal_data`: the current one.
    version: String,
}

impl Consent {
    /// The version, which must be the current one: nobody agrees to a text that no longer counts.
    pub fn read(self, ctx: &Ctx) -> Result<String, ApiError> {
        check_version(ctx, &self.version, "consent.version")?;
        Ok(self.version)
    }
}

/// Refuses a version of how we treat personal data that is not the current one.
pub fn check_version(ctx: &Ctx, version: &str, param: &str) -> Result<(), ApiError> {
    let current = &ctx.people.consent_version;
    if version == current {
        return Ok(());
    }
    let message = format!("the current version is {current:?}: read it and agree to that one");
    Err(ApiError::bad_request("consent_version", param, message))
}

/// An address.
pub fn email(text: &str) -> Result<Email, InvalidEmail> {
    text.parse()
}

/// A new password for the person with `email`.
pub fn password(password: &SecretString, email: &Email) -> Result<(), ApiError> {
    Ok(check_password(password, email)?)
}

/// A name of a person or a company.
pub fn name(param: &str, text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    let count = text.chars().count();
    if count == 0 || count > NAME_CHARS || text.chars().any(char::is_control) {
        let message = format!("{param} is one line of 1 to {NAME_CHARS} characters");
        return Err(ApiError::bad_request("invalid_text", param, message));
    }
    Ok(text.to_owned())
}

/// What an account does.
pub fn description(text: &str) -> Result<Option<String>, ApiError> {
    lines("description", text, DESCRIPTION_CHARS)
}

/// A postal address.
pub fn address(text: &str) -> Result<Option<String>, ApiError> {
    lines("address", text, ADDRESS_CHARS)
}

/// A website.
pub fn website(text: &str) -> Result<Option<String>, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    if url.is_none() || text.chars().count() > URL_CHARS {
        let message = format!("website is an http or https URL of at most {URL_CHARS} characters");
        return Err(ApiError::bad_request("invalid_url", "website", message));
    }
    Ok(Some(text.to_owned()))
}

/// A phone number.
pub fn phone(text: &str) -> Result<Option<String>, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() >= PHONE_DIGITS_MIN;
    if !is_number || text.len() > PHONE_CHARS {
        let message = format!("phone is digits only, with a plus before them or none, at most {PHONE_CHARS}");
        return Err(ApiError::bad_request("invalid_phone", "phone", message));
    }
    Ok(Some(text.to_owned()))
}

/// Text of several lines; `None` where it is blank.
pub fn lines(param: &str, text: &str, longest: usize) -> Result<Option<String>, ApiError> {
    let text = text.trim();
    if text.chars().count() > longest
        || text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        let message = format!("{param} has at most {longest} characters, none of them control characters");
        return Err(ApiError::bad_request("invalid_text", param, message));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// Refuses text for the books that says nothing, or more than they hold.
pub fn words(param: &str, text: &str, longest: usize) -> Result<(), ApiError> {
    if text.trim().is_empty() || text.chars().count() > longest {
        let message = format!("{param} has 1 to {longest} characters");
        return Err(ApiError::bad_request("invalid_text", param, message));
    }
    Ok(())
}

/// Whether a time is still to come. Later than the year 9999 is never: RFC 3339 cannot write it.
pub fn is_to_come(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    at > now && at.year() <= 9999
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::auth::NewAccount, schema::said};

    #[test]
    fn the_document_tells_the_limits_that_are_kept() {
        for (field, longest) in [
            ("name", NAME_CHARS),
            ("description", DESCRIPTION_CHARS),
            ("website", URL_CHARS),
            ("phone", PHONE_CHARS),
            ("address", ADDRESS_CHARS),
        ] {
            assert_eq!(said::<NewAccount>(field, "maxLength"), longest, "{field}");
        }
    }

    #[test]
    fn a_phone_is_digits() {
        let check = |text: &str, expected: Option<Option<&str>>| {
            assert_eq!(phone(text).ok().as_ref().map(Option::as_deref), expected, "{text}");
        };
        check(" +79001234567 ", Some(Some("+79001234567")));
        check("112233", Some(Some("112233")));
        check("", Some(None));
        check("+", None);
        check("1234", None);
        check("+7 900 123", None);
        check("call me", None);
        check(&"1".repeat(21), None);
    }

    #[test]
    fn a_website_is_a_url_of_the_web() {
        let check = |text: &str, expected: bool| assert_eq!(website(text).is_ok(), expected, "{text}");
        check("https://example.com/a?b", true);
        check("http://example.com", true);
        check("", true);
        check("example.com", false);
        check("javascript:alert(1)", false);
        check("ftp://example.com", false);
        check(&format!("https://example.com/{}", "a".repeat(2000)), false);
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(name("name", "  Ann & Söhne ").ok().as_deref(), Some("Ann & Söhne"));
        for bad in ["", "   ", "a\nb", "a\u{7}b", &"a".repeat(201)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }
}
