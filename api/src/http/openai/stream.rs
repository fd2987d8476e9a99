//! A chat told while it is written, as OpenAI's `chat.completion.chunk` events.
//!
//! Words go on as they are heard; the end of an answer, its counts and `[DONE]` are told once the job has succeeded, after
//! whatever was missed on the way: the whole is in the job's result. As long as nothing was said, a job that fails is answered with
//! its status; afterwards with an error among the events. When an attempt fails under way the next one begins the answer anew:
//! nothing of it is told until it is whole, and then the rest, if it begins with what was told; otherwise an error.
//! Deliberately absent: whatever moves money. Hanging up only ends the listening.

use std::{collections::VecDeque, convert::Infallible};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{completion, error::OpenAiError, run::Ordered, told::Told};
use crate::{
    Ctx,
    http::{ACCEL_BUFFERING, events::hear, farewell, watch::Watch},
};
use shared::{
    job::Job,
    text::{Listener, Said},
};

/// Answers with events. Until the first word, or a heartbeat's time without one, nothing is sent.
///
/// # Errors
/// Why the job did not succeed, if nothing was said before.
pub async fn answer(ctx: &Ctx, ordered: &Ordered, tells_usage: bool) -> Result<Response, OpenAiError> {
    let mut story = Story::begin(ctx, ordered, tells_usage).await?;
    let heartbeat = ctx.waits.heartbeat;
    let first = match tokio::time::timeout(heartbeat, story.next()).await {
        Ok(Some(Piece::Error(error))) => return Err(error),
        Ok(first) => first,
        Err(_) => None,
    };
    let rest = stream::unfold(story, |mut story| async move {
        let piece = story.next().await?;
        Some((piece, story))
    });
    let events = stream::iter(first).chain(rest).map(|piece| Ok::<_, Infallible>(piece.into_event()));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(heartbeat)).into_response();
    response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(ordered.sign(response))
}

/// What a client is sent.
enum Piece {
    Chunk(Value),
    /// The last word of an answer that came to its end.
    Done,
    /// The last word of one that did not.
    Error(OpenAiError),
}

impl Piece {
    fn into_event(self) -> Event {
        let event = Event::default();
        match self {
            Self::Chunk(chunk) => event.data(chunk.to_string()),
            Self::Done => event.data("[DONE]"),
            Self::Error(error) => event.data(error.body().to_string()),
        }
    }
}

/// An answer on its way to a client.
struct Story {
    watch: Watch,
    /// Completes when this process can wait no longer.
    farewell: BoxFuture<'static, ()>,
    /// None once there is nothing more to be heard.
    listener: Option<Listener>,
    told: Told,
    /// Which attempt that is of; none before the first word.
    attempt: Option<i16>,
    /// What all chunks have in common.
    head: Value,
    tells_usage: bool,
    /// What is sent next.
    due: VecDeque<Piece>,
    is_over: bool,
}

impl Story {
    async fn begin(ctx: &Ctx, ordered: &Ordered, tells_usage: bool) -> Result<Self, OpenAiError> {
        let listener = ctx.audience.join(ordered.job, None);
        let mut watch = Watch::begin(ctx, ordered.account, ordered.job);
        let mut ended = None;
        let (model, created_at) = match &ordered.new {
            // There is nothing to read yet, and its first word is worth more.
            Some(new) => {
                watch.put_off();
                (new.model.clone(), new.created_at)
            }
            None => {
                let job = watch.look().await?;
                let told = (job.model.clone(), job.created_at);
                ended = Some(job).filter(Job::is_final);
                told
            }
        };
        let head = json!({
            "id": completion::id(ordered.job), "object": "chat.completion.chunk", "created": created_at.timestamp(),
            "model": model, "system_fingerprint": null,
        });
        let mut story = Self {
            watch,
            farewell: farewell(ctx.process.clone()).boxed(),
            listener: Some(listener),
            told: Told::default(),
            attempt: None,
            head,
            tells_usage,
            due: VecDeque::new(),
            is_over: false,
        };
        // An answer from the cache, or a repeat of a request that was answered.
        if let Some(job) = ended {
            story.finish(&job)?;
        }
        Ok(story)
    }

    /// What is sent next. `None` after the end. Safe to give up.
    async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.due.pop_front() {
                return Some(piece);
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.go_on().await {
                self.is_over = true;
                return Some(Piece::Error(error));
            }
        }
    }

    /// Waits for words, or for the end.
    async fn go_on(&mut self) -> Result<(), OpenAiError> {
        tokio::select! {
            biased;
            said = hear(&mut self.listener) => {
                self.pass_on(said);
                return Ok(());
            }
            () = self.watch.stir() => {}
            () = &mut self.farewell => return Err(OpenAiError::stopping()),
        }
        match self.watch.look().await {
            Ok(job) if job.is_final() => self.finish(&job),
            Ok(_) => Ok(()),
            // A database that is away says nothing about the job.
            Err(error) if error.is_passing() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn pass_on(&mut self, said: Said) {
        if self.attempt.is_some_and(|attempt| attempt != said.attempt) && !self.told.is_silent() {
            // What was told cannot be taken back, and what comes now may be another answer.
            self.listener = None;
            return;
        }
        self.watch.put_off();
        self.attempt = Some(said.attempt);
        for choice in self.told.hear(&said.choices) {
            self.send(json!([choice]), Value::Null);
        }
    }

    /// The job has ended: what is missing, and the end of each answer.
    fn finish(&mut self, job: &Job) -> Result<(), OpenAiError> {
        self.is_over = true;
        self.listener = None;
        let output = job.output.as_ref().ok_or_else(|| OpenAiError::of_job(job))?;
        let whole = completion::choices(output);
        for choice in self.told.rest(&whole).ok_or_else(OpenAiError::diverged)? {
            self.send(json!([choice]), Value::Null);
        }
        for (name, found) in completion::sources(output) {
            self.head[name] = found.clone();
        }
        for answer in &whole {
            let end = json!({
                "index": answer["index"], "delta": {}, "logprobs": null, "finish_reason": answer["finish_reason"],
            });
            self.send(json!([end]), Value::Null);
        }
        if self.tells_usage {
            self.send(json!([]), completion::usage(output).unwrap_or_default());
        }
        self.due.push_back(Piece::Done);
        Ok(())
    }

    fn send(&mut self, choices: Value, usage: Value) {
        let mut chunk = self.head.clone();
        chunk["choices"] = choices;
        // Where the last one has them, the others say that they have not.
        if self.tells_usage {
            chunk["usage"] = usage;
        }
        self.due.push_back(Piece::Chunk(chunk));
    }
}
