//! The clock: each tick once, missed ones by policy, and what each task does.

use std::path::Path;

use chrono::TimeDelta;
use scheduler::{tasks, tick};
use serde_json::json;
use shared::{id::JobId, schedule};

use crate::support::{TestApp, scalar};

#[tokio::test]
async fn a_tick_is_done_once_however_many_schedulers_run() {
    let app = TestApp::new().await;
    let task = tasks::named("audit-ledger").expect("a task");
    assert!(
        !tick::run_if_due(&app.scheduler, task).await.expect("look"),
        "a new task waits for its first tick"
    );
    for _ in 0..3 {
        app.clock.advance(TimeDelta::days(1));
        let ran = futures::future::join_all((0..8).map(|_| tick::run_if_due(&app.scheduler, task))).await;
        assert_eq!(ran.into_iter().filter(|ran| *ran.as_ref().expect("look")).count(), 1);
    }
    app.finish().await;
}

#[tokio::test]
async fn missed_ticks_are_made_up_for_once_or_passed_over_as_the_task_says() {
    let app = TestApp::new().await;
    for name in ["rescue-lost-jobs", "delete-expired-files"] {
        assert!(!app.tick(name).await);
    }
    // Down for days, and back at a moment that is far from three in the morning.
    let noon = (app.now() + TimeDelta::days(5)).date_naive().and_hms_opt(12, 0, 1).expect("a time").and_utc();
    app.clock.advance_to(noon);
    assert!(app.tick("rescue-lost-jobs").await, "made up for");
    assert!(!app.tick("rescue-lost-jobs").await, "once");
    assert!(!app.tick("delete-expired-files").await, "passed over");
    app.clock.advance_to(noon + TimeDelta::hours(15) + TimeDelta::minutes(1));
    assert!(app.tick("delete-expired-files").await, "and done the next night");
    app.finish().await;
}

#[tokio::test]
async fn a_scheduler_that_dies_with_a_tick_is_followed_by_another() {
    let app = TestApp::new().await;
    let task = tasks::named("audit-ledger").expect("a task");
    app.tick(task.name).await;
    app.clock.advance(TimeDelta::days(1));
    let dead = schedule::take_tick(&app.db, task.name, app.now(), task.lease, app.now()).await.expect("take");
    let dead = dead.expect("the tick is free");
    assert!(!app.tick(task.name).await, "someone is on it");
    app.clock.advance(TimeDelta::hours(1));
    assert!(app.tick(task.name).await, "its lease has lapsed");
    let late =
        schedule::finish_tick(&app.db, task.name, app.now(), dead, None, app.now()).await.expect("finish");
    assert!(!late, "the dead one's word does not count");
    app.finish().await;
}

fn objects(dir: &Path) -> usize {
    let entries =
        std::fs::read_dir(dir.join("kiln/outputs")).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    entries
        .into_iter()
        .flatten()
        .flat_map(|job| std::fs::read_dir(job.path()).into_iter().flatten())
        .filter(|file| file.as_ref().is_ok_and(|file| !file.file_name().to_string_lossy().starts_with('.')))
        .count()
}

#[tokio::test]
async fn files_are_deleted_at_three_in_the_morning_after_their_three_days() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let id = alice.submit("nano-banana", json!({ "prompt": "old" })).await;
    app.drain().await;
    app.tick("delete-expired-files").await;
    assert_eq!(objects(app.s3_dir.path()), 2, "the picture and its preview");
    app.clock.advance(TimeDelta::days(2));
    app.tick("delete-expired-files").await;
    assert_eq!(objects(app.s3_dir.path()), 2, "not yet");
    app.clock.advance(TimeDelta::days(2));
    let night =
        app.now().date_naive().succ_opt().expect("a day").and_hms_opt(3, 0, 1).expect("a time").and_utc();
    app.clock.advance_to(night);
    assert!(app.tick("delete-expired-files").await);
    assert_eq!(objects(app.s3_dir.path()), 0);
    let job = alice.job(id).await;
    assert_eq!(
        (job["status"].as_str(), job["output"]["files"].as_array().map(Vec::len)),
        (Some("succeeded"), Some(0))
    );
    let rows: i64 = scalar(&app.db, "select count(*) from files").await;
    assert_eq!(rows, 0);
    app.finish().await;
}

#[tokio::test]
async fn files_of_a_job_that_ended_otherwise_are_deleted_as_well() {
    let mut app = TestApp::new().await;
    let alice = app.account(50_000).await;
    let id = alice.submit("kling", json!({ "prompt": "stored in vain" })).await;
    // The worker dies when the result is stored and written down; before another one comes, the owner has had enough.
    let owner = alice.clone();
    app.worker.probe = workers::Probe::new(move |station| {
        if station == workers::Station::Saved {
            std::panic::resume_unwind(Box::new("crash"));
        }
    });
    let drained = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(app.drain())).await;
    assert!(drained.is_err(), "the worker died");
    // The film, and its poster where ffmpeg is installed.
    assert!((1..=2).contains(&objects(app.s3_dir.path())));
    owner.cancel(id).await;
    app.worker.probe = workers::Probe::default();
    app.drain().await;
    assert_eq!(alice.job(id).await["status"], "canceled");
    let night =
        app.now().date_naive().succ_opt().expect("a day").and_hms_opt(3, 0, 1).expect("a time").and_utc();
    app.clock.advance_to(night);
    assert!(app.tick("delete-expired-files").await);
    assert_eq!(objects(app.s3_dir.path()), 0);
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "breaks a row on purpose")]
async fn a_file_that_cannot_be_deleted_is_reported_and_tried_again() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    alice.submit("nano-banana", json!({ "prompt": "one" })).await;
    alice.submit("nano-banana", json!({ "prompt": "two" })).await;
    app.drain().await;
    app.tick("delete-expired-files").await;
    app.tick("retry-failed-deletions").await;
    // A key that no storage takes stands for a storage that refuses.
    let key: String = scalar(&app.db, "select storage_key from files order by id limit 1").await;
    sqlx::query("update files set storage_key = repeat('x', 2000) where storage_key = $1")
        .bind(&key)
        .execute(&app.db)
        .await
        .expect("break");
    app.clock.advance(TimeDelta::days(4));
    let night =
        app.now().date_naive().succ_opt().expect("a day").and_hms_opt(3, 0, 1).expect("a time").and_utc();
    app.clock.advance_to(night);
    assert!(app.tick("delete-expired-files").await);
    let left: i64 = scalar(&app.db, "select count(*) from files").await;
    assert_eq!(left, 1, "the other one is gone");
    let tries: i32 = scalar(&app.db, "select delete_tries from files").await;
    assert_eq!(tries, 1);
    let error: Option<String> =
        scalar(&app.db, "select last_error from schedule where task = 'delete-expired-files'").await;
    assert!(error.is_some_and(|error| error.contains("could not be deleted")));

    sqlx::query("update files set storage_key = $1").bind(&key).execute(&app.db).await.expect("mend");
    app.clock.advance(TimeDelta::hours(2));
    assert!(app.tick("retry-failed-deletions").await);
    let left: i64 = scalar(&app.db, "select count(*) from files").await;
    assert_eq!((left, objects(app.s3_dir.path())), (0, 0));
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "puts a cached result in by hand")]
async fn idempotency_keys_and_cached_results_are_forgotten_after_a_day() {
    let app = TestApp::new().await;
    let alice = app.account(5000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "x" } });
    let send = async || {
        alice.send(reqwest::Method::POST, "/v1/jobs", &[("Idempotency-Key", "k")], Some(&body)).await.job()
    };
    let first = send().await;
    sqlx::query("insert into result_cache select account_id, 'x', job_id, created_at, created_at + interval '1 day' from idempotency_keys")
        .execute(&app.db)
        .await
        .expect("cache");
    app.drain().await;
    for name in ["evict-idempotency-keys", "evict-cached-results"] {
        app.tick(name).await;
    }
    app.clock.advance(TimeDelta::hours(23));
    for name in ["evict-idempotency-keys", "evict-cached-results"] {
        assert!(app.tick(name).await);
    }
    assert_eq!(send().await, first, "still known");
    app.clock.advance(TimeDelta::hours(2));
    for name in ["evict-idempotency-keys", "evict-cached-results"] {
        assert!(app.tick(name).await);
    }
    let left: i64 = scalar(
        &app.db,
        "select (select count(*) from idempotency_keys) + (select count(*) from result_cache)",
    )
    .await;
    assert_eq!(left, 0);
    assert_ne!(send().await, first, "forgotten");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "falsifies a balance on purpose")]
async fn the_audit_notices_money_that_the_ledger_does_not_know_of() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    app.tick("audit-ledger").await;
    sqlx::query("update accounts set available_tokens = available_tokens + 1 where id = $1")
        .bind(alice.id.0)
        .execute(&app.db)
        .await
        .expect("falsify");
    app.clock.advance(TimeDelta::days(1));
    assert!(app.tick("audit-ledger").await);
    let error: Option<String> =
        scalar(&app.db, "select last_error from schedule where task = 'audit-ledger'").await;
    assert!(error.is_some_and(|error| error.contains("drifted")));
    sqlx::query("update accounts set available_tokens = available_tokens - 1 where id = $1")
        .bind(alice.id.0)
        .execute(&app.db)
        .await
        .expect("mend");
    app.finish().await;
}

#[tokio::test]
async fn objects_that_no_file_refers_to_are_deleted_at_night_and_no_others() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    app.tick("delete-stray-objects").await;
    let (done, open) = (
        alice.submit("nano-banana", json!({ "prompt": "kept" })).await,
        alice.submit("kling", json!({ "prompt": "open", "seconds": 5 })).await,
    );
    app.run_due().await;
    // A worker that died after its upload: the job went on without it, was never, or is to be run again.
    for key in [
        format!("outputs/{done}/7.png"),
        format!("outputs/{}/0.png", JobId::new()),
        format!("outputs/{open}/0.mp4"),
    ] {
        app.storage.put_bytes(&key, "stray".into(), "image/png").await.expect("store");
    }
    assert_eq!(objects(app.s3_dir.path()), 5);
    app.clock.advance(TimeDelta::days(1));
    assert!(app.tick("delete-stray-objects").await);
    assert_eq!(
        objects(app.s3_dir.path()),
        3,
        "the picture, its preview, and what the open job will overwrite"
    );
    app.drain().await;
    app.finish().await;
}
