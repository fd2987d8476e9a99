//! A job while it goes on, as events: the whole job at each change, and its words as they are written.
//!
//! An event `job` shows the job as it stands. An event `delta` has pieces of answers, in the form of OpenAI's `choices` of a chunk,
//! and the attempt that says them: another attempt begins the answer anew. Its id is a place in the text, from which a client
//! that comes again goes on. What a client misses is in the job at its end; nothing but that is promised.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::stream;
use http::HeaderMap;
use serde_json::json;

use super::{ACCEL_BUFFERING, openai::told::Told, watch::Watch};
use crate::{ApiError, Ctx, ErrorBody, access::Caller, request::PathId, schema};
use shared::{
    id::JobId,
    job::Job,
    text::{self, Listener, Place, Said},
};

/// Watches a job until it ends: an event `job` with the whole job at each change, and for what is written an event `delta` with
/// each piece of the answer.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    operation_id = "jobs_events",
    params(
        ("id" = inline(schema::JobId), Path, description = "Which job"),
        (
            "last-event-id" = Option<String>,
            Header,
            nullable = false,
            description = "The id of the last event that came, to go on from there"
        ),
    ),
    responses(
        (
            status = 200,
            description = "Server-sent events. The data of each is JSON; comments in between keep the connection.",
            body = Value,
            content_type = "text/event-stream"
        ),
        (status = 404, description = "`job_not_found`", body = ErrorBody),
    )
)]
pub async fn watch(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<JobId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut watch = Watch::begin(&ctx, caller.account, id);
    let first = watch.look().await?;
    let is_heard = text::is_written(&first.task) && !first.is_final();
    let listener = is_heard.then(|| ctx.audience.join(id, last_place(&headers)));
    let beat = KeepAlive::new().interval(ctx.waits.heartbeat);
    let events =
        Events { ctx, watch, listener, told: Told::default(), attempt: 0, next: Some(first), seen: None };
    let events = Sse::new(stream::unfold(events, Events::step)).keep_alive(beat);
    Ok(([(ACCEL_BUFFERING, "no")], events).into_response())
}

/// Where a client that comes again was; one that names no place begins at the beginning.
fn last_place(headers: &HeaderMap) -> Option<Place> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// What of a job is worth an event when it changes.
type Seen = (String, String, Option<i16>);

struct Events {
    ctx: Ctx,
    watch: Watch,
    /// None where nothing is written.
    listener: Option<Listener>,
    told: Told,
    /// Which attempt that is of.
    attempt: i16,
    /// What to show at once: the job as it was found first.
    next: Option<Job>,
    /// How the job stood that was shown last; none before the first and after the end.
    seen: Option<Seen>,
}

impl Events {
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let event = match self.next.take() {
            Some(first) => self.show(first).await?,
            None => self.next_event().await?,
        };
        Some((Ok(event), self))
    }

    /// Waits for words, or until the job stands otherwise than it was last shown. `None` after its end, or when the process
    /// stops.
    async fn next_event(&mut self) -> Option<Event> {
        while !self.ctx.process.is_stopping() {
            let seen = self.seen.clone()?;
            tokio::select! {
                biased;
                said = hear(&mut self.listener) => match self.tell(said) {
                    Some(event) => return Some(event),
                    None => continue,
                },
                () = self.watch.stir() => {}
                () = self.ctx.process.stopping() => return None,
            }
            let job = self.watch.look().await.ok()?;
            if standing(&job) != seen {
                return self.show(job).await;
            }
        }
        None
    }

    async fn show(&mut self, job: Job) -> Option<Event> {
        // After the end there is no next change.
        self.seen = (!job.is_final()).then(|| standing(&job));
        let view = self.ctx.renderer.render(&self.ctx.db, vec![job]).await.ok()?.pop()?;
        Event::default().event("job").json_data(view).ok()
    }

    fn tell(&mut self, said: Said) -> Option<Event> {
        let Said { attempt, place, choices } = said;
        if attempt != self.attempt {
            (self.attempt, self.told) = (attempt, Told::default());
        }
        let choices = self.told.hear(&choices);
        if choices.is_empty() {
            return None;
        }
        let data = json!({ "attempt": attempt, "choices": choices });
        Event::default().event("delta").id(place.to_string()).json_data(data).ok()
    }
}

/// What is said next; never anything where nothing is written.
pub async fn hear(listener: &mut Option<Listener>) -> Said {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

fn standing(job: &Job) -> Seen {
    (job.status.clone(), job.phase.clone(), job.progress)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    fn config() -> Config {
        Config { cases: 400, failure_persistence: None, ..Config::default() }
    }

    fn last(value: HeaderValue) -> Option<Place> {
        last_place(&HeaderMap::from_iter([(http::HeaderName::from_static("last-event-id"), value)]))
    }

    #[test]
    fn the_id_of_an_event_is_understood_when_it_comes_back() {
        proptest!(config(), |(attempt in 0..=i16::MAX, offset in any::<usize>())| {
            let place = Place { attempt, offset };
            prop_assert_eq!(last(HeaderValue::from_str(&place.to_string()).unwrap()), Some(place));
        });
    }

    #[test]
    fn what_is_no_id_of_ours_is_the_beginning() {
        let value = prop_oneof![
            vec(any::<u8>(), 0..40),
            "[+-]?[0-9]{0,22}-?[+-]?[0-9]{0,22}( |-1)?".prop_map(String::into_bytes)
        ];
        let value = value.prop_filter_map("no header", |bytes| HeaderValue::from_bytes(&bytes).ok());
        proptest!(config(), |(value in value)| {
            if let Some(place) = last(value.clone()) {
                prop_assert!(place.attempt >= 0);
                // The same numbers, however they were written.
                let digits = |text: &str| text.parse::<u128>().ok();
                let (attempt, offset) = value.to_str().unwrap().split_once('-').unwrap();
                prop_assert_eq!(digits(attempt), u128::try_from(place.attempt).ok());
                prop_assert_eq!(digits(offset), u128::try_from(place.offset).ok());
            }
        });
        assert_eq!(last_place(&HeaderMap::new()), None);
    }
}
