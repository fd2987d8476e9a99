//! A process that does not outlive this one, however this one ends.
//!
//! It is killed when its [`Child`] is dropped, and by the kernel when this process is killed: between us and the program
//! stands for a moment this program itself, which asks for that and then becomes the other (`leash`). Each is a group of
//! its own, so that Ctrl-C at a terminal reaches only us.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use crate::place::{OURSELVES, Place};

/// Asks to be killed with whoever started us, process `parent`, and becomes the program.
///
/// # Errors
/// When the program cannot be run; otherwise it does not return.
pub fn leashed(parent: u32, command: &[String]) -> anyhow::Result<bool> {
    set_pdeathsig(Signal::SIGKILL).context("ask to end with the parent")?;
    ensure!(std::os::unix::process::parent_id() == parent, "the parent ended before it could be asked for");
    let Some((program, arguments)) = command.split_first() else { bail!("no program to become") };
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("become {program}"))
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Child {
    /// Of its log.
    pub name: String,
    /// When it was started.
    pub began: Instant,
    child: std::process::Child,
    log: PathBuf,
    /// Where its own words begin in the log.
    log_from: u64,
}

impl Child {
    /// Starts a program whose words go to the log called `name`.
    ///
    /// # Errors
    /// When it cannot be started or the log not be opened.
    pub fn start(
        place: &Place,
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let log = place.log(name);
        let out = OpenOptions::new().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("open {}", log.display()))?;
        let log_from = out.metadata().context("look at a log")?.len();
        let mut command = Command::new(place.program(OURSELVES));
        command.arg("leash").arg(std::process::id().to_string()).arg(program).args(arguments);
        command.env_clear().envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(out.try_clone().context("share a log")?).stderr(out);
        let child = command.process_group(0).spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), began: Instant::now(), child, log, log_from })
    }

    /// Sends a signal; one that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Whether it has said any of these words since it was started.
    pub fn has_said(&self, words: &[&str]) -> bool {
        let mut said = String::new();
        let read = OpenOptions::new().read(true).open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.log_from))?;
            log.read_to_string(&mut said)
        });
        read.is_ok() && words.iter().any(|word| said.contains(word))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
