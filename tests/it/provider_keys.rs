//! Our keys at the providers: shared by weight, resting after their own errors, limited over all processes, asked about, sealed.

use chrono::TimeDelta;
use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::SecretString;
use serde_json::json;
use shared::{
    account::audit::{By, Who},
    id::{JobId, ProviderKeyId},
    job::Medium,
    provider::{self, AddError, Limits, NewKey, Terms},
};
use sqlx::AssertSqlSafe;
use workers::{
    checkup,
    config::{Judge, Moderation},
    keychain::Choice,
    moderation::WhenUnavailable,
};

use crate::support::{Settings, TestApp, eventually, execute, scalar};

const OPERATOR: By = By::hand(Who::CommandLine);

fn terms(weight: i32, limits: Limits) -> Terms {
    Terms { weight, limits, credit_floor: None }
}

/// Puts a key in, and lets the workers know.
async fn add(app: &TestApp, provider: &str, name: &str, secret: &str, terms: Terms) -> ProviderKeyId {
    let new =
        NewKey { provider: provider.into(), name: name.into(), secret: SecretString::from(secret), terms };
    let added = provider::add(&app.db, &app.worker.sealer, new, &OPERATOR, app.now()).await;
    app.worker.keychain.refresh().await.expect("read the keys");
    added.expect("a key that is put in")
}

/// Switches the key of the environment off, so that those of the test do the work.
async fn without_environment(app: &TestApp, provider: &str) {
    let keys = provider::keys(&app.db).await.expect("the keys");
    for key in keys.iter().filter(|key| key.provider == provider && key.secret.is_none()) {
        assert!(provider::disable(&app.db, key.id, &OPERATOR, app.now()).await.expect("switch off"));
    }
    app.worker.keychain.refresh().await.expect("read the keys");
}

/// Gives the key of the environment these limits.
async fn limit_environment(app: &TestApp, provider: &str, limits: Limits) -> ProviderKeyId {
    let keys = provider::keys(&app.db).await.expect("the keys");
    let key = keys.iter().find(|key| key.provider == provider).expect("a key").id;
    assert!(provider::alter(&app.db, key, &terms(1, limits), &OPERATOR, app.now()).await.expect("set"));
    app.worker.keychain.refresh().await.expect("read the keys");
    key
}

/// By which keys the attempts of a job were made, in order.
#[expect(clippy::disallowed_methods, reason = "a look behind the front door")]
async fn used(app: &TestApp, job: JobId) -> Vec<ProviderKeyId> {
    let sql = format!("select provider_key_id from attempts where job_id = '{}' order by attempt", job.0);
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&app.db).await.expect("the attempts")
}

#[tokio::test]
async fn keys_share_the_work_and_one_that_is_switched_off_has_none() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let second = add(&app, "openai", "second", "sk-second", terms(1, Limits::default())).await;
    let mut all = Vec::new();
    for n in 0..40 {
        let job = alice.submit("gpt-4o", json!({ "prompt": format!("share {n}") })).await;
        app.drain().await;
        all.extend(used(&app, job).await);
    }
    // One of both in forty is missed once in 2^39 runs.
    assert_eq!(all.len(), 40);
    assert!(all.contains(&second) && all.iter().any(|key| *key != second), "{all:?}");

    assert!(provider::disable(&app.db, second, &OPERATOR, app.now()).await.expect("switch off"));
    app.worker.keychain.refresh().await.expect("read the keys");
    for n in 0..10 {
        let job = alice.submit("gpt-4o", json!({ "prompt": format!("alone {n}") })).await;
        app.drain().await;
        assert_ne!(used(&app, job).await, [second]);
    }
    let audited: i64 =
        scalar(&app.db, "select count(*) from audit_log where action like 'provider_key.%'").await;
    assert_eq!(audited, 2);
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_too_busy_rests_as_long_as_the_vendor_says_and_another_goes_on_at_once() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    without_environment(&app, "openai").await;
    let first = add(&app, "openai", "first", "sk-first", terms(1, Limits::default())).await;
    app.simulator
        .order(json!({ "fault": "rate_limit", "value": "90", "contains": "busy", "times": 1 }))
        .await;
    let busy = alice.submit("gpt-4o", json!({ "prompt": "busy" })).await;
    app.run_due().await;
    let Choice::NotBefore(until) = app.worker.keychain.choose("openai", "gpt-4o") else { panic!("no rest") };
    assert_eq!((until - app.now()).num_seconds(), 90);
    assert!(
        matches!(app.worker.keychain.choose("openai", "gpt-4o-mini"), Choice::Key(_)),
        "for one model alone"
    );

    add(&app, "openai", "second", "sk-second", terms(1, Limits::default())).await;
    add(&app, "openai", "third", "sk-third", terms(1, Limits::default())).await;
    app.simulator
        .order(json!({ "fault": "rate_limit", "value": "90", "contains": "again", "times": 1 }))
        .await;
    let job = alice.submit_to("openai", "gpt-4o", json!({ "prompt": "not again" })).await;
    app.run_due().await;
    app.clock.advance(TimeDelta::milliseconds(1));
    app.run_due().await;
    assert_eq!(alice.job(job).await["status"], "succeeded", "at once");
    let tried = used(&app, job).await;
    assert!(tried.len() == 2 && tried[0] != tried[1] && !tried.contains(&first), "{tried:?}");
    app.drain().await;
    assert_eq!(alice.job(busy).await["status"], "succeeded");

    app.clock.advance(TimeDelta::seconds(95));
    let Choice::Key(_) = app.worker.keychain.choose("openai", "gpt-4o") else { panic!("still resting") };
    app.finish().await;
}

#[tokio::test]
async fn rests_without_advice_grow_and_are_forgiven() {
    let app = TestApp::new().await;
    let key = add(&app, "kling", "busy", "access:secret", terms(1, Limits::default())).await;
    let mut rests = Vec::new();
    for pause in [0, 3, 5, 9, 700] {
        app.clock.advance(TimeDelta::seconds(pause));
        let now = app.now();
        for _ in 0..3 {
            // Those that fail together are one failure.
            let until = provider::cool_down(&app.db, key, "m", provider::Cause::RateLimited, None, now).await;
            rests.push((until.expect("rest").expect("a key") - now).num_seconds());
        }
    }
    assert_eq!(rests, [2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16, 2, 2, 2]);
    let lost = ProviderKeyId::new();
    let none = provider::cool_down(&app.db, lost, "", provider::Cause::Auth, None, app.now()).await;
    assert_eq!(none.expect("no failure"), None, "a key that was taken out rests nowhere");
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_is_refused_is_switched_off_and_operators_are_told() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    without_environment(&app, "luma").await;
    let wrong = add(&app, "luma", "wrong", "wrong", terms(1, Limits::default())).await;
    // The process asks by itself as well, and may have been the first to find it due.
    let found = async || provider::find(&app.db, wrong).await.expect("look").expect("the key");
    // That it cannot be asked about alone says nothing: some keys may generate and no more.
    checkup::run(&app.worker).await.expect("ask");
    eventually("its vendor was asked", async || found().await.check_error.is_some()).await;
    let key = found().await;
    assert!(key.disabled_at.is_none(), "{key:?}");

    let job = alice.submit("luma", json!({ "prompt": "a fox" })).await;
    app.run_due().await;
    checkup::run(&app.worker).await.expect("ask");
    eventually("it is switched off", async || found().await.disabled_at.is_some()).await;
    app.worker.keychain.refresh().await.expect("read the keys");
    assert!(matches!(app.worker.keychain.choose("luma", "ray-2"), Choice::None));
    let told = "select count(*) from mails where kind = 'provider_key'";
    eventually("operators are told", async || scalar::<i64>(&app.db, told).await == 1).await;
    app.drain().await;
    assert_eq!(alice.job(job).await["error"]["code"], "provider_unavailable");

    // The vendor took it again, as far as this test can tell it so; what an operator switched off stays off.
    let works = provider::Finding::Works { credit: Some((12.into(), "USD".into())) };
    let change = provider::record(&app.db, wrong, &works, app.now()).await.expect("write down");
    assert!(change.was_enabled);
    assert!(provider::disable(&app.db, wrong, &OPERATOR, app.now()).await.expect("switch off"));
    let change = provider::record(&app.db, wrong, &works, app.now()).await.expect("write down");
    assert!(!change.was_enabled);
    app.finish().await;
}

/// Gives a key another secret, behind the front door: the vendor's mind about it changes.
async fn reseal(app: &TestApp, key: ProviderKeyId, secret: &str) {
    let sealed = app.worker.sealer.seal(&format!("provider_key:{key}"), secret.as_bytes());
    let sealed: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    let set = format!("update provider_keys set secret = decode('{sealed}', 'hex') where id = '{}'", key.0);
    assert_eq!(execute(&app.db, &set).await.expect("set"), 1);
    app.worker.keychain.refresh().await.expect("read the keys");
}

#[tokio::test]
async fn a_key_that_was_refused_is_asked_about_again_and_used_when_its_vendor_takes_it() {
    let app = TestApp::new().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let alice = app.account(100_000).await;
    without_environment(&app, "luma").await;
    let key = add(&app, "luma", "fickle", "wrong", terms(1, Limits::default())).await;
    let found = async || provider::find(&app.db, key).await.expect("look").expect("the key");
    // The process asks by itself as well, and may have been the first to find it due.
    let asked = async |what: &str, is_off: bool| {
        checkup::run(&app.worker).await.expect("ask");
        eventually(what, async || found().await.disabled_at.is_some() == is_off).await;
        app.worker.keychain.refresh().await.expect("read the keys");
    };
    let job = alice.submit("luma", json!({ "prompt": "a fox" })).await;
    app.run_due().await;
    asked("it is switched off", true).await;

    // It is asked about again, and is refused still.
    let again = async || {
        app.clock.advance(TimeDelta::minutes(6));
        assert!(app.tick("recheck-provider-keys").await);
    };
    again().await;
    checkup::run(&app.worker).await.expect("ask");
    eventually("its vendor has said it again", async || {
        let said = format!(
            "select check_at is null and checked_at > disabled_at and disabled_at is not null
             from provider_keys where id = '{}'",
            key.0
        );
        let is_said: bool = scalar(&app.db, &said).await;
        is_said
    })
    .await;

    reseal(&app, key, "luma-key").await;
    again().await;
    asked("it is used again", false).await;
    let mended = found().await;
    assert_eq!((mended.disabled_why, mended.check_error), (None, None));
    app.drain().await;
    assert_eq!(alice.job(job).await["status"], "succeeded");
    assert_eq!(used(&app, job).await, [key, key], "refused, and taken");
    let told: i64 = scalar(&app.db, "select count(*) from mails where kind = 'provider_key'").await;
    assert_eq!(told, 1, "of its end alone");

    drop(guard);
    let shown = shown.render();
    let is_shown = |name: &str, label: &str, value: &str| {
        let mut lines = shown.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.any(|line| {
            line.contains("provider=\"luma\"")
                && line.contains(label)
                && line.ends_with(&format!("}} {value}"))
        })
    };
    assert!(is_shown("kiln_provider_key_checks_total", "found=\"works\"", "1"), "{shown}");
    assert!(is_shown("kiln_provider_key_rests_total", "why=\"auth\"", "1"), "{shown}");
    assert!(is_shown("kiln_provider_credit", "unit=\"USD\"", "123.45"), "{shown}");
    app.finish().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_asked_about_is_switched_off_after_five_refusals_in_a_row() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    without_environment(&app, "perplexity").await;
    let key = add(&app, "perplexity", "wrong", "pplx-wrong", terms(1, Limits::default())).await;
    app.simulator.order(json!({ "provider": "perplexity", "fault": "auth", "contains": "refused" })).await;
    for n in 1..=5 {
        let found = provider::find(&app.db, key).await.expect("look").expect("the key");
        assert!(found.disabled_at.is_none(), "not before the refusal of number {n}: {found:?}");
        alice.submit("perplexity-sonar", json!({ "prompt": format!("refused {n}") })).await;
        // All that are open meet the same refusal, or its rest.
        app.run_due().await;
        checkup::run(&app.worker).await.expect("ask");
        app.clock.advance(TimeDelta::minutes(20));
    }
    // The process asks by itself as well, and may have been the first to find it due.
    eventually("operators are told", async || {
        let told: i64 = scalar(&app.db, "select count(*) from mails where kind = 'provider_key'").await;
        told == 1
    })
    .await;
    let found = provider::find(&app.db, key).await.expect("look").expect("the key");
    assert_eq!(found.disabled_at.and(found.disabled_why).as_deref(), Some("refused 5 times in a row"));
    app.worker.keychain.refresh().await.expect("read the keys");
    assert!(matches!(app.worker.keychain.choose("perplexity", "perplexity/sonar"), Choice::None));

    assert!(provider::enable(&app.db, key, &OPERATOR, app.now()).await.expect("switch on"));
    let change = provider::record(&app.db, key, &provider::Finding::NoQuestion, app.now()).await;
    assert_eq!(change.expect("write down"), provider::Change::default(), "counted anew");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_submit_that_is_taken_ends_the_row_of_refusals() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    without_environment(&app, "perplexity").await;
    let key = add(&app, "perplexity", "fickle", "pplx-fickle", terms(1, Limits::default())).await;
    checkup::run(&app.worker).await.expect("ask");
    let refused = async |times: usize| {
        for _ in 0..times {
            provider::refused(&app.db, key, app.now()).await.expect("count");
            app.clock.advance(TimeDelta::minutes(20));
        }
        let change = provider::record(&app.db, key, &provider::Finding::NoQuestion, app.now()).await;
        change.expect("write down").was_disabled
    };
    assert!(!refused(4).await);
    app.worker.keychain.refresh().await.expect("read the keys");
    let job = alice.submit("perplexity-sonar", json!({ "prompt": "a fox" })).await;
    app.drain().await;
    assert_eq!(alice.job(job).await["status"], "succeeded", "nothing rests by the count");
    assert!(!refused(4).await, "four after the one that was taken");
    assert!(refused(1).await, "five in a row");
    app.finish().await;
}

#[tokio::test]
async fn operators_are_told_once_when_an_account_runs_low() {
    let app = TestApp::new().await;
    let low = Terms { weight: 1, limits: Limits::default(), credit_floor: Some(1000.into()) };
    let key = add(&app, "luma", "low", "luma-key", low).await;
    app.drain().await;
    for _ in 0..2 {
        app.clock.advance(TimeDelta::hours(2));
        assert!(app.tick("recheck-provider-keys").await);
        checkup::run(&app.worker).await.expect("ask");
    }
    let told = "select count(*) from mails where kind = 'provider_key'";
    eventually("operators are told", async || scalar::<i64>(&app.db, told).await == 1).await;
    let found = provider::find(&app.db, key).await.expect("look").expect("the key");
    assert_eq!(found.credit.map(|credit| credit.normalize().to_string()).as_deref(), Some("123.45"));
    app.finish().await;
}

#[tokio::test]
async fn no_more_submits_are_under_way_with_a_key_than_it_may_have() {
    let app = TestApp::new().await;
    let alice = app.account(200_000).await;
    limit_environment(&app, "kling", Limits { per_minute: None, concurrency: Some(2) }).await;
    for n in 0..4 {
        alice.submit("kling", json!({ "prompt": format!("film {n}") })).await;
    }
    app.run_due().await;
    assert_eq!(app.simulator.paid("film").await, 2);
    app.clock.advance(TimeDelta::seconds(3));
    app.run_due().await;
    assert_eq!(app.simulator.paid("film").await, 2, "the others wait for a place");
    let waiting: i64 = scalar(&app.db, "select count(*) from queue where tries > 0").await;
    assert_eq!(waiting, 0, "waiting spends no try");
    app.drain().await;
    assert_eq!(app.simulator.paid("film").await, 4);
    assert_eq!(alice.tokens().await, (200_000 - 4 * 38_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_place_is_free_when_its_job_ends_however_it_ends() {
    let app = TestApp::new().await;
    let alice = app.account(200_000).await;
    let key = limit_environment(&app, "kling", Limits { per_minute: None, concurrency: Some(1) }).await;
    let first = alice.submit("kling", json!({ "prompt": "first" })).await;
    app.run_due().await;
    alice.cancel(first).await;
    app.drain().await;
    // A worker that dies between its place and its intent gives the place back by its silence.
    let second = alice.submit("kling", json!({ "prompt": "second" })).await;
    let claimed = app.claim(Medium::Video).await.pop().expect("the job");
    let place = provider::take(&app.db, key, claimed.job(), 1, app.now()).await.expect("ask");
    assert_eq!(place, provider::Place::Taken);
    let other = provider::take(&app.db, key, JobId::new(), 1, app.now()).await.expect("ask");
    assert_eq!(other, provider::Place::Full);
    app.drain().await;
    assert_eq!(alice.job(second).await["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn submits_a_minute_are_kept_over_all_processes() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    without_environment(&app, "openai").await;
    let limits = Limits { per_minute: Some(30), concurrency: None };
    add(&app, "openai", "slow", "sk-slow", terms(1, limits)).await;
    for n in 0..12 {
        alice.submit_to("openai", "gpt-4o", json!({ "prompt": format!("minute {n}") })).await;
    }
    // Ten seconds' worth at once, and then one every two seconds.
    app.run_due().await;
    assert_eq!(app.simulator.paid("minute").await, 5);
    app.drain().await;
    assert_eq!(app.simulator.paid("minute").await, 12);
    app.finish().await;
}

#[tokio::test]
async fn judging_beforehand_keeps_to_the_limits_of_its_key() {
    let when_unavailable = WhenUnavailable::Queue;
    let moderation = Moderation { judges: vec![Judge::OpenAi], words_dir: None, when_unavailable };
    let app = TestApp::with(Settings { moderation, ..Settings::default() }).await;
    let alice = app.account(100_000).await;
    limit_environment(&app, "openai", Limits { per_minute: Some(30), concurrency: Some(1) }).await;
    let judged = async || {
        let submits = app.simulator.submits("judged").await;
        let asked = submits["data"].as_array().expect("a list").iter();
        asked.filter(|submit| submit["call"] == "moderations").count()
    };
    for n in 0..8 {
        alice.submit("nano-banana", json!({ "prompt": format!("judged {n}") })).await;
    }
    // Ten seconds' worth, each in the one place that the one before has left.
    app.run_due().await;
    assert_eq!(judged().await, 5);
    app.drain().await;
    assert_eq!(judged().await, 8);
    // One place does for the question and for what is made by the same key.
    app.clock.advance(TimeDelta::minutes(1));
    let own = alice.submit("gpt-4o", json!({ "prompt": "judged as well" })).await;
    app.run_due().await;
    assert_eq!(alice.job(own).await["status"], "succeeded");
    let busy: i64 = scalar(&app.db, "select count(*) from provider_slots where attempt = 0").await;
    assert_eq!(busy, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_task_under_way_is_asked_for_by_its_own_key_though_that_rests() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let own = limit_environment(&app, "kling", Limits::default()).await;
    let job = alice.submit("kling", json!({ "prompt": "a fox" })).await;
    app.run_due().await;
    assert!(provider::disable(&app.db, own, &OPERATOR, app.now()).await.expect("switch off"));
    // Signed by this one, no question would be answered.
    add(&app, "kling", "wrong", "simulator:wrong", terms(1000, Limits::default())).await;
    app.drain().await;
    assert_eq!(alice.job(job).await["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_kept_sealed_and_there_once() {
    let app = TestApp::new().await;
    let id = add(&app, "openai", "sealed", "sk-very-secret", terms(3, Limits::default())).await;
    let shown: String =
        scalar(&app.db, "select string_agg(k::text, ' ') from provider_keys k where secret is not null")
            .await;
    assert!(!shown.contains("very-secret") && !shown.contains(&hex("very-secret")), "{shown}");
    let key = provider::find(&app.db, id).await.expect("look").expect("the key");
    let sealed = key.secret.expect("sealed");
    assert!(
        provider::open_secret(&app.worker.sealer, ProviderKeyId::new(), &sealed).is_err(),
        "moved to another row"
    );

    let again = |name: &str, secret: &str, weight| NewKey {
        provider: "openai".into(),
        name: name.into(),
        secret: SecretString::from(secret),
        terms: terms(weight, Limits::default()),
    };
    for (new, refused) in [
        (again("other", "sk-very-secret", 1), "this key is there already"),
        (again("sealed", "sk-another", 1), "another key of this provider has that name"),
        (again("light", "sk-another", 0), "a weight is between 1 and 1000"),
    ] {
        let error: AddError =
            provider::add(&app.db, &app.worker.sealer, new, &OPERATOR, app.now()).await.expect_err(refused);
        assert_eq!(error.to_string(), refused);
    }
    app.finish().await;
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
