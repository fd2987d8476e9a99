//! Moderation: what a job asks for is judged before anybody is paid for it.
//!
//! Owns the words of that ([`Verdict`], [`Unavailable`]) and the order of asking: one moderator after the other, as the setting
//! names them, until one has something against it. **Closed when in doubt**: what could not be judged is not made; the
//! setting says whether its job fails or waits. The texts themselves are never logged, only the job and the category.
//! Deliberately absent: judging what was made, and pictures that are sent along.

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Ctx,
    outcome::{self, Outcome},
    run::Entry,
};
use shared::job::{Checkpoint, Claimed};

mod openai;
mod texts;
mod words;

pub use openai::OpenAi;
pub use words::Words;

/// Tasks whose result is a judgement, numbers or a transcript: nothing is made by the words that are sent.
const UNJUDGED: [&str; 3] = ["text.moderate", "text.embed", "audio.transcribe"];

/// Whose texts are judged, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// For those who have to ask elsewhere.
    pub ctx: &'a Ctx,
    /// The job.
    pub claimed: &'a Claimed,
    /// How the submit has been let in that waits for the judgement.
    pub entry: &'a Entry,
}

/// Someone who judges texts.
#[async_trait]
pub trait Moderator: Send + Sync + std::fmt::Debug {
    /// Name in the setting, logs and metrics, such as `words`.
    fn name(&self) -> &'static str;

    /// Judges all texts of one job together.
    ///
    /// # Errors
    /// [`Unavailable`] when no judgement was to be had this time.
    async fn judge(&self, case: &Case<'_>, texts: &[&str]) -> Result<Verdict, Unavailable>;
}

/// What a moderator thinks of a job's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is against them.
    Clean,
    /// They are not to be made.
    Flagged {
        /// For what, in a word or two that callers may read, such as `sexual/minors`.
        category: String,
    },
}

impl Verdict {
    /// Flagged for this.
    fn flagged(category: &str) -> Self {
        Self::Flagged { category: category.to_owned() }
    }
}

/// A moderator could not judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Why, for the log; holds nothing of the texts.
    pub why: String,
    /// How long it asked us to stay away, if it did.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    fn new(why: &str) -> Self {
        Self { why: why.to_owned(), retry_after: None }
    }
}

/// What becomes of a job that could not be judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// It fails after its tries, as one does whose provider is away.
    #[default]
    Fail,
    /// It waits, asks again more and more rarely, and expires at its deadline.
    Queue,
}

impl FromStr for WhenUnavailable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fail" => Ok(Self::Fail),
            "queue" => Ok(Self::Queue),
            _ => Err("say fail or queue"),
        }
    }
}

/// The moderators of this process, in the order they are asked; none where nothing is judged. Clones share.
#[derive(Debug, Clone)]
pub struct Moderators {
    asked: Arc<[Box<dyn Moderator>]>,
    when_unavailable: WhenUnavailable,
}

impl Moderators {
    /// Just these, in this order.
    pub fn new(asked: Vec<Box<dyn Moderator>>, when_unavailable: WhenUnavailable) -> Self {
        Self { asked: asked.into(), when_unavailable }
    }

    /// Names of all, in their order, for `kiln doctor` and the logs.
    pub fn names(&self) -> Vec<&'static str> {
        self.asked.iter().map(|moderator| moderator.name()).collect()
    }
}

/// Has judged what a job asks for, whose submit has been let in. `None`: nothing is against it. Otherwise what becomes of the job,
/// which nobody has been paid for.
pub async fn screen(ctx: &Ctx, claimed: &Claimed, entry: &Entry) -> Option<Outcome> {
    if UNJUDGED.contains(&claimed.task.as_str()) {
        return None;
    }
    let schema = ctx.catalog.known(&claimed.model).map(|model| &model.schema);
    let texts = texts::of(&claimed.input, schema);
    if texts.is_empty() {
        return None;
    }
    let case = Case { ctx, claimed, entry };
    for moderator in ctx.moderators.asked.iter() {
        let name = moderator.name();
        match moderator.judge(&case, &texts).await {
            Ok(Verdict::Clean) => count(name, "clean"),
            Ok(Verdict::Flagged { category }) => {
                count(name, "flagged");
                tracing::info!(job.id = %claimed.job(), account.id = %claimed.account, moderator = name, category,
                               "{} is refused by moderation", claimed.job());
                return Some(outcome::flagged(&category));
            }
            Err(unavailable) => {
                count(name, "unavailable");
                tracing::warn!(job.id = %claimed.job(), moderator = name, why = unavailable.why,
                               "{} could not be judged", claimed.job());
                return Some(unjudged(ctx, claimed, unavailable.retry_after));
            }
        }
    }
    None
}

fn unjudged(ctx: &Ctx, claimed: &Claimed, advice: Option<Duration>) -> Outcome {
    let misses = match claimed.checkpoint {
        Ok(Some(Checkpoint::Judging { misses })) => misses,
        _ => 0,
    };
    let tries = u16::try_from(claimed.tries).unwrap_or(0);
    outcome::unjudged(ctx.moderators.when_unavailable, misses, advice, tries, ctx.clock.now())
}

fn count(moderator: &'static str, verdict: &'static str) {
    metrics::counter!("kiln_moderation_total", "moderator" => moderator, "verdict" => verdict).increment(1);
}
