//! The judgement on what was said: a conversation holds each turn that succeeded, once and as it was, and nothing else.
//!
//! Conversations are as the API shows them to whoever began them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use shared::id::{DialogId, JobId};

use crate::{book::Book, evidence::Evidence, orders::Order};

/// Every conversation of every customer.
pub fn judge_dialogs(evidence: &Evidence, book: &Book) {
    let orders: HashMap<&str, &Order> =
        evidence.placed.iter().map(|placed| (placed.order.name.as_str(), &*placed.order)).collect();
    let mut turns: HashMap<DialogId, BTreeMap<JobId, &Order>> = HashMap::new();
    for row in evidence.jobs.iter().filter(|row| row.status == "succeeded") {
        if let Some(order) = row.order.as_deref().and_then(|name| orders.get(name).copied())
            && let Some(dialog) = order.dialog
        {
            turns.entry(dialog).or_default().insert(row.id, order);
        }
    }
    for (dialog, messages) in evidence.shown.iter().flat_map(|shown| &shown.dialogs) {
        let turns = turns.remove(dialog).unwrap_or_default();
        book.add("turns of dialogs", turns.len() as u64);
        judge_dialog(evidence, *dialog, messages, &turns, book);
    }
}

/// One conversation, the last said first, which is to hold these turns.
fn judge_dialog(
    evidence: &Evidence,
    dialog: DialogId,
    messages: &[Value],
    turns: &BTreeMap<JobId, &Order>,
    book: &Book,
) {
    let mut heard: BTreeMap<JobId, Vec<&Value>> = BTreeMap::new();
    for (at, message) in messages.iter().rev().enumerate() {
        if message["n"] != at + 1 {
            book.breach("messages are numbered without a gap", &format!("{dialog}: {}", message["n"]));
        }
        match message["job"].as_str().and_then(|job| job.parse().ok()) {
            Some(job) => heard.entry(job).or_default().push(message),
            None => book.breach("a message is of a job", &format!("{dialog}: {message}")),
        }
    }
    for job in turns.keys().filter(|job| !heard.contains_key(*job)) {
        book.breach("a dialog holds every turn that succeeded", &format!("{dialog}: {job}"));
    }
    for (job, said) in heard {
        let is_right = turns.get(&job).is_some_and(|order| {
            let text = evidence.looks.get(&job).map(|(_, view)| &view["output"]["text"]);
            is_turn(&said, order, text)
        });
        if !is_right {
            book.breach(
                "a dialog holds each turn once, and none that did not succeed",
                &format!("{dialog}: {job}"),
            );
        }
    }
}

/// Whether this is what an order asked, followed by what was answered, as far as that is known.
fn is_turn(said: &[&Value], order: &Order, text: Option<&Value>) -> bool {
    let [question, answer] = said else { return false };
    question["role"] == "user"
        && question["content"] == order.body["input"]["prompt"]
        && answer["role"] == "assistant"
        && text.is_none_or(|text| answer["content"] == *text)
}
