//! The way every request goes: counted, perhaps struck before the vendor sees it, answered, perhaps spoiled on
//! the way back, perhaps late.
//!
//! The order is the point. A fault that stands in for the vendor (`html`, `fail`, …) comes before the work, so
//! nothing is billed; `drop`, `malformed` and `slow` come after it, so everything is.

use std::{sync::Mutex, sync::MutexGuard, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};

use crate::{
    Simulator, answer,
    fault::{Fault, FaultBook, Kind},
    ledger::{Ledger, Op, Visit},
    seed::Seed,
    task::Task,
    wire,
};

/// How late `slow` is when it does not say.
const SLOW_DEFAULT: Duration = Duration::from_secs(2);
/// The longest a rate limit hint or a delay may be; a typing mistake must not overflow a duration.
const SECONDS_MAX: f64 = 86_400.0;
/// How many bytes of noise a corrupt file has.
const NOISE_BYTES: usize = 4096;
/// The size of a picture or film that nobody ordered.
const ODD_SIZE: (u16, u16) = (256, 64);
/// How long a sound is that nobody ordered.
const ODD_MILLIS: u32 = 30;

/// A vendor saying no, before it is put in that vendor's words.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Too many requests.
    RateLimited(Hint),
    /// No money left; the value may choose a flavour.
    Quota(Option<String>),
    /// The key is not accepted.
    Auth,
    /// The request is invalid; the value may choose a flavour.
    BadInput(Option<String>),
    /// Against the content policy.
    Refused,
    /// The vendor is broken; `None` leaves the status to the vendor's habit.
    Broken(Option<StatusCode>),
    /// There is no such thing.
    Missing,
}

/// When a rate-limited client is told to come back, and in which form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Hint {
    /// Whole or broken seconds.
    Seconds(f64),
    /// Milliseconds, in a header of their own.
    Millis(u32),
    /// A date that many seconds from now.
    Date(u32),
    /// No hint at all.
    None,
}

impl Hint {
    fn read(fault: &Fault) -> Self {
        let text = fault.value.as_deref().unwrap_or("1").trim();
        if text == "none" {
            return Self::None;
        }
        if let Some(millis) = text.strip_suffix("ms").and_then(|number| number.parse().ok()) {
            return Self::Millis(millis);
        }
        if let Some(seconds) = text.strip_prefix("date:").and_then(|number| number.parse().ok()) {
            return Self::Date(seconds);
        }
        Self::Seconds(text.parse().unwrap_or(1.0_f64).clamp(0.0, SECONDS_MAX))
    }

    /// The hint as plain seconds, for vendors with a single form of it.
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::Seconds(seconds) => Some(seconds),
            Self::Millis(millis) => Some(f64::from(millis) / 1000.0),
            Self::Date(seconds) => Some(f64::from(seconds)),
            Self::None => None,
        }
    }
}

/// How one vendor puts a trouble into words.
pub(crate) type Voice = fn(&Trouble) -> Response;

/// What became of a file on its way out.
#[derive(Debug)]
pub(crate) struct Artefact {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// Whether only half of them should arrive.
    pub cut: bool,
}

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Simulator {
    /// The fault orders.
    pub fn faults(&self) -> MutexGuard<'_, FaultBook> {
        lock(&self.faults)
    }

    /// The account book.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The fault of this kind that strikes this request, if one does.
    pub fn strike(&self, visit: &Visit, kind: Kind) -> Option<Fault> {
        self.faults().take(visit, kind, |_| true)
    }

    /// Leads one request the whole way; `work` runs only if the vendor gets to see the request.
    pub async fn attend(
        &self,
        visit: &Visit,
        voice: Voice,
        work: impl Future<Output = Response>,
    ) -> Response {
        self.ledger().count(visit);
        let response = match self.interfere(visit, voice) {
            Some(response) => {
                if visit.op == Op::Submit {
                    self.ledger().note(visit, None, false);
                }
                response
            }
            None => self.tamper(visit, work.await).await,
        };
        if let Some(fault) = self.strike(visit, Kind::Slow) {
            tokio::time::sleep(delay(&fault)).await;
        }
        response
    }

    /// The faults that answer instead of the vendor.
    fn interfere(&self, visit: &Visit, voice: Voice) -> Option<Response> {
        if self.strike(visit, Kind::DropBefore).is_some() {
            return Some(wire::cut());
        }
        if self.strike(visit, Kind::Html).is_some() {
            return Some(answer::proxy_page());
        }
        let trouble = self.trouble(visit)?;
        Some(voice(&trouble))
    }

    fn trouble(&self, visit: &Visit) -> Option<Trouble> {
        if self.strike(visit, Kind::Auth).is_some() {
            return Some(Trouble::Auth);
        }
        if let Some(fault) = self.strike(visit, Kind::RateLimit) {
            return Some(Trouble::RateLimited(Hint::read(&fault)));
        }
        if let Some(fault) = self.strike(visit, Kind::Quota) {
            return Some(Trouble::Quota(fault.value));
        }
        if let Some(fault) = self.strike(visit, Kind::BadInput) {
            return Some(Trouble::BadInput(fault.value));
        }
        if let Some(fault) = self.strike(visit, Kind::Fail) {
            let status = fault.count().and_then(|code| u16::try_from(code).ok());
            return Some(Trouble::Broken(status.and_then(|code| StatusCode::from_u16(code).ok())));
        }
        // Some judge the content while the task runs, unless told to do so at the door.
        let at_the_door = |fault: &Fault| !visit.provider.judges_later() || fault.says("submit");
        if visit.op == Op::Submit && self.faults().take(visit, Kind::Refuse, at_the_door).is_some() {
            return Some(Trouble::Refused);
        }
        None
    }

    /// The faults that spoil the vendor's answer on its way back.
    async fn tamper(&self, visit: &Visit, response: Response) -> Response {
        if self.strike(visit, Kind::Drop).is_some() {
            return wire::cut();
        }
        if self.strike(visit, Kind::Malformed).is_some() {
            let (mut parts, body) = response.into_parts();
            let whole = wire::gather(body).await;
            parts.headers.remove(header::CONTENT_LENGTH);
            return Response::from_parts(parts, Body::from(whole.slice(..whole.len() / 2)));
        }
        response
    }

    /// The size that a picture comes out in: the one ordered, unless a fault says otherwise.
    pub fn sized(&self, visit: &Visit, ordered: (u32, u32)) -> (u32, u32) {
        match self.strike(visit, Kind::Odd) {
            Some(_) => (ODD_SIZE.0.into(), ODD_SIZE.1.into()),
            None => ordered,
        }
    }

    /// The same of a sound, in milliseconds.
    pub fn timed(&self, visit: &Visit, ordered: u32) -> u32 {
        if self.strike(visit, Kind::Odd).is_some() { ODD_MILLIS } else { ordered }
    }

    /// The same of whatever a task makes.
    pub fn as_made(&self, visit: &Visit, task: &Task) -> Task {
        let task = task.clone();
        match self.strike(visit, Kind::Odd) {
            Some(_) => Task { frame: ODD_SIZE, seconds: 0, ..task },
            None => task,
        }
    }

    /// A finished file, spoiled if a fault says so.
    pub fn spoil(&self, visit: &Visit, seed: &Seed, bytes: Vec<u8>) -> Artefact {
        let mut faults = self.faults();
        let mut strikes = |kind| faults.take(visit, kind, |_| true).is_some();
        if strikes(Kind::Empty) {
            return Artefact { bytes: Vec::new(), cut: false };
        }
        if strikes(Kind::Corrupt) {
            return Artefact { bytes: seed.noise(NOISE_BYTES), cut: false };
        }
        if strikes(Kind::WrongType) {
            return Artefact { bytes: answer::STRAY_PAGE.as_bytes().to_vec(), cut: false };
        }
        Artefact { bytes, cut: strikes(Kind::Truncated) }
    }

    /// A finished file that goes within JSON. It cannot be cut off on the wire, so a truncated one is half of it.
    pub fn spoil_inline(&self, visit: &Visit, seed: &Seed, bytes: Vec<u8>) -> Vec<u8> {
        let mut artefact = self.spoil(visit, seed, bytes);
        if artefact.cut {
            artefact.bytes.truncate(artefact.bytes.len() / 2);
        }
        artefact.bytes
    }

    /// Notes that the vendor took the work and would bill it.
    pub fn accept(&self, visit: &Visit, task_id: Option<&str>) {
        self.ledger().note(visit, task_id, true);
    }
}

fn delay(fault: &Fault) -> Duration {
    let seconds = fault.value.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
    match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds.min(SECONDS_MAX)).unwrap_or(SLOW_DEFAULT),
        None => SLOW_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_hint_has_four_forms() {
        let hint = |value: Option<&str>| {
            Hint::read(&Fault { kind: Kind::RateLimit, value: value.map(str::to_owned) })
        };
        assert_eq!(hint(None), Hint::Seconds(1.0));
        assert_eq!(hint(Some("5")), Hint::Seconds(5.0));
        assert_eq!(hint(Some("5ms")), Hint::Millis(5));
        assert_eq!(hint(Some("date:5")), Hint::Date(5));
        assert_eq!(hint(Some("none")), Hint::None);
    }
}
