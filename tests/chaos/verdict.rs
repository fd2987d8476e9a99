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
    evidence::{Evidence, JobRow, Shown},
    kept, said,
    settle::texts,
    told,
};

/// Providers that can be asked about a submit by our name for it, and those whose work is too dear to be done again when an
/// answer was lost. All others are paid again then.
const ONCE: [&str; 5] = ["kling", "midjourney", "minimax", "luma", "luma_agents"];

/// What a limited key has spent is what its jobs were charged, on their days and in their months, and within its limit. No key here
/// gets or loses its limits on the way.
const KEYS: (&str, &str) = (
    "a limited key has spent what its jobs were charged",
    "select k.id::text from api_keys k cross join lateral (
         select coalesce(sum(j.charged_tokens), 0) as total,
                coalesce(sum(j.charged_tokens) filter (where (j.created_at at time zone 'utc')::date = k.day), 0) as day,
                coalesce(sum(j.charged_tokens)
                         filter (where date_trunc('month', j.created_at at time zone 'utc')::date = k.month), 0) as month
         from jobs j where j.key_id = k.id
     ) s
     where coalesce(k.day_limit, k.month_limit, k.total_limit) is not null
       and (k.total_tokens <> s.total or k.day_tokens <> s.day or k.month_tokens <> s.month or k.total_tokens > k.total_limit)",
);

/// What the database of the run says against itself.
///
/// # Errors
/// When it cannot be asked.
pub async fn judge_database(db: &PgPool, book: &Book) -> anyhow::Result<()> {
    for (rule, breach) in BREACHES.into_iter().chain([KEYS]) {
        for found in texts(db, breach).await.with_context(|| rule)? {
            book.breach(rule, &found);
        }
    }
    for drift in billing::audit(db).await.context("audit the ledger")? {
        book.breach("balances are the fold of the ledger", &format!("{drift:?}"));
    }
    for stray in billing::strays(db).await.context("look for strays")? {
        book.breach("no row refers to one that is not there", &format!("{stray:?}"));
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
    said::judge_dialogs(evidence, book);
    kept::judge_files(evidence, book);
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

/// What a customer began with, less what the API says was charged and what expired, is what the API says is left, less what is
/// owed.
fn judge_balances(evidence: &Evidence, book: &Book) {
    for Shown { customer, jobs, balance, .. } in &evidence.shown {
        let charged: i64 = jobs.iter().map(|view| view["price"]["charged"].as_i64().unwrap_or(0)).sum();
        let expired = evidence.expired.get(&customer.account).copied().unwrap_or(0);
        let left = customer.start_tokens - charged - expired;
        let [available, held, expiring] =
            ["available", "held", "expiring"].map(|field| balance[field].as_i64().unwrap_or(-1));
        let owed = balance["credit"]["owed"].as_i64().unwrap_or(-1);
        if available - owed != left || held != 0 || owed < 0 {
            let words = format!("{}: {left} expected, not {balance}", customer.account);
            book.breach("balances are exact to the token", &words);
        }
        // There is always enough that expires, so nothing else is ever spent.
        if expiring != customer.lasting_tokens.map_or(0, |lasting| available - lasting) {
            book.breach(
                "what expires is spent before what lasts",
                &format!("{}: {balance}", customer.account),
            );
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
        if jobs.iter().all(|row| ONCE.contains(&row.provider.as_str())) {
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
