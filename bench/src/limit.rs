//! What the machine could do at best: pgbench with bare statements, prepared, without a program around them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, PgPool};

use crate::{report::Figures, run::Run};

/// The database of the bare tables.
const DATABASE: &str = "bare";
/// Tables that have no more than they need.
const TABLES: &str = "
    create table bare (id bigint generated always as identity primary key, body jsonb not null, created_at timestamptz not null);
    create table bare_accounts (id integer primary key, available bigint not null check (available >= 0), held bigint not null) with (fillfactor = 20);
    create table bare_jobs (id uuid primary key, account_id integer not null, status text not null, input jsonb not null, held bigint not null, created_at timestamptz not null);
    create table bare_queue (job_id uuid primary key, pool text not null, priority smallint not null, tag bigint not null);
    create index bare_queue_ready on bare_queue (pool, priority, tag, job_id);
    insert into bare_accounts select n, 1000000000000, 0 from generate_series(1, 1000) n;
";
/// One row, one commit.
const INSERT: &str = r#"
insert into bare (body, created_at) values ('{"prompt": "Why is the sky blue? Answer in one sentence."}', now());
"#;
/// The least that a paid job can be: hold, job and queue row in one statement.
const HOLD: &str = r#"
\set account random(1, :accounts)
\set n :n + 1
\set number :n * 64 + :client_id
with account as (
    update bare_accounts set available = available - 1000, held = held + 1000
    where id = :account and available >= 1000 returning id, held
), job as (
    insert into bare_jobs (id, account_id, status, input, held, created_at)
    select lpad(to_hex((:number)::bigint), 32, '0')::uuid, id, 'open',
           '{"prompt": "Why is the sky blue? Answer in one sentence."}', 1000, now() from account returning id
)
insert into bare_queue (job_id, pool, priority, tag) select job.id, 'text', 1, account.held from job, account;
"#;

/// One round of every statement.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    for (variant, script, clients, accounts) in [
        ("one row, 16 clients", INSERT, 16, 1),
        ("hold, job and queue row, 16 clients, 1 account", HOLD, 16, 1),
        ("hold, job and queue row, 16 clients, 16 accounts", HOLD, 16, 16),
        ("hold, job and queue row, 64 clients, 1000 accounts", HOLD, 64, 1000),
    ] {
        run.results.add("limit", variant, round, once(run, script, clients, accounts).await?)?;
    }
    Ok(())
}

async fn once(run: &Run, script: &str, clients: u32, accounts: u32) -> Result<Figures> {
    run.server.create(DATABASE, "template1").await?;
    let db = run.server.pool(DATABASE, 1).await?;
    tables(&db).await?;
    let path = run.folder("limit")?.join("script.sql");
    std::fs::write(&path, script)?;
    let before = run.server.counted(DATABASE).await?;
    let mut pgbench = Command::new(&run.pgbench);
    pgbench.args(["-n", "-M", "prepared", "-j", "1", "-D", "n=0"]);
    pgbench.arg("-c").arg(clients.to_string()).arg("-T").arg(run.either("10", "3"));
    pgbench.arg("-D").arg(format!("accounts={accounts}")).arg("-f").arg(&path).arg(run.server.url(DATABASE));
    let output = tokio::process::Command::from(pgbench).output().await.context("run pgbench")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let jobs =
        number(&text, "number of transactions actually processed: ").context("read pgbench's count")?;
    let mut figures = Figures::default();
    figures.set("per_second", number(&text, "tps = ").context("read pgbench's rate")?);
    figures.set("mean_ms", number(&text, "latency average = ").context("read pgbench's latency")?);
    run.server.counted(DATABASE).await?.per_job(before, jobs, &mut figures);
    db.close().await;
    run.server.drop(DATABASE).await?;
    Ok(figures)
}

async fn tables(db: &PgPool) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(TABLES)).execute(db).await.context("make the bare tables")?;
    Ok(())
}

/// The number that follows some words.
fn number(text: &str, words: &str) -> Option<f64> {
    let rest = &text[text.find(words)? + words.len()..];
    rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_pgbench_are_read() {
        let text = "number of transactions actually processed: 1200\nlatency average = 3.210 ms\ntps = 4987.5 (without)\n";
        assert_eq!(number(text, "tps = "), Some(4987.5));
        assert_eq!(number(text, "number of transactions actually processed: "), Some(1200.0));
        assert_eq!(number(text, "nothing"), None);
    }
}
