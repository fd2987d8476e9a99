//! A mail as it goes over the wire: plain text in UTF-8, with headers made by lettre's types, which cannot be broken out of.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    message::{
        Mailbox, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use shared::{id::MailId, mail::Content};

/// Says that a program wrote this, so that no other program answers it (RFC 3834).
const AUTO_SUBMITTED: (HeaderName, &str) =
    (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated");

/// Puts a mail together. Its Message-ID is made from its id, so that a repeat can be told from news.
///
/// # Errors
/// When lettre cannot make a message of it.
pub fn compose(
    from: &Mailbox,
    to: Address,
    id: MailId,
    content: &Content,
    now: DateTime<Utc>,
) -> Result<Message, lettre::error::Error> {
    let (name, value) = AUTO_SUBMITTED;
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(content.subject.as_str())
        .date(SystemTime::from(now))
        .message_id(Some(format!("<{id}@{}>", from.email.domain())))
        .raw_header(HeaderValue::new(name, value.into()))
        .singlepart(SinglePart::plain(content.text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(subject: &str) -> String {
        let content = Content { subject: subject.into(), text: "Zürich\n.\nend\n".into(), link: None };
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let from = "Kiln <no-reply@example.com>".parse().unwrap();
        let message =
            compose(&from, "bob@example.com".parse().unwrap(), MailId::new(), &content, now).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    #[test]
    fn the_headers_say_when_what_and_from_whom() {
        let text = composed("Grüße");
        for line in [
            "From: Kiln <no-reply@example.com>\r\n",
            "To: bob@example.com\r\n",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
            "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "MIME-Version: 1.0\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.contains("Message-ID: <mail_") && text.contains("@example.com>\r\n"), "{text}");
    }

    #[test]
    fn any_mail_can_be_put_together_and_has_one_head() {
        use proptest::{prelude::*, test_runner::Config};

        let near = "[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,20}@[a-zA-Z0-9-]{1,12}(\\.[a-zA-Z0-9-]{1,8}){1,2}";
        let from: Mailbox = "Kiln <no-reply@example.com>".parse().unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config, |(to in near, subject in any::<String>(), text in any::<String>())| {
            // Whoever could register can be written to.
            let Ok(email) = to.parse::<shared::account::Email>() else { return Ok(()) };
            let to: Address = email.as_str().parse().map_err(|error| TestCaseError::fail(format!("{email:?} {to}: {error}")))?;
            let content = Content { subject, text, link: None };
            let message = compose(&from, to, MailId::new(), &content, now).unwrap().formatted();
            let end = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = String::from_utf8(message[..end].to_vec()).unwrap();
            let names = head.lines().filter(|line| !line.starts_with([' ', '\t'])).filter_map(|line| line.split_once(':'));
            let mut names: Vec<_> = names.map(|(name, _)| name).collect();
            names.sort_unstable();
            prop_assert_eq!(names, [
                "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To",
            ], "{}", head);
        });
    }

    #[test]
    fn a_subject_cannot_add_headers() {
        let text = composed("hello\r\nBcc: all@example.com\r\n\r\nother words");
        assert!(!text.to_lowercase().contains("\r\nbcc:"), "{text}");
        assert!(!text.contains("\r\n\r\nother"), "{text}");
    }
}
