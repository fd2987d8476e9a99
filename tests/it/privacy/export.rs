//! The copy of everything: all of one's own is in it, and nothing of anyone else's.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::{
    id::ExportId,
    privacy::{self, PARTS},
};

use super::{ALICE, BOB, UPLOAD, jobs_of, objects, run};
use crate::support::{Account, Answer, TestApp, execute, scalar};

/// The files of an archive, whole.
type Files = BTreeMap<String, Vec<u8>>;

fn unzip(bytes: Vec<u8>) -> Files {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
    let names: Vec<_> = zip.file_names().map(|name| name.expect("a name").into_owned()).collect();
    names
        .into_iter()
        .map(|name| {
            let mut bytes = Vec::new();
            zip.by_name(&name).expect("a file").read_to_end(&mut bytes).expect("read");
            (name, bytes)
        })
        .collect()
}

fn json_of(files: &Files, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn lines_of(files: &Files, name: &str) -> Vec<Value> {
    let text = std::str::from_utf8(&files[name]).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

async fn order(account: &Account) -> Answer {
    account.post("/v1/account/exports", json!({})).await
}

async fn look(account: &Account, id: &Value) -> Value {
    account.get(&format!("/v1/account/exports/{}", id.as_str().expect("an id"))).await.json
}

async fn download(app: &TestApp, url: &Value) -> Vec<u8> {
    let answer = app.http.get(url.as_str().expect("a URL")).send().await.expect("fetch");
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect("bytes").to_vec()
}

async fn count(app: &TestApp, account: &Account, table: &str) -> usize {
    let sql = format!("select count(*) from {table} where account_id = '{}'", account.id.0);
    usize::try_from(scalar::<i64>(&app.db, &sql).await).expect("a count")
}

#[tokio::test]
async fn an_archive_holds_everything_of_its_account_and_nothing_of_another() {
    let app = TestApp::new().await;
    let receiver = app.receiver().await;
    BOB.live(&app, &receiver).await;
    let alice = ALICE.live(&app, &receiver).await;
    app.clock.advance(TimeDelta::days(1));
    app.tick("roll-up-usage").await;
    let alice = ALICE.enter(&app).await.with_id(alice.id);

    let ordered = order(&alice).await;
    assert_eq!(
        (ordered.status.as_u16(), &ordered.json["status"], &ordered.json["url"]),
        (202, &json!("pending"), &Value::Null)
    );
    run(&app, "build-exports").await;
    let ready = look(&alice, &ordered.json["id"]).await;
    assert_eq!(ready["status"], "ready", "{ready}");
    let bytes = download(&app, &ready["url"]).await;
    assert_eq!(ready["size_bytes"], bytes.len());
    let files = unzip(bytes);

    for part in PARTS {
        assert!(files.contains_key(part.path), "{}", part.path);
    }
    let account = json_of(&files, "account.json");
    assert_eq!((&account["phone"], &account["name"]), (&json!(ALICE.phone), &json!(ALICE.name())));
    assert_eq!(account["preferences"]["models"]["flux"]["sort"], "price");
    for (name, table) in [
        ("jobs.jsonl", "jobs"),
        ("dialogs.jsonl", "dialogs"),
        ("uploads.jsonl", "uploads"),
        ("transactions.jsonl", "ledger"),
        ("audit_log.jsonl", "audit_log"),
        ("notices.jsonl", "notices"),
        ("feedback.jsonl", "feedback"),
        ("usage.jsonl", "usage_daily"),
    ] {
        // That the archive is ready was written down behind its back.
        let rows = count(&app, &alice, table).await - usize::from(table == "audit_log");
        assert_eq!(lines_of(&files, name).len(), rows, "{name}");
        assert!(rows > 0, "{name} has something to show");
    }
    for (name, list, table) in [
        ("users.json", "members", "members"),
        ("users.json", "invitations", "invitations"),
        ("users.json", "sessions", "sessions"),
        ("api_keys.json", "api_keys", "api_keys"),
        ("webhook_endpoints.json", "webhook_endpoints", "webhook_endpoints"),
        ("grants.json", "grants", "grants"),
        ("exports.json", "exports", "exports"),
    ] {
        let listed = json_of(&files, name)[list].as_array().expect("a list").len();
        assert_eq!(listed, count(&app, &alice, table).await, "{list} of {name}");
        assert!(listed > 0, "{list} of {name} has something to show");
    }
    assert_eq!(json_of(&files, "users.json")["consents"][0]["version"], "1");
    let jobs = lines_of(&files, "jobs.jsonl");
    let ids: Vec<_> = jobs_of(&app, &alice).await.iter().map(ToString::to_string).collect();
    assert_eq!(jobs.iter().map(|job| job["id"].as_str().expect("an id")).collect::<Vec<_>>(), ids);
    assert!(
        jobs[0]["input"]["prompt"].as_str().expect("a prompt").contains(ALICE.word)
            && jobs[0]["output"]["text"].is_string()
    );
    assert_eq!(jobs[0]["metadata"][ALICE.word], ALICE.word);
    let dialog = &lines_of(&files, "dialogs.jsonl")[0];
    assert_eq!(dialog["system"], format!("Speak of {}.", ALICE.word));
    let said = lines_of(&files, "dialog_messages.jsonl");
    let spoken: Vec<_> = said.iter().map(|message| (&message["dialog"], &message["role"])).collect();
    assert_eq!(spoken, [(&dialog["id"], &json!("user")), (&dialog["id"], &json!("assistant"))]);
    assert_eq!(said[0]["content"], format!("more of {}", ALICE.word));
    assert_eq!(jobs[0]["wishes"]["routing"]["ignore"], json!([ALICE.word]));
    let said = &lines_of(&files, "feedback.jsonl")[0];
    assert_eq!((&said["job"], &said["rating"]), (&jobs[0]["id"], &json!("dislike")));
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains(ALICE.word)), "{said}");
    check_results(&app, &alice, &files).await;
    check_uploads(&files);
    check_strangers(&files);

    let readme = String::from_utf8(files["README.txt"].clone()).expect("text");
    assert!(
        files
            .keys()
            .filter(|name| !["files/", "uploads/"].iter().any(|folder| name.starts_with(folder)))
            .all(|name| name == "README.txt" || readme.contains(name.as_str())),
        "{readme}"
    );
    assert!(!readme.contains("Not in this archive"), "{readme}");
    let mails = app.mails().await;
    assert_eq!((mails.len(), mails[0].recipient.as_str()), (1, ALICE.email().as_str()), "{mails:?}");
    assert_eq!(
        mails[0].link(),
        format!("{}/v1/account/exports/{}", app.base, ready["id"].as_str().expect("an id"))
    );
    let log = alice.get("/v1/account/audit-log").await.json;
    let actions: Vec<_> =
        log["data"].as_array().expect("a list").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions[..2], ["account.export_ready", "account.export_requested"]);
    app.finish().await;
}

/// Each file of a job is there, byte for byte.
async fn check_results(app: &TestApp, alice: &Account, files: &Files) {
    let results: Vec<_> = files.iter().filter(|(name, _)| name.starts_with("files/")).collect();
    assert_eq!(results.len(), count(app, alice, "files").await);
    assert!(!results.is_empty());
    for (name, bytes) in results {
        let [_, job, file] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let view = alice.job(job.parse().expect("a job")).await;
        let position: usize = file.split('.').next().expect("a number").parse().expect("a number");
        let url = &view["output"]["files"][position]["url"];
        assert_eq!(&download(app, url).await, bytes, "{name}");
    }
}

/// What was sent in is there by its id, and listed with its name.
fn check_uploads(files: &Files) {
    let listed = lines_of(files, "uploads.jsonl");
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &json!(format!("{}.pdf", ALICE.word))));
    assert_eq!((&listed[0]["purpose"], &listed[0]["size_bytes"]), (&json!(ALICE.word), &json!(UPLOAD.len())));
    let path = format!("uploads/{}.pdf", listed[0]["id"].as_str().expect("an id"));
    assert_eq!(files[&path], UPLOAD);
    assert_eq!(files.keys().filter(|name| name.starts_with("uploads/")).count(), 1);
}

/// Nothing of another account, and no secret.
fn check_strangers(files: &Files) {
    for (name, bytes) in files {
        let text = String::from_utf8_lossy(bytes);
        for needle in BOB.needles().iter().map(String::as_str).chain([
            "$argon2",
            "_hash",
            "token_hash",
            "sealed",
            "cost_usd",
        ]) {
            assert!(!text.contains(needle), "{needle} in {name}");
        }
    }
}

impl Account {
    fn with_id(self, id: shared::id::AccountId) -> Self {
        assert_eq!(self.id, id, "the account they joined first");
        self
    }
}

#[tokio::test]
async fn one_archive_at_a_time_three_a_day_each_for_a_week() {
    let app = TestApp::new().await;
    let mut alice = ALICE.register(&app).await;
    let bob = BOB.register(&app).await;
    let first = order(&alice).await.json;
    assert_eq!(order(&alice).await.error(), (409, "export_pending", "none"));
    assert_eq!(
        bob.get(&format!("/v1/account/exports/{}", first["id"].as_str().expect("an id"))).await.error().0,
        404
    );
    assert_eq!(bob.get("/v1/account/exports").await.json["data"], json!([]));
    for _ in 0..2 {
        run(&app, "build-exports").await;
        assert_eq!(order(&alice).await.status, 202);
    }
    run(&app, "build-exports").await;
    let refused = order(&alice).await;
    assert_eq!(refused.error(), (429, "rate_limited", "none"));
    let wait: i64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((7 * 3600..=8 * 3600).contains(&wait), "{wait}");
    let listed = alice.get("/v1/account/exports?limit=2").await.json;
    assert_eq!((listed["data"].as_array().map(Vec::len), &listed["has_more"]), (Some(2), &json!(true)));
    assert_eq!(objects(&app).len(), 3);

    app.clock.advance(TimeDelta::days(7));
    alice = ALICE.enter(&app).await;
    let over = look(&alice, &first["id"]).await;
    assert_eq!(
        (&over["status"], &over["url"]),
        (&json!("expired"), &Value::Null),
        "even before it is deleted"
    );
    assert!(app.tick("delete-exports").await);
    assert_eq!(objects(&app).len(), 0);
    let stored: i64 =
        scalar(&app.db, "select count(*) from exports where status <> 'expired' or storage_key is not null")
            .await;
    assert_eq!(stored, 0);
    assert_eq!(order(&alice).await.status, 202, "and another may be had");
    run(&app, "build-exports").await;
    app.finish().await;
}

#[tokio::test]
async fn only_owners_and_keys_they_gave_the_right_have_archives() {
    let app = TestApp::new().await;
    let alice = ALICE.register(&app).await;
    let admin = app.join(&alice, "admin@example.com", "admin").await;
    assert_eq!(order(&admin).await.error(), (403, "forbidden", "none"));
    let key = app.scoped_key(alice.id, &["account:export"]).await;
    let ordered = order(&key).await.json;
    run(&app, "build-exports").await;
    assert_eq!(look(&key, &ordered["id"]).await["status"], "ready");
    let mails = app.mails().await;
    assert_eq!(
        mails.iter().map(|mail| mail.recipient.clone()).collect::<Vec<_>>(),
        [ALICE.email()],
        "for a key, the owners"
    );
    app.finish().await;
}

#[tokio::test]
async fn an_archive_cut_off_is_begun_again_and_one_that_fails_three_times_is_given_up() {
    let app = TestApp::new().await;
    let alice = ALICE.register(&app).await;
    let id: ExportId = order(&alice).await.json["id"].as_str().expect("an id").parse().expect("an id");
    let begun = privacy::begin_export(&app.db, id, app.now()).await.expect("begin").expect("due");
    let limits = scheduler::archive::Limits::default();
    let half = scheduler::archive::build(&app.scheduler, &begun, limits).await.expect("build");
    app.storage.put_file(&begun.storage_key, half.path(), "application/zip").await.expect("store");
    drop(half);
    run(&app, "build-exports").await;
    assert_eq!(look(&alice, &json!(id)).await["status"], "ready", "at the next tick");
    assert_eq!(objects(&app).len(), 1, "under the same key");

    execute(&app.db, "alter table usage_daily rename to away").await.expect("break something");
    let failing = order(&alice).await.json["id"].clone();
    let mut tries = Vec::new();
    for _ in 0..30 {
        run(&app, "build-exports").await;
        let tried: i16 = scalar(&app.db, "select tries from exports order by id desc limit 1").await;
        tries.push(tried);
    }
    execute(&app.db, "alter table away rename to usage_daily").await.expect("mend it");
    assert_eq!((tries[0], tries[2], tries[8], tries[29]), (1, 1, 2, 3), "{tries:?}");
    let alice = ALICE.enter(&app).await;
    let failed = look(&alice, &failing).await;
    assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &json!("build_failed")));
    app.clock.advance(TimeDelta::hours(1));
    app.tick("delete-exports").await;
    let stored: i64 =
        scalar(&app.db, "select count(*) from exports where status = 'failed' and storage_key is not null")
            .await;
    assert_eq!(stored, 0, "nothing is left of it");
    assert_eq!(order(&ALICE.enter(&app).await).await.status, 202);
    app.finish().await;
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let app = TestApp::new().await;
    let receiver = app.receiver().await;
    let alice = ALICE.live(&app, &receiver).await;
    let whole = format!("data:image/png;base64,{}", "A".repeat(500));
    let sent = json!({ "prompt": "x", "image": whole });
    let cut = json!({ "prompt": "x", "image": "data:image/png;base64,… (522 characters)" });
    let sql = format!("update jobs set input = '{sent}', input_shown = '{cut}'");
    execute(&app.db, &sql).await.expect("inputs with files");
    // More than a page of them.
    for n in 0..8 {
        alice.submit("gpt-4o", json!({ "prompt": format!("{n}") })).await;
    }
    app.drain().await;
    execute(&app.db, &sql).await.expect("inputs with files");

    let id: ExportId = order(&alice).await.json["id"].as_str().expect("an id").parse().expect("an id");
    let begun = privacy::begin_export(&app.db, id, app.now()).await.expect("begin").expect("due");
    let limits = scheduler::archive::Limits { files_bytes: 10, inputs_bytes: 10 };
    let archive = scheduler::archive::build(&app.scheduler, &begun, limits).await.expect("build");
    let files = unzip(std::fs::read(archive.path()).expect("read"));
    assert!(!files.keys().any(|name| name.starts_with("files/")));
    let jobs = lines_of(&files, "jobs.jsonl");
    assert_eq!(jobs.len(), jobs_of(&app, &alice).await.len());
    assert_eq!((&jobs[0]["input"], &jobs[jobs.len() - 1]["input"]), (&sent, &cut));
    let readme = String::from_utf8(files["README.txt"].clone()).expect("text");
    assert!(
        readme.contains("Not in this archive") && readme.contains("too much for one archive"),
        "{readme}"
    );
    assert!(readme.contains("files inside the inputs of jobs after"), "{readme}");

    execute(&app.db, "update files set storage_key = 'outputs/gone/0.png'").await.expect("lose a file");
    run(&app, "build-exports").await;
    let ready = look(&ALICE.enter(&app).await, &json!(id)).await;
    let files = unzip(download(&app, &ready["url"]).await);
    let readme = String::from_utf8(files["README.txt"].clone()).expect("text");
    assert!(readme.contains("no longer in storage"), "a lost file does not keep the rest: {readme}");
    app.finish().await;
}
