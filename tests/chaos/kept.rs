//! The judgement on what is stored: results, files that were sent in, and archives are whole, and nothing is nobody's.

use std::collections::{HashMap, HashSet};

use shared::id::{AccountId, FileId};

use crate::{book::Book, evidence::Evidence};

/// What is broken when something is not stored as its row says.
const WHOLE: &str = "every file is stored whole";

/// Everything in storage.
pub fn judge_files(evidence: &Evidence, book: &Book) {
    judge_results(evidence, book);
    judge_downloads(evidence, book);
    for archive in evidence.archives.iter().filter(|archive| archive.is_ready) {
        book.count("archives that are ready");
        check_whole(evidence, &archive.storage_key, archive.size_bytes.unwrap_or(-1), book);
    }
    let strays = judge_objects(evidence, book);
    judge_uploads(evidence, strays, book);
}

/// What succeeded has its files, as long as is said.
fn judge_results(evidence: &Evidence, book: &Book) {
    for file in evidence.files.iter().filter(|file| file.kept) {
        if evidence.job(file.job_id).is_none_or(|row| row.status != "succeeded") {
            book.breach("a file that is kept belongs to a success", &file.storage_key);
        }
        check_whole(evidence, &file.storage_key, file.size_bytes, book);
        if let Some(preview) = &file.preview_key
            && !evidence.objects.contains_key(preview)
        {
            book.breach(WHOLE, preview);
        }
    }
}

fn check_whole(evidence: &Evidence, key: &str, size_bytes: i64, book: &Book) {
    let stored = evidence.objects.get(key);
    if stored.and_then(|size| i64::try_from(*size).ok()) != Some(size_bytes) {
        book.breach(WHOLE, &format!("{key}: {stored:?} bytes, not {size_bytes}"));
    }
}

fn judge_downloads(evidence: &Evidence, book: &Book) {
    for (job, size_bytes, length) in &evidence.downloads {
        if length.and_then(|length| i64::try_from(length).ok()) != Some(*size_bytes) {
            book.breach(
                "every file can be downloaded whole",
                &format!("{job}: {length:?}, not {size_bytes}"),
            );
        }
    }
}

/// What is stored belongs to something, but for what was sent in and never written down, which stays for a day: how many such
/// objects each account has.
fn judge_objects(evidence: &Evidence, book: &Book) -> HashMap<AccountId, usize> {
    let mut known: HashSet<&str> = HashSet::new();
    for file in &evidence.files {
        known.insert(&file.storage_key);
        known.extend(file.preview_key.as_deref());
    }
    known.extend(evidence.uploads.iter().map(|upload| upload.storage_key.as_str()));
    known.extend(evidence.archives.iter().map(|archive| archive.storage_key.as_str()));
    let mut strays: HashMap<AccountId, usize> = HashMap::new();
    for key in evidence.objects.keys().filter(|key| !known.contains(key.as_str())) {
        let mut parts = key.split('/');
        let (place, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match owner.parse() {
            Ok(account) if place == "uploads" => *strays.entry(account).or_default() += 1,
            _ => {
                let job = owner.parse().ok().and_then(|job| evidence.job(job));
                let end = job.map(|row| (&row.status, &row.error_code));
                book.breach("every stored object belongs to a row", &format!("{key}: {end:?}"));
            }
        }
    }
    strays
}

/// What an account was told is kept is there, and beside that no more than what it sent in and was not told of. `strays`: objects
/// without a row.
fn judge_uploads(evidence: &Evidence, mut strays: HashMap<AccountId, usize>, book: &Book) {
    let kept: HashSet<FileId> =
        evidence.sent_in.values().flat_map(|uploads| &uploads.kept).copied().collect();
    let there: HashSet<FileId> = evidence.uploads.iter().map(|upload| upload.id).collect();
    for file in kept.difference(&there) {
        book.breach("a file that was taken is kept", &file.to_string());
    }
    for upload in &evidence.uploads {
        check_whole(evidence, &upload.storage_key, upload.size_bytes, book);
        if !kept.contains(&upload.id) {
            *strays.entry(upload.account_id).or_default() += 1;
        }
    }
    book.add("files sent in that are kept", evidence.uploads.len() as u64);
    for (account, many) in strays {
        let lost = evidence.sent_in.get(&account).map_or(0, |uploads| uploads.lost);
        book.add("files sent in whose sender never heard of them", many as u64);
        if many > lost {
            let words = format!("{account}: {many}, and {lost} were sent in without an answer");
            book.breach("there is no file that nobody sent in", &words);
        }
    }
}
