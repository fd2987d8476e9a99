//! Where a run lives: its folder, its ports, its programs and what their environment says.
//!
//! Everything is below one folder, temporary files of the workers included, so that a killed process leaves nothing behind
//! elsewhere. Ports are below those that the system gives to outgoing connections, or one might be taken while its server
//! is down.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, Permissions},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rand::RngExt;

use crate::fleet::{INSTANCES, Role};

/// User name and bucket at the S3 service.
pub const S3_NAME: &str = "kiln";
/// Password at the S3 service.
pub const S3_PASSWORD: &str = "secret";
/// The deployment's secret.
pub const SECRET: &str = "a secret that is only for the chaos of Kiln";
/// How long a silent worker keeps its jobs. Short, so that a minute sees many rescues.
pub const LEASE_SECS: u64 = 3;
/// How many receivers of webhooks there are.
pub const SINKS: usize = 4;

/// The program that runs all this, and that its helpers are.
pub const OURSELVES: &str = "chaos";

/// Ports below those of outgoing connections (32768 and up on Linux).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Looks for a free port before giving up.
const PORT_TRIES: usize = 1000;

/// Folder, ports and programs of a run.
#[derive(Debug)]
pub struct Place {
    /// Everything of this run is in here.
    pub folder: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    /// Of Postgres.
    pub postgres_port: u16,
    /// Of the S3 service.
    pub s3_port: u16,
    /// Of the simulator.
    pub simulator_port: u16,
    /// One for each instance of the API.
    pub api_ports: Vec<u16>,
    /// One for each receiver.
    pub sink_ports: Vec<u16>,
}

impl Place {
    /// Makes the folder of a run and chooses its ports.
    ///
    /// # Errors
    /// When the folder cannot be made, a program is missing, or no port is free.
    pub fn make(seed: u64) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("kiln-chaos-{seed}-{}", std::process::id()));
        // The server's user must be able to pass through.
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o711).create(path);
        for name in ["", "bin", "logs", "postgres", "tmp"] {
            let path = folder.join(name);
            make(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let programs = pin_programs(&folder.join("bin"))?;
        fs::set_permissions(folder.join("postgres"), Permissions::from_mode(0o700))
            .context("close the folder of Postgres")?;
        let mut ports = free_ports(3 + INSTANCES + SINKS)?.into_iter();
        let mut port = || ports.next().context("ports are counted");
        let place = Self {
            folder,
            programs,
            postgres_port: port()?,
            s3_port: port()?,
            simulator_port: port()?,
            api_ports: (0..INSTANCES).map(|_| port()).collect::<anyhow::Result<_>>()?,
            sink_ports: (0..SINKS).map(|_| port()).collect::<anyhow::Result<_>>()?,
        };
        // `cli::embedded::Postgres` takes the port of its last run where there was one.
        fs::write(place.folder.join("postgres/port"), place.postgres_port.to_string())
            .context("choose the port of Postgres")?;
        Ok(place)
    }

    /// A program of the workspace.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// The folder that the S3 service serves.
    pub fn s3_folder(&self) -> PathBuf {
        self.folder.join("s3")
    }

    /// Base URL of the S3 service.
    pub fn s3_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    /// Base URL of the simulator.
    pub fn simulator_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.simulator_port)
    }

    /// Base URL of an instance of the API.
    pub fn api_url(&self, instance: usize) -> String {
        format!("http://127.0.0.1:{}", self.api_ports[instance % self.api_ports.len()])
    }

    /// Where a receiver takes webhooks.
    pub fn sink_url(&self, sink: usize) -> String {
        format!("http://127.0.0.1:{}/hook", self.sink_ports[sink % self.sink_ports.len()])
    }

    /// Where a receiver takes the webhooks of the endpoint of that name.
    pub fn endpoint_url(&self, sink: usize, name: &str) -> String {
        format!("{}/{name}", self.sink_url(sink))
    }

    /// What every program of Kiln is told.
    pub fn environment(&self, database_url: &str) -> Vec<(String, String)> {
        [
            ("KILN_DATABASE_URL", database_url.to_owned()),
            ("KILN_DATABASE_CONNECTIONS", "8".into()),
            ("KILN_PUBLIC_URL", self.api_url(0)),
            ("KILN_SECRET", SECRET.into()),
            ("KILN_SIMULATOR_URL", self.simulator_url()),
            ("KILN_ALLOW_PRIVATE_ADDRESSES", "true".into()),
            ("KILN_IP_REQUESTS_PER_HOUR", "0".into()),
            ("KILN_LEASE_SECONDS", LEASE_SECS.to_string()),
            ("KILN_POLL_MILLISECONDS", "200".into()),
            ("KILN_DRAIN_SECONDS", "2".into()),
            ("KILN_LOG", "info,sqlx=warn".into()),
            ("KILN_LOG_FORMAT", "text".into()),
            ("S3_ENDPOINT", self.s3_url()),
            ("S3_ACCESS_KEY_ID", S3_NAME.into()),
            ("S3_SECRET_ACCESS_KEY", S3_PASSWORD.into()),
            ("TMPDIR", self.folder.join("tmp").display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Removes the folder with all that is in it.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))
    }
}

/// Gives the programs of this build a second name in the run's folder, so that a build meanwhile changes none of them.
fn pin_programs(folder: &Path) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let built = this.parent().context("this program is in a folder")?;
    let mut in_place = false;
    for name in Role::ALL.map(Role::word).into_iter().chain(["simulator", OURSELVES]) {
        let path = built.join(name);
        ensure!(path.exists(), "{} is missing: `cargo build --workspace --bins` makes it", path.display());
        // On another file system they are run where they are.
        in_place |= fs::hard_link(&path, folder.join(name)).is_err();
    }
    Ok(if in_place { built.to_owned() } else { folder.to_owned() })
}

fn free_ports(count: usize) -> anyhow::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for _ in 0..PORT_TRIES {
        let port = rand::rng().random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.insert(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    anyhow::bail!("no {count} free ports found between {} and {}", PORTS.start, PORTS.end)
}
