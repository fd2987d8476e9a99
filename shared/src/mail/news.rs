//! What Kiln writes to people about, one variant a kind, and the words.
//!
//! Plain text, short, in English; each says what happened and what to do. Names that people chose are one line of limited
//! length and without links wherever they appear, so that nobody can write a letter of their own in our name, or advertise.

use std::fmt;

use chrono::{DateTime, Utc};

use super::Content;
use crate::id::{AccountId, EndpointId};

/// Most characters of a name in a mail.
const NAME_CHARS_MAX: usize = 60;
/// Most characters of what went wrong, in a mail to operators.
const WHY_CHARS_MAX: usize = 500;

/// Something to tell a person. Links open accounts, so `Debug` shows the kind alone.
#[derive(Clone, PartialEq, Eq)]
pub enum News {
    /// Someone registered with this address.
    VerifyEmail {
        /// Proves the address, once.
        link: String,
    },
    /// Someone registered with an address that is known; the caller is not told that it is.
    AlreadyRegistered {
        /// Where to ask for a new password.
        link: String,
    },
    /// Someone asked for a new password.
    ResetPassword {
        /// Lets them set one, once.
        link: String,
    },
    /// The password was changed, and every session ended.
    PasswordChanged,
    /// A person is asked to join an account.
    Invitation {
        /// The account's name.
        account_name: String,
        /// As which they would join: `developer` and its like.
        role: String,
        /// Lets them join, once.
        link: String,
    },
    /// An account's balance fell below what it asked to be told at.
    LowBalance {
        /// The account's name.
        account_name: String,
        /// Tokens it can spend.
        available: i64,
        /// Tokens below which it wants to be told.
        threshold: i64,
    },
    /// Tokens that were given will lapse soon.
    GrantExpiring {
        /// The account's name.
        account_name: String,
        /// How many are left of them.
        tokens: i64,
        /// When they lapse.
        expires_at: DateTime<Utc>,
        /// Days until then.
        days: i64,
    },
    /// A subscription ends soon.
    SubscriptionEnding {
        /// The account's name.
        account_name: String,
        /// The plan's name.
        plan: String,
        /// When it ends.
        ends_at: DateTime<Utc>,
        /// Days until then.
        days: i64,
    },
    /// A subscription has ended.
    SubscriptionEnded {
        /// The account's name.
        account_name: String,
        /// The plan's name.
        plan: String,
    },
    /// The archive of an account is there.
    ExportReady {
        /// The account's name.
        account_name: String,
        /// Where whoever logs in is told how to fetch it.
        link: String,
        /// When it is deleted.
        expires_at: DateTime<Utc>,
    },
    /// An account is closed, and all that is personal in it is going.
    AccountErased {
        /// The name it had.
        account_name: String,
    },
    /// A refresh token was used twice: its session is over, for one of the two was a thief.
    RefreshTokenReused,
    /// An endpoint was given up: its account is told of the ends of its jobs there no longer.
    WebhookDisabled {
        /// The account's name.
        account_name: String,
        /// Which one.
        endpoint: EndpointId,
        /// Since when nothing has arrived; `None`: it answered that it is gone.
        failing_since: Option<DateTime<Utc>>,
    },
    /// To operators: balances are not what the ledger says.
    LedgerDrift {
        /// How many accounts.
        accounts: usize,
        /// Some of them.
        first: Vec<AccountId>,
    },
    /// To operators: a key at a provider is refused, or its account runs low.
    ProviderKey {
        /// The provider.
        provider: String,
        /// Id of the key.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// To operators: a provider's word on usage was not believed.
    UsageRejected {
        /// The provider.
        provider: String,
        /// Our name of the model.
        model: String,
        /// What was wrong with it.
        why: String,
    },
}

impl News {
    /// The kind, as it is written down.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::AlreadyRegistered { .. } => "already_registered",
            Self::ResetPassword { .. } => "reset_password",
            Self::PasswordChanged => "password_changed",
            Self::Invitation { .. } => "invitation",
            Self::LowBalance { .. } => "low_balance",
            Self::GrantExpiring { .. } => "grant_expiring",
            Self::SubscriptionEnding { .. } => "subscription_ending",
            Self::SubscriptionEnded { .. } => "subscription_ended",
            Self::ExportReady { .. } => "export_ready",
            Self::AccountErased { .. } => "account_erased",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::WebhookDisabled { .. } => "webhook_disabled",
            Self::LedgerDrift { .. } => "ledger_drift",
            Self::ProviderKey { .. } => "provider_key",
            Self::UsageRejected { .. } => "usage_rejected",
        }
    }

    fn link(&self) -> Option<&str> {
        match self {
            Self::VerifyEmail { link }
            | Self::AlreadyRegistered { link }
            | Self::ResetPassword { link }
            | Self::Invitation { link, .. }
            | Self::ExportReady { link, .. } => Some(link),
            _ => None,
        }
    }

    /// The words.
    pub fn render(&self) -> Content {
        let (subject, text) = self.words();
        Content { subject, text: format!("{text}\n\n-- \nKiln"), link: self.link().map(str::to_owned) }
    }

    /// Subject and text of each kind: a table.
    fn words(&self) -> (String, String) {
        let name = |name: &str| one_line(&without_links(name), NAME_CHARS_MAX);
        match self {
            Self::VerifyEmail { link } => (
                "Please confirm your e-mail address".into(),
                format!(
                    "Welcome to Kiln!\n\nTo confirm that this address is yours, open this link and type the \
                     password you chose:\n\n{link}\n\nIt works once and only for a while. If you did not register, \
                     ignore this mail; nothing will happen."
                ),
            ),
            Self::AlreadyRegistered { link } => (
                "You are already registered".into(),
                format!(
                    "Hello,\n\nsomeone, probably you, tried to register with this address, which already has a login: use \
                     that one. If you forgot its password, you can set a new one here:\n\n{link}\n\nIf it was not you, \
                     there is nothing to do; nobody was told that you are registered."
                ),
            ),
            Self::ResetPassword { link } => (
                "Set a new password".into(),
                format!(
                    "Hello,\n\nsomeone, probably you, asked for a new password. Set it here:\n\n{link}\n\nThe link works \
                     once and only for a while. If it was not you, ignore this mail; your password stays as it is."
                ),
            ),
            Self::PasswordChanged => (
                "Your password was changed".into(),
                "Hello,\n\nyour password was just changed, and all sessions before that were ended.\n\nIf it was not you, \
                 ask for a new password at once and look at who belongs to your account."
                    .into(),
            ),
            Self::RefreshTokenReused => (
                "You were logged out for your safety".into(),
                "Hello,\n\nsomeone used a session of yours that had already been renewed. It may have been copied, so we \
                 have ended it. Please log in again.\n\nIf you do not know how this came about, set a new password as \
                 well; that ends all other sessions."
                    .into(),
            ),
            Self::Invitation { account_name, role, link } => {
                let account = name(account_name);
                (
                    format!("You are invited to join \"{account}\""),
                    format!(
                        "Hello,\n\nyou are invited to work with the account \"{account}\" on Kiln, as {role}. To accept, \
                         open this link:\n\n{link}\n\nIt works once and only for a while. If you do not know this \
                         account, ignore this mail.",
                        role = name(role)
                    ),
                )
            }
            Self::LowBalance { account_name, available, threshold } => (
                format!("{} tokens left", grouped(*available)),
                format!(
                    "Hello,\n\nthe account \"{}\" has {} tokens left, fewer than the {} at which you asked to be told. \
                     When they are used up, new jobs are refused; jobs under way are finished.",
                    name(account_name),
                    grouped(*available),
                    grouped(*threshold)
                ),
            ),
            Self::GrantExpiring { account_name, tokens, expires_at, days } => (
                format!("{} tokens expire {}", grouped(*tokens), in_days(*days)),
                format!(
                    "Hello,\n\n{} tokens of the account \"{}\" expire {}, on {}. Whatever is not used by then is gone; \
                     tokens that expire first are used first.",
                    grouped(*tokens),
                    name(account_name),
                    in_days(*days),
                    moment(*expires_at)
                ),
            ),
            Self::SubscriptionEnding { account_name, plan, ends_at, days } => (
                format!("Your plan \"{}\" ends {}", name(plan), in_days(*days)),
                format!(
                    "Hello,\n\nthe plan \"{}\" of the account \"{}\" ends {}, on {}. Renew it before then to keep its \
                     prices and limits.",
                    name(plan),
                    name(account_name),
                    in_days(*days),
                    moment(*ends_at)
                ),
            ),
            Self::SubscriptionEnded { account_name, plan } => (
                format!("Your plan \"{}\" has ended", name(plan)),
                format!(
                    "Hello,\n\nthe plan \"{}\" of the account \"{}\" has ended. The usual prices and limits apply from \
                     now on. You can take a plan again at any time.",
                    name(plan),
                    name(account_name)
                ),
            ),
            Self::ExportReady { account_name, link, expires_at } => (
                "Your data is ready".into(),
                format!(
                    "Hello,\n\nthe archive of everything about the account \"{}\" is ready. Log in, and this address \
                     gives you the link to fetch it:\n\n{link}\n\nIt is deleted on {}.",
                    name(account_name),
                    moment(*expires_at)
                ),
            ),
            Self::AccountErased { account_name } => (
                "Your account is closed".into(),
                format!(
                    "Hello,\n\nas its owner asked, the account \"{}\" is closed, and everything personal in it is now \
                     being deleted. What the law makes us keep about payments will no longer name you.\n\nThank you for \
                     having been with us. This is our last mail about it.",
                    name(account_name)
                ),
            ),
            Self::WebhookDisabled { account_name, endpoint, failing_since } => (
                "A webhook endpoint was switched off".into(),
                format!(
                    "Hello,\n\nthe webhook endpoint {endpoint} of the account \"{}\" was switched off: {}. What it was still \
                     to hear is not sent any more.\n\nOnce it works again, switch it on (PATCH /v1/webhook-endpoints/{endpoint} \
                     with {{\"enabled\": true}}) and have sent again what you missed; GET /v1/webhook-deliveries lists it for \
                     30 days.",
                    name(account_name),
                    match failing_since {
                        Some(since) => format!("nothing we sent has arrived since {}", moment(*since)),
                        None => "its server answered 410, which says that it is gone for good".into(),
                    }
                ),
            ),
            Self::LedgerDrift { accounts, first } => (
                format!("Ledger drift in {accounts} accounts"),
                format!(
                    "The balances of {accounts} accounts are not what the ledger says. Some of them:\n\n{}\n\nWhat to do \
                     is in the runbook, under money drift.",
                    first.iter().map(|id| format!("  {id}\n")).collect::<String>().trim_end()
                ),
            ),
            Self::ProviderKey { provider, key, what } => (
                format!("A key at {} needs attention", name(provider)),
                format!(
                    "Of the key {key} at {}: {}.\n\n`kiln admin provider-keys list` shows how all of them fare.",
                    name(provider),
                    one_line(what, WHY_CHARS_MAX)
                ),
            ),
            Self::UsageRejected { provider, model, why } => (
                format!("Usage of {} rejected", name(model)),
                format!(
                    "What {} reported as usage of {} was not believed:\n\n  {}\n\nSee whether the provider changed its \
                     answers or our catalogue is out of date.",
                    name(provider),
                    name(model),
                    one_line(why, WHY_CHARS_MAX)
                ),
            ),
        }
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Someone else's words as one line of limited length: no line breaks, no other control characters, no directions of
/// writing turned around.
fn one_line(text: &str, chars_max: usize) -> String {
    let tame = |c: char| if c.is_control() || is_invisible(c) { ' ' } else { c };
    let words: String = text.chars().map(tame).collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A name without the words that lead somewhere: addresses with a scheme, with `www.`, or with a path behind a domain. A
/// domain alone may be what a company is called.
fn without_links(name: &str) -> String {
    let gap = |c: char| c.is_whitespace() || c.is_control() || is_invisible(c);
    let words: Vec<_> = name.split(gap).filter(|word| !word.is_empty() && !leads_somewhere(word)).collect();
    if words.is_empty() { "(no name)".into() } else { words.join(" ") }
}

fn leads_somewhere(word: &str) -> bool {
    // Written in the wide letters of East Asia, an address is one all the same.
    let plain = |c: char| match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        '\u{3002}' | '\u{FF61}' => '.',
        '\\' => '/',
        other => other,
    };
    let word: String = word.chars().map(plain).flat_map(char::to_lowercase).collect();
    let path = word.find('/').is_some_and(|at| word[..at].contains('.'));
    path || word.contains("//") || word.contains("www.") || word.contains("mailto:")
}

/// Marks of Unicode that change how the text around them is shown, without being seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// A number with a comma at every thousand.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn in_days(days: i64) -> String {
    match days {
        ..=0 => "today".into(),
        1 => "in 1 day".into(),
        days => format!("in {days} days"),
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y at %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
