//! Rows as Kiln itself writes them, to be copied by the million: a real worker takes one job as far as it is wanted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use shared::{job::Submitter, process::Process};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::multiply;
use crate::{child, run::Run};

/// How far a job is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The provider is at work on it, and nobody waits for it.
    Parked,
    /// It has ended well.
    Succeeded,
}

/// Submits a job of a model to `database` and lets a worker take it to a stage.
pub async fn make(run: &Run, database: &str, db: &PgPool, model: &str, stage: Stage) -> Result<Uuid> {
    let ground = run.ground()?;
    let order = Arc::new(ground.order(&ground.customers[0], model)?);
    let id = order.job.0;
    Submitter::new(db, &Process::new()).submit(&order).await?;
    let words = run.folder("exemplar")?;
    let parked = if stage == Stage::Parked { "--parks" } else { "" };
    let arguments = [
        ("--database", run.server.url(database)),
        ("--pool", order.medium.word().to_owned()),
        ("--provider", order.route.provider.clone()),
        ("--slots", "1".to_owned()),
        ("--connections", "4".to_owned()),
        ("--look-again-secs", "30".to_owned()),
        (parked, String::new()),
        ("--words", words.display().to_string()),
    ];
    let worker = child::own("worker", &run.arguments(&arguments))?;
    let there = match stage {
        Stage::Parked => "select exists(select from queue where job_id = $1 and run_at is not null)",
        Stage::Succeeded => "select exists(select from jobs where id = $1 and status = 'succeeded')",
    };
    let began = Instant::now();
    while !sqlx::query_scalar::<_, bool>(there).bind(id).fetch_one(db).await? {
        ensure!(began.elapsed() < Duration::from_secs(20), "the exemplar does not get {stage:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await?;
    Ok(id)
}

/// Copies everything that Kiln keeps of a job `count` times, for all accounts in turn, under ids that sort by their number.
/// `queue` is what is different in the queue's rows.
pub async fn copy(
    run: &Run,
    db: &PgPool,
    job: Uuid,
    stage: Stage,
    count: usize,
    queue: &[(&str, &str)],
) -> Result<()> {
    let kind = if stage == Stage::Parked { "8000" } else { "9000" };
    let id = format!(
        "(lpad(to_hex(1700000000000 + n), 12, '0') || '7000{kind}' || lpad(to_hex(n), 12, '0'))::uuid"
    );
    let accounts: Vec<String> =
        run.ground()?.customers.iter().map(|customer| customer.account.0.to_string()).collect();
    let account = format!("('{{{}}}'::uuid[])[1 + n % {}]", accounts.join(","), accounts.len());
    let (id, account) = (id.as_str(), account.as_str());
    multiply(db, "jobs", &format!("id = '{job}'"), count, &[("id", id), ("account_id", account)]).await?;
    multiply(db, "attempts", &format!("job_id = '{job}'"), count, &[("job_id", id)]).await?;
    if stage == Stage::Parked {
        let mut anew = vec![("job_id", id)];
        anew.extend_from_slice(queue);
        multiply(db, "queue", &format!("job_id = '{job}'"), count, &anew).await?;
    }
    sqlx::raw_sql(AssertSqlSafe("vacuum (analyze)")).execute(db).await?;
    Ok(())
}
