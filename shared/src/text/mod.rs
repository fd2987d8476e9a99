//! Text while it is written: from the worker that hears it to whoever listens, by way of Postgres and of nobody's memory.
//!
//! A worker keeps what an attempt has said so far, as lines of JSON, as long as the attempt lasts ([`Teller`]). Whoever wants to
//! listen asks ([`Audience`]), and from then on is told everything from the beginning, in fragments that say where in the
//! text they belong. So a job that nobody listens to costs no statement; a listener who comes late, or misses a fragment, asks
//! again from where it was; and which process does what is known to none of them.
//! Deliberately absent: promises. What is said here is a foretaste of the result, which is in the database or nowhere.

mod audience;
mod teller;

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::id::JobId;

pub use audience::{Audience, Listener};
pub use teller::{Teller, Telling};

/// The channel of Postgres that fragments go through. Only those who listen to texts hear it.
const CHANNEL: &str = "kiln_text";

/// Whether jobs of this task are answered word by word.
pub fn is_written(task: &str) -> bool {
    task == "text.chat"
}

/// A place in the text of a job. The default is the beginning of whatever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Which attempt writes it.
    pub attempt: i16,
    /// So many bytes of it are before.
    pub offset: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.offset)
    }
}

/// The text was not a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place of the form ATTEMPT-OFFSET")]
pub struct InvalidPlace;

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (attempt, offset) = text.split_once('-').ok_or(InvalidPlace)?;
        let attempt = attempt.parse::<i16>().ok().filter(|attempt| *attempt >= 0).ok_or(InvalidPlace)?;
        Ok(Self { attempt, offset: offset.parse().map_err(|_| InvalidPlace)? })
    }
}

/// Somebody listens to a job: now, and for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// To which.
    pub job: JobId,
    /// From where it has to be told, once more if need be; none: the listener is only still there.
    pub again: Option<Place>,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.again {
            Some(place) => write!(f, "{}@{place}", self.job),
            None => write!(f, "{}", self.job),
        }
    }
}

impl FromStr for Ask {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (job, again) = match text.split_once('@') {
            Some((job, place)) => (job, Some(place.parse()?)),
            None => (text, None),
        };
        Ok(Self { job: job.parse().map_err(|_| InvalidPlace)?, again })
    }
}

/// What was said at a time.
#[derive(Clone, PartialEq)]
pub struct Said {
    /// Which attempt says it.
    pub attempt: i16,
    /// Where in its text this ends: from here one can go on.
    pub place: Place,
    /// Pieces of answers in the form of OpenAI's `choices` of a chunk, in the order in which they were said.
    pub choices: Vec<Value>,
}

/// A part of the text of an attempt, on its way. It ends within a line, or after many. What is in it is nobody's to log, so it
/// has no `Debug`.
struct Fragment {
    job: JobId,
    /// Where it begins.
    place: Place,
    text: String,
}

impl Fragment {
    fn to_payload(&self) -> String {
        format!("{}@{}:{}", self.job, self.place, self.text)
    }

    fn from_payload(payload: &str) -> Option<Self> {
        let (head, text) = payload.split_once(':')?;
        let (job, place) = head.split_once('@')?;
        Some(Self { job: job.parse().ok()?, place: place.parse().ok()?, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};
    use serde_json::json;

    use super::{
        audience::{Read, Reader},
        teller::Text,
        *,
    };
    use crate::channel::PAYLOAD_BYTES;

    /// The words of pieces.
    fn words(choices: &[Value]) -> String {
        choices.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect()
    }

    fn piece(words: &str) -> Value {
        json!([{"index": 0, "delta": {"content": words, "refusal": null}, "finish_reason": null}])
    }

    #[test]
    fn places_asks_and_fragments_survive_their_text_form() {
        let place = Place { attempt: 3, offset: 1234 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "3", "3-", "-3-4", "3--4", "a-b", "3-4-5", "40000-1"] {
            assert_eq!(text.parse::<Place>(), Err(InvalidPlace), "{text}");
        }
        let job = JobId::new();
        for again in [None, Some(place)] {
            let ask = Ask { job, again };
            assert_eq!(ask.to_string().parse(), Ok(ask));
        }
        assert_eq!("job_1@1-2".parse::<Ask>(), Err(InvalidPlace));
        let text = "[{\"delta\":{\"content\":\"a: b@c\"}}]\n".to_owned();
        let back = Fragment::from_payload(&Fragment { job, place, text: text.clone() }.to_payload());
        let back = back.expect("a fragment");
        assert!(back.job == job && back.place == place && back.text == text);
        assert!(Fragment::from_payload("something newer").is_none());
    }

    #[test]
    fn a_text_knows_its_first_words() {
        let delta = |delta: Value| json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        let nothing = [
            json!([]),
            json!([{"index": 0, "finish_reason": "stop"}, "nonsense"]),
            delta(json!({"role": "assistant", "content": "", "refusal": null})),
        ];
        let tool = delta(json!({"tool_calls": [{"index": 0}]}));
        for first in [piece("a"), delta(json!({"reasoning": "hm"})), tool] {
            let mut text = Text::new(1);
            assert!(nothing.iter().all(|choices| !text.say(choices)));
            assert!(text.say(&first), "{first}");
            assert!(!text.say(&first) && !text.say(&nothing[2]), "{first}");
        }
    }

    #[test]
    fn whatever_gets_lost_or_comes_twice_everything_is_read_once_and_in_order() {
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        let pieces = vec(prop_oneof![9 => "\\PC{0,30}", 1 => Just("жаба ".repeat(4000))], 1..20);
        proptest!(config, |(pieces in pieces, fates in vec(0..4_u8, 400))| {
            let job = JobId::new();
            let (mut text, mut reader) = (Text::new(1), Reader::at(Place::default()));
            let (mut heard, mut fates) = (String::new(), fates.into_iter());
            for words_said in &pieces {
                text.say(&piece(words_said));
                while let Some(fragment) = text.next(job) {
                    let payload = fragment.to_payload();
                    prop_assert!(payload.len() <= PAYLOAD_BYTES);
                    // Lost, once or twice; later on nothing is lost any more.
                    for _ in 0..fates.next().unwrap_or(1).min(2) {
                        match reader.read(&Fragment::from_payload(&payload).expect("a fragment")) {
                            Read::Said(said) => heard.push_str(&words(&said.choices)),
                            Read::Gap => text.go_back(reader.place),
                            Read::Nothing => {}
                        }
                    }
                }
            }
            text.go_back(reader.place);
            while let Some(fragment) = text.next(job) {
                if let Read::Said(said) = reader.read(&fragment) {
                    heard.push_str(&words(&said.choices));
                }
            }
            prop_assert_eq!(heard, pieces.concat());
        });
    }

    #[test]
    fn another_attempt_begins_from_its_beginning_and_one_that_is_over_says_no_more() {
        let job = JobId::new();
        let (mut first, mut second) = (Text::new(1), Text::new(2));
        first.say(&piece("half"));
        second.say(&piece("whole"));
        let (old, new) = (first.next(job).expect("words"), second.next(job).expect("words"));
        let mut reader = Reader::at(Place::default());
        let mut read = |fragment: &Fragment| match reader.read(fragment) {
            Read::Said(said) => Some((said.attempt, words(&said.choices))),
            Read::Nothing | Read::Gap => None,
        };
        assert_eq!(read(&old), Some((1, "half".into())));
        assert_eq!(read(&new), Some((2, "whole".into())));
        assert_eq!(read(&old), None);
        // Whoever had come to a place in the first is told all of the second.
        second.go_back(Place { attempt: 1, offset: 3 });
        assert_eq!(second.next(job).map(|fragment| fragment.place), Some(Place { attempt: 2, offset: 0 }));
    }

    #[test]
    fn one_who_comes_again_is_told_what_came_after_the_place_they_name() {
        let job = JobId::new();
        let mut text = Text::new(1);
        text.say(&piece("жар"));
        let mut reader = Reader::at(Place::default());
        let Read::Said(said) = reader.read(&text.next(job).expect("words")) else { panic!("a whole line") };
        text.say(&piece("-птица"));
        let place: Place = said.place.to_string().parse().expect("a place");
        let mut again = Reader::at(place);
        text.go_back(place);
        let Read::Said(said) = again.read(&text.next(job).expect("words")) else { panic!("a whole line") };
        assert_eq!(words(&said.choices), "-птица");
        // A place that nobody was told, within a character: from the beginning, then.
        let within =
            json!([{"index": 0, "delta": {"content": "жар"}}]).to_string().find('ж').expect("a letter") + 1;
        let mut odd = Reader::at(Place { attempt: 1, offset: within });
        text.go_back(odd.place);
        assert!(matches!(odd.read(&text.next(job).expect("words")), Read::Gap));
        text.go_back(odd.place);
        let Read::Said(said) = odd.read(&text.next(job).expect("words")) else { panic!("whole lines") };
        assert_eq!(words(&said.choices), "жар-птица");
    }
}
