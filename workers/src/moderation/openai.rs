//! OpenAI's moderation as a moderator: the adapter for jobs of that kind is asked, so address, key and errors are its own.
//!
//! A question is like a submit: it keeps to the limits of its key, lets the key rest where that is to blame, and is timed. Where no
//! key may be asked with, nobody has judged, and the setting says what follows.
//!
//! The vendor judges each text of a list by itself and bills nothing. Its own `flagged` decides; the category that is told is
//! the surest. Deliberately absent: thresholds of ours, and pictures.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Case, Moderator, Unavailable, Verdict};
use crate::{
    blame,
    keychain::{Choice, Key, Keychain},
    providers::{Call, ErrorClass, Provider, Providers, Step, openai},
    run::Desk,
};
use shared::provider::{self, Place};

/// Longest piece of a text. What is beyond 32 768 tokens is left out by the vendor without a word, and a token has at least
/// one byte.
const PIECE_BYTES: usize = 32_000;

/// Most pieces in a request, as many as a job of that kind may have.
const PIECES_MAX: usize = 32;

/// The category where the vendor names none.
const UNNAMED: &str = "content policy";

/// In the place of an attempt where a question takes a place of a key: it is none, and none has this number.
const NO_ATTEMPT: i16 = 0;

/// The vendor, by the adapter that serves jobs of that kind, with a key of ours.
#[derive(Debug, Clone)]
pub struct OpenAi(Arc<dyn Provider>);

impl OpenAi {
    /// The model that is asked.
    pub const MODEL: &str = "omni-moderation-latest";

    /// The moderator, where there is a key of ours.
    pub fn with_key(providers: &Providers, keychain: &Keychain) -> Option<Self> {
        let provider = providers.get(openai::VENDOR.name)?.clone();
        keychain.has(provider.name()).then_some(Self(provider))
    }

    /// Asks by one key after the other, as long as what goes wrong is the key's.
    async fn ask(&self, case: &Case<'_>, pieces: &[&str]) -> Result<Verdict, Unavailable> {
        let Case { ctx, .. } = *case;
        let (mut tried, mut failure) = (Vec::new(), Unavailable::new("no key works"));
        loop {
            let key = match ctx.keychain.choose_but(self.0.name(), Self::MODEL, &tried) {
                Choice::Key(key) => key,
                Choice::NotBefore(until) if tried.is_empty() => {
                    let retry_after = (until - ctx.clock.now()).to_std().ok();
                    return Err(Unavailable { retry_after, ..Unavailable::new("every key rests") });
                }
                Choice::NotBefore(_) | Choice::None => return Err(failure),
            };
            tried.push(key.id);
            let Some(seat) = Seat::take(case, &key).await else {
                failure = Unavailable::new("no key has a place");
                continue;
            };
            // The call has no reference of its own: nobody would look up what costs nothing.
            let call = Call {
                key: key.secret.clone(),
                ..Call::new("text.moderate", Self::MODEL, json!({"input": pieces}), "")
            };
            let desk = Desk::new(self.0.as_ref(), Some(key.clone()));
            let answer = desk.timed("judge", self.0.submit(&call)).await;
            seat.leave(case, &key).await;
            match answer {
                Ok(step) => {
                    ctx.keychain.accepted(&key).await;
                    return read(&step);
                }
                Err(error) if error.class == ErrorClass::Refused => return Ok(Verdict::flagged(UNNAMED)),
                Err(error) => {
                    blame::key(ctx, self.0.name(), &key, Self::MODEL, &error).await;
                    // The class alone: the vendor's words may quote the text.
                    let why = error.class.word().to_owned();
                    failure = Unavailable { why, retry_after: error.retry_after };
                    if !blame::is_keys(error.class) {
                        return Err(failure);
                    }
                }
            }
        }
    }
}

/// A question's place among those that a key may have under way.
enum Seat {
    /// The key has no limits, or the place is that of the submit which waits for the judgement: one after the other, they need no
    /// more.
    Free,
    /// One of its own.
    Own,
}

impl Seat {
    /// A place of `key`; none where it has as much to do as it may.
    async fn take(case: &Case<'_>, key: &Key) -> Option<Self> {
        let Case { ctx, claimed, entry } = *case;
        if !key.is_limited {
            return Some(Self::Free);
        }
        let is_shared = entry.key.as_ref().is_some_and(|taken| taken.id == key.id);
        let attempt = if is_shared { entry.attempt } else { NO_ATTEMPT };
        match provider::take(&ctx.db, key.id, claimed.job(), attempt, ctx.clock.now()).await {
            Ok(Place::Taken) => Some(if is_shared { Self::Free } else { Self::Own }),
            Ok(Place::NotBefore(_) | Place::Full) => None,
            Err(error) => {
                tracing::warn!(job.id = %claimed.job(), %error, "no place of a key could be asked for");
                None
            }
        }
    }

    async fn leave(self, case: &Case<'_>, key: &Key) {
        let Case { ctx, claimed, .. } = *case;
        if matches!(self, Self::Own)
            && let Err(error) = provider::give_back(&ctx.db, key.id, claimed.job(), NO_ATTEMPT).await
        {
            tracing::warn!(job.id = %claimed.job(), %error, "a place of a key is free some minutes later");
        }
    }
}

/// What an answer says.
fn read(step: &Step) -> Result<Verdict, Unavailable> {
    match step {
        Step::Done(made) => match &made.extra {
            Some(judged) => Ok(verdict(judged)),
            None => Err(Unavailable::new("an answer without a judgement")),
        },
        Step::Pending(_) => Err(Unavailable::new("a promise in place of a judgement")),
    }
}

#[async_trait]
impl Moderator for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    async fn judge(&self, case: &Case<'_>, texts: &[&str]) -> Result<Verdict, Unavailable> {
        let pieces: Vec<_> = texts.iter().flat_map(|text| pieces(text)).collect();
        for pieces in pieces.chunks(PIECES_MAX) {
            let verdict = self.ask(case, pieces).await?;
            if verdict != Verdict::Clean {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Clean)
    }
}

/// A text in pieces of at most [`PIECE_BYTES`], cut between words where there are any. None of them is empty, which the
/// vendor does not take.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > PIECE_BYTES {
        let mut most = PIECE_BYTES;
        while !text.is_char_boundary(most) {
            most -= 1;
        }
        let cut = text[..most].rfind(char::is_whitespace).filter(|cut| *cut > 0).unwrap_or(most);
        pieces.push(&text[..cut]);
        text = &text[cut..];
    }
    pieces.push(text);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

/// What the judgements of all pieces come to.
fn verdict(judged: &Value) -> Verdict {
    let judgements = judged["results"].as_array().into_iter().flatten();
    let flagged = judgements.filter(|judgement| judgement["flagged"] == true).map(surest);
    let worst = flagged.max_by(|(_, one), (_, other)| one.total_cmp(other));
    worst.map_or(Verdict::Clean, |(category, _)| Verdict::flagged(category))
}

/// The category that a flagged text falls into most surely, and how surely, from 0 to 1.
fn surest(judgement: &Value) -> (&str, f64) {
    let score = |category: &str| judgement["category_scores"][category].as_f64().unwrap_or(0.0);
    let named =
        judgement["categories"].as_object().into_iter().flatten().filter(|(_, holds)| **holds == true);
    let scored = named.map(|(category, _)| (category.as_str(), score(category)));
    scored.max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap_or((UNNAMED, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_category_of_the_worst_text_is_told() {
        let judgement = |flagged: bool, scores: Value| {
            let of = |name: &str| scores[name].as_f64().unwrap_or(0.0);
            let categories =
                json!({"hate": of("hate") > 0.5, "violence": of("violence") > 0.5, "illicit": null});
            json!({"flagged": flagged, "categories": categories, "category_scores": scores})
        };
        let clean = judgement(false, json!({"hate": 0.1, "violence": 0.2}));
        let hateful = judgement(true, json!({"hate": 0.7, "violence": 0.6}));
        let violent = judgement(true, json!({"hate": 0.1, "violence": 0.9}));
        let unnamed = judgement(true, json!({}));
        for (results, expected) in [
            (vec![&clean], Verdict::Clean),
            (vec![&clean, &hateful], Verdict::flagged("hate")),
            (vec![&hateful, &violent, &clean], Verdict::flagged("violence")),
            (vec![&unnamed], Verdict::flagged(UNNAMED)),
        ] {
            assert_eq!(verdict(&json!({"results": results})), expected, "{results:?}");
        }
    }

    #[test]
    fn a_long_text_is_judged_in_pieces_that_miss_nothing() {
        let words = "лиса ".repeat(20_000);
        let solid = "ё".repeat(PIECE_BYTES);
        for text in ["a fox", words.trim_end(), &solid, &format!("{solid} {solid}")] {
            let cut = pieces(text);
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|piece| (1..=PIECE_BYTES).contains(&piece.len())));
        }
        assert!(
            pieces(words.trim_end()).iter().all(|piece| piece.trim().split(' ').all(|word| word == "лиса"))
        );
        assert!(pieces(" \n ").is_empty());
    }
}
