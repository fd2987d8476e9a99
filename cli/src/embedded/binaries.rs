//! Where the system keeps the programs of a PostgreSQL server.
//!
//! Distributions put them in a folder per version, outside the search path, and leave only clients in it. What the
//! search path names comes first, so a developer's own choice wins; then the newest found. A cluster is only ever
//! opened by the major version that made it. Deliberately absent: downloading a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

/// Oldest server the platform's SQL is written for.
const MAJOR_MIN: u32 = 14;

/// Folders that hold one server each, `*` standing for a version.
const PLACES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // the PostgreSQL project's own RPMs
    "/usr/lib/postgresql*/bin",                           // openSUSE, Alpine
    "/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
    "/usr/local/pgsql*/bin",                              // built from source
    "/usr/local/bin*",
];

/// The programs of one server version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds a server: of version `major` if one is demanded, else the first that is new enough.
    ///
    /// # Errors
    /// When there is none; the message says what to install.
    pub(super) async fn find(major: Option<u32>) -> anyhow::Result<Self> {
        let mut seen = Vec::new();
        for folder in candidates().await {
            let Some(found) = server_major(&folder).await else { continue };
            if major.map_or(found >= MAJOR_MIN, |wanted| found == wanted) {
                return Ok(Self { folder });
            }
            seen.push(format!("{found} in {}", folder.display()));
        }
        let found = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        match major {
            Some(major) => bail!(
                "the data folder was made by PostgreSQL {major}, which is not installed (found: {found}): \
                 apt-get install postgresql-{major}, or remove the folder to start with an empty database"
            ),
            None => bail!(
                "no PostgreSQL server of version {MAJOR_MIN} or newer is installed (found: {found}): \
                 apt-get install postgresql, or brew install postgresql@17"
            ),
        }
    }

    /// Path of the server itself.
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Path of the program that makes a new cluster.
    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }
}

/// Folders to look into, best first.
async fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(server) = first_line("sh", &["-c", "command -v postgres"]).await
        && let Ok(real) = Path::new(&server).canonicalize()
        && let Some(folder) = real.parent()
    {
        folders.push(folder.to_owned());
    }
    folders.extend(first_line("pg_config", &["--bindir"]).await.map(PathBuf::from));
    for place in PLACES {
        folders.extend(matching(place));
    }
    folders
}

/// The folders a place stands for, highest version first.
fn matching(place: &str) -> Vec<PathBuf> {
    let (before, after) = place.split_once('*').expect("every place holds a star");
    let (parent, prefix) = before.rsplit_once('/').expect("every place is absolute");
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').next()?.parse().unwrap_or(0);
            Some((version, PathBuf::from(format!("{parent}/{name}{after}"))))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version of the server in `folder`; `None` unless a whole server is there and runs.
async fn server_major(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let line = first_line(folder.join("postgres").to_str()?, &["--version"]).await?;
    parse_major(&line)
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` and `postgres (PostgreSQL) 18beta1`.
fn parse_major(line: &str) -> Option<u32> {
    let version = line.split_once("(PostgreSQL) ")?.1;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The first line a program prints, if it exists and succeeds.
async fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The major version that made the cluster in `data`, or `None` if there is no cluster yet.
///
/// # Errors
/// When its version file is there but says nothing known.
pub(super) fn cluster_major(data: &Path) -> anyhow::Result<Option<u32>> {
    let path = data.join("PG_VERSION");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().parse().with_context(|| format!("read {}", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_every_kind_of_build() {
        let check = |line, major| assert_eq!(parse_major(line), major, "{line}");
        check("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15));
        check("postgres (PostgreSQL) 17.2", Some(17));
        check("postgres (PostgreSQL) 18beta1", Some(18));
        check("psql 15", None);
    }

    #[test]
    fn the_newest_version_of_a_place_comes_first() {
        let place = tempfile::tempdir().unwrap();
        for version in ["9.6", "16", "17"] {
            std::fs::create_dir(place.path().join(version)).unwrap();
        }
        let found = matching(&format!("{}/*/bin", place.path().display()));
        let expected = ["17", "16", "9.6"].map(|version| place.path().join(version).join("bin"));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_missing_version_is_named_with_what_to_install() {
        let refusal = Binaries::find(Some(7)).await.unwrap_err().to_string();
        assert!(refusal.contains("made by PostgreSQL 7"), "{refusal}");
        assert!(refusal.contains("apt-get install postgresql-7"), "{refusal}");
    }
}
