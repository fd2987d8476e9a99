//! What people are told by the clock, each thing once: low balances, ends that come near, plans that ended, books that drift.

use chrono::{DateTime, Days, TimeDelta, Utc};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use shared::{
    billing::{self, Tokens},
    id::{AccountId, EntryId},
};

use crate::support::{Account, Mail, TestApp, execute, scalar};

const ANN: &str = "ann@example.com";

/// A moment at which nothing is due.
fn begin(app: &TestApp) -> DateTime<Utc> {
    let day = app.now().date_naive() + Days::new(1);
    app.clock.advance_to(day.and_hms_opt(10, 0, 30).expect("a time").and_utc());
    app.now()
}

/// Ann, the owner of an account with this many tokens that stay.
async fn ann_with(app: &TestApp, tokens: i64) -> Account {
    let ann = app.register(ANN).await;
    let (begun_with, _) = ann.tokens().await;
    app.give(ann.id, tokens - begun_with, None).await;
    ann
}

async fn take(app: &TestApp, account: AccountId, tokens: i64) {
    let tokens = Tokens::new(tokens).expect("not negative");
    let reference = EntryId::new().to_string();
    billing::take_back(&app.db, account, tokens, &reference, "spent", app.now()).await.expect("take tokens");
}

/// Runs a task at its next tick and gives the mails that came of it.
async fn after(app: &TestApp, task: &str, wait: TimeDelta) -> Vec<Mail> {
    app.clock.advance(wait);
    assert!(app.tick(task).await, "{task} is due");
    app.mails().await
}

fn subjects(mails: &[Mail]) -> Vec<&str> {
    mails.iter().map(|mail| mail.subject.as_str()).collect()
}

#[tokio::test]
async fn a_low_balance_is_told_once_for_each_time_it_falls() {
    let app = TestApp::new().await;
    let ann = ann_with(&app, 10_000).await;
    begin(&app);
    let look = async || after(&app, "tell-low-balance", TimeDelta::minutes(5)).await;
    assert!(look().await.is_empty(), "it is not low");
    take(&app, ann.id, 6000).await;
    let told = look().await;
    assert_eq!(subjects(&told), ["4,000 tokens left"]);
    assert_eq!(told[0].recipient, ANN);
    assert!(told[0].text.contains("fewer than the 5,000"), "{}", told[0].text);
    take(&app, ann.id, 1000).await;
    assert!(look().await.is_empty(), "told already");
    app.give(ann.id, 7000, None).await;
    assert!(look().await.is_empty(), "above it again");
    take(&app, ann.id, 9999).await;
    assert_eq!(subjects(&look().await), ["1 tokens left"]);
    assert!(look().await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn low_balances_are_told_to_owners_who_can_be_written_to_and_had_something() {
    let app = TestApp::new().await;
    let ann = ann_with(&app, 10_000).await;
    app.join(&ann, "dev@example.com", "developer").await;
    // Never proved the address.
    app.ask_to_register("new@example.com").await;
    app.mails().await;
    execute(
        &app.db,
        "update accounts set low_balance_tokens = 20000 where id in (select account_id from members)",
    )
    .await
    .expect("thresholds of their own");
    let never = app.account(0).await;
    let add = format!(
        "insert into members (account_id, user_id, role, created_at)
         select '{}', id, 'owner', now() from users where email = '{ANN}'",
        never.id.0
    );
    execute(&app.db, &add).await.expect("an account that was never given anything");
    begin(&app);
    let told = after(&app, "tell-low-balance", TimeDelta::minutes(5)).await;
    let recipients: Vec<_> = told.iter().map(|mail| mail.recipient.as_str()).collect();
    assert_eq!(recipients, [ANN], "{told:?}");
    assert!(told[0].text.contains("fewer than the 20,000"), "{}", told[0].text);

    execute(&app.db, "update accounts set low_balance_told = false, status = 'suspended'")
        .await
        .expect("suspend");
    assert!(after(&app, "tell-low-balance", TimeDelta::minutes(5)).await.is_empty(), "not while suspended");
    app.finish().await;
}

#[tokio::test]
async fn a_grant_is_told_of_three_days_and_one_day_before_it_expires_unless_it_is_spent() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    let now = begin(&app);
    app.give(ann.id, 2000, Some(now + TimeDelta::days(5))).await;
    app.give(ann.id, 300, Some(now + TimeDelta::days(4))).await;
    let look = async |wait: TimeDelta| after(&app, "tell-expiring", wait).await;
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "there is time");
    take(&app, ann.id, 300).await;
    assert!(look(TimeDelta::hours(24)).await.is_empty(), "spent before it expires");
    let told = look(TimeDelta::hours(24)).await;
    assert_eq!(subjects(&told), ["2,000 tokens expire in 3 days"]);
    assert_eq!(told[0].recipient, ANN);
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "told already");
    take(&app, ann.id, 500).await;
    assert_eq!(subjects(&look(TimeDelta::hours(47)).await), ["1,500 tokens expire in 1 day"]);
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "told already");
    app.clock.advance(TimeDelta::days(1));
    assert!(app.tick("expire-grants").await);
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "gone");
    app.finish().await;
}

async fn begin_plan(app: &TestApp, account: &Account, plan: &str, reference: &str) {
    let mut tx = app.db.begin().await.expect("a transaction");
    billing::begin(&mut tx, account.id, plan, reference, app.now()).await.expect("begin a plan");
    tx.commit().await.expect("commit");
}

#[tokio::test]
async fn a_plan_is_told_of_before_and_at_its_end_and_takes_its_tier_along() {
    let app = TestApp::new().await;
    let ann = ann_with(&app, 10_000).await;
    begin(&app);
    begin_plan(&app, &ann, "week", "order 1").await;
    let tier = async || {
        let sql = format!("select tier from accounts where id = '{}'", ann.id.0);
        scalar::<String>(&app.db, &sql).await
    };
    assert_eq!(tier().await, "basic");
    let look = async |wait: TimeDelta| after(&app, "tell-expiring", wait).await;
    assert!(look(TimeDelta::days(3)).await.is_empty());
    let plan = "7 days, 150 000 tokens";
    assert_eq!(subjects(&look(TimeDelta::hours(25)).await), [format!("Your plan \"{plan}\" ends in 3 days")]);
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "told already");
    assert_eq!(subjects(&look(TimeDelta::hours(46)).await), [format!("Your plan \"{plan}\" ends in 1 day")]);
    assert!(look(TimeDelta::hours(1)).await.is_empty(), "told already, and nothing of its tokens");

    let ended = after(&app, "end-subscriptions", TimeDelta::days(1)).await;
    assert_eq!(subjects(&ended), [format!("Your plan \"{plan}\" has ended")]);
    assert_eq!((ended[0].recipient.as_str(), tier().await.as_str()), (ANN, "free"));
    assert!(after(&app, "end-subscriptions", TimeDelta::minutes(1)).await.is_empty(), "told once");
    assert!(app.tick("expire-grants").await);
    assert_eq!(
        scalar::<i64>(&app.db, &format!("select available_tokens from accounts where id = '{}'", ann.id.0))
            .await,
        10_000
    );
    app.finish().await;
}

#[tokio::test]
async fn a_plan_that_was_renewed_or_lasts_a_day_is_not_announced() {
    let app = TestApp::new().await;
    let ann = app.register(ANN).await;
    begin(&app);
    begin_plan(&app, &ann, "week", "order 1").await;
    app.clock.advance(TimeDelta::days(4) + TimeDelta::hours(1));
    begin_plan(&app, &ann, "week", "order 2").await;
    begin_plan(&app, &ann, "unlimited-day", "order 3").await;
    assert!(after(&app, "tell-expiring", TimeDelta::hours(1)).await.is_empty());
    assert_eq!(
        subjects(&after(&app, "end-subscriptions", TimeDelta::days(3)).await),
        ["Your plan \"1 day without limit\" has ended"],
        "the first week is over, and another runs"
    );
    app.finish().await;
}

#[tokio::test]
async fn drift_is_shown_by_the_metric_and_mailed_to_the_operator_once_a_day() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    app.give(alice.id, 500, Some(app.now() + TimeDelta::days(90))).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let drifted = || {
        shown
            .render()
            .lines()
            .find_map(|line| line.strip_prefix("kiln_ledger_drift_accounts ").map(str::to_owned))
    };
    let look = async || after(&app, "audit-ledger", TimeDelta::days(1)).await;
    assert!(look().await.is_empty());
    assert_eq!(drifted().as_deref(), Some("0"));

    let tamper = async |set: &str| {
        execute(&app.db, &format!("update accounts set {set} where id = '{}'", alice.id.0)).await
    };
    // A balance nobody gave, and a lot without tokens that would put the next expiry off.
    for (breach, mend) in [
        ("available_tokens = available_tokens + 1", "available_tokens = available_tokens - 1"),
        (
            "expiring = array[row(expiring[1].grant_id, expiring[1].expires_at + interval '1 day', 0)::lot] || expiring",
            "expiring = expiring[2:]",
        ),
    ] {
        tamper(breach).await.expect(breach);
        let told = look().await;
        assert_eq!(subjects(&told), ["Ledger drift in 1 accounts"], "{breach}");
        assert!(told[0].text.contains(&alice.id.to_string()), "{}", told[0].text);
        assert_eq!(told[0].recipient, "operator@example.com");
        assert_eq!(drifted().as_deref(), Some("1"));
        // Another look on the same day, such as by hand.
        execute(
            &app.db,
            "update schedule set last_tick = last_tick - interval '1 day' where task = 'audit-ledger'",
        )
        .await
        .expect("again");
        assert!(app.tick("audit-ledger").await);
        assert!(app.mails().await.is_empty(), "told once a day");
        tamper(mend).await.expect(mend);
        look().await;
        assert_eq!(drifted().as_deref(), Some("0"));
    }
    drop(guard);
    alice.submit("gpt-4o", json!({ "prompt": "holds 500 that expire, and 500 that stay" })).await;
    assert!(billing::audit(&app.db).await.expect("audit").is_empty());
    execute(&app.db, "update jobs set held_lots = held_lots || held_lots || held_lots")
        .await
        .expect("tamper");
    let drifted = billing::audit(&app.db).await.expect("audit");
    assert_eq!((drifted.len(), drifted[0].jobs_with_more_lots_than_hold), (1, 1));
    execute(&app.db, "update jobs set held_lots = held_lots[1:1]").await.expect("mend");
    app.drain().await;
    app.finish().await;
}
