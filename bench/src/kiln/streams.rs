//! What Kiln adds to a chat that is told while it is written: until its first word, and from word to word.
//!
//! A hundred clients listen to one stream after the other, asked of the vendors' simulator and of Kiln, whose worker asks the same
//! simulator. The two ways take turns by blocks, with the same questions, so that neither sees the other's load and both see what
//! changes on the machine. API, worker and simulator run as they are shipped.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{TEMPLATE, audit, drain};
use crate::{
    child::{self, Child},
    os,
    report::Figures,
    run::Run,
    sse_load::{self, Load, Outcome},
    stats::Sample,
};

/// The database of a round.
const DATABASE: &str = "kiln_stream";
/// Streams at once, each of an account of its own.
const CLIENTS: usize = 100;
/// Jobs that the worker runs at once. By default there are 64, and the other streams would wait in line.
const SLOTS: usize = 128;
/// How long the vendor takes until it begins, and from one piece to the next: a quick model, at fifty words a second.
const FIRST_MS: u64 = 300;
const EACH_MS: u64 = 20;
/// About as long as a stream takes; so long is taken until all clients have begun.
const SPREAD: Duration = Duration::from_millis(1200);

/// One round.
pub async fn round(run: &Run, round: usize) -> Result<()> {
    run.server.create(DATABASE, TEMPLATE).await?;
    let (simulator, vendor) = child::simulator(&run.simulator).await?;
    pace(vendor).await.context("tell the simulator its pace")?;
    let before = run.server.counted(DATABASE).await?;
    let url = run.server.url(DATABASE);
    let (api, addr) = child::api(&run.api, &url, run.connections).await?;
    let worker = child::text_worker(&run.text_worker, &url, run.connections, SLOTS, vendor)?;
    let mut stage = Stage::new(run, vendor, addr)?;
    // Connections and plans are made, and the worker may not be ready at once.
    stage.kiln.listen("warm").await?;
    stage.kiln.check("Kiln")?;
    let warm = stage.kiln.streams;
    let cpu = Spent::now(&api, &worker, &simulator);
    let blocks = run.either(4, 1);
    for block in 0..blocks {
        stage.block(block, &format!("{round}-{block}")).await?;
    }
    let cpu = Spent::now(&api, &worker, &simulator).since(cpu);
    let db = run.server.pool(DATABASE, 2).await?;
    drain::wait_until_empty(&db).await?;
    worker.stop().await?;
    api.stop().await?;
    simulator.stop().await?;

    let Stage { mut direct, mut kiln, mut pairs, mut differing, .. } = stage;
    differing += kiln.differing(&db).await?;
    let mut through = kiln.figures();
    cpu.note((kiln.streams - warm) as f64, direct.streams as f64, &mut through);
    run.server.counted(DATABASE).await?.per_job(before, kiln.streams as f64, &mut through);
    through.set("differing", differing as f64);
    let variant = |what: &str| format!("{CLIENTS} streams at once, {what}");
    run.results.add("stream", &variant("direct"), round, direct.figures())?;
    run.results.add("stream", &variant("through Kiln"), round, through)?;
    run.results.add("stream", &variant("added"), round, added(&mut direct, &mut kiln, &mut pairs))?;

    direct.check("the simulator")?;
    kiln.check("Kiln")?;
    ensure!(differing == 0, "{differing} streams said something else than what was stored");
    verify(&db, i64::try_from(kiln.streams)?).await?;
    db.close().await;
    run.server.drop(DATABASE).await
}

/// Has the simulator tell its chats as a vendor does.
async fn pace(vendor: SocketAddr) -> Result<()> {
    let order = json!({ "fault": "drip", "value": format!("{FIRST_MS}:{EACH_MS}") });
    let http = reqwest::Client::builder().no_proxy().build()?;
    let request =
        http.post(format!("http://{vendor}/control/faults")).header(CONTENT_TYPE, "application/json");
    let answer = request.body(order.to_string()).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "answered {status}: {text}");
    Ok(())
}

/// Both ways, and what is known of each pair of streams.
struct Stage {
    direct: Side,
    kiln: Side,
    /// How much later the first word of a question came through Kiln than directly, in milliseconds.
    pairs: Sample,
    /// Pairs that said different things.
    differing: usize,
    /// Streams of a client in a block that count.
    counted: usize,
}

impl Stage {
    fn new(run: &Run, vendor: SocketAddr, kiln: SocketAddr) -> Result<Self> {
        // The first finds its connection and its place among the others, during the last some have ended already.
        let counted = run.either(3, 1);
        let side = |url: String, keys| Side::new(url, keys, counted);
        Ok(Self {
            direct: side(
                format!("http://{vendor}/openai/v1/chat/completions"),
                vec!["simulated".to_owned(); CLIENTS],
            ),
            kiln: side(format!("http://{kiln}/v1/chat/completions"), run.ground()?.keys(CLIENTS)),
            pairs: Sample::default(),
            differing: 0,
            counted,
        })
    }

    /// The same questions on both ways; which is first changes.
    async fn block(&mut self, number: usize, name: &str) -> Result<()> {
        let (direct, kiln) = if number.is_multiple_of(2) {
            let direct = self.direct.listen(name).await?;
            (direct, self.kiln.listen(name).await?)
        } else {
            let kiln = self.kiln.listen(name).await?;
            (self.direct.listen(name).await?, kiln)
        };
        for (direct, kiln) in direct.iter().zip(&kiln) {
            self.pair(direct, kiln);
        }
        for (side, streams) in [(&mut self.direct, &direct), (&mut self.kiln, &kiln)] {
            side.note(streams, self.counted);
        }
        Ok(())
    }

    /// Sets the streams of a client against each other.
    fn pair(&mut self, direct: &[Outcome], kiln: &[Outcome]) {
        for (turn, pair) in direct.iter().zip(kiln).enumerate() {
            let (Ok(direct), Ok(kiln)) = pair else { continue };
            self.differing += usize::from(direct.text != kiln.text);
            if (1..=self.counted).contains(&turn) {
                self.pairs.add(kiln.first_ms - direct.first_ms);
            }
        }
    }
}

/// One way, and what was heard on it.
struct Side {
    load: Load,
    first: Sample,
    between: Sample,
    whole: Sample,
    /// Streams asked for.
    streams: usize,
    /// Streams that came to no end, and why the first did not.
    unfinished: usize,
    complaint: Option<String>,
    /// What was said of each job.
    told: HashMap<Uuid, String>,
    /// Seconds that clients listened, that all processors together had nothing to do meanwhile, and that the clients took.
    seconds: f64,
    idle_seconds: f64,
    load_seconds: f64,
}

impl Side {
    fn new(url: String, keys: Vec<String>, counted: usize) -> Self {
        Self {
            load: Load { url, keys, turns: counted + 2, spread: SPREAD, name: String::new() },
            first: Sample::default(),
            between: Sample::default(),
            whole: Sample::default(),
            streams: 0,
            unfinished: 0,
            complaint: None,
            told: HashMap::new(),
            seconds: 0.0,
            idle_seconds: 0.0,
            load_seconds: 0.0,
        }
    }

    /// One block.
    async fn listen(&mut self, name: &str) -> Result<Vec<Vec<Outcome>>> {
        let load = Load { name: name.to_owned(), ..self.load.clone() };
        let (began, idle) = (Instant::now(), os::idle_seconds());
        let seen = sse_load::run(load).await?;
        self.seconds += began.elapsed().as_secs_f64();
        self.idle_seconds += os::idle_seconds() - idle;
        self.load_seconds += seen.cpu_seconds;
        for outcome in seen.streams.iter().flatten() {
            self.streams += 1;
            match outcome {
                Ok(heard) => self.told.extend(heard.job.map(|job| (job, heard.text.clone()))),
                Err(why) => {
                    self.unfinished += 1;
                    self.complaint.get_or_insert_with(|| why.clone());
                }
            }
        }
        Ok(seen.streams)
    }

    /// Takes in the times of a block.
    fn note(&mut self, streams: &[Vec<Outcome>], counted: usize) {
        let counting = streams.iter().flat_map(|streams| streams.iter().skip(1).take(counted));
        for heard in counting.flatten() {
            self.first.add(heard.first_ms);
            self.whole.add(heard.whole_ms);
            heard.between_ms.iter().for_each(|between| self.between.add(*between));
        }
    }

    /// Fails when a stream came to no end.
    fn check(&self, name: &str) -> Result<()> {
        let (count, why) = (self.unfinished, self.complaint.as_deref().unwrap_or_default());
        ensure!(count == 0, "{count} streams of {name} came to no end; the first: {why}");
        Ok(())
    }

    /// How many streams said something else than the result of their job, or named no job of their own.
    async fn differing(&self, db: &PgPool) -> Result<usize> {
        let stored: Vec<(Uuid, Option<String>)> =
            sqlx::query_as("select id, output ->> 'text' from jobs").fetch_all(db).await?;
        let stored: HashMap<_, _> = stored.into_iter().collect();
        let is_stored = |job: &Uuid, told: &String| {
            stored.get(job).and_then(Option::as_ref).is_some_and(|text| text == told)
        };
        let others = self.told.iter().filter(|(job, told)| !is_stored(job, told)).count();
        Ok(others + self.streams - self.unfinished - self.told.len())
    }

    fn figures(&mut self) -> Figures {
        let mut figures = Figures::default();
        for (name, sample) in
            [("first", &mut self.first), ("between", &mut self.between), ("whole", &mut self.whole)]
        {
            figures.set(&format!("{name}_p50_ms"), sample.at(0.5));
            figures.set(&format!("{name}_p99_ms"), sample.at(0.99));
            figures.set(&format!("{name}_max_ms"), sample.at(1.0));
        }
        figures.set("streams", self.first.count() as f64);
        figures.set("unfinished", self.unfinished as f64);
        figures.set("load_cpu_us_per_job", self.load_seconds * 1e6 / self.streams.max(1) as f64);
        let left = self.idle_seconds / self.seconds / os::cores();
        figures.set("cpu_busy_percent", (1.0 - left) * 100.0);
        figures
    }
}

/// What Kiln adds: the quantiles' differences, and the quantiles of the pairs'.
fn added(direct: &mut Side, kiln: &mut Side, pairs: &mut Sample) -> Figures {
    let mut figures = Figures::default();
    for quantile in [50, 90, 99] {
        let at = f64::from(quantile) / 100.0;
        figures.set(&format!("first_p{quantile}_ms"), kiln.first.at(at) - direct.first.at(at));
        figures.set(&format!("between_p{quantile}_ms"), kiln.between.at(at) - direct.between.at(at));
        figures.set(&format!("whole_p{quantile}_ms"), kiln.whole.at(at) - direct.whole.at(at));
        figures.set(&format!("pair_p{quantile}_ms"), pairs.at(at));
    }
    figures
}

/// Processor seconds of each process.
#[derive(Clone, Copy)]
struct Spent {
    api: f64,
    worker: f64,
    simulator: f64,
}

impl Spent {
    fn now(api: &Child, worker: &Child, simulator: &Child) -> Self {
        let (api, worker) = (api.cpu_seconds(), worker.cpu_seconds());
        Self { api, worker, simulator: simulator.cpu_seconds() }
    }

    fn since(self, before: Self) -> Self {
        let Self { api, worker, simulator } = self;
        Self {
            api: api - before.api,
            worker: worker - before.worker,
            simulator: simulator - before.simulator,
        }
    }

    /// The simulator answered for both ways.
    fn note(self, kiln: f64, direct: f64, figures: &mut Figures) {
        figures.set("api_cpu_us_per_job", self.api * 1e6 / kiln);
        figures.set("worker_cpu_us_per_job", self.worker * 1e6 / kiln);
        figures.set("simulator_cpu_us_per_job", self.simulator * 1e6 / (kiln + direct));
    }
}

/// Every stream was one job, which succeeded and was charged once, and the books are right.
async fn verify(db: &PgPool, streams: i64) -> Result<()> {
    for (what, sql) in [
        (
            "succeeded and were charged",
            "select count(*) from jobs where status = 'succeeded' and charged_tokens = 1000",
        ),
        (
            "have their charge in the ledger",
            "select count(*) from ledger where kind = 'charge' and amount_tokens = 1000",
        ),
        ("were asked for once", "select count(*) from attempts where attempt = 1"),
        ("are there in all", "select count(*) from jobs"),
        ("were begun in all", "select count(*) from attempts"),
    ] {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(db).await?;
        ensure!(found == streams, "{found} of {streams} streams {what}");
    }
    audit(db).await
}
