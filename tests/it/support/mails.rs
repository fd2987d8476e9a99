//! The mails of a test: sent into a folder, read, and taken out of it.

use std::{fs, time::Duration};

use mail_parser::MessageParser;
use shared::mail;
use workers::mail as post;

use super::TestApp;

/// A mail as its reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub id: String,
    pub recipient: String,
    pub subject: String,
    pub text: String,
}

impl Mail {
    /// Reads a mail in the form in which it is sent.
    pub fn read(raw: &[u8]) -> Self {
        let mail = MessageParser::default().parse(raw).expect("a mail");
        let recipient = mail.to().and_then(|to| to.first()).and_then(|to| to.address()).expect("a recipient");
        Self {
            id: mail.message_id().expect("a Message-ID").to_owned(),
            recipient: recipient.to_owned(),
            subject: mail.subject().expect("a subject").to_owned(),
            text: mail.body_text(0).expect("a text").replace("\r\n", "\n"),
        }
    }

    /// The link that has a line for itself.
    pub fn link(&self) -> String {
        let link = self.text.lines().find(|line| line.starts_with("http"));
        link.unwrap_or_else(|| panic!("no link in {}", self.text)).to_owned()
    }
}

impl TestApp {
    /// Sends every mail that is due, once, and gives back what arrived, the oldest first. No mail is given back twice.
    pub async fn mails(&self) -> Vec<Mail> {
        self.send_mails(&self.mailer).await;
        let mut files: Vec<_> = fs::read_dir(self.mail_dir.path())
            .expect("the folder of mails")
            .map(|file| file.expect("a file").path())
            .collect();
        // Their names begin with the time they were written at.
        files.sort();
        let read = files.iter().map(|path| Mail::read(&fs::read(path).expect("a mail"))).collect();
        for path in files {
            fs::remove_file(path).expect("take a mail out");
        }
        read
    }

    /// Sends every mail that is due, once; says how many there were.
    pub async fn send_mails(&self, ctx: &post::Ctx) -> usize {
        let mut sent = 0;
        loop {
            let due =
                mail::claim(&self.db, 10, Duration::from_secs(60), self.now()).await.expect("claim mails");
            for due in &due {
                post::deliver(ctx, due).await;
            }
            sent += due.len();
            if due.is_empty() {
                return sent;
            }
        }
    }
}
