//! Erasure: access ends at once, nothing personal stays anywhere, the books stay as they are, and others notice nothing.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    account::KeyRole,
    billing,
    privacy::{self, Erased},
};

use super::{ALICE, BOB, Marked, columns_with, jobs_of, objects, run};
use crate::support::{Account, Answer, TestApp, execute, scalar};

async fn ask(who: Marked, owner: &Account) -> Answer {
    let body = json!({ "password": who.password(), "confirm": who.name() });
    who.send(owner, Method::POST, "/v1/account/erasure", body).await
}

async fn ledger(app: &TestApp) -> Vec<Value> {
    let all: Value =
        scalar(&app.db, "select coalesce(jsonb_agg(to_jsonb(l) order by id), '[]') from ledger l").await;
    all.as_array().expect("a list").clone()
}

async fn status(app: &TestApp, account: &Account) -> String {
    scalar(&app.db, &format!("select status from accounts where id = '{}'", account.id.0)).await
}

/// Nothing of theirs is anywhere. What was counted of their network is forgotten by itself within the hour.
async fn assert_gone(app: &TestApp, who: Marked) {
    app.clock.advance(TimeDelta::hours(1));
    assert!(app.tick("evict-rates").await);
    for needle in who.needles().into_iter().chain([who.request()]) {
        let found = columns_with(app, &needle).await;
        assert!(found.is_empty(), "{needle} is still in {found:?}");
    }
}

#[tokio::test]
async fn an_erased_account_leaves_nothing_but_ids_and_figures() {
    let app = TestApp::new().await;
    let receiver = app.receiver().await;
    let bob = BOB.live(&app, &receiver).await;
    let alice = ALICE.live(&app, &receiver).await;
    let key = app.key(alice.id, KeyRole::Member).await;
    // Carol belongs to Bob's account as well, Dave nowhere else.
    let (carol, dave) = ("carol@example.com".to_owned(), format!("dave.{}@example.com", ALICE.word));
    app.join(&alice, &carol, "admin").await;
    app.join(&alice, &dave, "developer").await;
    assert_eq!(bob.post("/v1/account/users", json!({ "email": carol, "role": "viewer" })).await.status, 201);
    let token = app.mailed_token(&carol, "/v1/auth/invitations/accept").await;
    let join = json!({ "token": token, "password": crate::support::PASSWORD, "consent": { "version": "1" } });
    assert_eq!(app.post("/v1/auth/invitations/accept", join).await.status, 200);
    // Bob once asked Alice in, and she never came.
    let invited = json!({ "email": ALICE.email(), "name": ALICE.word, "role": "viewer" });
    assert_eq!(bob.post("/v1/account/users", invited).await.status, 201);
    let alice = ALICE.enter(&app).await;
    let ordered = alice.post("/v1/account/exports", json!({})).await;
    assert_eq!(ordered.status, 202);
    run(&app, "build-exports").await;
    app.mails().await;
    let running = key.submit("kling", json!({ "prompt": ALICE.word, "seconds": 5 })).await;
    app.run_due().await;
    let queued = key.submit("gpt-4o", json!({ "prompt": ALICE.word })).await;
    for needle in ALICE.needles().into_iter().chain([ALICE.request()]) {
        assert!(!columns_with(&app, &needle).await.is_empty(), "{needle} is there before");
    }
    let mine: BTreeSet<_> = jobs_of(&app, &alice).await.into_iter().collect();
    let theirs: Vec<_> = objects(&app)
        .into_iter()
        .filter(|path| !path.contains("exports/") && !mine.iter().any(|job| path.contains(&job.to_string())))
        .filter(|path| !path.contains(&alice.id.to_string()))
        .collect();
    assert!(!theirs.is_empty() && theirs.len() < objects(&app).len());
    for (whose, account) in [(&theirs, &bob), (&objects(&app), &alice)] {
        let upload = format!("uploads/{}/", account.id);
        assert!(whose.iter().any(|path| path.contains(&upload)), "{upload} is there before: {whose:?}");
    }
    let before = ledger(&app).await;

    let alice = ALICE.enter(&app).await;
    let asked = ask(ALICE, &alice).await;
    assert_eq!((asked.status.as_u16(), &asked.json["status"]), (202, &json!("erasing")), "{}", asked.json);
    assert_eq!(alice.get("/v1/me").await.error(), (401, "invalid_token", "none"));
    assert_eq!(key.get("/v1/jobs").await.error(), (401, "invalid_api_key", "none"));
    assert_eq!(ALICE.log_in(&app).await.error(), (403, "no_account", "account"));
    let how = |job: shared::id::JobId| format!("select status from jobs where id = '{}'", job.0);
    assert_eq!(scalar::<String>(&app.db, &how(queued)).await, "canceled", "at once");
    assert_eq!(scalar::<String>(&app.db, &how(running)).await, "open", "its worker is told");
    run(&app, "erase-accounts").await;
    assert_eq!(status(&app, &alice).await, "erasing", "not while something is under way");
    app.drain().await;
    assert_eq!(scalar::<String>(&app.db, &how(running)).await, "canceled");
    let told: BTreeSet<_> = app.mails().await.into_iter().map(|mail| mail.recipient).collect();
    assert_eq!(
        told,
        BTreeSet::from([ALICE.email(), carol.clone(), dave.clone()]),
        "while their addresses are known"
    );
    run(&app, "erase-accounts").await;

    assert_eq!(status(&app, &alice).await, "erased");
    assert_gone(&app, ALICE).await;
    let wishes = format!("select routing from accounts where id = '{}'", alice.id.0);
    assert_eq!(scalar::<Option<Value>>(&app.db, &wishes).await, None, "what it wished neither");
    assert_eq!(objects(&app), theirs, "nothing of it in storage, everything of others");
    assert_books(&app, &alice, &before).await;
    assert_others(&app, &bob, &carol).await;
    for email in [ALICE.email(), dave] {
        let unknown = app.ask_to_log_in("nobody@example.com", "some long password").await;
        let erased = app.ask_to_log_in(&email, &ALICE.password()).await;
        assert_eq!((erased.status, &erased.json), (unknown.status, &unknown.json), "{email}");
    }
    let again = ALICE.register(&app).await;
    assert_ne!(again.id, alice.id, "the same address begins anew");
    app.finish().await;
}

/// The ledger is what it was, with what was canceled given back and what was left taken back.
async fn assert_books(app: &TestApp, alice: &Account, before: &[Value]) {
    let after = ledger(app).await;
    assert_eq!(after[..before.len()], *before, "no entry is touched");
    let kinds: Vec<_> =
        after[before.len()..].iter().map(|entry| entry["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["release", "release", "debit"]);
    assert_eq!(after[after.len() - 1]["reason"], "account erased");
    let balance = billing::balance(&app.db, alice.id).await.expect("ask").expect("the row stays");
    assert_eq!((balance.available, balance.held, balance.expiring), (0, 0, 0));
    assert_eq!(billing::audit(&app.db).await.expect("audit"), []);
    let kept: Value = scalar(
        &app.db,
        &format!(
            "select jsonb_agg(action order by id desc) from audit_log where account_id = '{}'",
            alice.id.0
        ),
    )
    .await;
    assert_eq!((&kept[0], &kept[1]), (&json!("account.erased"), &json!("account.erasure_requested")));
}

/// Bob has all he had, and Carol is still with him.
async fn assert_others(app: &TestApp, bob: &Account, carol: &str) {
    let bob = BOB.enter(app).await.within(bob);
    let users = bob.get("/v1/account/users").await.json;
    let emails: BTreeSet<_> =
        users["data"].as_array().expect("a list").iter().filter_map(|user| user["email"].as_str()).collect();
    let invited = format!("invited.{}@example.com", BOB.word);
    assert_eq!(emails, BTreeSet::from([BOB.email().as_str(), carol, invited.as_str()]));
    assert_eq!(bob.get("/v1/account").await.json["phone"], BOB.phone);
    for job in jobs_of(app, &bob).await {
        assert!(
            bob.job(job).await["input"]["prompt"].as_str().is_some_and(|prompt| prompt.contains(BOB.word))
        );
    }
    let carol = app.login(carol, crate::support::PASSWORD).await;
    assert_eq!(carol.id, bob.id, "her only account now");
}

impl Account {
    fn within(self, other: &Self) -> Self {
        assert_eq!(self.id, other.id);
        self
    }
}

#[tokio::test]
async fn only_an_owner_who_shows_password_and_name_erases_and_not_while_the_account_owes() {
    let app = TestApp::new().await;
    let alice = ALICE.register(&app).await;
    let admin = app.join(&alice, "admin@example.com", "admin").await;
    assert_eq!(ask(ALICE, &admin).await.error(), (403, "forbidden", "none"));
    let key = app.scoped_key(alice.id, &["account:erase"]).await;
    assert_eq!(ask(ALICE, &key).await.error(), (403, "forbidden", "none"), "a person only");
    let wrong = json!({ "password": "not her password", "confirm": ALICE.name() });
    let wrong = alice.post("/v1/account/erasure", wrong).await;
    assert_eq!(wrong.error(), (400, "wrong_password", "password"));
    let other = json!({ "password": ALICE.password(), "confirm": ALICE.name().to_uppercase() });
    let other = alice.post("/v1/account/erasure", other).await;
    assert_eq!(other.error(), (400, "wrong_name", "confirm"));
    assert_eq!(status(&app, &alice).await, "active");
    assert_eq!(key.get("/v1/account").await.status, 403, "the key still works, as far as it goes");

    execute(&app.db, &format!("update accounts set credit_limit_tokens = 1000 where id = '{}'", alice.id.0))
        .await
        .expect("credit");
    alice.submit("gpt-4o", json!({ "prompt": "on credit" })).await;
    app.drain().await;
    let owes = ask(ALICE, &alice).await;
    assert_eq!(owes.error(), (409, "account_owes", "none"));
    assert!(owes.json["error"]["message"].as_str().expect("words").contains("1000 tokens"), "{}", owes.json);
    app.give(alice.id, 1000, None).await;
    assert_eq!(ask(ALICE, &alice).await.status, 202);
    app.mails().await;
    run(&app, "erase-accounts").await;
    assert_eq!(status(&app, &alice).await, "erased");
    app.finish().await;
}

#[tokio::test]
async fn an_erasure_cut_off_anywhere_is_finished_and_finishing_it_again_changes_nothing() {
    let app = TestApp::new().await;
    let receiver = app.receiver().await;
    let alice = ALICE.live(&app, &receiver).await;
    assert_eq!(alice.post("/v1/account/exports", json!({})).await.status, 202);
    run(&app, "build-exports").await;
    let alice = ALICE.enter(&app).await;
    assert_eq!(ask(ALICE, &alice).await.status, 202);
    app.mails().await;
    let (db, id) = (&app.db, alice.id);

    // Each piece alone, as after a crash behind it, and the last one too early.
    assert_eq!(privacy::complete(db, id, app.now()).await.expect("complete"), Erased::NotYet);
    let kept = privacy::kept_files(db, id, None, 100).await.expect("files");
    app.storage.delete(&kept[0].storage_key).await.expect("an object without its row");
    for _ in 0..2 {
        assert!(privacy::scrub_jobs(db, id, None, app.now()).await.expect("scrub").is_some());
        assert_eq!(
            privacy::complete(db, id, app.now()).await.expect("complete"),
            Erased::NotYet,
            "files are left"
        );
    }
    for is_left in [true, false] {
        assert_eq!(privacy::scrub_dialogs(db, id).await.expect("scrub"), is_left);
    }
    while privacy::scrub_audit_log(db, id).await.expect("scrub") {}
    let archive = privacy::archives_of(db, id).await.expect("archives").remove(0);
    app.storage.delete(&archive.storage_key).await.expect("an object without its row");
    assert_eq!(status(&app, &alice).await, "erasing");

    run(&app, "erase-accounts").await;
    assert_eq!(status(&app, &alice).await, "erased");
    assert_gone(&app, ALICE).await;
    assert_eq!(objects(&app), Vec::<String>::new());
    let whole = ledger(&app).await;
    run(&app, "erase-accounts").await;
    assert!(privacy::scrub_jobs(db, id, None, app.now()).await.expect("scrub").is_some());
    assert!(!privacy::scrub_audit_log(db, id).await.expect("scrub"));
    assert_eq!(privacy::complete(db, id, app.now()).await.expect("complete"), Erased::Before);
    assert_eq!(ledger(&app).await, whole, "the rest was taken back once");
    app.finish().await;
}

#[tokio::test]
async fn an_archive_ordered_before_the_end_is_not_made_and_mails_are_waited_for_half_a_day() {
    let app = TestApp::new().await;
    let alice = ALICE.register(&app).await;
    assert_eq!(alice.post("/v1/account/exports", json!({})).await.status, 202);
    assert_eq!(ask(ALICE, &alice).await.status, 202);
    run(&app, "erase-accounts").await;
    assert_eq!(status(&app, &alice).await, "erasing", "an archive may be under way");
    run(&app, "build-exports").await;
    let error: String = scalar(&app.db, "select status || ' ' || error from exports").await;
    assert_eq!(error, "failed account_closed");
    run(&app, "erase-accounts").await;
    assert_eq!(status(&app, &alice).await, "erasing", "the mail has not gone out");
    app.clock.advance(TimeDelta::hours(12));
    run(&app, "erase-accounts").await;
    assert_eq!(
        status(&app, &alice).await,
        "erased",
        "where no mail can be sent, it is not waited for for ever"
    );
    assert_gone(&app, ALICE).await;
    assert_eq!(app.mails().await, []);
    app.finish().await;
}
