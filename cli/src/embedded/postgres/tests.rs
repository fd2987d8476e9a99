//! A real server is started in each test; none shares its folder with another.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use nix::{sys::signal::Signal, unistd::geteuid};
use sqlx::{Executor, Row};
use tempfile::TempDir;

use super::*;

const OPTIONS: PostgresOptions = PostgresOptions { fsync: false, max_connections: 10 };

/// A folder the server's user can reach even when root runs the tests.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn start(folder: &TempDir) -> anyhow::Result<Postgres> {
    Postgres::start(&folder.path().join("postgres"), OPTIONS).await
}

async fn execute(postgres: &Postgres, sql: &'static str) {
    let mut connection = PgConnection::connect(postgres.url()).await.unwrap();
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn count(postgres: &Postgres) -> i64 {
    let mut connection = PgConnection::connect(postgres.url()).await.unwrap();
    connection.fetch_one("select count(*) from things").await.unwrap().get(0)
}

impl Postgres {
    /// Leaves the server running without a parent, a guard or a lock, as a killed run does.
    async fn abandon(self) -> nix::unistd::Pid {
        self.server.abandon().await
    }
}

#[tokio::test]
async fn data_password_and_port_survive_a_restart() {
    let folder = folder();
    let first = start(&folder).await.unwrap();
    execute(&first, "create table things as select generate_series(1, 3)").await;
    let url = first.url().to_owned();
    first.stop().await.unwrap();

    let mut second = start(&folder).await.unwrap();
    assert_eq!(second.url(), url);
    assert_eq!(count(&second).await, 3);
    second.restart(true).await.unwrap();
    assert!(second.is_running());
    assert_eq!(count(&second).await, 3);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_stranger_without_the_password_is_refused() {
    let folder = folder();
    let postgres = start(&folder).await.unwrap();
    let guess = address("guess", postgres.port, NAME);
    let refusal = PgConnection::connect(&guess).await.unwrap_err().to_string();
    assert!(refusal.contains("password authentication failed"), "{refusal}");
    let private = std::fs::metadata(postgres.home.folder.join(PASSWORD_FILE)).unwrap().permissions().mode();
    assert_eq!(private & 0o777, 0o600);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_run_on_the_folder_is_refused_and_harms_nothing() {
    let folder = folder();
    let mut first = start(&folder).await.unwrap();
    let refusal = start(&folder).await.unwrap_err().to_string();
    assert!(refusal.contains("used by another run"), "{refusal}");
    assert!(first.is_running());
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_starts_again_with_its_data() {
    let folder = folder();
    let first = start(&folder).await.unwrap();
    execute(&first, "create table things as select generate_series(1, 3)").await;
    nix::sys::signal::kill(first.abandon().await, Signal::SIGKILL).unwrap();

    let second = start(&folder).await.unwrap();
    assert_eq!(count(&second).await, 3);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_behind_is_stopped_before_the_next_starts() {
    let folder = folder();
    let first = start(&folder).await.unwrap();
    execute(&first, "create table things as select generate_series(1, 3)").await;
    let (url, orphan) = (first.url().to_owned(), first.abandon().await);

    let second = start(&folder).await.unwrap();
    assert_eq!(second.url(), url);
    assert_eq!(count(&second).await, 3);
    assert!(nix::sys::signal::kill(orphan, None).is_err(), "the old server still runs");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_number_that_now_is_somebody_elses_does_not_hinder_a_start() {
    let folder = folder();
    let first = start(&folder).await.unwrap();
    let cluster = first.home.cluster();
    first.stop().await.unwrap();
    let mut command = if geteuid().is_root() {
        Home::settle(&folder.path().join("postgres")).unwrap().command(Path::new("sleep"))
    } else {
        std::process::Command::new("sleep")
    };
    let mut stranger = command.arg("60").spawn().unwrap();
    let lines = format!("{}\n{}\n1\n1\n\n127.0.0.1\n1 1\nready\n", stranger.id(), cluster.display());
    std::fs::write(cluster.join("postmaster.pid"), lines).unwrap();

    start(&folder).await.unwrap().stop().await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was signalled");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_exchanged_for_another() {
    let folder = folder();
    let first = start(&folder).await.unwrap();
    let port = first.port;
    first.stop().await.unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();

    let second = start(&folder).await.unwrap();
    assert_ne!(second.port, port);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_does_not_outlive_its_run() {
    let folder = folder();
    let postgres = start(&folder).await.unwrap();
    let port = postgres.port;
    drop(postgres); // Closes the guard's pipe, as the kernel does for a killed process.

    let ended = async {
        while free_port(port).is_err() {
            tokio::time::sleep(READY_PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}
