//! The judgement: what everyone knows, laid side by side. Each rule is one function; what breaks it goes into the book.
//!
//! Deliberately absent: looking anything up. All that is judged was gathered before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Context;
use serde_json::Value;
use shared::{billing, id::JobId};
use sqlx::PgPool;

use crate::{
    book::Book,
    breaches::BREACHES,
    evidence::{Evidence, JobRow},
    settle::texts,
    told,
};

/// What the database of the run says against itself.
///
/// # Errors
/// When it cannot be asked.
pub async fn judge_database(db: &PgPool, book: &Book) -> anyhow::Result<()> {
    for (rule, breach) in BREACHES {
        for found in texts(db, breach).await.with_context(|| rule)? {
            book.breach(rule, &found);
        }
    }
    for drift in billing::audit(db).await.context("audit the ledger")? {
        book.breach("balances are the fold of the ledger", &format!("{drift:?}"));
    }
    Ok(())
}

/// Everything else.
pub fn judge(evidence: &Evidence, book: &Book) {
    judge_acceptance(evidence, book);
    judge_charges(evidence, book);
    judge_balances(evidence, book);
    judge_submits(evidence, book);
    told::judge_notices(evidence, book);
    told::judge_webhooks(evidence, book);
    judge_files(evidence, book);
}

/// What was accepted is there and over, and nothing else is there but what a customer could not know of.
fn judge_acceptance(evidence: &Evidence, book: &Book) {
    let mut accepted = HashSet::new();
    let mut unknown: HashMap<&str, u32> = HashMap::new();
    for placed in &evidence.placed {
        let name = placed.order.name.as_str();
        let Some(job) = placed.job else {
            if placed.refused.is_none() && placed.order.key.is_some() {
                book.breach("a submit with a key is answered in the end", name);
            }
            // An answer that came late or never may have been an acceptance.
            if placed.lost > 0 {
                unknown.insert(name, 1);
            }
            continue;
        };
        accepted.insert(job);
        match evidence.looks.get(&job) {
            Some((200, view)) if view["finished_at"] == Value::Null => {
                book.breach("every accepted job comes to an end", &format!("{job}: {}", view["phase"]));
            }
            Some((200, view)) if view["metadata"]["order"] != name => {
                book.breach("an answer is about the job that was ordered", &format!("{name}: {job}"));
            }
            Some((200, _)) => {}
            other => {
                let status = other.map(|(status, _)| *status);
                book.breach("an accepted job is known", &format!("{job} of {name}: {status:?}"));
            }
        }
    }
    for row in evidence.jobs.iter().filter(|row| !accepted.contains(&row.id)) {
        match row.order.as_deref().and_then(|name| unknown.get_mut(name)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                book.count("jobs whose customer never heard of their acceptance");
            }
            _ => book.breach("there is no job that nobody ordered", &format!("{} {:?}", row.id, row.order)),
        }
    }
    let listed: BTreeSet<_> = evidence.shown.iter().flat_map(|shown| &shown.jobs).map(id_of).collect();
    let there: BTreeSet<_> = evidence.jobs.iter().map(|row| Some(row.id)).collect();
    for job in listed.symmetric_difference(&there) {
        book.breach("lists show what there is", &format!("{job:?}"));
    }
}

/// The id of a job that is shown.
pub fn id_of(view: &Value) -> Option<JobId> {
    view["id"].as_str()?.parse().ok()
}

/// One charge for each success that held something, none otherwise, at most the hold.
fn judge_charges(evidence: &Evidence, book: &Book) {
    for row in &evidence.jobs {
        let due = i64::from(row.status == "succeeded" && row.held_tokens > 0);
        let charged = row.charged_tokens.unwrap_or(0);
        let right = row.charges == due
            && row.charges_tokens == charged
            && (0..=row.held_tokens).contains(&charged)
            && (due == 0 || charged > 0);
        if !right {
            book.breach("charges are successes", &format!("{row:?}"));
        }
    }
}

/// What a customer began with, less what the API says was charged, is what the API says is left.
fn judge_balances(evidence: &Evidence, book: &Book) {
    for shown in &evidence.shown {
        let charged: i64 = shown.jobs.iter().map(|view| view["price"]["charged"].as_i64().unwrap_or(0)).sum();
        let left = shown.customer.start_tokens - charged;
        if shown.available != Some(left) || shown.held != Some(0) {
            let words = format!(
                "{}: {left} expected, {:?} available and {:?} held",
                shown.customer.account, shown.available, shown.held
            );
            book.breach("balances are exact to the token", &words);
        }
    }
}

/// No attempt is paid twice, and where the vendor can be asked or its work is dear, no job is, unless what it was paid for
/// was no use.
fn judge_submits(evidence: &Evidence, book: &Book) {
    let mut refs = HashSet::new();
    for submit in evidence.submits.iter().filter(|submit| submit.accepted) {
        if let Some(client_ref) = &submit.client_ref
            && !refs.insert((submit.provider.as_str(), client_ref.as_str()))
        {
            book.breach("no attempt is paid twice", client_ref);
        }
    }
    let names: HashMap<&str, &str> = evidence
        .placed
        .iter()
        .filter_map(|placed| Some((placed.order.name.as_str(), placed.order.tag.as_deref()?)))
        .collect();
    let mut jobs_by_tag: BTreeMap<&str, Vec<&JobRow>> = BTreeMap::new();
    for row in &evidence.jobs {
        if let Some(tag) = row.order.as_deref().and_then(|name| names.get(name)) {
            jobs_by_tag.entry(tag).or_default().push(row);
        }
    }
    let mut paid_by_tag: HashMap<&str, usize> = HashMap::new();
    for submit in evidence.submits.iter().filter(|submit| submit.accepted) {
        match tag_in(&submit.prompt) {
            Some(tag) if jobs_by_tag.contains_key(tag) => *paid_by_tag.entry(tag).or_default() += 1,
            _ => book.breach("nothing is submitted that nobody ordered", &submit.prompt),
        }
    }
    let mut useless: HashMap<JobId, usize> = HashMap::new();
    for attempt in &evidence.attempts {
        let said = attempt.error.as_deref().unwrap_or_default();
        if attempt.outcome.as_deref() == Some("failed") && said.starts_with("provider_result_unusable") {
            *useless.entry(attempt.job_id).or_default() += 1;
        }
    }
    for (tag, jobs) in jobs_by_tag {
        let paid = paid_by_tag.get(tag).copied().unwrap_or(0);
        let attempts: usize = jobs.iter().map(|row| usize::try_from(row.attempts).unwrap_or(0)).sum();
        let ids = || jobs.iter().map(|row| row.id.to_string()).collect::<Vec<_>>().join(" ");
        if paid > attempts {
            let words = format!("{tag} {}: {paid} paid, {attempts} attempts", ids());
            book.breach("at most one paid submit an attempt", &words);
        }
        if jobs.iter().all(|row| ["kling", "minimax"].contains(&row.provider.as_str())) {
            let may: usize = jobs.iter().map(|row| 1 + useless.get(&row.id).copied().unwrap_or(0)).sum();
            if paid > may {
                let words = format!("{tag} {}: {paid} paid, {may} justified", ids());
                book.breach("what can be asked about, or is dear, is not paid again", &words);
            }
        } else {
            let again = paid.saturating_sub(jobs.len());
            book.add("submits paid again, where vendors cannot be asked or work was no use", again as u64);
        }
    }
}

/// The tag in a prompt, its marks included.
fn tag_in(prompt: &str) -> Option<&str> {
    let begin = prompt.find('#')?;
    let length = prompt[begin + 1..].find('#')?;
    Some(&prompt[begin..begin + length + 2])
}

/// What succeeded has its files, as long as is said; what is stored belongs to something.
fn judge_files(evidence: &Evidence, book: &Book) {
    let mut known = HashSet::new();
    for file in &evidence.files {
        known.insert(file.storage_key.as_str());
        known.extend(file.preview_key.as_deref());
        if !file.kept {
            continue;
        }
        if evidence.job(file.job_id).is_none_or(|row| row.status != "succeeded") {
            book.breach("a file that is kept belongs to a success", &file.storage_key);
        }
        let stored = evidence.objects.get(&file.storage_key);
        if stored.and_then(|size| i64::try_from(*size).ok()) != Some(file.size_bytes) {
            let words = format!("{}: {stored:?} bytes, not {}", file.storage_key, file.size_bytes);
            book.breach("every file is stored whole", &words);
        }
        if let Some(preview) = &file.preview_key
            && !evidence.objects.contains_key(preview)
        {
            book.breach("every file is stored whole", preview);
        }
    }
    for key in evidence.objects.keys().filter(|key| !known.contains(key.as_str())) {
        let job = key.split('/').nth(1).and_then(|job| job.parse().ok()).and_then(|job| evidence.job(job));
        let end = job.map(|row| (&row.status, &row.error_code));
        book.breach("every stored object belongs to a file", &format!("{key}: {end:?}"));
    }
    for (job, size_bytes, length) in &evidence.downloads {
        if length.and_then(|length| i64::try_from(length).ok()) != Some(*size_bytes) {
            book.breach(
                "every file can be downloaded whole",
                &format!("{job}: {length:?}, not {size_bytes}"),
            );
        }
    }
}
