//! The judgement on what was told: notices as the database has them, webhooks as the receivers saw them.
//!
//! What customers wished for decides, not what the database took down of it.

use std::collections::{HashMap, HashSet};

use shared::{account::webhook_key, id::JobId, webhook::Signer};

use crate::{
    book::Book,
    evidence::{Evidence, JobRow},
    place::SECRET,
    verdict::id_of,
};

/// One notice for each final job whose customer wants to be told of such an end, delivered.
pub fn judge_notices(evidence: &Evidence, book: &Book) {
    let mut notices: HashMap<JobId, usize> = HashMap::new();
    for notice in &evidence.notices {
        *notices.entry(notice.job_id).or_default() += 1;
        if notice.status != "delivered" {
            book.breach("every notice is delivered", &format!("{} is {}", notice.id, notice.status));
        }
        let end = evidence.job(notice.job_id).map(|row| format!("job.{}", row.status));
        if end.as_deref() != Some(&notice.event) {
            book.breach("a notice is about the end", &format!("{} {}: {end:?}", notice.id, notice.event));
        }
    }
    let wishes = wishes(evidence);
    for row in &evidence.jobs {
        let wanted = usize::from(is_told(row, &wishes));
        let there = notices.get(&row.id).copied().unwrap_or(0);
        if wanted != there {
            let words = format!("{}: {there}, not {wanted}", row.id);
            book.breach("one notice for each end and receiver", &words);
        }
    }
}

/// Of which ends the customers want to be told, by order.
fn wishes(evidence: &Evidence) -> HashMap<&str, &[String]> {
    let orders = evidence.placed.iter().map(|placed| &placed.order);
    orders.filter_map(|order| Some((order.name.as_str(), order.webhook.as_deref()?))).collect()
}

fn is_told(row: &JobRow, wishes: &HashMap<&str, &[String]>) -> bool {
    let event = format!("job.{}", row.status);
    let wish = row.order.as_deref().and_then(|name| wishes.get(name));
    wish.is_some_and(|events| events.is_empty() || events.contains(&event))
}

/// The receivers saw each of them, under one id, signed, and with the end as it is.
pub fn judge_webhooks(evidence: &Evidence, book: &Book) {
    let ids: HashMap<JobId, String> =
        evidence.notices.iter().map(|notice| (notice.job_id, notice.id.to_string())).collect();
    let secret = SECRET.to_owned().into();
    let signer = Signer::new(&secret);
    let mut taken = HashSet::new();
    for (_, webhook) in &evidence.received {
        let body = webhook.json();
        let Some(row) = id_of(&body["data"]).and_then(|job| evidence.job(job)) else {
            book.breach("a webhook is about a job", &webhook.id);
            continue;
        };
        let about = format!("{} of {}", webhook.id, row.id);
        if ids.get(&row.id) != Some(&webhook.id) {
            book.breach("a webhook is sent under one id", &about);
        }
        let key = webhook_key(&secret, row.account_id);
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
            taken.insert(row.id);
        }
    }
    let wishes = wishes(evidence);
    for row in evidence.jobs.iter().filter(|row| is_told(row, &wishes) && !taken.contains(&row.id)) {
        book.breach("every receiver sees its webhooks", &row.id.to_string());
    }
}
