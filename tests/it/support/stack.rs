//! The real binaries as processes of their own, against one Postgres, one storage and the simulator.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cli::embedded::S3Server;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::ExposeSecret;
use shared::{
    account::{self, KeyRole},
    billing,
    catalog::Catalog,
    clock::{Clock, SystemClock},
    config, db, price,
    process::Process,
    storage::Storage,
};
use simulator::Pace;
use sqlx::PgPool;
use tempfile::TempDir;

use super::{Account, Receiver, Simulator, app::storage_config, invariants};

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running binary; killed when dropped.
pub struct Child {
    name: String,
    child: std::process::Child,
}

impl Child {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("signal");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ask").is_none()
    }

    /// Asks it to stop, and expects that it does so well and in time.
    pub async fn stop(self) {
        self.signal(Signal::SIGTERM);
        self.ended().await;
    }

    /// Expects that it ends well and in time; it has been asked to.
    pub async fn ended(mut self) {
        let name = self.name.clone();
        eventually(&format!("{name} stops"), async || !self.is_running()).await;
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{name} ended with {status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the processes share.
pub struct Stack {
    pub db: PgPool,
    pub simulator: Simulator,
    pub process: Process,
    pub base: String,
    http: reqwest::Client,
    storage: Storage,
    environment: Vec<(String, String)>,
    _s3: S3Server,
    _dir: TempDir,
}

impl Stack {
    /// A storage and a simulator for processes that use this database. The schema is brought up to date.
    pub async fn on(database_url: &str) -> Self {
        let dir = TempDir::new().expect("a folder");
        let s3 = S3Server::start(&dir.path().join("s3"), 0, "kiln", "secret", "kiln").await.expect("S3");
        let process = Process::new();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90)).build().expect("a client");
        let simulator = Simulator::start_with(&process, &http, Pace::AfterSeconds(1.0)).await;
        let config = config::Database { url: database_url.into(), max_connections: 4 };
        let db = db::connect(&config, "test").await.expect("connect");
        db::migrate(&db).await.expect("migrate");
        let catalog = Catalog::load().expect("the catalogue");
        price::publish(&db, &catalog, SystemClock.now()).await.expect("publish the catalogue");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let base = format!("http://{addr}");
        let environment = [
            ("KILN_DATABASE_URL", database_url),
            ("KILN_DATABASE_CONNECTIONS", "5"),
            ("KILN_HTTP_ADDR", &addr.to_string()),
            ("KILN_PUBLIC_URL", &base),
            ("KILN_SECRET", "a secret that is only for the tests of Kiln"),
            ("KILN_SIMULATOR_URL", &simulator.url),
            ("KILN_ALLOW_PRIVATE_ADDRESSES", "true"),
            ("KILN_LEASE_SECONDS", "3"),
            ("KILN_POLL_MILLISECONDS", "200"),
            ("KILN_DRAIN_SECONDS", "2"),
            ("KILN_LOG", "warn"),
            ("S3_ENDPOINT", s3.endpoint()),
            ("S3_ACCESS_KEY_ID", "kiln"),
            ("S3_SECRET_ACCESS_KEY", "secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let storage = Storage::new(&storage_config(s3.endpoint()));
        Self { db, simulator, process, base, http, storage, environment, _s3: s3, _dir: dir }
    }

    /// The same, with one variable more in the environment of its binaries.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a binary.
    pub fn start(&self, name: &str) -> Child {
        self.start_with(name, &[])
    }

    /// Starts a binary with these arguments.
    pub fn start_with(&self, name: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(binary(name));
        command.args(arguments).env_clear().envs(self.environment.clone());
        command.stdout(Stdio::null()).stdin(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        Child { name: name.to_owned(), child }
    }

    /// Waits until the API answers.
    pub async fn ready(&self) {
        eventually("the API is ready", async || {
            let asked = self.http.get(format!("{}/health/ready", self.base)).send().await;
            asked.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    pub async fn account(&self, tokens: i64) -> Account {
        let now = SystemClock.now();
        let id = account::open_account(&self.db, "test", "unlimited", now).await.expect("open an account");
        let gift = billing::Gift {
            account: id,
            tokens: billing::Tokens::new(tokens).expect("not negative"),
            expires_at: None,
            source: billing::Source::Operator,
            reference: &id.to_string(),
            reason: Some("for the test"),
        };
        billing::give(&self.db, &gift, now).await.expect("give tokens");
        let key = account::issue_key(&self.db, id, KeyRole::Member, "test", now).await.expect("issue a key");
        let key = key.secret.expose_secret().to_owned();
        Account { id, key, base: self.base.clone(), http: self.http.clone() }
    }

    pub async fn receiver(&self) -> Receiver {
        Receiver::start(&self.process).await
    }

    /// Checks the invariants.
    pub async fn check(&self) {
        invariants::check(&self.db, &self.simulator, &self.storage).await;
    }
}

/// Where cargo put a binary of the workspace.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let folder = test.ancestors().nth(2).expect("tests are two folders below the binaries");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: `cargo build --workspace --bins` makes it", path.display());
    path
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
