//! The files of finished tasks, served from where the vendors' download URLs point.
//!
//! A URL carries the number of its issue, so that an expired one stays expired while a newer one works. A file is
//! made on every download, byte for byte the same each time.

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use crate::{
    Sim, Simulator, answer,
    content::{audio, mp4, png, svg},
    fault::Kind,
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    task::{Ending, Makes, Task},
    wire,
};

/// What a download URL carries besides its path.
#[derive(Debug, Deserialize)]
pub(crate) struct Ticket {
    issue: Option<u32>,
}

/// The URL of a task's file.
pub(crate) fn url(root: &str, task: &Task, issue: u32) -> String {
    nth_url(root, task, issue, 0)
}

/// The URL of a task's file number `n`, for tasks that make several.
pub(crate) fn nth_url(root: &str, task: &Task, issue: u32, n: u32) -> String {
    let extension = task.makes.extension();
    format!("{root}/files/{}/{}_{n}.{extension}?issue={issue}", task.provider.name(), task.id)
}

/// The task's id and the file's number in a name that [`nth_url`] made.
fn read_name(name: &str) -> Option<(&str, u32)> {
    let (stem, _) = name.rsplit_once('.')?;
    let (id, n) = stem.rsplit_once('_')?;
    Some((id, n.parse().ok()?))
}

/// Serves a file of a finished task.
pub(crate) async fn download(
    State(sim): State<Sim>,
    Path((provider, name)): Path<(Provider, String)>,
    Query(ticket): Query<Ticket>,
) -> Response {
    let Some((id, n)) = read_name(&name) else { return voice(&Trouble::Missing) };
    let Some(task) = sim.tasks.find(provider, id) else { return voice(&Trouble::Missing) };
    if task.ending != Some(Ending::Succeeded) {
        return voice(&Trouble::Missing);
    }
    let visit = task.visit(Op::Download);
    let work = sim.hand_out(&visit, &task, n, ticket.issue.unwrap_or_default());
    sim.attend(&visit, voice, work).await
}

fn make(task: &Task, n: u32) -> anyhow::Result<Vec<u8>> {
    let seed = task.seed(n);
    match task.makes {
        Makes::Mp4 => mp4::video(&seed, task.frame, task.seconds),
        Makes::Png => png::picture(&seed, (task.frame.0.into(), task.frame.1.into())),
        Makes::Svg => Ok(svg::drawing(&seed, task.frame)),
        Makes::Mp3 => Ok(audio::mp3(&seed, u32::from(task.seconds) * 1000)),
    }
}

impl Simulator {
    /// Serves file number `n` of a finished task, by the URL of that issue.
    pub(crate) async fn hand_out(&self, visit: &Visit, task: &Task, n: u32, issue: u32) -> Response {
        if self.is_gone(visit, &task.id).await {
            return voice(&Trouble::Missing);
        }
        if self.is_expired(visit, &task.id, issue).await {
            return voice(&Trouble::Auth);
        }
        let file = match make(&self.as_made(visit, task), n) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot make a file");
                return voice(&Trouble::Broken(None));
            }
        };
        let artefact = self.spoil(visit, &task.seed(n), file);
        let response = answer::bytes(StatusCode::OK, task.makes.mime_type(), artefact.bytes);
        if artefact.cut { wire::cut_short(response).await } else { response }
    }

    async fn is_gone(&self, visit: &Visit, id: &str) -> bool {
        let hidden = self.tasks.update(id, |task| {
            self.strike(visit, Kind::Purged).is_some() || self.strikes(visit, task, Kind::Missing, Some(1))
        });
        hidden.await.unwrap_or(true)
    }

    /// Every URL handed out so far dies with the one that is struck.
    async fn is_expired(&self, visit: &Visit, id: &str, issue: u32) -> bool {
        let expired = self.tasks.update(id, |task| {
            if issue <= task.expired {
                return task.expired > 0;
            }
            let struck = self.strikes(visit, task, Kind::Expired, Some(1));
            if struck {
                task.expired = task.issued;
            }
            struck
        });
        expired.await.unwrap_or(true)
    }
}

/// How the file host, which speaks for no vendor, says no.
fn voice(trouble: &Trouble) -> Response {
    let (status, text) = match trouble {
        Trouble::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "SlowDown"),
        Trouble::Quota(_) | Trouble::Auth | Trouble::Refused => (StatusCode::FORBIDDEN, "AccessDenied"),
        Trouble::BadInput(_) => (StatusCode::BAD_REQUEST, "InvalidRequest"),
        Trouble::Broken(status) => (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "InternalError"),
        Trouble::Missing => (StatusCode::NOT_FOUND, "NoSuchKey"),
    };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{text}</Code></Error>\n");
    answer::bytes(status, "application/xml", body)
}
