//! `kiln dev`: everything in one process, on a private Postgres, an S3 service and a provider simulator of its own.
//!
//! The parts are the real ones, joined by the same database, storage and HTTP as in production. The folder keeps all that
//! lasts, so starting again carries on where it stopped. Deliberately absent: anything production would do differently;
//! only the addresses and keys are made up here.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use rand::{RngExt, distr::Alphanumeric};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use shared::{
    account::{self, KeyRole, Keyring, Permission},
    billing::{self, Tokens},
    catalog::Catalog,
    clock::{SharedClock, SystemClock},
    config, db,
    id::AccountId,
    job::{Doorbell, Estimator, Medium, Renderer, Submitter},
    price::{self, Prices},
    process::Process,
    provider::Standings,
    seal::Sealer,
    storage::Storage,
    telemetry,
    text::Audience,
    wake::Wakes,
    webhook::Signer,
};
use sqlx::PgPool;
use tokio::net::TcpListener;
use workers::{
    Web,
    config::{Moderation, Vendors},
    mail, notify, runtime,
};

use crate::embedded::{Postgres, PostgresOptions, S3Server};

/// Who `kiln dev` makes jobs for.
const DEV_ACCOUNT: &str = "development";
/// Who moves tokens in `kiln dev`.
const DEV_OPERATORS: &str = "operators";
/// What the development account starts with: enough for some two hundred videos.
const DEV_TOKENS: Tokens = Tokens::new(10_000_000).expect("not negative");
/// Tier of both: nobody who tries things out should run into a limit.
const UNLIMITED: &str = "unlimited";
/// User name at the embedded S3.
const S3_USER: &str = "kiln";
/// Bucket at the embedded S3.
const S3_BUCKET: &str = "kiln";
/// Connections of the one process that is everything.
const CONNECTIONS: u32 = 32;
/// A developer restarts often and should not wait long for a lease to lapse or a job to drain.
const LEASE: Duration = Duration::from_secs(15);
const DRAIN: Duration = Duration::from_secs(10);
/// How long the simulator takes for a video.
const SIMULATED_SECONDS: f64 = 5.0;

/// What `dev.json` says of a running stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Described {
    /// Base URL of the API.
    pub url: String,
    /// Key of the development account.
    pub api_key: String,
    /// Key of an operator.
    pub admin_key: String,
    /// The private Postgres.
    pub database_url: String,
    /// The embedded S3.
    pub s3_endpoint: String,
    /// The stand-in for every vendor whose key is not set.
    pub simulator_url: String,
    /// What the development account checks webhooks with.
    pub webhook_secret: String,
}

/// Runs the whole stack in `data` until SIGINT or SIGTERM.
///
/// # Errors
/// When a part cannot start; the message says what to do.
pub async fn run(port: u16, data: &Path) -> anyhow::Result<()> {
    telemetry::start_logging(&config::Telemetry {
        filter: config::variable("KILN_LOG").unwrap_or_else(|| "info,sqlx=warn".into()),
        json: false,
        metrics_addr: None,
    })?;
    fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
    let data = data.canonicalize().with_context(|| format!("find the folder {}", data.display()))?;
    let known = read_description(&data);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("listen on port {port}; another program may have it, try --port 0"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let postgres = Postgres::start(&data.join("postgres"), PostgresOptions::default()).await?;
    let stack = Stack::start(&data, &url, postgres.url(), known.as_ref()).await;
    let served = match stack {
        Ok(stack) => stack.serve(listener, &data).await,
        Err(error) => Err(error),
    };
    let stopped = postgres.stop().await;
    served.and(stopped)
}

/// Everything but Postgres.
struct Stack {
    process: Process,
    db: PgPool,
    wakes: Wakes,
    clock: SharedClock,
    catalog: Arc<Catalog>,
    storage: Storage,
    renderer: Renderer,
    secret: SecretString,
    sealer: Sealer,
    s3: S3Server,
    simulator: Simulator,
    described: Described,
}

/// The running simulator.
struct Simulator {
    process: Process,
    url: String,
}

impl Stack {
    async fn start(
        data: &Path,
        url: &str,
        database_url: &str,
        known: Option<&Described>,
    ) -> anyhow::Result<Self> {
        let secret = kept_secret(data, "secret")?;
        let s3_secret = kept_secret(data, "s3-secret")?;
        let s3 = start_s3(data, &s3_secret, known).await?;
        let simulator = Simulator::start(data, known).await?;
        let database = config::Database { url: database_url.into(), max_connections: CONNECTIONS };
        let db = db::connect(&database, "dev").await?;
        db::migrate(&db).await?;
        let catalog = Arc::new(Catalog::load()?);
        let clock: SharedClock = Arc::new(SystemClock);
        price::publish(&db, &catalog, clock.now()).await?;
        let storage_config = config::Storage {
            endpoint: s3.endpoint().to_owned(),
            public_endpoint: s3.endpoint().to_owned(),
            region: "us-east-1".into(),
            bucket: S3_BUCKET.into(),
            access_key_id: S3_USER.into(),
            secret_access_key: s3_secret.clone(),
            signed_url_life: Duration::from_secs(3600),
        };
        let storage = Storage::new(&storage_config);
        let seeded = seed(&db, known, clock.now()).await?;
        let process = Process::new();
        let described = Described {
            url: url.to_owned(),
            api_key: seeded.api_key,
            admin_key: seeded.admin_key,
            database_url: database_url.to_owned(),
            s3_endpoint: s3.endpoint().to_owned(),
            simulator_url: simulator.url.clone(),
            webhook_secret: account::webhook_secret(&secret, seeded.account).expose_secret().to_owned(),
        };
        write_private(&data.join("env"), &environment(&described, &storage_config, &secret))?;
        Ok(Self {
            wakes: Wakes::start(&db, &process),
            renderer: Renderer::new(storage.clone(), url.to_owned()),
            catalog,
            process,
            db,
            clock,
            storage,
            sealer: Sealer::new(&config::Sealing::from_secret(&secret)),
            secret,
            s3,
            simulator,
            described,
        })
    }

    /// Starts every part, says so, and stops them in order after a signal.
    async fn serve(self, listener: TcpListener, data: &Path) -> anyhow::Result<()> {
        let metrics = telemetry::start_metrics(&self.process)?;
        let timing = config::Queue { lease: LEASE, drain: DRAIN, ..config::Queue::default() };
        let parts = runtime::Parts {
            db: self.db.clone(),
            clock: self.clock.clone(),
            wakes: self.wakes.clone(),
            catalog: self.catalog.clone(),
            storage: self.storage.clone(),
            vendors: Vendors::from_variables(Some(&self.simulator.url)),
            moderation: Moderation::from_env()?,
            sealer: self.sealer.clone(),
            operator_email: config::operator_email()?,
            doorbell: Some(Doorbell::new(&self.secret, self.described.url.clone())),
            allow_private: true,
            timing: timing.clone(),
        };
        let worker = parts.into_ctx(&self.process).await?;
        for pool in Medium::ALL {
            let (ctx, process, slots) = (worker.clone(), self.process.clone(), workers::config::slots(pool)?);
            self.process.spawn(async move {
                if let Err(error) = runtime::serve(ctx, pool, slots, &process).await {
                    tracing::error!(error = format!("{error:#}"), "{} worker ended", pool.word());
                    process.stop();
                }
            });
        }
        self.deliver(data)?;
        let ticking = scheduler::Ctx {
            db: self.db.clone(),
            clock: self.clock.clone(),
            wakes: self.wakes.clone(),
            storage: self.storage.clone(),
            sealer: self.sealer.clone(),
            public_url: self.described.url.clone(),
            operator_email: config::operator_email()?,
            low_balance_tokens: self.catalog.low_balance_tokens(),
            timing,
        };
        scheduler::tick::start(&ticking, &self.process);
        let standings = Standings::start(&self.db, &self.process);
        let estimator = Estimator::start(&self.db, &standings, &self.catalog, &self.clock, &self.process);
        let door = Arc::new(api::Parts {
            db: self.db.clone(),
            keyring: Keyring::new(&self.db, &self.process),
            submitter: Submitter::new(&self.db, &self.process),
            clock: self.clock.clone(),
            wakes: self.wakes.clone(),
            audience: Audience::start(&self.db, &self.wakes, &self.process, api::http::DRAIN),
            catalog: self.catalog.clone(),
            prices: Prices::start(&self.db, &self.catalog, &self.wakes, &self.process).await?,
            standings,
            renderer: self.renderer.clone().estimating(estimator.clone()),
            estimator,
            storage: self.storage.clone(),
            sealer: self.sealer.clone(),
            secret: self.secret.clone(),
            webhook_public_key: Signer::new(&self.secret).public_key(),
            people: api::People::new(&self.secret, api::config::People::from_env()?),
            doorbell: Doorbell::new(&self.secret, self.described.url.clone()),
            public_url: self.described.url.clone(),
            process: self.process.clone(),
            metrics: Some(metrics),
            limits: api::Limits::default(),
            uploads: api::Uploads::new(api::UploadLimits::default()),
            waits: api::Waits::default(),
            cors: api::config::cors_origins()?,
            dialogs: api::config::Dialogs::from_env()?,
            trusted_proxies: 0,
            allow_private_addresses: true,
        });
        self.process.stop_on_signal()?;
        write_private(&data.join("dev.json"), &serde_json::to_string_pretty(&self.described)?)?;
        let stop = self.process.clone();
        let serving = api::http::serve(listener, door, async move { stop.stopping().await });
        println!("kiln is ready: {}  api key: {}", self.described.url, self.described.api_key);
        std::io::stdout().flush().context("write to standard output")?;
        serving.await;
        self.stop().await;
        Ok(())
    }

    /// Webhooks, and mails: into a folder, unless a server for them is set.
    fn deliver(&self, data: &Path) -> anyhow::Result<()> {
        let dir = Some(data.join("mails"));
        let mails = workers::config::Mail { dir, shows_links: true, ..workers::config::Mail::from_env() };
        mail::start(&mails, self.db.clone(), self.clock.clone(), self.sealer.clone(), &self.process)?;
        let ctx = notify::Ctx {
            db: self.db.clone(),
            clock: self.clock.clone(),
            renderer: self.renderer.clone(),
            web: Web::new(true)?,
            secret: self.secret.clone(),
            signer: Signer::new(&self.secret),
            sealer: self.sealer.clone(),
            timeout: notify::TIMEOUT,
        };
        let (wakes, process, slots) =
            (self.wakes.clone(), self.process.clone(), workers::config::delivery_slots()?);
        self.process.spawn(async move { notify::serve(ctx, &wakes, slots, &process).await });
        Ok(())
    }

    /// The hands first, then what they hold on to.
    async fn stop(self) {
        self.process.finish().await;
        self.db.close().await;
        self.simulator.process.finish().await;
        self.s3.stop().await;
        tracing::info!("stopped");
    }
}

impl Simulator {
    /// On the port it had before, when that is free: open tasks know their URLs by it.
    async fn start(data: &Path, known: Option<&Described>) -> anyhow::Result<Self> {
        let port = known.and_then(|known| port_of(&known.simulator_url)).unwrap_or(0);
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => listener,
            Err(_) => {
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for the simulator")?
            }
        };
        let url = format!("http://{}", listener.local_addr()?);
        let options = simulator::Options {
            state_dir: Some(data.join("simulator")),
            pace: simulator::Pace::AfterSeconds(SIMULATED_SECONDS),
        };
        let process = Process::new();
        let stop = process.clone();
        process.spawn(async move {
            let shutdown = stop.clone();
            let served = simulator::serve(listener, options, async move { shutdown.stopping().await }).await;
            if let Err(error) = served {
                tracing::error!(error = format!("{error:#}"), "simulator ended");
            }
        });
        Ok(Self { process, url })
    }
}

async fn start_s3(data: &Path, secret: &SecretString, known: Option<&Described>) -> anyhow::Result<S3Server> {
    let port = known.and_then(|known| port_of(&known.s3_endpoint)).unwrap_or(0);
    let dir = data.join("s3");
    let secret = secret.expose_secret();
    match S3Server::start(&dir, port, S3_USER, secret, S3_BUCKET).await {
        Err(_) if port != 0 => S3Server::start(&dir, 0, S3_USER, secret, S3_BUCKET).await,
        started => started,
    }
}

/// What the seed made or found again.
struct Seeded {
    account: AccountId,
    api_key: String,
    admin_key: String,
}

/// Makes the development account and its keys, or finds them again.
async fn seed(db: &PgPool, known: Option<&Described>, now: DateTime<Utc>) -> anyhow::Result<Seeded> {
    let account = match account::find_account(db, DEV_ACCOUNT).await? {
        Some(account) => account,
        None => {
            let account = account::open_account(db, DEV_ACCOUNT, UNLIMITED, now).await?;
            let gift = billing::Gift {
                account,
                tokens: DEV_TOKENS,
                expires_at: None,
                source: billing::Source::Operator,
                reference: "seed:development",
                reason: Some("for trying things out"),
            };
            billing::give(db, &gift, now).await?;
            account
        }
    };
    let operators = match account::find_account(db, DEV_OPERATORS).await? {
        Some(account) => account,
        None => account::open_account(db, DEV_OPERATORS, UNLIMITED, now).await?,
    };
    let api_key = known.map(|known| known.api_key.as_str());
    let admin_key = known.map(|known| known.admin_key.as_str());
    Ok(Seeded {
        account,
        api_key: find_or_issue(db, account, KeyRole::Member, api_key, now).await?,
        admin_key: find_or_issue(db, operators, KeyRole::Operator, admin_key, now).await?,
    })
}

/// The key known from the last run if it still opens the account, else a new one.
async fn find_or_issue(
    db: &PgPool,
    account: AccountId,
    role: KeyRole,
    known: Option<&str>,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    if let Some(key) = known
        && let Ok(caller) = account::authenticate(db, &key.into(), None, now).await
        && caller.account == account
        && (role == KeyRole::Operator) == caller.permissions.has(Permission::AdminTokensWrite)
    {
        return Ok(key.to_owned());
    }
    let issued = account::issue_key(db, account, role, "made by kiln dev", now).await?;
    Ok(issued.secret.expose_secret().to_owned())
}

/// What `dev.json` said last time; nothing when there is none or it is damaged.
fn read_description(data: &Path) -> Option<Described> {
    let text = fs::read_to_string(data.join("dev.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// A random secret, made once and kept in the folder.
fn kept_secret(data: &Path, name: &str) -> anyhow::Result<SecretString> {
    let path = data.join(name);
    match fs::read_to_string(&path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().into()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("{} cannot be read: {error}", path.display())
        }
        _ => {
            let secret: String = rand::rng().sample_iter(Alphanumeric).take(43).map(char::from).collect();
            write_private(&path, &secret)?;
            Ok(secret.into())
        }
    }
}

/// The variables by which the binaries of one role each can join this stack: `env $(cat .kiln/env) video`.
fn environment(described: &Described, storage: &config::Storage, secret: &SecretString) -> String {
    [
        ("KILN_DATABASE_URL", described.database_url.as_str()),
        ("KILN_SECRET", secret.expose_secret()),
        ("KILN_PUBLIC_URL", &described.url),
        ("KILN_SIMULATOR_URL", &described.simulator_url),
        ("KILN_ALLOW_PRIVATE_ADDRESSES", "true"),
        ("S3_ENDPOINT", &storage.endpoint),
        ("S3_BUCKET", &storage.bucket),
        ("S3_ACCESS_KEY_ID", &storage.access_key_id),
        ("S3_SECRET_ACCESS_KEY", storage.secret_access_key.expose_secret()),
    ]
    .map(|(name, value)| format!("{name}={value}\n"))
    .concat()
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .with_context(|| format!("write {}", new.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("write {}", path.display()))
}

fn port_of(url: &str) -> Option<u16> {
    url.rsplit(':').next()?.parse().ok().filter(|port| *port != 0)
}
