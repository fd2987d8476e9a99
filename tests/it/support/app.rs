//! The application of a test: the real API over HTTP, the real verbs, a clock that stands still until it is moved.
//!
//! Workers are not running; [`TestApp::drain`] claims and runs jobs as they would, one after the other, and moves the clock
//! to the next thing due, so that a wait of hours takes no time and nothing depends on luck.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use cli::embedded::S3Server;
use futures::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use shared::{
    account::{self, KeyRole, Keyring},
    billing,
    catalog::Catalog,
    clock::{Clock, ManualClock, SharedClock, SystemClock},
    config,
    id::{AccountId, EntryId, GrantId},
    job::{self, Claim, Claimed, Doorbell, Estimator, Floors, Medium, Renderer, Submitter},
    notice,
    price::Prices,
    process::Process,
    provider::Standings,
    seal::Sealer,
    storage::Storage,
    text::Audience,
    wake::Wakes,
    webhook::Signer,
};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::net::TcpListener;
use workers::{
    Probe, Station, Web,
    config::{Moderation, Vendors},
    mail, notify, run,
    runtime::Parts,
};

use super::{Account, Database, Receiver, Simulator, invariants, scalar};

/// Runs of a drain after which a test is taken for endless.
const DRAIN_RUNS: usize = 5000;
/// The deployment's secret in tests.
const SECRET: &str = "a secret that is only for the tests of Kiln";
/// Who is told what only an operator can mend.
const OPERATOR: &str = "operator@example.com";

/// What a test may ask for.
#[derive(Debug, Clone)]
pub struct Settings {
    pub allow_private: bool,
    pub timing: config::Queue,
    /// None, unless a test is about them.
    pub limits: api::Limits,
    /// Those of a deployment that says nothing.
    pub uploads: api::UploadLimits,
    /// Which pages are let in: none, unless a test is about them.
    pub cors: api::Origins,
    /// How much of conversations there may be.
    pub dialogs: api::config::Dialogs,
    /// What new people agree to and get.
    pub people: api::config::People,
    /// What is on offer; its prices are those of the files.
    pub catalog: Arc<Catalog>,
    /// Who judges what is asked for: the lists of words, unless a test is about others.
    pub moderation: Moderation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_private: true,
            timing: config::Queue::default(),
            limits: api::Limits::default(),
            uploads: api::UploadLimits::default(),
            cors: api::Origins::default(),
            dialogs: api::config::Dialogs::default(),
            people: api::config::People::default(),
            catalog: Arc::new(Catalog::load().expect("the catalogue")),
            moderation: Moderation::default(),
        }
    }
}

/// An application with a database, a storage and a simulator of its own.
pub struct TestApp {
    pub db: PgPool,
    pub clock: Arc<ManualClock>,
    pub base: String,
    pub http: reqwest::Client,
    pub simulator: Simulator,
    pub storage: Storage,
    pub s3_dir: TempDir,
    pub process: Process,
    pub worker: workers::Ctx,
    pub delivery: notify::Ctx,
    pub mailer: mail::Ctx,
    /// Where mails land.
    pub mail_dir: TempDir,
    pub scheduler: scheduler::Ctx,
    pub sealer: Sealer,
    pub door: api::Ctx,
    pub database: Database,
    s3: Option<S3Server>,
    finished: bool,
}

impl TestApp {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let database = Database::create().await;
        let db = database.connect().await;
        let s3_dir = TempDir::new().expect("a folder for S3");
        let s3 = S3Server::start(s3_dir.path(), 0, "kiln", "secret", "kiln").await.expect("an S3 service");
        let storage = Storage::new(&storage_config(s3.endpoint()));
        let process = Process::new();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90)).build().expect("a client");
        let simulator = Simulator::start(&process, &http).await;
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let wakes = Wakes::start(&db, &process);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen for the API");
        let base = format!("http://{}", listener.local_addr().expect("a bound address"));
        let catalog = settings.catalog;
        let renderer = Renderer::new(storage.clone(), base.clone());
        let sealer = Sealer::new(&config::Sealing::from_secret(&SECRET.to_owned().into()));
        let worker = Parts {
            db: db.clone(),
            clock: clock.clone(),
            wakes: wakes.clone(),
            catalog: catalog.clone(),
            storage: storage.clone(),
            vendors: Vendors::from_variables(Some(&simulator.url)),
            moderation: settings.moderation,
            sealer: sealer.clone(),
            operator_email: Some(OPERATOR.into()),
            doorbell: Some(Doorbell::new(&SECRET.to_owned().into(), base.clone())),
            allow_private: settings.allow_private,
            timing: settings.timing.clone(),
        }
        .into_ctx(&process)
        .await
        .expect("a worker's context");
        let signer = Signer::new(&SECRET.to_owned().into());
        let delivery = notify::Ctx {
            db: db.clone(),
            clock: clock.clone(),
            renderer: renderer.clone(),
            web: Web::new(settings.allow_private).expect("a client"),
            secret: SECRET.to_owned().into(),
            signer: signer.clone(),
            sealer: sealer.clone(),
            timeout: notify::TIMEOUT,
        };
        let mail_dir = TempDir::new().expect("a folder for mails");
        let mailer = mail::Ctx {
            db: db.clone(),
            clock: clock.clone(),
            sealer: sealer.clone(),
            carrier: mail::Carrier::Folder { dir: mail_dir.path().to_owned(), shows_links: false },
            from: "Kiln <no-reply@localhost>".parse().expect("an address"),
        };
        let scheduler = scheduler::Ctx {
            db: db.clone(),
            clock: clock.clone(),
            wakes: wakes.clone(),
            storage: storage.clone(),
            sealer: sealer.clone(),
            public_url: base.clone(),
            operator_email: Some(OPERATOR.into()),
            low_balance_tokens: catalog.low_balance_tokens(),
            timing: settings.timing,
        };
        let standings = Standings::start(&db, &process);
        let told: SharedClock = clock.clone();
        let estimator = Estimator::start(&db, &standings, &catalog, &told, &process);
        let door = Arc::new(api::Parts {
            db: db.clone(),
            keyring: Keyring::new(&db, &process),
            submitter: Submitter::new(&db, &process),
            clock: clock.clone(),
            prices: Prices::start(&db, &catalog, &wakes, &process).await.expect("prices"),
            standings,
            audience: Audience::start(&db, &wakes, &process, api::http::DRAIN),
            wakes,
            catalog,
            renderer: renderer.estimating(estimator.clone()),
            estimator,
            storage: storage.clone(),
            sealer: sealer.clone(),
            secret: SECRET.to_owned().into(),
            webhook_public_key: signer.public_key(),
            people: api::People::new(&SECRET.to_owned().into(), settings.people),
            doorbell: Doorbell::new(&SECRET.to_owned().into(), base.clone()),
            public_url: base.clone(),
            process: process.clone(),
            metrics: None,
            limits: settings.limits,
            uploads: api::Uploads::new(settings.uploads),
            waits: api::Waits::default(),
            cors: settings.cors,
            dialogs: settings.dialogs,
            trusted_proxies: 1,
            allow_private_addresses: settings.allow_private,
        });
        serve(&process, listener, door.clone());
        begin_schedule(&scheduler).await;
        Self {
            db,
            clock,
            base,
            http,
            simulator,
            storage,
            s3_dir,
            process,
            worker,
            delivery,
            mailer,
            mail_dir,
            scheduler,
            sealer,
            door,
            database,
            s3: Some(s3),
            finished: false,
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// An account with this many tokens.
    pub async fn account(&self, tokens: i64) -> Account {
        self.account_of_tier("unlimited", tokens).await
    }

    /// An account that is limited as its tier says.
    pub async fn account_of_tier(&self, tier: &str, tokens: i64) -> Account {
        let id = account::open_account(&self.db, "test", tier, self.now()).await.expect("open an account");
        if tokens > 0 {
            self.give(id, tokens, None).await;
        }
        self.key(id, KeyRole::Member).await
    }

    /// Gives tokens, for good or until a moment.
    pub async fn give(&self, account: AccountId, tokens: i64, expires_at: Option<DateTime<Utc>>) -> GrantId {
        let gift = billing::Gift {
            account,
            tokens: billing::Tokens::new(tokens).expect("not negative"),
            expires_at,
            source: billing::Source::Operator,
            reference: &EntryId::new().to_string(),
            reason: Some("for the test"),
        };
        billing::give(&self.db, &gift, self.now()).await.expect("give tokens")
    }

    /// Another key of an account.
    pub async fn key(&self, id: AccountId, role: KeyRole) -> Account {
        let key = account::issue_key(&self.db, id, role, "test", self.now()).await.expect("issue a key");
        let key = key.secret.expose_secret().to_owned();
        Account { id, key, base: self.base.clone(), http: self.http.clone() }
    }

    /// Another key of an account, with exactly these scopes.
    pub async fn scoped_key(&self, id: AccountId, scopes: &[&str]) -> Account {
        let key = self.key(id, KeyRole::Member).await;
        let scopes = scopes.join(",");
        let set = format!(
            "update api_keys set scopes = string_to_array('{scopes}', ',') where id = (select max(id::text)::uuid from api_keys) returning 1"
        );
        let _: i32 = scalar(&self.db, &set).await;
        key
    }

    /// Another process of the API on the same database: its base URL.
    pub async fn another_door(&self) -> String {
        self.open_door(self.door.clone()).await
    }

    /// Another process of the API, whose connection for texts is dead: its base URL.
    pub async fn deaf_door(&self) -> String {
        let gone = Process::new();
        let audience = Audience::start(&self.db, &self.door.wakes, &gone, Duration::ZERO);
        gone.finish().await;
        self.open_door(Arc::new(api::Parts { audience, ..(*self.door).clone() })).await
    }

    /// Another process of the API, with waits of its own: its base URL.
    pub async fn waiting_door(&self, waits: api::Waits) -> String {
        self.open_door(Arc::new(api::Parts { waits, ..(*self.door).clone() })).await
    }

    /// Another process of the API, which shows what is counted: its base URL.
    pub async fn measured_door(&self, metrics: PrometheusHandle) -> String {
        self.open_door(Arc::new(api::Parts { metrics: Some(metrics), ..(*self.door).clone() })).await
    }

    async fn open_door(&self, door: api::Ctx) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen for the API");
        let base = format!("http://{}", listener.local_addr().expect("a bound address"));
        serve(&self.process, listener, door);
        base
    }

    pub async fn receiver(&self) -> Receiver {
        Receiver::start(&self.process).await
    }

    /// What an account checks its webhooks with.
    pub fn webhook_key(&self, account: AccountId) -> Vec<u8> {
        account::webhook_key(&SecretString::from(SECRET.to_owned()), account)
    }

    /// Leases whatever is due in a pool.
    pub async fn claim(&self, pool: Medium) -> Vec<Claimed> {
        job::promote(&self.db, pool, self.now()).await.expect("promote");
        self.claim_at_most(pool, 100).await
    }

    /// Leases so many of the jobs that are runnable.
    pub async fn claim_at_most(&self, pool: Medium, limit: i64) -> Vec<Claimed> {
        let lease = self.worker.timing.lease;
        let wanted =
            Claim { pool, worker: "test", limit, lease, floors: Floors::default(), moves_clock: true };
        job::claim(&self.db, &wanted, self.now()).await.expect("claim")
    }

    /// Runs every job that is due now, once; says how many there were.
    pub async fn run_due(&self) -> usize {
        let mut ran = 0;
        for pool in Medium::ALL {
            for claimed in self.claim(pool).await {
                let paying = workers::Paying::default();
                let ctx = workers::Ctx { paying, ..self.worker.clone() };
                run::run_job(&ctx, &claimed).await;
                ran += 1;
            }
        }
        ran
    }

    /// Goes on to when no key rests and no route does, so that one case of a test says nothing about the next.
    pub fn providers_forgive(&self) {
        self.clock.advance(TimeDelta::hours(2));
    }

    /// Runs jobs and the scheduler's duties towards them until no job is open, moving the clock from one thing due to the
    /// next.
    pub async fn drain(&self) {
        for _ in 0..DRAIN_RUNS {
            let ran = self.run_due().await;
            self.tick("rescue-lost-jobs").await;
            self.tick("expire-overdue-jobs").await;
            if ran > 0 {
                continue;
            }
            let next: Option<DateTime<Utc>> = scalar(
                &self.db,
                "select min(least(coalesce(run_at, lease_until, now()), deadline)) from queue",
            )
            .await;
            let Some(next) = next else { return };
            // A second more: sweeps run on whole ticks of five seconds and give their own grace.
            self.clock.advance_to(next.max(self.now() + TimeDelta::seconds(1)));
        }
        panic!("the queue does not drain");
    }

    /// What comes of a request while workers work.
    pub async fn worked<T>(&self, asked: impl Future<Output = T>) -> T {
        tokio::pin!(asked);
        loop {
            let work = async {
                self.drain().await;
                tokio::task::yield_now().await;
            };
            tokio::select! {
                answer = &mut asked => return answer,
                () = work => {}
            }
        }
    }

    /// As [`TestApp::drain`], but the worker dies the first time it comes to `station`; whether it ever did.
    pub async fn drain_crashing_at(&mut self, station: Station) -> bool {
        let crashed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = crashed.clone();
        let whole = std::mem::replace(
            &mut self.worker.probe,
            Probe::new(move |at| {
                if at == station && !seen.swap(true, std::sync::atomic::Ordering::SeqCst) {
                    // Unwinds through the run like a kill would end it: nothing more is written.
                    std::panic::resume_unwind(Box::new("crash"));
                }
            }),
        );
        for _ in 0..DRAIN_RUNS {
            let drained = AssertUnwindSafe(self.drain()).catch_unwind().await;
            if drained.is_ok() {
                break;
            }
        }
        self.worker.probe = whole;
        crashed.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Runs a scheduled task if it is due.
    pub async fn tick(&self, name: &str) -> bool {
        let task = scheduler::tasks::named(name).expect("a task of the page");
        scheduler::tick::run_if_due(&self.scheduler, task).await.expect("look at the task")
    }

    /// Sends every notice that is due, once; a few of each receiver at a time.
    pub async fn deliver(&self) -> usize {
        let mut sent = 0;
        loop {
            let due = notice::claim(&self.db, 100, Duration::from_secs(60), self.now())
                .await
                .expect("claim notices");
            for due in &due {
                notify::deliver(&self.delivery, due).await;
            }
            sent += due.len();
            if due.is_empty() {
                return sent;
            }
        }
    }

    /// Checks the invariants and takes everything down. Every test ends with it.
    pub async fn finish(mut self) {
        invariants::check(&self.db, &self.simulator, &self.storage).await;
        self.finished = true;
        self.process.finish().await;
        self.db.close().await;
        if let Some(s3) = self.s3.take() {
            s3.stop().await;
        }
        self.database.clone().drop_now().await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "the test forgot to call finish");
    }
}

/// A task's time begins when it is first looked at.
async fn begin_schedule(ctx: &scheduler::Ctx) {
    for task in scheduler::tasks::TASKS {
        scheduler::tick::run_if_due(ctx, task).await.expect("look at the task");
    }
}

fn serve(process: &Process, listener: TcpListener, door: api::Ctx) {
    let stop = process.clone();
    process.spawn(async move {
        api::http::serve(listener, door, async move { stop.stopping().await }).await;
    });
}

pub fn storage_config(endpoint: &str) -> config::Storage {
    config::Storage {
        endpoint: endpoint.to_owned(),
        public_endpoint: endpoint.to_owned(),
        region: "us-east-1".into(),
        bucket: "kiln".into(),
        access_key_id: "kiln".into(),
        secret_access_key: "secret".to_owned().into(),
        signed_url_life: Duration::from_secs(3600),
    }
}
