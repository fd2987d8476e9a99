//! What all adapters share of HTTP: sending once, reading with a limit, and judging what came back.
//!
//! Keeps the distinction that money hangs on: a request that surely never reached the vendor is
//! [`ErrorClass::Unavailable`], one that may have is [`ErrorClass::Ambiguous`] when it was a submit. Deliberately
//! absent: retries and redirect rules; those belong to the job and to the one HTTP client of the process.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{
    Body, RequestBuilder, Response, StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
    multipart::Part,
};
use serde::de::DeserializeOwned;

use super::{ErrorClass, InputFile, ProviderError};
use crate::{media, trace};

/// A whole chat answer; reasoning models think for minutes, and OpenAI's own clients wait this long.
pub const CHAT_TIMEOUT: Duration = Duration::from_secs(600);

/// An image that comes in the answer itself; usually 5–20 s, at busy hours minutes.
pub const IMAGE_TIMEOUT: Duration = Duration::from_secs(180);

/// Handing over a video task, with the first frame in the request.
pub const VIDEO_SUBMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Speech for the longest text a vendor takes; usually 1–10 s.
pub const SPEECH_TIMEOUT: Duration = Duration::from_secs(120);

/// A transcript of the longest recording a vendor takes, upload included.
pub const TRANSCRIBE_TIMEOUT: Duration = Duration::from_secs(300);

/// A question that makes no work: status, lookup, where the file is.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer made of status fields or text.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;

/// Longest chat answer: many choices with log probabilities of every token.
pub const MAX_CHAT_BYTES: usize = 16 * 1024 * 1024;

/// Longest answer that carries a file, whether bare or as base64.
pub const MAX_INLINE_BYTES: usize = 40 * 1024 * 1024;

/// How much of a vendor's message is kept; some vendors put whole stack traces there.
const MAX_WORDS: usize = 300;

/// What is at stake when a request gets no sensible answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stake {
    /// The vendor may have begun work that it bills.
    Submit,
    /// Nothing; the same question can be put again.
    Ask,
}

impl Stake {
    /// The class of a request that may have arrived, but whose answer is missing or makes no sense.
    pub fn unanswered(self) -> ErrorClass {
        match self {
            Self::Submit => ErrorClass::Ambiguous,
            Self::Ask => ErrorClass::Unavailable,
        }
    }
}

/// A complete answer of a vendor, good or bad.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// All headers, of which adapters read the content type and the advice on retrying.
    pub headers: HeaderMap,
    /// The body, at most as long as [`send`] was told.
    pub body: Bytes,
    stake: Stake,
}

/// Sends the request once and reads the whole answer, at most `max_bytes` of body.
///
/// # Errors
/// [`ErrorClass::Unavailable`] when no connection was made, [`Stake::unanswered`] when it broke later or a success is too
/// long to be read; of a failure that long the status tells.
pub async fn send(request: RequestBuilder, stake: Stake, max_bytes: usize) -> Result<Answer, ProviderError> {
    read(begin(request, stake).await?, stake, max_bytes).await
}

/// Sends the request once, as a part of the job's trace, and waits for the head of the answer.
///
/// # Errors
/// As [`send`].
pub(super) async fn begin(request: RequestBuilder, stake: Stake) -> Result<Response, ProviderError> {
    trace::sign(request).send().await.map_err(|error| lost(error, stake))
}

/// The class and words of a request that broke on its way.
pub(super) fn lost(error: reqwest::Error, stake: Stake) -> ProviderError {
    let surely_not_sent = error.is_connect() || error.is_builder();
    let class = if surely_not_sent { ErrorClass::Unavailable } else { stake.unanswered() };
    ProviderError::new(class, chain(&error.without_url()))
}

/// Reads the whole of an answer, at most `max_bytes` of body.
///
/// # Errors
/// As [`send`].
pub(super) async fn read(
    mut response: Response,
    stake: Stake,
    max_bytes: usize,
) -> Result<Answer, ProviderError> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(error, stake))? {
        if body.len() + chunk.len() > max_bytes {
            // Not read to its end, so it may say anything: that the task goes on, or that it was begun.
            let class =
                if status.is_success() { stake.unanswered() } else { class_of_status(status, false, stake) };
            let why = format!("http {}: the answer is longer than {max_bytes} bytes", status.as_u16());
            return Err(ProviderError::new(class, why));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: body.into(), stake })
}

impl Answer {
    /// The body as `T`.
    ///
    /// # Errors
    /// [`Stake::unanswered`] for anything else, such as a proxy's HTML page under a 200.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The text of a decoding error may quote the body, and that the caller's words; its place is enough.
            let place = format!("line {} column {}", error.line(), error.column());
            self.nonsense(&format!("cannot be read as {:?} at {place}", error.classify()))
        })
    }

    /// An answer without headers, for tests of what adapters make of it.
    #[cfg(test)]
    pub fn told(status: u16, body: &str, stake: Stake) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        Self { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()), stake }
    }

    /// An error for an answer that makes no sense: it may hide a success.
    pub fn nonsense(&self, why: &str) -> ProviderError {
        self.error(self.stake.unanswered(), why)
    }

    /// What the status alone says; adapters refine it by the vendor's own codes.
    pub fn class(&self) -> ErrorClass {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&self.body).is_ok();
        class_of_status(self.status, is_json, self.stake)
    }

    /// An error of `class` with the vendor's words, the status, and its advice on when to come back.
    #[expect(
        clippy::disallowed_methods,
        reason = "a date in a vendor's header is compared with the real time"
    )]
    pub fn error(&self, class: ErrorClass, words: &str) -> ProviderError {
        let request_id = self.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let request_id = request_id.map_or_else(String::new, |id| format!(", request {}", quote(id)));
        let message = format!("http {}{request_id}: {}", self.status.as_u16(), quote(words));
        ProviderError::new(class, message).retry_after(retry_after(&self.headers, SystemTime::now()))
    }
}

/// Judges an unsuccessful status. A fault without a JSON body comes from a proxy, and what stands behind it may
/// have taken the work.
fn class_of_status(status: StatusCode, is_json: bool, stake: Stake) -> ErrorClass {
    match status.as_u16() {
        401 | 403 => ErrorClass::Auth,
        402 => ErrorClass::Quota,
        // An address or a model that is not there is our configuration's fault, never the caller's. When asking
        // for a task it only means "not yet": vendors' stores lag behind their submits.
        404 | 405 => match stake {
            Stake::Submit => ErrorClass::Auth,
            Stake::Ask => ErrorClass::Unavailable,
        },
        409 => ErrorClass::Unavailable,
        429 => ErrorClass::RateLimited,
        // Somebody waited in vain for somebody else, who may have the work, in whatever form that is told.
        408 | 504 | 520..=527 => stake.unanswered(),
        500.. if is_json => ErrorClass::Unavailable,
        500.. => stake.unanswered(),
        400..500 => ErrorClass::BadInput,
        _ => ErrorClass::Unavailable,
    }
}

/// The class of a status that came as a number in a body, as vendors tell it that have begun to answer. `None`: no error's.
pub fn class_of_code(code: u16) -> Option<ErrorClass> {
    let status = StatusCode::from_u16(code).ok()?;
    let is_error = status.is_client_error() || status.is_server_error();
    is_error.then(|| class_of_status(status, true, Stake::Submit))
}

/// How long the vendor asks us to stay away: `retry-after-ms`, or `retry-after` as seconds or as an HTTP date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // Counted from the vendor's own clock where it shows one, so that a skew between the clocks does not matter.
    let date = |value: &str| DateTime::parse_from_rfc2822(value).ok();
    let since = text(DATE.as_str()).and_then(date).map_or_else(|| DateTime::<Utc>::from(now), Into::into);
    (date(value)?.to_utc() - since).to_std().ok()
}

/// A vendor's words made fit for a log: one line, short, and without anything that looks like a key.
pub fn quote(words: &str) -> String {
    let gap = |c: char| c.is_whitespace() || c.is_control();
    let redact = |word| if holds_key(word) { "[key]" } else { word };
    let line = words.split(gap).filter(|word| !word.is_empty()).map(redact).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Whether a key seems to begin in the word, at its start or behind a quote, a colon, an equals sign: vendors quote whole
/// requests and headers. Amid a longer word, as in `task-7`, none begins.
fn holds_key(word: &str) -> bool {
    const KEY_STARTS: [&str; 3] = ["sk-", "AIza", "eyJ"];
    let begins_at = |at: usize| !word[..at].ends_with(char::is_alphanumeric);
    KEY_STARTS.iter().any(|start| word.match_indices(start).any(|(at, _)| begins_at(at)))
}

/// An error with all its causes in one line; the first alone says only "error sending request".
fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    quote(&words)
}

/// Whether this can be a vendor's id of a task: kept by us, and part of an address when we ask.
pub fn is_id(text: &str) -> bool {
    /// The longest that is known has 64.
    const ID_LEN_MAX: usize = 255;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+=:@".contains(&byte);
    (1..=ID_LEN_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits)
}

/// The file as a data URL.
pub fn data_url(file: &InputFile) -> String {
    format!("data:{};base64,{}", file.mime_type, BASE64_STANDARD.encode(&file.bytes))
}

/// The file as a part of a form, under a name that tells its format.
///
/// # Errors
/// [`ErrorClass::BadInput`] when its bytes are of no known format.
pub fn file_part(file: &InputFile) -> Result<Part, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, format!("{} {why}", file.field));
    let format = media::sniff(&file.bytes).ok_or_else(|| bad("is of no known format"))?;
    Part::stream_with_length(Body::from(file.bytes.clone()), file.bytes.len() as u64)
        .file_name(format!("{}.{}", file.field, format.extension()))
        .mime_str(&file.mime_type)
        .map_err(|_| bad("has no proper media type"))
}

/// The base address without a slash at its end, so that paths can be appended.
pub fn base(url: String) -> String {
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};
    use reqwest::header::{HeaderName, HeaderValue};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn check_retry_after(headers: &[(&'static str, &'static str)], expected: Option<Duration>) {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(&map, now), expected, "{headers:?}");
    }

    #[test]
    fn every_form_of_retry_after_is_understood() {
        let seconds = |count| Some(Duration::from_secs(count));
        check_retry_after(&[], None);
        check_retry_after(&[("retry-after", "7")], seconds(7));
        check_retry_after(&[("retry-after", "1.5")], Some(Duration::from_millis(1500)));
        check_retry_after(
            &[("retry-after-ms", "250"), ("retry-after", "7")],
            Some(Duration::from_millis(250)),
        );
        check_retry_after(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], seconds(30));
        check_retry_after(
            &[("date", "Sun, 06 Nov 1994 08:50:00 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")],
            seconds(7),
        );
        check_retry_after(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], None);
        check_retry_after(&[("retry-after", "-3")], None);
        check_retry_after(&[("retry-after", "soon")], None);
    }

    fn config() -> Config {
        Config { cases: 1000, failure_persistence: None, ..Config::default() }
    }

    #[test]
    fn no_advice_on_when_to_come_back_breaks_anything() {
        let number =
            || "[+-]?([0-9]{0,25}(\\.[0-9]{0,3})?(e[0-9]{1,3})?|inf|NaN)".prop_map(String::into_bytes);
        let date = || {
            "(Sun|Mon), [0-9]{1,2} (Nov|Feb|Xxx) [0-9]{2,7} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4})"
                .prop_map(String::into_bytes)
        };
        let value = || {
            let any = prop_oneof![vec(any::<u8>(), 0..60), number(), date()];
            any.prop_filter_map("no header", |bytes| HeaderValue::from_bytes(&bytes).ok())
        };
        proptest!(config(), |(after in value(), millis in value(), date in value(), with in any::<[bool; 2]>())| {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, after)]);
            with[0].then(|| headers.insert("retry-after-ms", millis));
            with[1].then(|| headers.insert(DATE, date));
            let _ = retry_after(&headers, SystemTime::UNIX_EPOCH);
        });
    }

    #[test]
    fn seconds_and_dates_mean_what_they_say() {
        proptest!(config(), |(now in 0..4_000_000_000_i64, secs in -100_000..100_000_i64)| {
            let advice = |text: &str| {
                let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
                retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(now.unsigned_abs()))
            };
            let expected = u64::try_from(secs).ok().map(Duration::from_secs);
            prop_assert_eq!(advice(&secs.to_string()), expected);
            let date = DateTime::from_timestamp(now + secs, 0).unwrap().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            prop_assert_eq!(advice(&date), expected, "{}", date);
        });
    }

    #[test]
    fn what_is_quoted_is_one_short_line_that_holds_no_key() {
        let key = "(sk-(proj-|ant-)?[A-Za-z0-9_-]{8,40}|AIza[A-Za-z0-9_-]{20,35}|eyJ[A-Za-z0-9_-]{10,30}\\.eyJ[A-Za-z0-9_.-]{10,30})";
        let before = "(Bearer |key=|\"key\": ?\"|'|\\(|\n|: |[^A-Za-z0-9]?)";
        proptest!(config(), |(start in any::<String>(), before in before, key in key, end in any::<String>(), long in 0..400_usize)| {
            // A letter right before a key makes it part of a longer word.
            let start = format!("{start}{}", "ы ".repeat(long));
            let ahead = format!("{start}{before}");
            prop_assume!(!ahead.ends_with(char::is_alphanumeric));
            let line = quote(&format!("{start}{before}{key}{end}"));
            prop_assert!(line.chars().count() <= MAX_WORDS + 1, "{line}");
            prop_assert!(!line.contains(&key[..8]), "{line}");
            prop_assert!(!line.contains(|c: char| c.is_control() || (c.is_whitespace() && c != ' ')), "{line:?}");
        });
    }

    #[test]
    fn an_id_is_a_part_of_an_address_and_leads_nowhere_else() {
        proptest!(config(), |(id in prop_oneof![any::<String>(), "[a-zA-Z0-9_.~+=:@/?#%-]{0,20}".prop_map(String::from)])| {
            if is_id(&id) {
                let url = reqwest::Url::parse(&format!("https://example.com/v1/videos/{id}")).unwrap();
                prop_assert_eq!(url.path(), format!("/v1/videos/{id}"));
            }
        });
    }

    fn check_class(status: u16, is_json: bool, stake: Stake, expected: ErrorClass) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(class_of_status(status, is_json, stake), expected, "{status} {is_json} {stake:?}");
    }

    #[test]
    fn a_fault_is_ambiguous_only_for_submits_and_only_behind_a_proxy() {
        check_class(503, true, Stake::Submit, ErrorClass::Unavailable);
        check_class(503, false, Stake::Submit, ErrorClass::Ambiguous);
        check_class(524, false, Stake::Submit, ErrorClass::Ambiguous);
        check_class(504, true, Stake::Submit, ErrorClass::Ambiguous);
        check_class(408, true, Stake::Submit, ErrorClass::Ambiguous);
        check_class(504, true, Stake::Ask, ErrorClass::Unavailable);
        check_class(502, false, Stake::Ask, ErrorClass::Unavailable);
        check_class(401, false, Stake::Submit, ErrorClass::Auth);
        check_class(402, true, Stake::Submit, ErrorClass::Quota);
        check_class(429, true, Stake::Submit, ErrorClass::RateLimited);
        check_class(400, true, Stake::Submit, ErrorClass::BadInput);
        check_class(413, false, Stake::Submit, ErrorClass::BadInput);
        check_class(404, true, Stake::Submit, ErrorClass::Auth);
        check_class(404, true, Stake::Ask, ErrorClass::Unavailable);
    }

    #[test]
    fn words_are_cut_and_keys_taken_out() {
        assert_eq!(quote("Incorrect API key:\n 'sk-abc***xyz'."), "Incorrect API key: [key]");
        assert_eq!(quote(r#"got {"key":"AIzaSy1"} for task-7"#), "got [key] for task-7");
        assert_eq!(quote(&"ы".repeat(400)).chars().count(), MAX_WORDS + 1);
    }

    /// Sends one submit to a vendor that reads the request and then writes `answer` and hangs up.
    async fn submit_to(answer: &str) -> Result<Answer, ProviderError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let vendor = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let client = reqwest::Client::builder().build().unwrap();
        let (outcome, ()) = tokio::join!(send(client.post(url), Stake::Submit, 100), vendor);
        outcome
    }

    #[tokio::test]
    async fn a_submit_without_a_whole_answer_is_ambiguous() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"id\":"] {
            let error = submit_to(answer).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::Ambiguous, "{answer}: {error}");
        }
        let page = submit_to("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>").await.unwrap();
        assert_eq!(page.json::<serde_json::Value>().unwrap_err().class, ErrorClass::Ambiguous);
    }

    #[tokio::test]
    async fn a_refused_connection_is_surely_not_ambiguous() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = reqwest::Client::builder().build().unwrap();
        let error = send(client.post(&url), Stake::Submit, 100).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Unavailable, "{error}");
        assert!(!error.message.contains(&url), "{error}");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off_and_may_hide_a_success() {
        for (status, expected) in [("200 OK", ErrorClass::Ambiguous), ("403 Forbidden", ErrorClass::Auth)] {
            let long = format!("HTTP/1.1 {status}\r\ncontent-length: 120\r\n\r\n{}", "0".repeat(120));
            let error = submit_to(&long).await.unwrap_err();
            assert_eq!(error.class, expected, "{error}");
        }
    }
}
