//! A mail server that keeps what it gets and answers as it is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use shared::process::Process;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A mail that came to its end, whether it was taken or not.
#[derive(Debug, Clone)]
pub struct Posted {
    pub from: String,
    pub recipient: String,
    /// Headers and body as they came.
    pub raw: String,
    pub taken: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    posted: Vec<Posted>,
    /// Answers to come, instead of the usual, to `RCPT TO`.
    to_recipients: VecDeque<&'static str>,
    /// Answers to come, instead of the usual, to a mail that is whole.
    to_mails: VecDeque<&'static str>,
}

/// The server.
#[derive(Debug, Clone)]
pub struct Postbox {
    pub url: String,
    inbox: Arc<Mutex<Inbox>>,
}

impl Postbox {
    pub async fn start(process: &Process) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen for mails");
        let url = format!("smtp://{}", listener.local_addr().expect("a bound address"));
        let postbox = Self { url, inbox: Arc::new(Mutex::new(Inbox::default())) };
        let (served, stop) = (postbox.clone(), process.clone());
        process.spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.expect("accept").0,
                    () = stop.stopping() => return,
                };
                let (served, stopping) = (served.clone(), stop.clone());
                stop.spawn(async move {
                    tokio::select! {
                        // A client that hangs up in the middle is no fault of the test.
                        _ = served.converse(stream) => {}
                        () = stopping.stopping() => {}
                    }
                });
            }
        });
        postbox
    }

    /// The next recipient is answered so.
    pub fn answer_recipient(&self, reply: &'static str) {
        self.inbox.lock().expect("no panic while locked").to_recipients.push_back(reply);
    }

    /// The next whole mail is answered so.
    pub fn answer_mail(&self, reply: &'static str) {
        self.inbox.lock().expect("no panic while locked").to_mails.push_back(reply);
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.inbox.lock().expect("no panic while locked").posted.clone()
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let (reading, mut writing) = stream.into_split();
        let mut lines = BufReader::new(reading).lines();
        writing.write_all(b"220 postbox.test ESMTP\r\n").await?;
        let (mut from, mut recipient) = (String::new(), String::new());
        while let Some(line) = lines.next_line().await? {
            let reply = match line.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str() {
                "EHLO" => "250-postbox.test\r\n250 8BITMIME",
                "MAIL" => {
                    from = address(&line);
                    "250 ok"
                }
                "RCPT" => {
                    recipient = address(&line);
                    self.next(|inbox| &mut inbox.to_recipients).unwrap_or("250 ok")
                }
                "DATA" => {
                    writing.write_all(b"354 go on\r\n").await?;
                    let mut raw = String::new();
                    while let Some(line) = lines.next_line().await?
                        && line != "."
                    {
                        raw.push_str(line.strip_prefix('.').unwrap_or(&line));
                        raw.push_str("\r\n");
                    }
                    let reply = self.next(|inbox| &mut inbox.to_mails).unwrap_or("250 taken");
                    let taken = reply.starts_with('2');
                    let posted = Posted { from: from.clone(), recipient: recipient.clone(), raw, taken };
                    self.inbox.lock().expect("no panic while locked").posted.push(posted);
                    reply
                }
                "QUIT" => {
                    return writing.write_all(b"221 bye\r\n").await;
                }
                _ => "502 not known here",
            };
            writing.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
        Ok(())
    }

    fn next(&self, queue: impl FnOnce(&mut Inbox) -> &mut VecDeque<&'static str>) -> Option<&'static str> {
        queue(&mut self.inbox.lock().expect("no panic while locked")).pop_front()
    }
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    let (_, rest) = line.split_once('<').expect("an address in angles");
    rest.split('>').next().unwrap_or_default().to_owned()
}
