//! Every order in which claims, beats, intents, pauses, ends, rescues and cancels of a job can follow each other, with two workers
//! of which either may be stale: all states that can be reached are walked through, and every step from each of them is taken
//! on the real statements.
//!
//! A model that fits on a page says what each step must answer and what must be left behind. Each statement is atomic, so what
//! two workers do at the same time is one of these orders. Deliberately absent: what a worker does between its statements; that
//! is `crash.rs`.

#![expect(clippy::disallowed_methods, reason = "the test looks at rows in a way the product never does")]

mod model;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::json;
use shared::{
    account::Actor,
    billing::Tokens,
    id::{AccountId, JobId, KeyId, LeaseToken},
    job::{
        self, Beat, Cancel, Checkpoint, Claim, Descent, Failure, Fence, Floors, Intent, JobError, Lease,
        Medium, Misses, Next, Order, Output, Parking, Pause, Priority, Resume, Verdict, Wishes,
    },
};

use crate::support::{TestApp, scalar};
use model::{Answer, Grip, MAX_TRIES, Map, Place, State, Step, Worker};

/// What a job holds, and is charged if it succeeds.
const PRICE: i64 = 10;
/// How long a worker may be silent.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// Longer than a lease and than any pause.
const LONG: TimeDelta = TimeDelta::minutes(10);
/// How long a paused job rests.
const PAUSE: TimeDelta = TimeDelta::minutes(1);

/// A real job, played on by two real workers.
struct Table<'a> {
    app: &'a TestApp,
    account: AccountId,
    key: KeyId,
    now: DateTime<Utc>,
    job: JobId,
    leases: [Option<(Lease, i16)>; 2],
}

impl Table<'_> {
    /// Lays out a new job.
    async fn deal(&mut self) {
        self.job = JobId::new();
        self.leases = [None; 2];
        self.app.door.submitter.submit(&self.order().into()).await.expect("submit");
    }

    /// Takes the job off the table, so that the next one is alone.
    async fn clear(&self, state: State) {
        if !matches!(state.place, Place::Ended(_)) {
            let fence = Fence::Overdue(self.job);
            let far = self.now + TimeDelta::days(400);
            assert!(job::close(&self.app.db, fence, &Verdict::Expired, far).await.expect("clear"));
        }
    }

    async fn take(&mut self, step: Step) -> Answer {
        let (db, now) = (&self.app.db, self.now);
        match step {
            Step::Claim(worker) => self.claim(worker).await,
            Step::Beat(worker) => {
                let lease = LEASE.to_std().expect("positive");
                let beats = job::beat(db, &[self.lease(worker)], lease, now).await.expect("beat");
                match beats.as_slice() {
                    [Beat { cancel_requested, .. }] => Answer::Alive(*cancel_requested),
                    _ => Answer::Done(false),
                }
            }
            Step::Begin(worker) => {
                let intent = Intent {
                    key: None,
                    lease: self.lease(worker),
                    attempt: self.leases[worker].expect("a lease").1 + 1,
                    provider: "openai".into(),
                    upstream_model: "gpt-4o".into(),
                    at: now,
                };
                Answer::Done(job::begin_all(db, &[intent]).await.expect("begin") == [true])
            }
            Step::Park(worker) => {
                let checkpoint =
                    Checkpoint::Pending { provider_ref: "task".into(), misses: Misses::default() };
                let pause = self.pause(Resume::At(checkpoint));
                let parking = Parking { lease: self.lease(worker), pause, at: now };
                Answer::Done(job::park_all(db, &[parking]).await.expect("park") == [true])
            }
            Step::Retry(worker) => {
                let pause = self.pause(Resume::Anew);
                let retried = job::retry(
                    db,
                    &Failure {
                        lease: self.lease(worker),
                        pause,
                        why: "again".into(),
                        may_be_billed: false,
                        next: Next::Here,
                        spends_try: true,
                        at: now,
                    },
                )
                .await;
                Answer::Done(retried.expect("retry"))
            }
            Step::Release(worker) => {
                Answer::Done(job::release(db, &[self.lease(worker)], now).await.expect("release") == 1)
            }
            Step::Succeed(worker) => self.close(worker, success()).await,
            Step::Fail(worker) => self.close(worker, failure()).await,
            Step::GiveIn(worker) => self.close(worker, Verdict::Canceled).await,
            Step::Cancel => match job::cancel(db, self.account, self.job, now).await.expect("cancel") {
                Some(Cancel::Canceled) => Answer::Canceled,
                Some(Cancel::Requested(_)) => Answer::Requested,
                Some(Cancel::AlreadyFinal) => Answer::AlreadyFinal,
                None => panic!("{} is not known", self.job),
            },
            Step::Rescue => {
                let swept = job::rescue_lost(db, MAX_TRIES, now).await.expect("rescue");
                assert_eq!(swept.stuck, 0, "{swept:?}");
                Answer::Done(swept.rescued.len() + swept.closed.len() == 1)
            }
            Step::Wait => {
                self.now += LONG;
                Answer::Done(true)
            }
        }
    }

    async fn claim(&mut self, worker: Worker) -> Answer {
        let wanted = Claim {
            pool: Medium::Text,
            worker: ["anna", "boris"][worker],
            limit: 5,
            lease: LEASE.to_std().expect("positive"),
            floors: Floors::default(),
            moves_clock: false,
        };
        let claimed = job::claim(&self.app.db, &wanted, self.now).await.expect("claim");
        match claimed.as_slice() {
            [] => Answer::Done(false),
            [claimed] if claimed.job() == self.job => {
                self.leases[worker] = Some((claimed.lease, claimed.attempt));
                Answer::Done(true)
            }
            others => panic!("claimed {others:?}"),
        }
    }

    async fn close(&self, worker: Worker, verdict: Verdict) -> Answer {
        let fence = Fence::Held(self.lease(worker));
        Answer::Done(job::close(&self.app.db, fence, &verdict, self.now).await.expect("close"))
    }

    fn lease(&self, worker: Worker) -> Lease {
        self.leases[worker].expect("a step of a worker that has or had a lease").0
    }

    fn pause(&self, resume: Resume) -> Pause {
        Pause { until: self.now + PAUSE, resume, phase: "resting".into(), progress: None }
    }

    /// The state as the rows have it. A worker's grip is what its last lease is worth.
    async fn look(&self, grips: [Grip; 2]) -> State {
        type Row = (
            String,
            Option<LeaseToken>,
            Option<DateTime<Utc>>,
            Option<DateTime<Utc>>,
            Option<bool>,
            Option<i16>,
            i16,
            Option<String>,
        );
        let (status, token, lease_until, run_at, cancel, tries, attempts, checkpoint): Row =
            sqlx::query_as(
                "select j.status, q.lease_token, q.lease_until, q.run_at, q.cancel_requested, q.tries,
                        (select count(*)::smallint from attempts a where a.job_id = j.id), q.checkpoint ->> 'state'
                 from jobs j left join queue q on q.job_id = j.id where j.id = $1",
            )
            .bind(self.job)
            .fetch_one(&self.app.db)
            .await
            .expect("look at the job");
        let word = |text: &str| {
            ["submitting", "pending", "succeeded", "failed", "canceled"]
                .into_iter()
                .find(|word| *word == text)
        };
        let place = match (status.as_str(), token, run_at) {
            ("open", Some(_), None) => Place::Leased { lapsed: lease_until.expect("a term") <= self.now },
            ("open", None, Some(at)) if at > self.now => Place::Resting,
            ("open", None, _) => Place::Runnable,
            (status, None, None) => Place::Ended(word(status).expect("a status of this test")),
            row => panic!("{row:?} is no state"),
        };
        let holds =
            |worker: Worker| token.is_some() && self.leases[worker].map(|(lease, _)| lease.token) == token;
        let grip = |worker: Worker| match grips[worker] {
            Grip::Nothing => Grip::Nothing,
            _ if holds(worker) => Grip::Lease,
            _ => Grip::Stale,
        };
        State {
            place,
            cancel: cancel.unwrap_or_default(),
            tries: tries.unwrap_or_default(),
            attempts,
            checkpoint: checkpoint.as_deref().map(|text| word(text).expect("a checkpoint of this test")),
            grips: [grip(0), grip(1)],
        }
    }

    /// Money and messages: one hold while the job is open, one end of it afterwards, a charge for a success alone.
    async fn audit(&self, state: State) {
        let sql = format!(
            "select string_agg(kind || ' ' || amount_tokens, ', ' order by kind) from ledger
             where reference = '{}' and kind in ('hold', 'charge', 'release')",
            self.job.0
        );
        let entries: Option<String> = scalar(&self.app.db, &sql).await;
        let expected = match state.place {
            Place::Ended("succeeded") => "charge 10, hold 10",
            Place::Ended(_) => "hold 10, release 10",
            _ => "hold 10",
        };
        assert_eq!(entries.as_deref(), Some(expected), "the ledger of {state:?}");
    }

    fn order(&self) -> Order {
        Order {
            job: self.job,
            at: self.now,
            account: self.account,
            actor: Actor::Key(self.key),
            model: "gpt-4o".into(),
            task: "text.chat".into(),
            medium: Medium::Text,
            route: self.app.worker.catalog.get("gpt-4o").expect("a model").routes[0].clone(),
            input: json!({ "prompt": "hello" }),
            price: Tokens::new(PRICE).expect("positive"),
            price_version: 1,
            price_percent: 100,
            cost_usd: Decimal::ZERO,
            fair_interval: None,
            priority: Priority::Normal,
            webhook: None,
            metadata: BTreeMap::new(),
            start_at: None,
            deadline: self.now + TimeDelta::days(365),
            idempotency: None,
            sending: None,
            wishes: Wishes::default(),
            descent: Descent::default(),
            traceparent: None,
            fallbacks: Vec::new(),
            request_hash: None,
            turn: None,
        }
    }
}

fn success() -> Verdict {
    Verdict::Succeeded {
        output: Output { text: Some("done".into()), ..Output::default() },
        charge: Tokens::new(PRICE).expect("positive"),
        metered: json!({}),
        cost_usd: Decimal::ZERO,
    }
}

fn failure() -> Verdict {
    Verdict::Failed(JobError {
        code: "provider_failed",
        message: "no".into(),
        retryable: true,
        may_be_billed: false,
    })
}

#[tokio::test]
async fn every_order_of_two_workers_steps_ends_in_one_right_state() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let key: KeyId =
        scalar(&app.db, &format!("select id from api_keys where account_id = '{}'", alice.id.0)).await;
    let now = app.now();
    let mut table = Table { app: &app, account: alice.id, key, now, job: JobId::new(), leases: [None; 2] };
    let mut map = Map::new();
    while let Some((mut state, mut way)) = map.unfinished() {
        table.deal().await;
        for step in &way {
            table.take(*step).await;
        }
        // From there on, as long as there is something new.
        while let Some(step) = map.untaken(state) {
            let (answer, next) = state.after(step);
            assert_eq!(table.take(step).await, answer, "{step:?} after {way:?}");
            way.push(step);
            assert_eq!(table.look(next.grips).await, next, "{way:?}");
            table.audit(next).await;
            map.arrive(next, &way);
            state = next;
        }
        table.clear(state).await;
    }
    println!("{} steps from {} states", map.taken, map.states.len());
    assert!(
        map.states.keys().any(|state| state.grips == [Grip::Stale, Grip::Lease]),
        "a stale worker was there"
    );
    app.clock.advance(table.now - app.now());
    app.finish().await;
}
