//! The faults that can be asked for: their names, where each strikes, and the book of standing orders.
//!
//! A fault is asked for inside the prompt itself, `[[sim:NAME]]` or `[[sim:NAME=VALUE]]`, or by a rule ordered at
//! `/control/faults`. Orders come before what the prompt says. This module decides only *whether* a fault strikes;
//! what it then looks like is the vendor modules' and `interference`'s business.

use serde::{Deserialize, Serialize};

use crate::ledger::{Op, Provider, Visit};

/// How an inline fault opens and closes inside a prompt.
const INLINE_OPEN: &str = "[[sim:";
const INLINE_CLOSE: &str = "]]";

/// Every fault there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Slow,
    Refuse,
    RateLimit,
    Quota,
    Auth,
    BadInput,
    Fail,
    Code,
    TaskFail,
    Drop,
    DropBefore,
    Malformed,
    Html,
    Empty,
    Corrupt,
    WrongType,
    Truncated,
    Odd,
    NoResult,
    NeverFinish,
    UnknownStatus,
    Missing,
    Purged,
    Backwards,
    Expired,
    Usage,
    Stream,
    Drip,
}

/// Every fault with its name and a line for the index page.
pub(crate) const FAULTS: &[(Kind, &str, &str)] = &[
    (Kind::Slow, "slow", "answer only after VALUE seconds (2); the work is already counted by then"),
    (
        Kind::Refuse,
        "refuse",
        "content policy, in the vendor's form (kling, replicate, fal, suno, sunoapi: the task fails; =submit refuses at once)",
    ),
    (Kind::RateLimit, "rate_limit", "too many requests; hint: 5, 5ms, date:5 (default 1), none"),
    (
        Kind::Quota,
        "quota",
        "the account has no money left (gemini, fal: =402 for that status; midjourney: =30 for that code)",
    ),
    (Kind::Auth, "auth", "the key is not accepted"),
    (
        Kind::BadInput,
        "bad_input",
        "the request is invalid (openai, gemini: =model for an unknown model; removebg: =foreground for a picture without one)",
    ),
    (
        Kind::Fail,
        "fail",
        "HTTP status VALUE (500; without VALUE a 200 with a code at minimax, midjourney, suno, sunoapi)",
    ),
    (Kind::Code, "code", "kling: the error code VALUE (5000) under a 200; the work is not taken"),
    (
        Kind::TaskFail,
        "task_fail",
        "the task ends failed (kling, replicate, suno: VALUE is the message, replicate also: aborted; minimax: the base_resp code; fal: the error_type; midjourney: the failReason, or CANCEL; sunoapi: the status)",
    ),
    (Kind::Drop, "drop", "do and bill the work, then cut the connection without a response"),
    (Kind::DropBefore, "drop_before", "cut the connection without taking the work"),
    (Kind::Malformed, "malformed", "do the work, answer with half of the JSON"),
    (Kind::Html, "html", "the 502 page of a proxy; the work is not taken"),
    (Kind::Empty, "empty", "success, but the text or file has no bytes"),
    (Kind::Corrupt, "corrupt", "success, but the file is noise under the right media type"),
    (Kind::WrongType, "wrong_type", "success, but the file is an HTML page under the right media type"),
    (Kind::Truncated, "truncated", "the body is cut in the middle (inline base64: half a file)"),
    (
        Kind::Odd,
        "odd",
        "success and a good file, but not the one that was ordered: a picture or film four times as wide as high, \
         a film of one second, a sound that is over at once",
    ),
    (
        Kind::NoResult,
        "no_result",
        "success, but nothing in it (gemini: VALUE is the finishReason, NO_IMAGE; stability: the picture is blurred, CONTENT_FILTERED)",
    ),
    (Kind::NeverFinish, "never_finish", "the task stays in work (=n: for n polls)"),
    (Kind::UnknownStatus, "unknown_status", "a status word nobody knows (=n: for n polls)"),
    (Kind::Missing, "missing", "the first VALUE (1) polls do not find the task"),
    (Kind::Purged, "purged", "the task is never found again after the submit"),
    (Kind::Backwards, "backwards", "the status goes back from working to waiting once"),
    (
        Kind::Expired,
        "expired",
        "the first VALUE (1) download URLs handed out die with 403; ask for a new one",
    ),
    (Kind::Usage, "usage", "success, but both token counts of a chat are VALUE, any JSON (-5)"),
    (
        Kind::Stream,
        "stream",
        "a stream is VALUE: cut or end (in the middle), error (there; =error:quota, :auth, :rate_limit, :refuse), \
         failed (the same before the first word), refuse (its last word), no_usage, split (within characters), whole (no stream)",
    ),
    (
        Kind::Drip,
        "drip",
        "a stream rests VALUE milliseconds (100) before each piece; =300:20 rests 300 before the first, 20 before each other",
    ),
];

impl Kind {
    /// The fault of that name.
    pub fn parse(name: &str) -> Option<Self> {
        FAULTS.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    /// Whether the fault belongs to this kind of request when nobody said which one is meant.
    fn belongs_to(self, visit: &Visit) -> bool {
        let lasting = visit.lasts;
        match self {
            Self::Slow
            | Self::RateLimit
            | Self::Quota
            | Self::Auth
            | Self::BadInput
            | Self::Fail
            | Self::Code
            | Self::Drop
            | Self::DropBefore
            | Self::Malformed
            | Self::Html
            | Self::Usage
            | Self::Stream
            | Self::Drip => visit.op == Op::Submit,
            Self::Refuse => matches!(visit.op, Op::Submit | Op::Poll),
            Self::TaskFail | Self::NeverFinish | Self::UnknownStatus | Self::Missing | Self::Backwards => {
                visit.op == Op::Poll
            }
            Self::Purged => visit.op != Op::Submit,
            Self::Empty | Self::Corrupt | Self::WrongType | Self::Truncated | Self::Odd => {
                visit.op == if lasting { Op::Download } else { Op::Submit }
            }
            Self::NoResult => visit.op == if lasting { Op::Poll } else { Op::Submit },
            Self::Expired => visit.op == Op::Download,
        }
    }
}

/// One fault with its value, ready to strike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// Which fault.
    #[serde(rename = "fault")]
    pub kind: Kind,
    /// What comes after the `=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Fault {
    /// The value as a whole number, when it is one.
    pub fn count(&self) -> Option<u32> {
        self.value.as_deref()?.trim().parse().ok()
    }

    /// Whether the value is exactly this word.
    pub fn says(&self, word: &str) -> bool {
        self.value.as_deref() == Some(word)
    }

    fn inline(marker: &str) -> Option<Self> {
        let (name, value) = match marker.split_once('=') {
            Some((name, value)) => (name, Some(value.trim().to_owned())),
            None => (marker, None),
        };
        let kind = Kind::parse(name.trim());
        if kind.is_none() {
            tracing::warn!(fault.name = name, "a prompt asks for a fault that does not exist");
        }
        Some(Self { kind: kind?, value })
    }
}

/// The faults a prompt asks for, in order.
fn inline(prompt: &str) -> impl Iterator<Item = Fault> {
    prompt
        .split(INLINE_OPEN)
        .skip(1)
        .filter_map(|rest| rest.split_once(INLINE_CLOSE))
        .filter_map(|(marker, _)| Fault::inline(marker))
}

/// A standing order for a fault.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rule {
    /// Names the order.
    pub id: u64,
    /// Only this vendor, if given.
    pub provider: Option<Provider>,
    /// Only this kind of request; otherwise where the fault naturally belongs.
    pub op: Option<Op>,
    /// Only when the prompt contains this text, if given.
    pub contains: Option<String>,
    /// What strikes.
    #[serde(flatten)]
    pub fault: Fault,
    /// How many more times; `None` is for ever.
    pub left: Option<u32>,
}

impl Rule {
    fn meets(&self, visit: &Visit, kind: Kind) -> bool {
        self.fault.kind == kind
            && self.left != Some(0)
            && self.provider.is_none_or(|provider| provider == visit.provider)
            && self.contains.as_deref().is_none_or(|text| visit.prompt.contains(text))
            && self.op.map_or_else(|| kind.belongs_to(visit), |op| op == visit.op)
    }
}

/// All standing orders, oldest first.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Vec<Rule>,
    last_id: u64,
}

impl FaultBook {
    /// Adds an order and names it; the id in `rule` is replaced.
    pub fn order(&mut self, mut rule: Rule) -> u64 {
        self.last_id += 1;
        rule.id = self.last_id;
        self.rules.push(rule);
        self.last_id
    }

    /// The orders, used up ones included.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Forgets all orders.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault of this kind that strikes this request, if one does; uses up one of the order's times.
    /// `fits` has the last word, so that an order whose condition is not met yet is not used up.
    pub fn take(&mut self, visit: &Visit, kind: Kind, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.meets(visit, kind) && fits(&rule.fault)) {
            rule.left = rule.left.map(|left| left - 1);
            return Some(rule.fault.clone());
        }
        if !kind.belongs_to(visit) {
            return None;
        }
        inline(&visit.prompt).find(|fault| fault.kind == kind && fits(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(provider: Provider, op: Op, prompt: &str) -> Visit {
        Visit::new(provider, op, "test", prompt, None)
    }

    #[test]
    fn a_prompt_may_ask_for_several_faults() {
        let asked: Vec<_> =
            inline("a [[sim:slow=0.5]] fox [[sim:drop]] [[sim:nonsense]] [[sim:cut").collect();
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].kind, asked[0].value.as_deref()), (Kind::Slow, Some("0.5")));
        assert_eq!((asked[1].kind, asked[1].value.as_deref()), (Kind::Drop, None));
    }

    #[test]
    fn an_order_is_used_up_only_when_it_strikes() {
        let mut book = FaultBook::default();
        let fault = Fault { kind: Kind::Fail, value: Some("503".into()) };
        let contains = Some("fox".into());
        book.order(Rule {
            id: 0,
            provider: Some(Provider::Kling),
            op: Some(Op::Poll),
            contains,
            fault,
            left: Some(1),
        });
        let any = |_: &Fault| true;
        assert!(book.take(&visit(Provider::Minimax, Op::Poll, "a fox"), Kind::Fail, any).is_none());
        assert!(book.take(&visit(Provider::Kling, Op::Submit, "a fox"), Kind::Fail, any).is_none());
        assert!(book.take(&visit(Provider::Kling, Op::Poll, "a hen"), Kind::Fail, any).is_none());
        assert!(book.take(&visit(Provider::Kling, Op::Poll, "a fox"), Kind::Fail, |_| false).is_none());
        assert!(book.take(&visit(Provider::Kling, Op::Poll, "a fox"), Kind::Fail, any).is_some());
        assert!(book.take(&visit(Provider::Kling, Op::Poll, "a fox"), Kind::Fail, any).is_none());
    }

    #[test]
    fn a_file_fault_strikes_where_the_file_is_served() {
        let mut book = FaultBook::default();
        let prompt = "[[sim:corrupt]]";
        let any = |_: &Fault| true;
        assert!(book.take(&visit(Provider::Gemini, Op::Submit, prompt), Kind::Corrupt, any).is_some());
        assert!(book.take(&visit(Provider::Kling, Op::Submit, prompt), Kind::Corrupt, any).is_none());
        assert!(book.take(&visit(Provider::Kling, Op::Download, prompt), Kind::Corrupt, any).is_some());
    }

    #[test]
    fn every_fault_is_listed_under_the_name_it_has_in_json() {
        for (kind, name, _) in FAULTS {
            assert_eq!(serde_json::to_value(kind).unwrap(), serde_json::json!(name));
        }
    }
}
