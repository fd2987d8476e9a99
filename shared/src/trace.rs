//! Traces as W3C Trace Context writes them: what something is part of, across programs.
//!
//! A request brings its trace or begins one, its job keeps it, and every call that is made for the job says so, each under a name
//! of its own. Deliberately absent: spans that are sent anywhere, and `tracestate`, whose words are those of other programs.

use std::{fmt, str::FromStr};

use rand::Rng;

/// The header that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// Whoever made this span records it; most programs record what follows only then.
const SAMPLED: u8 = 1;

/// A place in a trace: whose part something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

/// It was no place in a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not of the form 00-, 32 hexadecimal digits, -, 16, -, 2")]
pub struct InvalidTrace;

impl Trace {
    /// The first place of a new trace.
    pub fn begin() -> Self {
        let mut bytes = [0_u8; 16];
        rand::rng().fill_bytes(&mut bytes);
        // All zeros is no name, by the standard.
        Self { id: u128::from_be_bytes(bytes).max(1), span: new_span(), flags: SAMPLED }
    }

    /// What a request says with its only header of that name, or else a new trace: two are none.
    pub fn of_request<'a>(mut sent: impl Iterator<Item = &'a [u8]>) -> Self {
        let text =
            sent.next().filter(|_| sent.next().is_none()).and_then(|bytes| std::str::from_utf8(bytes).ok());
        Self::read(text).unwrap_or_else(Self::begin)
    }

    /// One that was written down, if it was.
    pub fn read(text: Option<&str>) -> Option<Self> {
        text?.parse().ok()
    }

    /// Another place in the same trace, for a call that follows from this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: new_span(), ..*self }
    }

    /// The name of the whole trace, as 32 hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }
}

fn new_span() -> u64 {
    let mut bytes = [0_u8; 8];
    rand::rng().fill_bytes(&mut bytes);
    u64::from_be_bytes(bytes).max(1)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }
}

impl FromStr for Trace {
    type Err = InvalidTrace;

    /// A version to come may have more parts and more flags. Those are dropped, and it goes on as ours, as the standard says.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let &[version, id, span, flags, ref more @ ..] = parts.as_slice() else { return Err(InvalidTrace) };
        let known = [version, id, span, flags];
        let well_formed = known.map(str::len) == [2, 32, 16, 2]
            && known.iter().all(|part| is_hex(part))
            && version != "ff"
            && (more.is_empty() || version != "00");
        if !well_formed {
            return Err(InvalidTrace);
        }
        let id = u128::from_str_radix(id, 16).map_err(|_| InvalidTrace)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| InvalidTrace)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTrace)? & SAMPLED;
        if id == 0 || span == 0 { Err(InvalidTrace) } else { Ok(Self { id, span, flags }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    fn config() -> Config {
        Config { cases: 500, failure_persistence: None, ..Config::default() }
    }

    fn read(text: &str) -> Option<String> {
        Trace::read(Some(text)).map(|trace| trace.to_string())
    }

    #[test]
    fn a_trace_is_kept_as_it_came_and_only_in_the_form_of_the_standard() {
        proptest!(config(), |(parts in "[0-9a-f]{32}-[0-9a-f]{16}-0[01]")| {
            let value = format!("00-{parts}");
            let is_nothing = |part: &str| part.bytes().all(|byte| byte == b'0');
            let expected = (!is_nothing(&value[3..35]) && !is_nothing(&value[36..52])).then(|| value.clone());
            prop_assert_eq!(read(&value), expected);
        });
        proptest!(config(), |(value in any::<String>())| {
            prop_assert_eq!(read(&value), None);
        });
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_version_to_come_goes_on_as_ours() {
        let ours = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(), Some(ours));
        assert_eq!(
            read("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more").as_deref(),
            Some(ours)
        );
    }

    #[test]
    fn a_child_is_of_the_same_trace_under_another_name() {
        let trace = Trace::begin();
        let child = trace.child();
        assert_eq!((child.id(), child.flags), (trace.id(), trace.flags));
        assert_ne!(child, trace);
        assert_eq!(read(&child.to_string()), Some(child.to_string()));
        assert_ne!(Trace::begin().id(), trace.id());
    }

    #[test]
    fn a_request_that_says_nothing_of_use_begins_a_trace() {
        let one = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".as_slice();
        let id = |sent: &[&[u8]]| Trace::of_request(sent.iter().copied()).id();
        assert_eq!(id(&[one]), "4bf92f3577b34da6a3ce929d0e0e4736");
        let begins = |sent: &[&[u8]]| assert_ne!(id(sent), "4bf92f3577b34da6a3ce929d0e0e4736");
        begins(&[]);
        begins(&[one, one]);
        begins(&[b"\xff".as_slice()]);
        begins(&[b"00-1-2-3".as_slice()]);
    }
}
