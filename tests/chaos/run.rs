//! One run from its first process to its verdict.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use shared::process::Process;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    accounts,
    book::Book,
    customer::{Customer, Door},
    evidence::Evidence,
    faults::{self, Strike},
    fleet::{Fleet, INSTANCES},
    ground::{Ground, await_answer},
    orders,
    place::Place,
    report,
    sinks::Sinks,
    strike::World,
    vendors::Vendors,
    verdict,
};

/// Deadline of a job in no hurry: that of the run, within what most retries take and what can be waited for.
const PATIENCE_MIN: Duration = Duration::from_secs(50);
const PATIENCE_MAX: Duration = Duration::from_secs(120);
/// How long customers may take to get their last answers once all is mended.
const ANSWERS_MAX: Duration = Duration::from_secs(60);
/// What start, settling and verdict may take beside the faults themselves.
const AROUND_MAX: Duration = Duration::from_secs(600);
/// Longest wait of the harness's own client.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs everything, and tells what came of it; `false` when something was found.
///
/// # Errors
/// When the run could not be made, or was broken off by a signal.
pub async fn run(seed: u64, length: Duration, keep: bool) -> anyhow::Result<bool> {
    let place = Arc::new(Place::make(seed)?);
    println!("chaos: seed {seed}, {} s of faults, in {}", length.as_secs(), place.folder.display());
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let done = tokio::select! {
        done = tokio::time::timeout(length + AROUND_MAX, perform(&place, seed, length)) => {
            done.unwrap_or_else(|_| bail!("the run took longer than {:?}", length + AROUND_MAX))
        }
        _ = tokio::signal::ctrl_c() => bail!("broken off; what there is is in {}", place.folder.display()),
        _ = terminate.recv() => bail!("broken off; what there is is in {}", place.folder.display()),
    };
    let clean = done.with_context(|| format!("seed {seed}; logs are in {}", place.folder.display()))?;
    if clean && !keep {
        place.remove()?;
    }
    Ok(clean)
}

async fn perform(place: &Arc<Place>, seed: u64, length: Duration) -> anyhow::Result<bool> {
    let started = Instant::now();
    let (book, process) = (Arc::new(Book::default()), Process::new());
    let http = reqwest::Client::builder().timeout(HTTP_TIMEOUT).build().context("make a client")?;
    let ground = Arc::new(Ground::start(place, &http).await?);
    let world = World {
        fleet: Fleet::start(place, &ground.database_url, &book, &process)?,
        sinks: Sinks::start(place, &book, &process).await?,
        vendors: Vendors::new(place.simulator_url(), http.clone()),
        ground,
        book,
        process,
    };
    for instance in 0..INSTANCES {
        await_answer(&http, &place.api_url(instance)).await?;
    }
    let door = Door { place: place.clone(), http, book: world.book.clone() };
    let customers = accounts::open_all(&world.ground.db, &door).await?;
    println!("chaos: everything is up after {} s", started.elapsed().as_secs());

    let plan = faults::plan(seed, length);
    report::write_plan(place, &plan);
    live(&world, &customers, seed, length, &plan).await?;

    println!("chaos: judging");
    let evidence = Evidence::gather(&world, place, &customers).await?;
    verdict::judge_database(&world.ground.db, &world.book).await?;
    verdict::judge(&evidence, &world.book);
    world.fleet.finish().await;
    report::tally(&evidence, &world.book);
    report::read_logs(place, &world.book);
    report::show_counts(&world.book);
    let clean = report::conclude(&world.book, place, seed, started.elapsed());
    world.process.stop();
    let World { ground, .. } = world;
    if let Ok(ground) = Arc::try_unwrap(ground) {
        ground.finish().await?;
    }
    Ok(clean)
}

/// Customers shop while everything breaks; then all is mended, and everything comes to its end.
async fn live(
    world: &World,
    customers: &[Customer],
    seed: u64,
    length: Duration,
    plan: &[Strike],
) -> anyhow::Result<()> {
    let patience = (length * 3 / 4).clamp(PATIENCE_MIN, PATIENCE_MAX);
    let (began, pictures) = (Instant::now(), Arc::new(orders::pictures()?));
    let shopping = Process::new();
    for customer in customers {
        let shop = customer.clone().shop(seed, pictures.clone(), patience, began + length, shopping.clone());
        shopping.spawn(shop);
    }
    world.suffer(plan, began).await;
    tokio::time::sleep_until(began + length).await;
    world.mend().await?;
    println!("chaos: all is mended after {} s; waiting for every end", began.elapsed().as_secs());
    if tokio::time::timeout(ANSWERS_MAX, shopping.finish()).await.is_err() {
        world.book.breach("a submit with a key is answered in the end", "some customers still wait");
    }
    world.settle(patience).await?;
    world.expire().await?;
    world.sweep().await
}
