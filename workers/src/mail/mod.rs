//! Sending mails: part of the delivery process, beside webhooks.
//!
//! Due mails are leased, as many as there are free slots, opened, sent each by itself, and what came of a try is written
//! under its lease. A mail goes out at least once, always under the same Message-ID. Logs name mails by their ids; who gets
//! them stays out. Deliberately absent: deciding who is told and in which words; that is `shared::mail`.

mod carrier;
mod message;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use lettre::{Address, message::Mailbox};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::{config, outbox};
use shared::{
    clock::SharedClock,
    mail::{self, Due, Sent, Unreadable},
    process::Process,
    seal::Sealer,
};

pub use carrier::{Carrier, Fault};

/// Mails sent at once: servers take few connections from one client, and mails are few.
const SLOTS: usize = 4;
/// How long a deliverer may take for one mail: the carrier's own limit, and time to write down the answer.
const LEASE: Duration = Duration::from_secs(60);
/// How often due mails are looked for.
const POLL: Duration = Duration::from_secs(1);
/// Waits before the second and each further try, in minutes; the first is at once. A link in a mail is of little use much
/// later than that.
const WAITS_MINUTES: [i64; 5] = [1, 5, 30, 2 * 60, 8 * 60];
/// Tries of a mail, the first included.
pub const TRIES: usize = WAITS_MINUTES.len() + 1;
/// Most characters of a server's words that are kept.
const WHY_CHARS_MAX: usize = 300;

/// What sending mails needs.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Opens what mails say.
    pub sealer: Sealer,
    /// Who takes them.
    pub carrier: Carrier,
    /// Who they are from.
    pub from: Mailbox,
}

/// Sends mails in the background until `process` stops. Where nothing says how to send them, they stay where they are, and
/// one warning says so.
///
/// # Errors
/// When an address or the server's URL cannot be read.
pub fn start(
    settings: &config::Mail,
    db: PgPool,
    clock: SharedClock,
    sealer: Sealer,
    process: &Process,
) -> anyhow::Result<()> {
    let from: Mailbox = settings
        .from
        .parse()
        .with_context(|| format!("KILN_MAIL_FROM is {:?}: say an address", settings.from))?;
    let carrier = match (&settings.smtp_url, &settings.dir) {
        (Some(url), _) => Carrier::smtp(url, from.email.domain())?,
        (None, Some(dir)) => Carrier::Folder { dir: dir.clone(), shows_links: settings.shows_links },
        (None, None) => {
            tracing::warn!(
                "mails wait: set KILN_SMTP_URL to send them, or KILN_MAIL_DIR to have them as files"
            );
            return Ok(());
        }
    };
    let (ctx, stop) = (Ctx { db, clock, sealer, carrier, from }, process.clone());
    process.spawn(async move { serve(ctx, &stop).await });
    Ok(())
}

/// Sends mails until `process` is told to stop; those under way are finished.
async fn serve(ctx: Ctx, process: &Process) {
    let free = Arc::new(Semaphore::new(SLOTS));
    tracing::info!(carrier = ctx.carrier.word(), "mails are sent");
    let claim = |limit| mail::claim(&ctx.db, limit, LEASE, ctx.clock.now());
    let one = |due| {
        let ctx = ctx.clone();
        async move { deliver(&ctx, &due).await }
    };
    while let Some(is_drained) = outbox::round("mails", &free, SLOTS, process, claim, one).await {
        if is_drained && !process.sleep(POLL).await {
            return;
        }
    }
}

/// Sends one mail and writes down what came of it.
pub async fn deliver(ctx: &Ctx, due: &Due) {
    let sent = send(ctx, due).await;
    let (result, why) = match &sent {
        Sent::Delivered => ("sent", None),
        Sent::Later(_, why) => ("later", Some(why)),
        Sent::Dead(why) | Sent::Gone(why) => ("dead", Some(why)),
    };
    metrics::counter!("kiln_mail_tries_total", "kind" => due.kind.clone(), "result" => result).increment(1);
    tracing::info!(mail.id = %due.id, kind = due.kind, tries = due.tries + 1, result, why, "mail {}", due.id);
    match mail::record(&ctx.db, due, &sent, ctx.clock.now()).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(mail.id = %due.id, "lease of {} lost", due.id),
        Err(error) => {
            tracing::warn!(mail.id = %due.id, %error, "try of {} not written down; it is sent again", due.id)
        }
    }
}

/// Sends one mail once.
async fn send(ctx: &Ctx, due: &Due) -> Sent {
    let now = ctx.clock.now();
    let Some(recipient) = &due.recipient else { return Sent::Dead("its recipient was erased".into()) };
    let Ok(recipient) = recipient.parse::<Address>() else {
        return Sent::Dead("its recipient is no address".into());
    };
    let content = match due.open(&ctx.sealer) {
        Ok(content) => content,
        Err(error @ Unreadable::Gone) => return Sent::Dead(error.to_string()),
        // A key that is missing here can be set, and nothing is lost until then.
        Err(error @ Unreadable::Sealed(_)) => return later(due, &error.to_string(), now),
    };
    let message = match message::compose(&ctx.from, recipient, due.id, &content, now) {
        Ok(message) => message,
        Err(error) => return Sent::Dead(format!("not composed: {error}")),
    };
    match ctx.carrier.carry(due.id, &message, content.link.as_deref()).await {
        Ok(()) => Sent::Delivered,
        Err(Fault::Refused(why)) => Sent::Dead(without_addresses(&why)),
        Err(Fault::Away(why)) => later(due, &without_addresses(&why), now),
    }
}

fn later(due: &Due, why: &str, now: DateTime<Utc>) -> Sent {
    let wait = usize::try_from(due.tries).ok().and_then(|tries| WAITS_MINUTES.get(tries));
    match wait {
        Some(minutes) => Sent::Later(now + TimeDelta::minutes(*minutes), why.to_owned()),
        None => Sent::Dead(why.to_owned()),
    }
}

/// A server's words without the addresses that servers like to repeat: they are personal, and this is kept and logged.
fn without_addresses(why: &str) -> String {
    let words = why.split_whitespace().map(|word| if word.contains('@') { "…" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(WHY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_kept_without_addresses() {
        let said = "permanent error (550): 5.1.1 <bob@example.com>: no such\r\nuser 'bob@example.com'";
        assert_eq!(without_addresses(said), "permanent error (550): 5.1.1 … no such user …");
        assert_eq!(without_addresses(&"x".repeat(1000)).len(), WHY_CHARS_MAX);
    }
}
