//! Any sequence of movements keeps the books right: random ones are played against the database and against a model of an
//! account that fits on a page, and after each the two have to agree.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rust_decimal::Decimal;
use serde_json::json;
use shared::{
    account::{
        Actor, NewTerms,
        audit::{By, Who},
        set_terms,
    },
    billing::{self, MoveError, Tokens},
    catalog::Route,
    id::{AccountId, EntryId, GrantId, JobId, KeyId},
    job::{
        self, Closing, Descent, Fence, JobError, Lease, Medium, Order, Output, Priority, SubmitError,
        Verdict, Wishes,
    },
};
use std::{collections::BTreeMap, sync::Arc};

use crate::support::{TestApp, scalar};

/// What may happen to an account.
#[derive(Debug, Clone)]
enum Move {
    Submit {
        price: i64,
    },
    /// Several at the same time, which share statements.
    SubmitMany {
        price: i64,
        count: usize,
    },
    /// Ends all open jobs by one statement, every second with a charge of so many percent of its hold.
    CloseAll {
        percent: i64,
    },
    /// Ends the n-th open job, counted around: with a charge of so many percent of its hold.
    Finish {
        nth: usize,
        percent: i64,
    },
    Fail {
        nth: usize,
    },
    Cancel {
        nth: usize,
    },
    ExpireJob {
        nth: usize,
    },
    Grant {
        tokens: i64,
        hours: Option<i64>,
    },
    Wait {
        hours: i64,
    },
    ExpireGrants,
    TakeBack {
        tokens: i64,
    },
    Credit {
        limit: i64,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0..2000_i64).prop_map(|price| Move::Submit { price }),
        2 => (0..2000_i64, 2..9_usize).prop_map(|(price, count)| Move::SubmitMany { price, count }),
        1 => (0..=100_i64).prop_map(|percent| Move::CloseAll { percent }),
        3 => (any::<usize>(), 0..=100_i64).prop_map(|(nth, percent)| Move::Finish { nth, percent }),
        2 => any::<usize>().prop_map(|nth| Move::Fail { nth }),
        1 => any::<usize>().prop_map(|nth| Move::Cancel { nth }),
        1 => any::<usize>().prop_map(|nth| Move::ExpireJob { nth }),
        3 => (1..3000_i64, proptest::option::of(1..48_i64)).prop_map(|(tokens, hours)| Move::Grant { tokens, hours }),
        2 => (1..30_i64).prop_map(|hours| Move::Wait { hours }),
        2 => Just(Move::ExpireGrants),
        1 => (1..2000_i64).prop_map(|tokens| Move::TakeBack { tokens }),
        1 => (0..3000_i64).prop_map(|limit| Move::Credit { limit }),
    ];
    proptest::collection::vec(one, 1..30)
}

/// A grant's id, when it expires, and what is left.
type Lot = (DateTime<Utc>, GrantId, i64);

/// An account as it should be.
#[derive(Debug, Default)]
struct Model {
    lots: Vec<Lot>,
    lasting: i64,
    owed: i64,
    credit: i64,
    open: Vec<OpenJob>,
}

#[derive(Debug)]
struct OpenJob {
    id: JobId,
    hold: i64,
    lots: Vec<Lot>,
    drawn: i64,
}

impl Model {
    fn available(&self) -> i64 {
        self.lasting + self.lots.iter().map(|lot| lot.2).sum::<i64>()
    }

    fn held(&self) -> i64 {
        self.open.iter().map(|job| job.hold).sum()
    }

    /// Takes tokens out, soonest to expire first; gives what came out of lots, and what was drawn on credit.
    fn spend(&mut self, amount: i64) -> (Vec<Lot>, i64) {
        let mut rest = amount;
        let taken = take(&mut self.lots, &mut rest);
        let lasting = rest.min(self.lasting);
        self.lasting -= lasting;
        self.owed += rest - lasting;
        (taken, rest - lasting)
    }

    fn put(&mut self, lots: Vec<Lot>, lasting: i64) {
        for lot in lots {
            match self.lots.iter_mut().find(|known| known.1 == lot.1) {
                Some(known) => known.2 += lot.2,
                None => self.lots.push(lot),
            }
        }
        self.lots.sort();
        self.lasting += lasting;
    }

    /// Tokens that are given pay what is owed first; gives what is left of them.
    fn repay(&mut self, tokens: i64) -> i64 {
        let repaid = self.owed.min(tokens);
        self.owed -= repaid;
        tokens - repaid
    }

    /// The charge takes lots first and what was drawn last; what was drawn and comes back is paid back.
    fn close(&mut self, at: usize, charge: i64) {
        let mut job = self.open.remove(at);
        let mut rest = charge;
        take(&mut job.lots, &mut rest);
        let back = job.hold - charge;
        let from_lots: i64 = job.lots.iter().map(|lot| lot.2).sum();
        let repaid = job.drawn.min(back).min(self.owed);
        self.owed -= repaid;
        self.put(job.lots, back - from_lots - repaid);
    }
}

fn take(lots: &mut Vec<Lot>, rest: &mut i64) -> Vec<Lot> {
    let mut taken = Vec::new();
    for lot in lots.iter_mut() {
        let part = lot.2.min(*rest);
        if part > 0 {
            taken.push((lot.0, lot.1, part));
        }
        lot.2 -= part;
        *rest -= part;
    }
    lots.retain(|lot| lot.2 > 0);
    taken
}

/// Plays moves on one account of the application.
struct Player<'a> {
    app: &'a TestApp,
    account: AccountId,
    key: KeyId,
    model: Model,
}

impl Player<'_> {
    async fn play(&mut self, step: &Move) -> Result<(), TestCaseError> {
        let now = self.app.now();
        match step {
            Move::Submit { price } => self.submit(*price).await?,
            Move::SubmitMany { price, count } => self.submit_many(*price, *count).await?,
            Move::CloseAll { percent } => self.close_all(*percent).await?,
            Move::Finish { nth, percent } => {
                if let Some(at) = self.pick(*nth) {
                    let charge = self.model.open[at].hold * percent / 100;
                    let verdict = Verdict::Succeeded {
                        output: Output { text: Some("done".into()), ..Output::default() },
                        charge: Tokens::new(charge).expect("not negative"),
                        metered: json!({}),
                        cost_usd: Decimal::ZERO,
                    };
                    let lease = self.lease(self.model.open[at].id).await;
                    self.close(at, Fence::Held(lease), &verdict, charge).await?;
                }
            }
            Move::Fail { nth } => {
                if let Some(at) = self.pick(*nth) {
                    let error = JobError {
                        code: "provider_failed",
                        message: "no".into(),
                        retryable: true,
                        may_be_billed: false,
                    };
                    let lease = self.lease(self.model.open[at].id).await;
                    self.close(at, Fence::Held(lease), &Verdict::Failed(error), 0).await?;
                }
            }
            Move::Cancel { nth } => {
                if let Some(at) = self.pick(*nth) {
                    let fence = Fence::Untouched(self.model.open[at].id);
                    self.close(at, fence, &Verdict::Canceled, 0).await?;
                }
            }
            Move::ExpireJob { nth } => {
                if let Some(at) = self.pick(*nth) {
                    let id = self.model.open[at].id;
                    let sql = format!(
                        "update queue set deadline = created.at from (select created_at as at from jobs where id = '{0}') created where job_id = '{0}' returning 1",
                        id.0
                    );
                    let _: i32 = scalar(&self.app.db, &sql).await;
                    self.close(at, Fence::Overdue(id), &Verdict::Expired, 0).await?;
                }
            }
            Move::Grant { tokens, hours } => {
                let until = hours.map(|hours| now + TimeDelta::hours(hours));
                let id = self.app.give(self.account, *tokens, until).await;
                match (until, self.model.repay(*tokens)) {
                    (Some(until), left) if left > 0 => self.model.put(vec![(until, id, left)], 0),
                    (Some(_), _) => {}
                    (None, left) => self.model.put(Vec::new(), left),
                }
            }
            Move::Wait { hours } => self.app.clock.advance(TimeDelta::hours(*hours)),
            Move::ExpireGrants => {
                billing::expire_grants(&self.app.db, now).await.expect("expire");
                self.model.lots.retain(|lot| lot.0 > now);
            }
            Move::TakeBack { tokens } => self.take_back(*tokens).await?,
            Move::Credit { limit } => {
                let new = NewTerms { credit_limit_tokens: Some(*limit), ..NewTerms::default() };
                let by = By::hand(Who::CommandLine);
                set_terms(&self.app.db, None, self.account, &new, &by, now).await.expect("set");
                self.model.credit = *limit;
            }
        }
        Ok(())
    }

    async fn submit(&mut self, price: i64) -> Result<(), TestCaseError> {
        let order = Arc::new(self.order(price));
        // A submit spends nothing that has expired.
        let now = self.app.now();
        self.model.lots.retain(|lot| lot.0 > now);
        let can_pay = self.model.available() + (self.model.credit - self.model.owed).max(0) >= price;
        match self.app.door.submitter.submit(&order).await {
            Ok(_) => {
                prop_assert!(can_pay, "{price} was held, and could not be paid for");
                let (lots, drawn) = self.model.spend(price);
                self.model.open.push(OpenJob { id: order.job, hold: price, lots, drawn });
            }
            Err(SubmitError::InsufficientTokens { .. }) => {
                prop_assert!(!can_pay, "{price} was refused, and could be paid for");
            }
            Err(error) => panic!("{error}"),
        }
        Ok(())
    }

    async fn submit_many(&mut self, price: i64, count: usize) -> Result<(), TestCaseError> {
        let now = self.app.now();
        self.model.lots.retain(|lot| lot.0 > now);
        let orders: Vec<_> = (0..count).map(|_| Arc::new(self.order(price))).collect();
        let submitter = &self.app.door.submitter;
        let receipts = futures::future::join_all(orders.iter().map(|order| submitter.submit(order))).await;
        let spendable = self.model.available() + (self.model.credit - self.model.owed).max(0);
        let affordable =
            spendable.checked_div(price).map_or(count, |most| count.min(usize::try_from(most).unwrap_or(0)));
        prop_assert_eq!(receipts.iter().filter(|receipt| receipt.is_ok()).count(), affordable);
        // They were accepted in the order of their tags.
        let mut accepted = Vec::new();
        for (order, _) in orders.iter().zip(&receipts).filter(|(_, receipt)| receipt.is_ok()) {
            let tag: i64 =
                scalar(&self.app.db, &format!("select tag from queue where job_id = '{}'", order.job.0))
                    .await;
            accepted.push((tag, order.job));
        }
        accepted.sort_unstable_by_key(|(tag, _)| *tag);
        for (_, id) in accepted {
            let (lots, drawn) = self.model.spend(price);
            self.model.open.push(OpenJob { id, hold: price, lots, drawn });
        }
        Ok(())
    }

    async fn close_all(&mut self, percent: i64) -> Result<(), TestCaseError> {
        let leases: BTreeMap<_, _> = self
            .app
            .claim(Medium::Text)
            .await
            .into_iter()
            .map(|claimed| (claimed.job(), claimed.lease))
            .collect();
        let at = self.app.now();
        let (mut closings, mut charges) = (Vec::new(), Vec::new());
        for (job, succeeds) in self.model.open.iter().zip([true, false].into_iter().cycle()) {
            let charge = if succeeds { job.hold * percent / 100 } else { 0 };
            let verdict = Verdict::Succeeded {
                output: Output { text: Some("done".into()), ..Output::default() },
                charge: Tokens::new(charge).expect("not negative"),
                metered: json!({}),
                cost_usd: Decimal::ZERO,
            };
            let verdict = if succeeds { verdict } else { Verdict::Canceled };
            let lease = leases.get(&job.id).unwrap_or_else(|| panic!("{} cannot be claimed", job.id));
            closings.push(Closing { fence: Fence::Held(*lease), verdict, begun: 0, at });
            charges.push(charge);
        }
        let closed = job::close_all(&self.app.db, &closings).await.expect("close");
        prop_assert!(closed.iter().all(|closed| *closed), "all of them were open");
        let again = job::close_all(&self.app.db, &closings).await.expect("close");
        prop_assert!(!again.contains(&true), "a job is closed once");
        for charge in charges {
            self.model.close(0, charge);
        }
        Ok(())
    }

    async fn take_back(&mut self, tokens: i64) -> Result<(), TestCaseError> {
        let amount = Tokens::new(tokens).expect("positive");
        let reference = EntryId::new().to_string();
        let (db, now) = (&self.app.db, self.app.now());
        let taken = billing::take_back(db, self.account, amount, &reference, "test", now).await;
        let can = self.model.available() >= tokens;
        prop_assert_eq!(taken.is_ok(), can);
        if can {
            self.model.spend(tokens);
        } else {
            prop_assert!(matches!(taken, Err(MoveError::Insufficient)));
        }
        Ok(())
    }

    fn pick(&self, nth: usize) -> Option<usize> {
        nth.checked_rem(self.model.open.len())
    }

    async fn lease(&self, job: JobId) -> Lease {
        let (mine, others): (Vec<_>, Vec<_>) = self
            .app
            .claim(Medium::Text)
            .await
            .into_iter()
            .map(|claimed| claimed.lease)
            .partition(|lease| lease.job == job);
        job::release(&self.app.db, &others, self.app.now()).await.expect("release");
        *mine.first().unwrap_or_else(|| panic!("{job} cannot be claimed"))
    }

    async fn close(
        &mut self,
        at: usize,
        fence: Fence,
        verdict: &Verdict,
        charge: i64,
    ) -> Result<(), TestCaseError> {
        let (db, now) = (&self.app.db, self.app.now());
        let closed = job::close(db, fence, verdict, now).await.expect("close");
        prop_assert!(closed, "the job was open");
        let again = job::close(db, fence, verdict, now).await.expect("close");
        prop_assert!(!again, "a job is closed once");
        self.model.close(at, charge);
        Ok(())
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let balance = billing::balance(&self.app.db, self.account).await.expect("ask").expect("an account");
        prop_assert_eq!(
            (balance.available, balance.held, balance.owed, balance.credit_limit),
            (self.model.available(), self.model.held(), self.model.owed, self.model.credit)
        );
        let grants = billing::grants(&self.app.db, self.account, None, 100).await.expect("ask");
        for grant in grants.iter().filter(|grant| grant.expires_at.is_some()) {
            let left = self.model.lots.iter().find(|lot| lot.1 == grant.id).map_or(0, |lot| lot.2);
            prop_assert_eq!(grant.remaining, Some(left));
            prop_assert!(left <= grant.tokens);
        }
        let drift = billing::audit(&self.app.db).await.expect("audit");
        prop_assert!(drift.is_empty(), "{drift:?}");
        Ok(())
    }

    fn order(&self, price: i64) -> Order {
        Order {
            job: JobId::new(),
            at: self.app.now(),
            account: self.account,
            actor: Actor::Key(self.key),
            model: "gpt-4o".into(),
            task: "text.chat".into(),
            medium: Medium::Text,
            route: Route {
                provider: "openai".into(),
                upstream_model: "gpt-4o".into(),
                ..self.app.worker.catalog.get("gpt-4o").expect("a model").routes[0].clone()
            },
            input: json!({ "prompt": "hello" }),
            price: Tokens::new(price).expect("not negative"),
            price_version: 1,
            price_percent: 100,
            cost_usd: Decimal::ZERO,
            fair_interval: None,
            priority: Priority::Normal,
            webhook: None,
            metadata: BTreeMap::new(),
            start_at: None,
            deadline: self.app.now() + TimeDelta::days(365),
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

#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_movements_keeps_the_books_right() {
    let app = TestApp::new().await;
    let play = async |steps: Vec<Move>| {
        let alice = app.account(0).await;
        let key: KeyId =
            scalar(&app.db, &format!("select id from api_keys where account_id = '{}'", alice.id.0)).await;
        let mut player = Player { app: &app, account: alice.id, key, model: Model::default() };
        for step in &steps {
            player.play(step).await?;
            player.compare().await?;
        }
        while !player.model.open.is_empty() {
            player.play(&Move::Cancel { nth: 0 }).await?;
            player.compare().await?;
        }
        Ok(())
    };
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&moves(), |steps| tokio::runtime::Handle::current().block_on(play(steps)))
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
    app.finish().await;
}

#[tokio::test]
async fn one_order_that_postgres_refuses_costs_its_neighbours_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let key: KeyId =
        scalar(&app.db, &format!("select id from api_keys where account_id = '{}'", alice.id.0)).await;
    let player = Player { app: &app, account: alice.id, key, model: Model::default() };
    let mut orders: Vec<_> = (0..8).map(|_| player.order(1000)).collect();
    // No text of Postgres has this character; the front door refuses it long before.
    orders[5].input = json!({ "prompt": "\u{0}" });
    let orders: Vec<_> = orders.into_iter().map(Arc::new).collect();
    let submitter = &app.door.submitter;
    let receipts = futures::future::join_all(orders.iter().map(|order| submitter.submit(order))).await;
    for (n, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.is_err(), n == 5, "{n}: {receipt:?}");
    }
    assert_eq!(alice.tokens().await, (3000, 7000));
    app.drain().await;
    app.finish().await;
}
