//! E-mail addresses of people: read once at the door, kept and compared in lower case.
//!
//! Mailboxes differ only by capitals nowhere that matters, so one person cannot register twice with one address. An address
//! is personal: it has no `Display`, and `Debug` hides it, so that none gets into a log by accident.

use std::{fmt, str::FromStr};

use email_address::{EmailAddress, Options};

/// Longest address: what fits between the angle brackets of SMTP's longest path (RFC 5321, 4.5.3.1.3).
const LEN_MAX: usize = 254;

/// An address in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Email(String);

/// The text is no address we write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address such as name@example.com")]
pub struct InvalidEmail;

impl Email {
    /// The address, for its row and its mails.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    pub fn local_part(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let text = text.trim();
        // Quoted names are legal, in use nowhere, and a way to smuggle spaces and brackets into a mail's head.
        if text.len() > LEN_MAX || !text.is_ascii() || text.contains('"') {
            return Err(InvalidEmail);
        }
        let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
        EmailAddress::parse_with_options(text, options).map_err(|_| InvalidEmail)?;
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn an_address_that_is_taken_is_plain_and_is_read_again_as_itself() {
        let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
        let near = "[ \"'<>(),;:\\\\\\[\\]@a-zA-Z0-9._+%=!#$&*/?^`{|}~\r\n\t\u{0}-]{1,30}@[a-zA-Z0-9.@_\\[\\]:-]{0,20}";
        proptest!(config, |(text in prop_oneof![4 => near.prop_map(String::from), 1 => any::<String>()])| {
            let Ok(email) = text.parse::<Email>() else { return Ok(()) };
            let kept = email.as_str();
            prop_assert!(kept.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>(),;:\\[]".contains(&byte)), "{kept:?}");
            prop_assert!(kept.matches('@').count() == 1 && !kept.contains(|c: char| c.is_ascii_uppercase()), "{kept:?}");
            prop_assert_eq!(kept.parse::<Email>(), Ok(email.clone()));
        });
    }

    #[test]
    fn an_address_is_read_in_lower_case_and_never_shown() {
        let email: Email = "  Ann.Lee+kiln@Example.COM ".parse().unwrap();
        assert_eq!(email.as_str(), "ann.lee+kiln@example.com");
        assert_eq!(email.local_part(), "ann.lee+kiln");
        assert!(!format!("{email:?}").contains("ann"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "ann",
            "ann@",
            "@example.com",
            "ann@localhost",
            "ann@[127.0.0.1]",
            "ann lee@example.com",
            "ann@exam ple.com",
            "Ann <ann@example.com>",
            "ann@example.com, bob@example.com",
            "ann@example.com\r\nBcc: bob@example.com",
            "\"ann lee\"@example.com",
            "анна@example.com",
            "ann@@example.com",
            "ann@example..com",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("ann@{}.com", "a.".repeat(130)),
        ] {
            assert_eq!(bad.parse::<Email>(), Err(InvalidEmail), "{bad}");
        }
    }
}
