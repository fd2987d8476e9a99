//! Who takes a mail: an SMTP server, or a folder for development.
//!
//! A server's 5xx is its last word on a mail. Everything else is tried again: what is temporary, and what is wrong between
//! the server and us, for which no recipient can be blamed.

use std::{fmt, io, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    transport::smtp::{Error, extension::ClientId},
};
use secrecy::{ExposeSecret, SecretString};
use shared::id::MailId;
use tokio::{
    fs::{self, OpenOptions},
    io::AsyncWriteExt,
};
use url::{Host, Url};

/// Longest conversation with a server about one mail.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Permanent answers that are about our login and not about the mail (RFC 4954, section 6): a password can be mended.
const LOGIN_REFUSED: [u16; 4] = [530, 534, 535, 538];

/// Takes mails. Clones share it.
#[derive(Clone)]
pub enum Carrier {
    /// A server that sends them on.
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    /// A folder, where each is a file that mail programs can read.
    Folder {
        /// Where.
        dir: PathBuf,
        /// Whether links are logged: on a developer's own machine, where nobody opens mail programs to follow one.
        shows_links: bool,
    },
}

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It never will be.
    Refused(String),
    /// Not now.
    Away(String),
}

impl Carrier {
    /// A server by its URL: `smtp://user:password@host:587?tls=required`, or `smtps://…`. It is greeted in the name of
    /// `domain`, unless the URL's path has another.
    ///
    /// # Errors
    /// When the URL cannot be read, or would send a password in the clear over a network.
    pub fn smtp(url: &SecretString, domain: &str) -> anyhow::Result<Self> {
        let text = url.expose_secret().trim();
        // The URL holds a password and stays out of every message.
        let parsed = Url::parse(text).map_err(|error| anyhow::anyhow!("KILN_SMTP_URL is no URL: {error}"))?;
        let tls = parsed.query_pairs().any(|(name, value)| name == "tls" && value == "required");
        if parsed.password().is_some() && parsed.scheme() == "smtp" && !tls && !is_loopback(&parsed) {
            bail!(
                "KILN_SMTP_URL would send its password in the clear: add ?tls=required, or begin with smtps://"
            );
        }
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(text)
            .context("KILN_SMTP_URL: say smtp://user:password@host:587?tls=required or smtps://…")?
            .timeout(Some(CONNECT_TIMEOUT));
        let named = parsed.path().len() > 1;
        let builder = if named { builder } else { builder.hello_name(ClientId::Domain(domain.to_owned())) };
        Ok(Self::Smtp(builder.build()))
    }

    /// `smtp` or `folder`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Folder { .. } => "folder",
        }
    }

    /// Gives a mail away. In a folder the same mail is the same file, and the log says where it is; of what it says at most
    /// the `link`.
    ///
    /// # Errors
    /// When it was not taken.
    pub async fn carry(&self, id: MailId, message: &Message, link: Option<&str>) -> Result<(), Fault> {
        match self {
            Self::Smtp(server) => {
                let sending = server.send(message.clone());
                match tokio::time::timeout(TIMEOUT, sending).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(judge(&error)),
                    Err(_) => Err(Fault::Away(format!("no answer within {} s", TIMEOUT.as_secs()))),
                }
            }
            Self::Folder { dir, shows_links } => {
                let path = dir.join(format!("{id}.eml"));
                write(dir, &path, &message.formatted())
                    .await
                    .map_err(|error| Fault::Away(format!("not written to {}: {error}", dir.display())))?;
                let link = link.filter(|_| *shows_links);
                tracing::info!(mail.id = %id, link, "mail {id} is at {}", path.display());
                Ok(())
            }
        }
    }
}

/// Shows no server, whose URL held a password.
impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // A scheme that browsers do not know has its addresses read as names.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn judge(error: &Error) -> Fault {
    let about_login = error.status().is_some_and(|code| LOGIN_REFUSED.contains(&u16::from(code)));
    if error.is_permanent() && !about_login {
        Fault::Refused(error.to_string())
    } else {
        Fault::Away(error.to_string())
    }
}

/// Writes a file that only its owner can read, whole or not at all: links in mails open accounts.
async fn write(dir: &PathBuf, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir).await?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).await?;
    file.write_all(bytes).await?;
    file.flush().await?;
    fs::rename(&new, path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<(), &str>) {
        let made = Carrier::smtp(&url.to_owned().into(), "example.com");
        match (made, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(words)) => {
                let said = format!("{error:#}");
                assert!(said.contains(words) && !said.contains("hunter2"), "{url}: {said}");
            }
            (made, expected) => panic!("{url}: {made:?} and not {expected:?}"),
        }
    }

    #[tokio::test]
    async fn a_url_is_refused_when_its_password_would_be_read_by_others() {
        check("smtps://bob:hunter2@mail.example.com", Ok(()));
        check("smtp://bob:hunter2@mail.example.com:587?tls=required", Ok(()));
        check("smtp://bob:hunter2@mail.example.com:587", Err("in the clear"));
        check("smtp://bob:hunter2@mail.example.com:587?tls=opportunistic", Err("in the clear"));
        check("smtp://bob:hunter2@127.0.0.1:1025", Ok(()));
        check("smtp://bob:hunter2@localhost:1025", Ok(()));
        check("smtp://bob:hunter2@[::1]:1025", Ok(()));
        check("smtp://mailpit:1025", Ok(()));
        check("http://bob:hunter2@mail.example.com", Err("KILN_SMTP_URL"));
        check("mail.example.com", Err("KILN_SMTP_URL is no URL"));
    }
}
