//! Which folder a server lives in, and which user it runs as.
//!
//! Postgres refuses to run as root. An ordinary user runs it as themselves, in the folder they named. Root runs it
//! as the user the cluster belongs to, for a new one `postgres` or else `nobody`, and hands the folder over. Where
//! that user cannot reach the folder (say, under `/root`), the cluster lives below [`ELSEWHERE`] and the named
//! folder keeps a note that says where; deleting the named folder thereby still means starting afresh.
//! Deliberately absent: changing the permissions of any folder above the one that was named.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{ErrorKind, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::unistd::{User, geteuid};
use sha2::{Digest, Sha256};

/// Where clusters go whose folder the server's user cannot reach.
const ELSEWHERE: &str = "/var/lib/kiln";
/// Name of the note in the named folder.
const NOTE: &str = "moved-to";
/// Users that may run the server for root, best first. The distribution's package makes the first.
const SERVANTS: [&str; 2] = ["postgres", "nobody"];

/// A user other than ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// The folder and the user of one server.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// The folder, canonical: cluster, password, port and log are in it.
    pub(super) folder: PathBuf,
    /// Who runs the server, if not we ourselves.
    owner: Option<Owner>,
    /// The note still to be written, if the folder is below [`ELSEWHERE`] and not yet spoken for.
    unwritten_note: Option<PathBuf>,
}

impl Home {
    /// Decides folder and user for the folder that was named, and makes it if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or belongs to someone else, or root finds no user to run the server.
    pub(super) fn settle(named: &Path) -> anyhow::Result<Self> {
        make_private(named)?;
        let named = named.canonicalize().with_context(|| format!("find {}", named.display()))?;
        if geteuid().is_root() { Self::settle_as_root(named) } else { Self::settle_as_user(named) }
    }

    fn settle_as_user(folder: PathBuf) -> anyhow::Result<Self> {
        if let Some(owner) = owner_of(&cluster(&folder))?
            && owner.uid != geteuid().as_raw()
        {
            bail!(
                "the database in {} belongs to user {}: run as that user or choose another folder",
                folder.display(),
                owner.uid
            );
        }
        Ok(Self { folder, owner: None, unwritten_note: None })
    }

    fn settle_as_root(named: PathBuf) -> anyhow::Result<Self> {
        let note = named.join(NOTE);
        let (folder, unwritten_note) = match fs::read_to_string(&note) {
            Ok(folder) if Path::new(folder.trim()) == elsewhere(&named) => (elsewhere(&named), None),
            Ok(folder) => bail!(
                "{} was moved or copied here from another place; its database still is in {}",
                named.display(),
                folder.trim()
            ),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("read {}", note.display()));
            }
            Err(_) if cluster(&named).exists() => (named, None),
            Err(_) => {
                let servant = servant()?;
                own(&named, servant)?;
                if can_write(servant, &named) { (named, None) } else { (elsewhere(&named), Some(note)) }
            }
        };
        make_private(&folder)?;
        let owner = match owner_of(&cluster(&folder))? {
            // A cluster can only be opened by its owner, whoever made it.
            Some(owner) if owner.uid != 0 => owner,
            _ => servant()?,
        };
        own(&folder, owner)?;
        Ok(Self { folder, owner: Some(owner), unwritten_note })
    }

    /// The folder of the cluster itself.
    pub(super) fn cluster(&self) -> PathBuf {
        cluster(&self.folder)
    }

    /// Makes a folder elsewhere ours; to be called with the folder locked and no server running in it.
    ///
    /// What a named folder left there that was deleted since is removed: whoever deletes a data folder wants an
    /// empty database.
    ///
    /// # Errors
    /// When the leftovers cannot be removed or the note not be written.
    pub(super) fn claim(&mut self) -> anyhow::Result<()> {
        let Some(note) = self.unwritten_note.take() else { return Ok(()) };
        if self.cluster().exists() {
            fs::remove_dir_all(self.cluster()).with_context(|| format!("empty {}", self.folder.display()))?;
        }
        fs::write(&note, format!("{}\n", self.folder.display()))
            .with_context(|| format!("write {}", note.display()))?;
        tracing::info!(
            database.folder = %self.folder.display(),
            "the database lives in another folder: its user cannot reach the one that was named"
        );
        Ok(())
    }

    /// The words of a small file in the folder, or `None` if it is not there.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes a small file that only the server's user can read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let write = || -> std::io::Result<()> { writeln!(options.open(&path)?, "{text}") };
        write().with_context(|| format!("write {}", path.display()))?;
        self.hand_over(&path)?;
        Ok(path)
    }

    /// Gives a file we made to the server's user, so that a later run as that user can use it too.
    ///
    /// # Errors
    /// When the owner cannot be changed.
    pub(super) fn hand_over(&self, path: &Path) -> anyhow::Result<()> {
        self.owner.map_or(Ok(()), |owner| own(path, owner))
    }

    /// A command that runs as the server's user, in the folder, and sees nothing of our environment: that holds
    /// secrets the server's user has no business to read.
    pub(super) fn command(&self, program: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(&self.folder);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }
}

/// The cluster's place in a server's folder.
fn cluster(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// The folder elsewhere that stands for `named`: the same one at every start.
fn elsewhere(named: &Path) -> PathBuf {
    let digest = Sha256::digest(named.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new(ELSEWHERE).join(name)
}

/// Makes a folder only its owner can enter; folders above it get the usual permissions.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let make = || -> std::io::Result<()> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(0o700).create(folder)?;
        // The process's mask may have taken away the owner's own rights.
        fs::set_permissions(folder, Permissions::from_mode(0o700))
    };
    make().with_context(|| format!("make the folder {}", folder.display()))
}

/// The user a path belongs to, or `None` if there is nothing.
fn owner_of(path: &Path) -> anyhow::Result<Option<Owner>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Owner { uid: metadata.uid(), gid: metadata.gid() })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
    }
}

fn own(path: &Path, owner: Owner) -> anyhow::Result<()> {
    lchown(path, Some(owner.uid), Some(owner.gid))
        .with_context(|| format!("give {} to user {}", path.display(), owner.uid))
}

/// The user that runs new servers for root.
fn servant() -> anyhow::Result<Owner> {
    for name in SERVANTS {
        if let Some(user) = User::from_name(name).with_context(|| format!("look up user {name}"))? {
            return Ok(Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() });
        }
    }
    bail!("postgres cannot run as root, and no user {} to run it instead", SERVANTS.join(" or "))
}

/// Whether `owner` can reach and write `folder`, found out by trying: no rule of ours would know about ACLs.
fn can_write(owner: Owner, folder: &Path) -> bool {
    std::process::Command::new("test")
        .arg("-w")
        .arg(folder)
        .current_dir("/")
        .uid(owner.uid)
        .gid(owner.gid)
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_stays_in_the_folder_they_named() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let home = Home::settle(&place.path().join("postgres")).unwrap();
        assert_eq!(home.folder, place.path().canonicalize().unwrap().join("postgres"));
        assert_eq!(fs::metadata(&home.folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(home.owner.is_some(), geteuid().is_root());
    }

    #[test]
    fn root_keeps_an_unreachable_cluster_elsewhere_until_its_folder_is_deleted() {
        if !geteuid().is_root() {
            return;
        }
        let unreachable = tempfile::tempdir().unwrap();
        fs::set_permissions(unreachable.path(), Permissions::from_mode(0o700)).unwrap();
        let named = unreachable.path().join("postgres");
        let mut first = Home::settle(&named).unwrap();
        assert!(first.folder.starts_with(ELSEWHERE), "{first:?}");
        first.claim().unwrap();
        fs::create_dir(first.cluster()).unwrap();

        let mut second = Home::settle(&named).unwrap();
        second.claim().unwrap();
        assert_eq!(second.folder, first.folder);
        assert!(second.cluster().exists(), "a restart finds the data");

        let copy = unreachable.path().join("copy");
        fs::create_dir(&copy).unwrap();
        fs::copy(named.join(NOTE), copy.join(NOTE)).unwrap();
        let refusal = Home::settle(&copy).unwrap_err().to_string();
        assert!(refusal.contains("moved or copied"), "{refusal}");

        fs::remove_dir_all(&named).unwrap();
        let mut third = Home::settle(&named).unwrap();
        third.claim().unwrap();
        assert!(!third.cluster().exists(), "a deleted folder is an empty database");
        fs::remove_dir_all(third.folder).unwrap();
    }
}
