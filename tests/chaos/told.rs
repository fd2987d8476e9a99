//! The judgement on what was told: notices as the database has them, webhooks as the receivers saw them.
//!
//! What customers wished for decides, not what the database took down of it: of each end one notice is owed to the webhook that
//! the job asked for, and one to each endpoint of its account that wants to hear of such an end.

use std::collections::{BTreeMap, HashMap, HashSet};

use shared::{
    account::webhook_key,
    id::{AccountId, JobId},
    webhook::Signer,
};

use crate::{
    book::Book,
    customer::Customer,
    evidence::{Evidence, JobRow},
    place::SECRET,
    sinks::Received,
    verdict::id_of,
};

/// The channel of the webhook that a job itself asks for. That of an endpoint is its id.
const OWN: &str = "webhook";

/// Who wanted to be told of what.
struct Wishes<'a> {
    /// Of which ends of its own each order wants to be told; empty for all.
    orders: HashMap<&'a str, &'a [String]>,
    /// With the endpoints of the accounts.
    customers: HashMap<AccountId, &'a Customer>,
}

impl<'a> Wishes<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let orders = evidence.placed.iter().map(|placed| &placed.order);
        let customers = evidence.shown.iter().map(|shown| &shown.customer);
        Self {
            orders: orders
                .filter_map(|order| Some((order.name.as_str(), order.webhook.as_deref()?)))
                .collect(),
            customers: customers.map(|customer| (customer.account, customer)).collect(),
        }
    }

    /// The channels by which the end of a job is to be told.
    fn channels(&self, row: &JobRow) -> Vec<String> {
        let event = format!("job.{}", row.status);
        let wants = |events: &[String]| events.is_empty() || events.contains(&event);
        let own = row.order.as_deref().and_then(|name| self.orders.get(name));
        let own = own.filter(|events| wants(events)).map(|_| OWN.to_owned());
        let endpoints = self.customers.get(&row.account_id).into_iter().flat_map(|of| &of.endpoints);
        let told = endpoints.filter(|endpoint| wants(&endpoint.events));
        own.into_iter().chain(told.map(|endpoint| endpoint.id.0.to_string())).collect()
    }

    /// The channel of a webhook that came for a job of the account, by the address it came to, and what it is to be signed with.
    fn channel(&self, account: AccountId, webhook: &Received) -> Option<(String, Vec<u8>)> {
        let Some(name) = &webhook.endpoint else {
            return Some((OWN.to_owned(), webhook_key(&SECRET.to_owned().into(), account)));
        };
        let endpoints = &self.customers.get(&account)?.endpoints;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.name == *name)?;
        Some((endpoint.id.0.to_string(), endpoint.secret.clone()))
    }
}

/// One notice for each final job and channel by which such an end is to be told, delivered.
pub fn judge_notices(evidence: &Evidence, book: &Book) {
    let mut notices: HashMap<JobId, BTreeMap<String, usize>> = HashMap::new();
    for notice in &evidence.notices {
        *notices.entry(notice.job_id).or_default().entry(notice.channel.clone()).or_default() += 1;
        if notice.channel != OWN {
            book.count("notices to endpoints");
        }
        if notice.status != "delivered" {
            book.breach("every notice is delivered", &format!("{} is {}", notice.id, notice.status));
        }
        let end = evidence.job(notice.job_id).map(|row| format!("job.{}", row.status));
        if end.as_deref() != Some(&notice.event) {
            book.breach("a notice is about the end", &format!("{} {}: {end:?}", notice.id, notice.event));
        }
    }
    let wishes = Wishes::of(evidence);
    for row in &evidence.jobs {
        let wanted: BTreeMap<_, _> = wishes.channels(row).into_iter().map(|channel| (channel, 1)).collect();
        let there = notices.remove(&row.id).unwrap_or_default();
        if wanted != there {
            let words = format!("{}: {there:?}, not {wanted:?}", row.id);
            book.breach("one notice for each end and channel", &words);
        }
    }
}

/// The receivers saw each of them, under one id, signed, and with the end as it is.
pub fn judge_webhooks(evidence: &Evidence, book: &Book) {
    let ids: HashMap<(JobId, &str), String> = evidence
        .notices
        .iter()
        .map(|notice| ((notice.job_id, notice.channel.as_str()), notice.id.to_string()))
        .collect();
    let (wishes, signer) = (Wishes::of(evidence), Signer::new(&SECRET.to_owned().into()));
    let mut taken = HashSet::new();
    for webhook in &evidence.received {
        let body = webhook.json();
        let Some(row) = id_of(&body["data"]).and_then(|job| evidence.job(job)) else {
            book.breach("a webhook is about a job", &webhook.id);
            continue;
        };
        let about = format!("{} of {}", webhook.id, row.id);
        let Some((channel, key)) = wishes.channel(row.account_id, webhook) else {
            book.breach("a webhook comes where its account wants it", &about);
            continue;
        };
        if ids.get(&(row.id, channel.as_str())) != Some(&webhook.id) {
            book.breach("a webhook is sent under one id", &about);
        }
        let signed = workers::notify::Signed {
            id: &webhook.id,
            timestamp_secs: webhook.timestamp_secs,
            body: &webhook.body,
        };
        if webhook.signature != signed.header([key.as_slice()], &signer) {
            book.breach("a webhook is signed", &about);
        }
        let tells = body["data"]["status"] == *row.status && body["type"] == *format!("job.{}", row.status);
        if !tells {
            book.breach("a webhook tells the end", &format!("{about}: {}", body["type"]));
        }
        if webhook.taken {
            taken.insert((row.id, channel));
        }
    }
    for row in &evidence.jobs {
        for channel in wishes.channels(row) {
            let words = format!("{} by {channel}", row.id);
            if !taken.contains(&(row.id, channel)) {
                book.breach("every receiver sees its webhooks", &words);
            }
        }
    }
}
