//! A film as OpenAI shows one: `video_…`, four words of status, and seconds as a text.
//!
//! A video is a job of the medium video, and its id is that of its job with another word in front: `video_x` is `job_x`.
//! OpenAI's clients stop asking at any status they do not know, so there are these four and no others. What a caller
//! cancels or deletes is gone; any other is shown for good, a finished one also when its file's time is over.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::shape;
use shared::{
    catalog::Catalog,
    id::{InvalidId, JobId},
    job::{Job, Medium, Status, StoredFile},
    price::Wanted,
};

/// What the id of a video begins with, in place of a job's.
const PREFIX: &str = "video_";

/// The id of a video: that of its job in OpenAI's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoId(pub JobId);

impl fmt::Display for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.0.simple())
    }
}

impl FromStr for VideoId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        format!("{}_{digits}", JobId::PREFIX).parse().map(Self)
    }
}

impl Serialize for VideoId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A video for its owner. Field names are OpenAI's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Video {
    id: VideoId,
    object: &'static str,
    model: String,
    status: &'static str,
    /// 0–100.
    progress: i16,
    created_at: i64,
    completed_at: Option<i64>,
    expires_at: Option<i64>,
    /// `None` where neither the request nor the model says, until the film is there.
    size: Option<String>,
    seconds: Option<String>,
    prompt: Option<String>,
    remixed_from_video_id: Option<VideoId>,
    error: Option<Value>,
}

/// Whether a job is shown as a video: it makes one, and its owner has neither canceled nor deleted it.
pub fn is_shown(job: &Job) -> bool {
    let is_canceled = Status::from_word(&job.status) == Some(Status::Canceled);
    Medium::from_word(&job.medium) == Some(Medium::Video) && !is_canceled && !job.is_discarded()
}

impl Video {
    /// A job as a video; `file` is the film, once it is there.
    pub fn new(catalog: &Catalog, job: Job, file: Option<&StoredFile>) -> Self {
        let schema = catalog.known(&job.model).map_or(Value::Null, |model| model.schema.clone());
        let wanted = Wanted::new(&schema, &job.input);
        let text = |name: &str| wanted.field(name).and_then(Value::as_str);
        let sides = file.and_then(|file| file.width.zip(file.height));
        let made = file.and_then(|file| file.duration_seconds).map(|seconds| format!("{seconds:.0}"));
        let status = word(Status::from_word(&job.status).unwrap_or(Status::Running));
        Self {
            id: VideoId(job.id),
            object: "video",
            status,
            progress: if status == "completed" { 100 } else { job.progress.unwrap_or_default() },
            created_at: job.created_at.timestamp(),
            completed_at: job.finished_at.map(|at| at.timestamp()),
            expires_at: job.expires_at.map(|at| at.timestamp()),
            size: match sides {
                Some((width, height)) => Some(format!("{width}x{height}")),
                None => shape::film_size(text("aspect_ratio"), text("resolution")),
            },
            seconds: wanted.field("seconds").map(Value::to_string).or(made),
            prompt: text("prompt").map(str::to_owned),
            remixed_from_video_id: shared::job::parent_id(&job.input).map(VideoId),
            error: job.error_code.map(|code| json!({ "code": code, "message": job.error_message })),
            model: job.model,
        }
    }

    /// Whether nothing can change any more.
    pub fn is_over(&self) -> bool {
        self.completed_at.is_some()
    }

    /// Its id, for the next page.
    pub fn id(&self) -> VideoId {
        self.id
    }
}

/// The word that OpenAI's clients know.
const fn word(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Running => "in_progress",
        Status::Succeeded => "completed",
        Status::Failed | Status::Canceled | Status::Expired => "failed",
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use shared::id::AccountId;

    use super::*;

    fn job(status: Status, model: &str, input: Value) -> Job {
        let at = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let ended = status.is_final();
        let failed = ended && status != Status::Succeeded;
        Job {
            id: "job_0123456789abcdef0123456789abcdef".parse().expect("an id"),
            account: AccountId::new(),
            status: status.word().into(),
            phase: "queued".into(),
            progress: (status == Status::Running).then_some(40),
            queue_position: None,
            model: model.into(),
            medium: "video".into(),
            task: "video.generate".into(),
            input,
            output: None,
            error_code: failed.then(|| "content_refused".into()),
            error_message: failed.then(|| "no".into()),
            error_retryable: failed.then_some(false),
            held_tokens: 0,
            charged_tokens: ended.then_some(0),
            attempts: 1,
            provider: "openai".into(),
            upstream_model: model.into(),
            run_at: None,
            begun_at: None,
            metadata: json!({}),
            created_at: at,
            started_at: None,
            finished_at: ended.then_some(at),
            deadline: at,
            expires_at: None,
            retry_of: None,
            improves: None,
            iteration: None,
            dialog: None,
        }
    }

    fn film() -> StoredFile {
        StoredFile {
            storage_key: "outputs/x".into(),
            preview_key: None,
            mime_type: "video/mp4".into(),
            size_bytes: 9,
            width: Some(1280),
            height: Some(704),
            duration_seconds: Some(5.04),
        }
    }

    #[test]
    fn an_id_is_that_of_the_job_and_leads_back_to_it() {
        let video: VideoId = "video_0123456789abcdef0123456789abcdef".parse().expect("an id");
        assert_eq!(video.0.to_string(), "job_0123456789abcdef0123456789abcdef");
        assert_eq!(video.to_string().parse(), Ok(video));
        for other in
            ["job_0123456789abcdef0123456789abcdef", "video_", "video_12", "0123456789abcdef0123456789abcdef"]
        {
            assert!(other.parse::<VideoId>().is_err(), "{other}");
        }
    }

    #[test]
    fn every_status_is_one_of_the_four_words() {
        let catalog = Catalog::load().expect("the catalogue");
        for (status, word, progress, error) in [
            (Status::Queued, "queued", 0, Value::Null),
            (Status::Running, "in_progress", 40, Value::Null),
            (Status::Failed, "failed", 0, json!({"code": "content_refused", "message": "no"})),
            (Status::Expired, "failed", 0, json!({"code": "content_refused", "message": "no"})),
        ] {
            let made = Video::new(&catalog, job(status, "sora-2", json!({"prompt": "a fox"})), None);
            assert_eq!((made.status, made.progress), (word, progress), "{status:?}");
            assert_eq!(made.error.clone().unwrap_or_default(), error, "{status:?}");
            assert_eq!(made.is_over(), status.is_final(), "{status:?}");
        }
        let done =
            Video::new(&catalog, job(Status::Succeeded, "sora-2", json!({"prompt": "a fox"})), Some(&film()));
        assert_eq!((done.status, done.progress), ("completed", 100));
        assert_eq!(done.size.as_deref(), Some("1280x704"), "what was made counts");
    }

    #[test]
    fn what_the_request_does_not_say_is_the_models_or_unknown() {
        let catalog = Catalog::load().expect("the catalogue");
        let input = json!({"prompt": "a fox", "aspect_ratio": "16:9", "seconds": 8});
        let made = Video::new(&catalog, job(Status::Queued, "sora-2", input), None);
        assert_eq!((made.size.as_deref(), made.seconds.as_deref()), (Some("1280x720"), Some("8")));
        let made = Video::new(&catalog, job(Status::Queued, "sora-2", json!({"prompt": "a fox"})), None);
        assert_eq!((made.size, made.seconds.as_deref()), (None, Some("4")));
        let input = json!({"job": "job_0123456789abcdef0123456789abcdef", "prompt": "on"});
        let made = Video::new(&catalog, job(Status::Queued, "midjourney-video-extend", input.clone()), None);
        assert_eq!(made.remixed_from_video_id.map(|id| id.0), shared::job::parent_id(&input));
        assert_eq!((made.size, made.seconds), (None, None));
        let made = Video::new(&catalog, job(Status::Succeeded, "gone", json!({})), Some(&film()));
        assert_eq!(made.seconds.as_deref(), Some("5"));
    }

    #[test]
    fn what_was_canceled_or_deleted_is_gone() {
        let made = |status| job(status, "sora-2", json!({}));
        for status in [Status::Queued, Status::Running, Status::Succeeded, Status::Failed, Status::Expired] {
            assert!(is_shown(&made(status)), "{status:?}");
        }
        assert!(!is_shown(&made(Status::Canceled)));
        let ended = made(Status::Succeeded);
        let later = ended.finished_at.map(|at| at + chrono::TimeDelta::days(3));
        assert!(is_shown(&Job { expires_at: later, ..ended.clone() }), "its time may be over one day");
        assert!(!is_shown(&Job { expires_at: ended.finished_at, ..ended }));
        let open = made(Status::Running);
        assert!(!is_shown(&Job { expires_at: Some(open.created_at), ..open }), "deleted under way");
        assert!(!is_shown(&Job { medium: "image".into(), ..made(Status::Queued) }));
    }
}
