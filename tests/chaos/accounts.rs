//! The customers' accounts: what each begins with, and which of them have more than tokens that stay.
//!
//! Who has what is decided by a customer's number alone, so that every run has customers with tokens that expire, with credit,
//! with a key that has limits, with endpoints and with dialogs. All of it is made before anything breaks, by the product's own
//! verbs where operators or owners would, else over the API.

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use shared::{
    account::{
        self, KeyRole, NewTerms,
        audit::{By, Who},
    },
    billing,
    clock::{Clock, SystemClock},
    id::{AccountId, DialogId},
    privacy,
};
use sqlx::PgPool;

use crate::customer::{Customer, Door, Endpoint};

/// How many accounts there are, and how many of them, the last, soon have too little.
const ACCOUNTS: usize = 20;
const POOR: usize = 2;
/// Tokens of an account that has enough, and of one that has not.
const PLENTY: i64 = 1_000_000_000;
const LITTLE: i64 = 250_000;
/// Tokens that stay, of an account whose others expire and are spent before these.
const LASTING: i64 = 1_000;
/// Tokens that expire while customers order, and when; about half of them are spent by then.
const FLEETING: i64 = 400_000;
const FLEETING_LIFE: TimeDelta = TimeDelta::seconds(30);
/// When the tokens expire that are spent after those.
const EXPIRING_LIFE: TimeDelta = TimeDelta::days(2);
/// What a key with limits may spend over all; less than its customer would.
const KEY_TOTAL: i64 = 400_000;

/// Some of the customers.
struct Share {
    first: usize,
    every: usize,
}

impl Share {
    const fn has(&self, number: usize) -> bool {
        number % self.every == self.first
    }
}

/// Those whose tokens expire.
const EXPIRING: Share = Share { first: 0, every: 5 };
/// Those who soon draw on credit.
const CREDIT: Share = Share { first: 1, every: 5 };
/// Those whose key has limits.
const LIMITED: Share = Share { first: 2, every: 10 };
/// Those with endpoints.
const ENDPOINTS: Share = Share { first: 3, every: 6 };
/// Those who have conversations.
const DIALOGS: Share = Share { first: 0, every: 3 };
/// Those who order an archive of their account.
const ARCHIVE: Share = Share { first: 4, every: 8 };

/// Of which ends the endpoints of an account are told: the first of all.
const EVENTS: [&[&str]; 2] = [&[], &["job.failed", "job.expired", "job.canceled"]];

/// Opens all accounts.
///
/// # Errors
/// When one cannot be opened as it should.
pub async fn open_all(db: &PgPool, door: &Door) -> anyhow::Result<Vec<Customer>> {
    let mut customers = Vec::with_capacity(ACCOUNTS);
    for number in 0..ACCOUNTS {
        let opened = open(db, door, number).await;
        customers.push(opened.with_context(|| format!("open the account of customer {number}"))?);
    }
    Ok(customers)
}

async fn open(db: &PgPool, door: &Door, number: usize) -> anyhow::Result<Customer> {
    let (now, by) = (SystemClock.now(), By::hand(Who::CommandLine));
    let name = format!("customer {number}");
    let account = account::open_account(db, &name, "unlimited", now).await.context("make the account")?;
    let gifts = gifts(number, now);
    give(db, account, &gifts, now).await?;
    if CREDIT.has(number) {
        let terms = NewTerms { credit_limit_tokens: Some(PLENTY), ..NewTerms::default() };
        account::set_terms(db, None, account, &terms, &by, now).await.context("give credit")?;
    }
    if ARCHIVE.has(number) {
        privacy::request_export(db, account, None, &by, now).await.context("order an archive")?;
    }
    let key = account::issue_key(db, account, KeyRole::Member, &name, now).await.context("issue a key")?;
    let mut customer = Customer {
        number,
        account,
        key: key.secret.expose_secret().to_owned(),
        start_tokens: gifts.iter().map(|(tokens, _)| tokens).sum(),
        lasting_tokens: EXPIRING.has(number).then_some(LASTING),
        endpoints: Vec::new(),
        dialogs: Vec::new(),
        door: door.clone(),
    };
    if LIMITED.has(number) {
        customer.key = limited_key(&customer).await?;
    }
    if ENDPOINTS.has(number) {
        customer.endpoints = endpoints(&customer).await?;
    }
    if DIALOGS.has(number) {
        customer.dialogs = dialogs(&customer).await?;
    }
    Ok(customer)
}

/// What a customer is given: so many tokens, and until when.
fn gifts(number: usize, now: DateTime<Utc>) -> Vec<(i64, Option<DateTime<Utc>>)> {
    if EXPIRING.has(number) {
        return vec![
            (LASTING, None),
            (FLEETING, Some(now + FLEETING_LIFE)),
            (PLENTY, Some(now + EXPIRING_LIFE)),
        ];
    }
    let is_poor = CREDIT.has(number) || number + POOR >= ACCOUNTS;
    vec![(if is_poor { LITTLE } else { PLENTY }, None)]
}

async fn give(
    db: &PgPool,
    account: AccountId,
    gifts: &[(i64, Option<DateTime<Utc>>)],
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    for (at, (tokens, expires_at)) in gifts.iter().enumerate() {
        let gift = billing::Gift {
            account,
            tokens: billing::Tokens::new(*tokens).context("not negative")?,
            expires_at: *expires_at,
            source: billing::Source::Operator,
            reference: &format!("{account} {at}"),
            reason: Some("for the chaos"),
        };
        billing::give(db, &gift, now).await.context("give tokens")?;
    }
    Ok(())
}

/// Makes a key with limits, of which only the one over all is ever reached.
async fn limited_key(customer: &Customer) -> anyhow::Result<String> {
    let limits = json!({ "day": PLENTY, "month": PLENTY, "total": KEY_TOTAL });
    let made = make(customer, "/v1/api-keys", json!({ "name": "with limits", "limits": limits })).await?;
    Ok(made["secret"].as_str().context("a key with its secret")?.to_owned())
}

async fn endpoints(customer: &Customer) -> anyhow::Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for (at, events) in EVENTS.into_iter().enumerate() {
        let name = format!("{}.{at}", customer.number);
        let url = customer.door.place.endpoint_url(customer.number + at, &name);
        let made = make(customer, "/v1/webhook-endpoints", json!({ "url": url, "events": events })).await?;
        let secret = made["secret"].as_str().and_then(|secret| secret.strip_prefix("whsec_"));
        endpoints.push(Endpoint {
            id: made["id"].as_str().and_then(|id| id.parse().ok()).context("the id of an endpoint")?,
            name,
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            secret: BASE64_STANDARD.decode(secret.context("an endpoint with its secret")?)?,
        });
    }
    Ok(endpoints)
}

/// Two conversations: one in which what was said goes before what is said next, and one in which it is only kept.
async fn dialogs(customer: &Customer) -> anyhow::Result<Vec<DialogId>> {
    let mut dialogs = Vec::new();
    for uses_history in [true, false] {
        let made = make(customer, "/v1/dialogs", json!({ "uses_history": uses_history })).await?;
        dialogs.push(made["id"].as_str().and_then(|id| id.parse().ok()).context("the id of a dialog")?);
    }
    Ok(dialogs)
}

/// Has something made over the API, while all is well.
async fn make(customer: &Customer, path: &str, body: Value) -> anyhow::Result<Value> {
    let answer = customer.ask(Method::POST, customer.number, path, &[], Some(&body)).await;
    let answer = answer.with_context(|| format!("no answer to POST {path}"))?;
    ensure!(answer.status.is_success(), "{} to POST {path}: {}", answer.status, answer.json);
    Ok(answer.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_customer_is_there_and_those_with_little_have_no_more() {
        for share in [EXPIRING, CREDIT, LIMITED, ENDPOINTS, DIALOGS, ARCHIVE] {
            assert!((0..ACCOUNTS).any(|number| share.has(number)));
        }
        for number in ACCOUNTS - POOR..ACCOUNTS {
            assert!(!EXPIRING.has(number) && !CREDIT.has(number), "{number}");
        }
    }
}
