//! The queue: leases, fences, fairness, poison, and what a stale worker may do (nothing).

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::json;
use shared::{
    billing::Tokens,
    config,
    job::{
        self, Checkpoint, Claim, Claimed, Failure, Fence, Floors, Intent, Lease, Medium, Next, Output,
        Parking, Pause, Resume, Verdict,
    },
    process::Process,
    wake::Wakes,
};
use workers::{
    Probe, Station,
    run::{self, Ended},
};

use crate::support::{Settings, TestApp, scalar};

#[tokio::test]
async fn a_worker_that_slept_past_its_lease_changes_nothing_when_it_wakes() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "sleepy" })).await;
    let stale = app.claim(Medium::Text).await.pop().expect("the job");
    app.clock.advance(TimeDelta::minutes(5));
    assert!(app.tick("rescue-lost-jobs").await);
    app.drain().await;
    let ended = alice.job(id).await;

    let output = Output { text: Some("from the grave".into()), ..Output::default() };
    let charge = Tokens::new(1000).expect("positive");
    let db = &app.db;
    let verdict = Verdict::Succeeded { output, charge, metered: json!({}), cost_usd: Decimal::ZERO };
    assert!(!job::close(db, Fence::Held(stale.lease), &verdict, app.now()).await.expect("close"));
    let pause = Pause { until: app.now(), resume: Resume::Anew, phase: "stale".into(), progress: None };
    let parking = Parking { lease: stale.lease, pause: pause.clone(), at: app.now() };
    assert_eq!(job::park_all(db, &[parking]).await.expect("park"), [false]);
    let failure = Failure {
        lease: stale.lease,
        pause,
        why: "stale".into(),
        may_be_billed: false,
        next: Next::Here,
        spends_try: true,
        at: app.now(),
    };
    assert!(!job::retry(db, &failure).await.expect("retry"));
    assert_eq!(job::begin_all(db, &[intent(&stale, 2, app.now())]).await.expect("begin"), [false]);
    assert!(!job::save(db, stale.lease, &Checkpoint::Submitting { unseen: 0 }, "stale").await.expect("save"));
    assert!(
        job::beat(db, &[stale.lease], Duration::from_secs(60), app.now()).await.expect("beat").is_empty()
    );
    assert_eq!(job::release(db, &[stale.lease], app.now()).await.expect("release"), 0);
    assert_eq!(run::run_job(&app.worker, &stale).await, Ended::Stale, "a whole run of it is in vain as well");
    assert_eq!(alice.job(id).await, ended);
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_stale_worker_cannot_touch_a_job_that_another_is_running() {
    let app = TestApp::new().await;
    let alice = app.account(40_000).await;
    let id = alice.submit("kling", json!({ "prompt": "two workers" })).await;
    let stale = app.claim(Medium::Video).await.pop().expect("the job");
    app.clock.advance(TimeDelta::minutes(5));
    app.tick("rescue-lost-jobs").await;
    app.clock.advance(TimeDelta::minutes(1));
    let fresh = app.claim(Medium::Video).await.pop().expect("the job again");
    assert_ne!(stale.lease, fresh.lease);
    assert_eq!(run::run_job(&app.worker, &stale).await, Ended::Stale);
    assert_eq!(app.simulator.paid("two workers").await, 0, "a stale worker does not even submit");
    assert!(matches!(run::run_job(&app.worker, &fresh).await, Ended::Paused { .. }));
    app.drain().await;
    assert_eq!(alice.job(id).await["status"], "succeeded");
    app.finish().await;
}

fn intent(claimed: &Claimed, attempt: i16, at: DateTime<Utc>) -> Intent {
    Intent {
        key: None,
        lease: claimed.lease,
        attempt,
        provider: claimed.provider.clone(),
        upstream_model: claimed.upstream_model.clone(),
        at,
    }
}

#[tokio::test]
async fn an_intent_whose_commit_was_not_confirmed_may_be_written_again() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    alice.submit("gpt-4o", json!({ "prompt": "again" })).await;
    let claimed = app.claim(Medium::Text).await.pop().expect("the job");
    for _ in 0..2 {
        assert_eq!(job::begin_all(&app.db, &[intent(&claimed, 1, app.now())]).await.expect("begin"), [true]);
    }
    app.clock.advance(TimeDelta::minutes(2));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn two_workers_that_finish_the_same_lease_close_it_once() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    alice.submit("gpt-4o", json!({ "prompt": "twice" })).await;
    let claimed = app.claim(Medium::Text).await.pop().expect("the job");
    let verdict = || Verdict::Succeeded {
        output: Output { text: Some("done".into()), ..Output::default() },
        charge: Tokens::new(1000).expect("positive"),
        metered: json!({}),
        cost_usd: Decimal::ZERO,
    };
    let (first, second) = (verdict(), verdict());
    let fence = Fence::Held(claimed.lease);
    let (one, two) = tokio::join!(
        job::close(&app.db, fence, &first, app.now()),
        job::close(&app.db, fence, &second, app.now())
    );
    assert_eq!(usize::from(one.expect("close")) + usize::from(two.expect("close")), 1);
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_fails_after_its_tries() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "poison" })).await;
    for _ in 0..app.worker.timing.max_tries {
        assert_eq!(app.claim(Medium::Text).await.len(), 1);
        app.clock.advance(TimeDelta::minutes(2));
        app.tick("rescue-lost-jobs").await;
        app.clock.advance(TimeDelta::minutes(2));
    }
    let job = alice.job(id).await;
    assert_eq!(job["error"]["code"], "worker_lost", "{job}");
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "writes what only a newer version would")]
async fn a_job_that_cannot_be_read_fails_after_its_tries_and_the_others_go_on() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    let bad = alice.submit("gpt-4o", json!({ "prompt": "unreadable" })).await;
    let good = alice.submit("gpt-4o", json!({ "prompt": "readable" })).await;
    sqlx::query("update queue set checkpoint = '{\"state\": \"of a newer version\"}' where job_id = $1")
        .bind(bad.0)
        .execute(&app.db)
        .await
        .expect("write");
    app.drain().await;
    assert_eq!(alice.job(good).await["status"], "succeeded");
    let job = alice.job(bad).await;
    assert_eq!(
        (job["status"].as_str(), job["error"]["code"].as_str()),
        (Some("failed"), Some("job_unreadable"))
    );
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "writes what only another version would")]
async fn a_job_with_an_odd_checkpoint_ends_and_keeps_no_other_from_ending() {
    let app = TestApp::new().await;
    let alice = app.account(4000).await;
    let odd = [
        r#"{"state": "stored", "output": {"files": null}}"#,
        r#"{"state": "stored", "output": {"files": [{"storage_key": "outputs/x/0.png"}, 7]}}"#,
        r#"{"state": "stored"}"#,
    ];
    for checkpoint in odd {
        let id = alice.submit("gpt-4o", json!({ "prompt": checkpoint })).await;
        sqlx::query("update queue set checkpoint = $2::jsonb where job_id = $1")
            .bind(id.0)
            .bind(checkpoint)
            .execute(&app.db)
            .await
            .expect("write");
    }
    alice.submit("gpt-4o", json!({ "prompt": "as usual" })).await;
    app.clock.advance(TimeDelta::days(1));
    assert!(app.tick("expire-overdue-jobs").await);
    let open: i64 = scalar(&app.db, "select count(*) from jobs where status <> 'expired'").await;
    assert_eq!((open, alice.tokens().await), (0, (4000, 0)));
    app.finish().await;
}

/// Starts a real apalis worker for the text pool.
fn start_worker(process: &Process, ctx: workers::Ctx) {
    start_worker_of(process, ctx, Medium::Text);
}

fn start_worker_of(process: &Process, ctx: workers::Ctx, pool: Medium) {
    let watched = process.clone();
    process.spawn(async move {
        workers::runtime::serve(ctx, pool, 4, &watched).await.expect("the worker never ends by itself");
    });
}

/// A context as a process of its own would have it, with fast leases and the machine's clock.
fn real_time(app: &TestApp, process: &Process) -> workers::Ctx {
    workers::Ctx {
        clock: Arc::new(shared::clock::SystemClock),
        wakes: Wakes::start(&app.db, process),
        drained: tokio_util::sync::CancellationToken::new(),
        paying: workers::Paying::default(),
        ..app.worker.clone()
    }
}

fn fast() -> Settings {
    let timing = config::Queue {
        lease: Duration::from_secs(2),
        poll: Duration::from_millis(50),
        drain: Duration::from_millis(500),
        ..config::Queue::default()
    };
    Settings { timing, ..Settings::default() }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_job_a_try_and_the_worker_lives() {
    let app = TestApp::with(fast()).await;
    let alice = app.account(2000).await;
    let process = Process::new();
    let mut ctx = real_time(&app, &process);
    let panicked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = panicked.clone();
    ctx.probe = Probe::new(move |at| {
        if at == Station::Intended && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            panic!("a defect");
        }
    });
    start_worker(&process, ctx);
    let first = alice.submit("gpt-4o", json!({ "prompt": "panics once" })).await;
    let job = alice.get(&format!("/v1/jobs/{first}?wait=30")).await.json;
    assert_eq!(job["status"], "succeeded", "{job}");
    let second = alice.submit("gpt-4o", json!({ "prompt": "as usual" })).await;
    assert_eq!(alice.get(&format!("/v1/jobs/{second}?wait=30")).await.json["status"], "succeeded");
    assert!(panicked.load(std::sync::atomic::Ordering::SeqCst) >= 2);
    process.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn a_cancel_reaches_a_job_that_is_running() {
    let app = TestApp::with(fast()).await;
    let alice = app.account(1000).await;
    let process = Process::new();
    start_worker(&process, real_time(&app, &process));
    let id = alice.submit("gpt-4o", json!({ "prompt": "[[sim:slow=60]]" })).await;
    while alice.job(id).await["phase"] != "submitting" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(alice.cancel(id).await.status.as_u16(), 202);
    let job = alice.get(&format!("/v1/jobs/{id}?wait=20")).await.json;
    assert_eq!(job["status"], "canceled", "{job}");
    assert_eq!(alice.tokens().await, (1000, 0));
    process.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn a_stopping_worker_finishes_what_it_has_paid_for() {
    let app = TestApp::with(fast()).await;
    let alice = app.account(1000).await;
    let process = Process::new();
    start_worker(&process, real_time(&app, &process));
    let id = alice.submit("gpt-4o", json!({ "prompt": "[[sim:slow=3]] paid for" })).await;
    while app.simulator.paid("paid for").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The call takes longer than the worker is given to drain.
    process.finish().await;
    let job = alice.job(id).await;
    assert_eq!((job["status"].as_str(), job["attempts"].as_i64()), (Some("succeeded"), Some(1)), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn a_stopping_worker_gives_back_what_it_has_not_paid_for_at_the_cost_of_no_try() {
    let app = TestApp::with(fast()).await;
    let alice = app.account(4000).await;
    let process = Process::new();
    start_worker_of(&process, real_time(&app, &process), Medium::Image);
    // A server that accepts and never answers keeps the worker at fetching the input.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let url = format!("http://{}/a.png", silent.local_addr().expect("a bound address"));
    let id = alice.submit("vectorize", json!({ "image": url })).await;
    let (_connection, _) = silent.accept().await.expect("the worker comes");
    process.finish().await;
    let given_back: bool = scalar(&app.db, "select lease_token is null and tries = 0 from queue").await;
    assert!(given_back, "the lease is released and no try is spent");
    alice.cancel(id).await;
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn jobs_longer_than_a_lease_run_once_because_the_lease_is_kept_alive() {
    let app = TestApp::with(fast()).await;
    let alice = app.account(10_000).await;
    let (one, two) = (Process::new(), Process::new());
    start_worker(&one, real_time(&app, &one));
    start_worker(&two, real_time(&app, &two));
    let ticking = scheduler::Ctx { clock: Arc::new(shared::clock::SystemClock), ..app.scheduler.clone() };
    scheduler::tick::start(&ticking, &two);
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(alice.submit("gpt-4o", json!({ "prompt": format!("[[sim:slow=5]] long {n}") })).await);
    }
    for id in ids {
        let job = alice.get(&format!("/v1/jobs/{id}?wait=60")).await.json;
        assert_eq!((job["status"].as_str(), job["attempts"].as_i64()), (Some("succeeded"), Some(1)), "{job}");
    }
    assert_eq!(app.simulator.paid("long").await, 10);
    one.finish().await;
    two.finish().await;
    app.finish().await;
}

#[tokio::test]
async fn a_light_account_is_not_kept_waiting_by_a_heavy_one() {
    let app = TestApp::new().await;
    let (heavy, light) = (app.account(1_000_000).await, app.account(1000).await);
    for n in 0..100 {
        heavy.submit("gpt-4o", json!({ "prompt": format!("heavy {n}") })).await;
    }
    // The pool's virtual time moves with what is claimed.
    let first = app.claim_at_most(Medium::Text, 10).await;
    assert_eq!(first.len(), 10);
    let id = light.submit("gpt-4o", json!({ "prompt": "light" })).await;
    let position = light.job(id).await["queue_position"].as_i64().expect("a position");
    assert!(position <= 1, "{position} jobs of the heavy account are before it");
    for claimed in first {
        run::run_job(&app.worker, &claimed).await;
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn priorities_come_before_fairness() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let submit = async |priority: &str| {
        let body = json!({ "model": "gpt-4o", "input": { "prompt": priority }, "priority": priority });
        alice.post("/v1/jobs", body).await.job()
    };
    let (low, normal, high) = (submit("low").await, submit("normal").await, submit("high").await);
    let order: Vec<_> = app.claim(Medium::Text).await.iter().map(|claimed| claimed.job()).collect();
    assert_eq!(order, [high, normal, low]);
    app.clock.advance(TimeDelta::minutes(5));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_job_that_was_to_start_later_stands_in_line_like_any_other() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let soon = app.now() + TimeDelta::seconds(1);
    let order =
        |priority: &str| json!({ "model": "gpt-4o", "input": { "prompt": priority }, "priority": priority });
    let mut later = order("low");
    later["start_at"] = json!(soon);
    let low = alice.post("/v1/jobs", later).await.job();
    let high = alice.post("/v1/jobs", order("high")).await.job();
    app.clock.advance(TimeDelta::seconds(5));
    let order: Vec<_> = app.claim(Medium::Text).await.iter().map(|claimed| claimed.job()).collect();
    assert_eq!(order, [high, low]);
    app.clock.advance(TimeDelta::minutes(5));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn parked_jobs_hold_no_lease_and_are_not_claimed_before_their_time() {
    let app = TestApp::new().await;
    app.simulator.finish_after_polls(3).await;
    let alice = app.account(400_000).await;
    for n in 0..10 {
        alice.submit("kling", json!({ "prompt": format!("parked {n}") })).await;
    }
    assert_eq!(app.run_due().await, 10);
    let leased: i64 = scalar(&app.db, "select count(*) from queue where lease_token is not null").await;
    assert_eq!(leased, 0);
    assert_eq!(app.run_due().await, 0, "nothing is due yet");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn claims_at_once_never_share_a_job() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    for n in 0..60 {
        alice.submit("gpt-4o", json!({ "prompt": format!("{n}") })).await;
    }
    let claims = futures::future::join_all((0..6).map(|_| app.claim_at_most(Medium::Text, 20))).await;
    let mut leases: Vec<Lease> = claims.into_iter().flatten().map(|claimed| claimed.lease).collect();
    assert_eq!(leases.len(), 60);
    leases.sort_by_key(|lease| lease.job);
    leases.dedup_by_key(|lease| lease.job);
    assert_eq!(leases.len(), 60);
    job::release(&app.db, &leases, app.now()).await.expect("release");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn an_intent_that_was_committed_while_its_job_was_being_closed_is_closed_with_it() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "raced" })).await;
    let claimed = app.claim(Medium::Text).await.pop().expect("the job");
    // The close has taken its snapshot and waits for the queue row while the intent is committed.
    let mut begun = app.db.begin().await.expect("begin");
    let locked: i32 =
        scalar(&mut *begun, &format!("select 1 from queue where job_id = '{}' for update", id.0)).await;
    assert_eq!(locked, 1);
    let (db, at) = (app.db.clone(), app.now());
    let closing = app
        .process
        .spawn(async move { job::close(&db, Fence::Held(claimed.lease), &Verdict::Canceled, at).await });
    until_blocked(&app).await;
    for sql in [
        format!("update queue set attempt = 1 where job_id = '{}' returning 1", id.0),
        format!(
            "insert into attempts (job_id, attempt, provider, upstream_model, started_at) values ('{}', 1, 'openai', 'gpt-4o', now()) returning 1",
            id.0
        ),
    ] {
        let _: i32 = scalar(&mut *begun, &sql).await;
    }
    begun.commit().await.expect("commit");
    assert!(closing.await.expect("it ran").expect("close"));
    let outcome: String =
        scalar(&app.db, &format!("select outcome from attempts where job_id = '{}'", id.0)).await;
    assert_eq!(outcome, "abandoned");
    app.finish().await;
}

/// Waits until a statement waits for a lock.
async fn until_blocked(app: &TestApp) {
    for _ in 0..1000 {
        let blocked: bool = scalar(
            &app.db,
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())",
        )
        .await;
        if blocked {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing waits");
}

#[tokio::test]
async fn a_claim_that_begins_at_its_floor_finds_what_came_since_and_what_was_given_back() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(10_000).await, app.account(10_000).await);
    for n in 0..3 {
        alice.submit("gpt-4o", json!({ "prompt": format!("{n}") })).await;
    }
    let first = app.claim_at_most(Medium::Text, 2).await;
    let floors = Floors::default().look(&app.db, Medium::Text, app.now()).await.expect("look");
    app.clock.advance(TimeDelta::seconds(10));
    let floors = floors.look(&app.db, Medium::Text, app.now()).await.expect("look");
    assert!(floors.tags[1] > i64::MIN, "{floors:?}");
    bob.submit("gpt-4o", json!({ "prompt": "new here" })).await;
    let high = json!({ "model": "gpt-4o", "input": { "prompt": "high" }, "priority": "high" });
    bob.post("/v1/jobs", high).await.job();
    let leases: Vec<_> = first.iter().map(|claimed| claimed.lease).collect();
    job::release(&app.db, &leases, app.now()).await.expect("release");
    let lease = app.worker.timing.lease;
    let wanted = Claim { pool: Medium::Text, worker: "test", limit: 10, lease, floors, moves_clock: true };
    let found = job::claim(&app.db, &wanted, app.now()).await.expect("claim");
    assert_eq!(found.len(), 5, "two that were given back, one that waited, two that are new");
    app.clock.advance(TimeDelta::minutes(5));
    app.drain().await;
    app.finish().await;
}
