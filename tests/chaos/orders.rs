//! What customers order, decided by the seed alone: the models, the prompts and their marks, the keys, the webhooks.
//!
//! Every prompt carries a tag, by which the vendors' books and the customers' can be laid side by side; orders that are
//! meant to be answered from the cache share one. `metadata.order` names the order itself.

use std::{io::Cursor, time::Duration};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use shared::id::DialogId;

use crate::{
    customer::Customer,
    place::{Place, SINKS},
};

/// Wait of a customer between two orders, in milliseconds.
const THINK_MILLIS: std::ops::Range<u64> = 300..3000;
/// Deadlines of the impatient, in seconds.
const SHORT_SECS: std::ops::Range<u64> = 2..14;
/// How many requests of a customer that repeat themselves there are.
const REPEATED: u32 = 3;
/// How many different pictures are traced.
const PICTURES: u32 = 6;
/// Part of them that is sent in first, and named by its id.
const SENT_IN: f64 = 0.5;

/// Part of the chats of a customer with conversations that goes on in one.
const SPOKEN: f64 = 0.6;

/// Part of the prompts that carry a mark, where there is a choice of them.
const MARKED: f64 = 0.25;

/// Part of the others that the vendor takes a second for, as real ones do, so that faults find them under way.
const UNHURRIED: f64 = 0.5;

/// A model, and how it is ordered.
#[derive(Debug)]
struct Line {
    /// How often, against the others.
    weight: u32,
    model: &'static str,
    /// Field of the input that holds the words.
    field: &'static str,
    /// Whether customers ask for the same again, to be answered from the cache.
    repeats: bool,
    /// What the vendor may be told to do.
    marks: &'static [&'static str],
}

const fn line(
    weight: u32,
    model: &'static str,
    field: &'static str,
    repeats: bool,
    marks: &'static [&'static str],
) -> Line {
    Line { weight, model, field, repeats, marks }
}

const CHAT: &[&str] = &[
    "refuse",
    "fail",
    "slow=3",
    "drop",
    "malformed",
    "rate_limit=1",
    "no_result",
    "bad_input",
    "stream=cut",
    "stream=error",
];
const PICTURE: &[&str] = &["refuse", "corrupt", "empty", "slow=3", "drop", "truncated", "wrong_type"];
const KLING: &[&str] =
    &["refuse", "task_fail", "never_finish", "corrupt", "drop", "expired=1", "missing=1", "slow=3"];
const HAILUO: &[&str] = &["refuse", "task_fail", "purged", "drop", "backwards", "empty", "unknown_status=1"];
const MIDJOURNEY: &[&str] =
    &["refuse", "task_fail", "drop", "malformed", "missing=1", "expired=1", "backwards", "slow=3"];
const LUMA: &[&str] = &["refuse", "task_fail", "purged", "drop", "malformed", "missing=1", "empty"];
const FLUX: &[&str] = &["refuse", "task_fail", "drop", "expired=1", "truncated", "no_result"];
const SUNO: &[&str] = &["refuse", "task_fail", "drop", "backwards", "no_result"];

/// What is ordered. Only vendors that cannot be asked about a submit by our name for it are told to forget tasks: one that
/// can, and denies what it took, is paid twice by anyone.
const MENU: [Line; 16] = [
    line(18, "gpt-4o-mini", "prompt", false, CHAT),
    line(10, "gpt-4o-tokens", "prompt", false, &["usage=-5", "usage=100000000", "usage=77", "drop"]),
    line(6, "gpt-4o", "prompt", true, &[]),
    line(9, "nano-banana", "prompt", false, PICTURE),
    line(5, "midjourney", "prompt", false, MIDJOURNEY),
    line(3, "flux", "prompt", false, FLUX),
    line(10, "kling", "prompt", false, KLING),
    line(6, "kling-seconds", "prompt", false, KLING),
    line(4, "hailuo", "prompt", false, HAILUO),
    line(4, "hailuo-seconds", "prompt", false, HAILUO),
    line(4, "luma", "prompt", false, LUMA),
    line(3, "luma-ray-3", "prompt", false, LUMA),
    line(5, "tts-1", "text", true, &[]),
    line(4, "tts-1-characters", "text", true, &[]),
    line(2, "suno", "prompt", false, SUNO),
    line(7, "vectorize", "image", true, &[]),
];

/// What is to be made.
#[derive(Debug)]
struct Wish {
    model: &'static str,
    input: Value,
    tag: Option<String>,
    mark: &'static str,
    upload: Option<Vec<u8>>,
}

/// How an order is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Once, and again until it is answered.
    Patient,
    /// The first time the line is cut after a moment, whatever comes.
    Hasty(Duration),
    /// Twice at the same time, under one key.
    Twice,
    /// With the wish to wait for the end.
    Waiting,
}

/// One order.
#[derive(Debug)]
pub struct Order {
    /// Its name: account and number.
    pub name: String,
    /// What the vendors see of it; none where no vendor does.
    pub tag: Option<String>,
    /// The request.
    pub body: Value,
    /// The picture that is sent in first, whose id is then the input's `image`.
    pub upload: Option<Vec<u8>>,
    /// The conversation that it goes on in.
    pub dialog: Option<DialogId>,
    /// The Idempotency-Key, if it has one.
    pub key: Option<String>,
    /// Which ends its receiver is told of; none without a webhook, empty for all.
    pub webhook: Option<Vec<String>>,
    /// When it is canceled, from its acceptance.
    pub cancel: Option<Duration>,
    /// How it is sent.
    pub manner: Manner,
    /// Wait before the customer's next order.
    pub think: Duration,
}

/// The pictures that are to be traced, as PNG.
///
/// # Errors
/// When they cannot be encoded.
pub fn pictures() -> anyhow::Result<Vec<Vec<u8>>> {
    (0..PICTURES).map(picture).collect()
}

fn picture(n: u32) -> anyhow::Result<Vec<u8>> {
    let (side, radius) = (64, 12 + 3 * i64::from(n));
    let image = image::RgbImage::from_fn(side, side, |x, y| {
        let inside = (i64::from(x) - 32).pow(2) + (i64::from(y) - 32).pow(2) < radius * radius;
        if inside { image::Rgb([200, 30, 30]) } else { image::Rgb([255, 255, 255]) }
    });
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).context("encode a picture")?;
    Ok(png.into_inner())
}

/// The orders of one account, without end.
#[derive(Debug)]
pub struct Orders<'a> {
    account: usize,
    n: u32,
    rng: StdRng,
    place: &'a Place,
    pictures: &'a [Vec<u8>],
    dialogs: &'a [DialogId],
    /// Deadline of whoever is in no hurry.
    patience: Duration,
}

impl<'a> Orders<'a> {
    /// Those of a customer.
    pub fn of(seed: u64, customer: &'a Customer, pictures: &'a [Vec<u8>], patience: Duration) -> Self {
        let account = customer.number;
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1009).wrapping_add(account as u64 + 1));
        let (place, dialogs) = (&*customer.door.place, customer.dialogs.as_slice());
        Self { account, n: 0, rng, place, pictures, dialogs, patience }
    }

    /// The next order.
    pub fn draw(&mut self) -> Order {
        self.n += 1;
        let name = format!("{}.{}", self.account, self.n);
        let Wish { model, input, tag, mark, upload } = self.wish();
        let deadline = match ["never_finish", "purged"].contains(&mark) || self.rng.random_bool(0.08) {
            true => self.rng.random_range(SHORT_SECS),
            false => self.patience.as_secs(),
        };
        let mut body = json!({
            "model": model, "input": input, "deadline_seconds": deadline, "metadata": { "order": name },
        });
        let dialog = if model.starts_with("gpt") { self.dialog() } else { None };
        if let Some(dialog) = dialog {
            body["dialog"] = json!(dialog);
        }
        let webhook = self.rng.random_bool(0.55).then(|| self.events());
        if let Some(events) = &webhook {
            let url = self.place.sink_url(self.rng.random_range(0..SINKS));
            body["webhook"] = json!({ "url": url, "events": events });
        }
        if self.rng.random_bool(0.15) {
            body["priority"] = json!(["high", "low"].choose(&mut self.rng));
        }
        let manner = match self.rng.random_range(0..100) {
            0..8 => Manner::Hasty(Duration::from_millis(self.rng.random_range(1..40))),
            8..14 => Manner::Twice,
            14..22 => Manner::Waiting,
            _ => Manner::Patient,
        };
        let keyed = manner == Manner::Twice || self.rng.random_bool(0.9);
        let cancel =
            self.rng.random_bool(0.12).then(|| Duration::from_millis(self.rng.random_range(0..5000)));
        let think = Duration::from_millis(self.rng.random_range(THINK_MILLIS));
        let key = keyed.then(|| format!("order {name}"));
        Order { name, tag, body, upload, dialog, key, webhook, cancel, manner, think }
    }

    /// The conversation that a chat goes on in, if it does.
    fn dialog(&mut self) -> Option<DialogId> {
        let dialog = self.dialogs.choose(&mut self.rng).copied()?;
        self.rng.random_bool(SPOKEN).then_some(dialog)
    }

    /// Model, input, tag, and the mark in the prompt that makes the vendor misbehave.
    fn wish(&mut self) -> Wish {
        let at = self.rng.random_range(0..MENU.iter().map(|line| line.weight).sum());
        let mut passed = 0;
        let line = MENU.iter().find(|line| {
            passed += line.weight;
            at < passed
        });
        let line = line.unwrap_or(&MENU[0]);
        if line.field == "image" {
            return self.tracing(line.model);
        }
        let shared = line.repeats && self.rng.random_bool(0.5);
        let number = match shared {
            true => format!("again{}", self.rng.random_range(0..REPEATED)),
            false => self.n.to_string(),
        };
        // The same words to two models are two requests.
        let tag = format!("#{}.{}.{number}#", line.model, self.account);
        let marked = !line.marks.is_empty() && self.rng.random_bool(MARKED);
        let mark = marked.then(|| line.marks.choose(&mut self.rng).copied()).flatten().unwrap_or_default();
        let mark =
            if mark.is_empty() && !shared && self.rng.random_bool(UNHURRIED) { "slow=1" } else { mark };
        let words = match mark {
            "" => format!("make this {tag}"),
            mark => format!("make this {tag} [[sim:{mark}]]"),
        };
        let mut input = json!({ line.field: words });
        if line.model.starts_with("gpt") {
            input["max_tokens"] = json!(400);
            input["temperature"] = json!(if line.repeats { 0 } else { 1 });
        }
        Wish { model: line.model, input, tag: Some(tag), mark, upload: None }
    }

    /// A picture to be traced: sent in first, or within the order.
    fn tracing(&mut self, model: &'static str) -> Wish {
        let picture = self.pictures.choose(&mut self.rng).cloned().unwrap_or_default();
        let (image, upload) = if self.rng.random_bool(SENT_IN) {
            (Value::Null, Some(picture))
        } else {
            (json!(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(picture))), None)
        };
        Wish { model, input: json!({ "image": image }), tag: None, mark: "", upload }
    }

    fn events(&mut self) -> Vec<String> {
        let some: &[&str] = match self.rng.random_range(0..8) {
            0 => &["job.succeeded"],
            1 => &["job.failed", "job.expired", "job.canceled"],
            _ => &[],
        };
        some.iter().map(|event| (*event).to_owned()).collect()
    }
}
