//! What is told at the end: what was counted, and what is wrong.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::{
    book::Book,
    evidence::Evidence,
    faults::Strike,
    place::Place,
    strike::{DEALT, STRUCK},
};

/// Most breaches of one rule that are shown.
const SHOWN: usize = 10;
/// Most kinds of log lines that are shown.
const LINES: usize = 12;

/// Counts what the evidence holds.
pub fn tally(evidence: &Evidence, book: &Book) {
    book.add("jobs", evidence.jobs.len() as u64);
    for row in &evidence.jobs {
        book.count(&format!("jobs {}", row.status));
        if let Some(code) = &row.error_code {
            book.count(&format!("jobs not succeeded: {code}"));
        }
        if row.status == "succeeded" && row.attempts == 0 && row.provider != "local" && row.held_tokens == 0 {
            book.count("jobs answered from the cache");
        }
    }
    book.add("attempts", evidence.attempts.len() as u64);
    let paid = evidence.submits.iter().filter(|submit| submit.accepted).count();
    book.add("submits to vendors", evidence.submits.len() as u64);
    book.add("submits to vendors, paid", paid as u64);
    for kind in ["poll", "file", "download"] {
        book.add(&format!("requests to vendors, {kind}"), evidence.requests[kind].as_u64().unwrap_or(0));
    }
    book.add("notices", evidence.notices.len() as u64);
    book.add("objects stored", evidence.objects.len() as u64);
    book.add("bytes downloaded", evidence.downloads.iter().filter_map(|(.., length)| *length).sum());
    let tokens: i64 = evidence.jobs.iter().filter_map(|row| row.charged_tokens).sum();
    book.add("tokens charged", tokens.unsigned_abs());
    for (kind, many) in &evidence.entries {
        book.add(&format!("entries of the ledger: {kind}"), many.unsigned_abs());
    }
    for words in evidence.placed.iter().filter_map(|placed| placed.refused.as_deref()) {
        book.count(&format!("submits refused: {words}"));
    }
}

/// Shows what was counted.
pub fn show_counts(book: &Book) {
    let counts = book.counts();
    let width = counts.keys().map(String::len).max().unwrap_or(0);
    println!();
    for (what, many) in &counts {
        println!("  {what:<width$}  {:>12}", grouped(*many));
    }
}

/// What is logged as an error only by a defect of ours.
const DEFECTS: [&str; 5] =
    ["panicked", "a write of ours was refused", "cannot be read", "cannot be ended", "run of job"];
/// What is counted in the logs, and what it says.
const TRACES: [(&str, &str); 6] = [
    ("rescued from a lost worker", "jobs rescued from a lost worker"),
    (": lease of job_", "leases that workers noticed they had lost"),
    (" given back", "jobs given back by a worker that was told to stop"),
    ("database away; the write is repeated", "writes repeated because the database was away"),
    ("storage away; holding the result", "results held because the storage was away"),
    ("failed: its worker was lost too often", "jobs whose worker was lost too often"),
];

/// Looks through the logs: a panic, or a write that the database refused, is a breach; other errors are counted.
pub fn read_logs(place: &Place, book: &Book) {
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    let folder = place.folder.join("logs");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read(entry.path()).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            for (_, what) in TRACES.iter().filter(|(trace, _)| line.contains(trace)) {
                book.count(what);
            }
            let defect = line.contains("panicked")
                || line.contains("ERROR") && DEFECTS.iter().any(|word| line.contains(word));
            if defect {
                book.breach("no process panics or writes what is refused", &format!("{name}: {line}"));
            } else if line.contains("ERROR") {
                *errors.entry(skeleton(line)).or_default() += 1;
            }
        }
    }
    let mut errors: Vec<_> = errors.into_iter().collect();
    errors.sort_by_key(|(_, many)| std::cmp::Reverse(*many));
    for (line, many) in errors.into_iter().take(LINES) {
        book.add(&format!("logged as error: {line}"), many);
    }
}

/// A line of a log without what differs from one to the next.
fn skeleton(line: &str) -> String {
    let line = line.split_once("ERROR").map_or(line, |(_, words)| words);
    let words = line.split_whitespace().filter(|word| !word.chars().any(|c| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ").chars().take(48).collect()
}

/// Writes down the plan beside the logs.
pub fn write_plan(place: &Place, plan: &[Strike]) {
    let lines: Vec<_> =
        plan.iter().map(|strike| format!("{:>9.3?} {:?}\n", strike.at, strike.fault)).collect();
    // Only to be read by people; a run without it is as good.
    drop(fs::write(place.folder.join("plan.txt"), lines.concat()));
}

/// The last words of a run.
pub fn conclude(book: &Book, place: &Place, seed: u64, took: Duration) -> bool {
    let (breaches, counts) = (book.breaches(), book.counts());
    let all = |of: &str| -> u64 {
        counts.iter().filter(|(what, _)| what.starts_with(of)).map(|(_, many)| many).sum()
    };
    let summary = format!(
        "{} jobs, {} faults of which {} struck, seed {seed}, {} s",
        grouped(counts.get("jobs").copied().unwrap_or(0)),
        grouped(all(DEALT)),
        grouped(all(STRUCK)),
        took.as_secs()
    );
    if breaches.is_empty() {
        println!("\nchaos: clean — {summary}");
        return true;
    }
    println!();
    for (rule, broken) in &breaches {
        println!("  BROKEN: {rule} ({})", broken.len());
        for what in broken.iter().take(SHOWN) {
            println!("    {what}");
        }
    }
    println!(
        "\nchaos: {} rules broken — {summary}; logs and data are in {}",
        breaches.len(),
        place.folder.display()
    );
    false
}

/// A number as people read it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
