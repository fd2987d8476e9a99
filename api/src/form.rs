//! Forms with a file in them (multipart/form-data, RFC 7578), read piece by piece as they arrive.
//!
//! Nothing is gathered here but what a boundary or the head of a field may need, which is bounded. A client may be slow, but
//! not silent for long, and not so slow that a place is taken for ever. Only what is waited for the client counts as its time:
//! while a part is being stored, nothing is read. When the process is told to stop, reading ends at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{
        FromRequest, Multipart, Request,
        multipart::{self, MultipartError},
    },
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};

use crate::{
    ApiError, Waits,
    request::{BODY_LIMIT_BYTES, BodyLimit},
};
use shared::process::Process;

/// Fewest bytes a second over the whole of a form: 256 kbit/s, which a poor mobile network carries. With it 100 MB take less
/// than an hour.
const BYTES_PER_SEC_MIN: u64 = 32 * 1024;

/// How long a client may be slower than that at first.
const GRACE: Duration = Duration::from_secs(60);

/// Most bytes of a form that have come and were not handed out: boundaries and heads of fields, and the piece in hand.
const HELD_BYTES_MAX: i64 = 1024 * 1024;

/// A form that is arriving.
#[derive(Debug)]
pub struct Form {
    multipart: Multipart,
    /// Bytes that have come and were not handed out.
    held: Arc<AtomicI64>,
    pace: Pace,
    process: Process,
    waits: Waits,
    /// Longest form, in bytes.
    limit: usize,
}

/// A field that is arriving.
#[derive(Debug)]
pub struct Field<'a> {
    inner: multipart::Field<'a>,
    held: &'a AtomicI64,
    pace: &'a mut Pace,
    process: &'a Process,
    /// Longest wait for the next piece.
    silence: Duration,
    limit: usize,
}

impl Form {
    /// Begins to read the form of a request; nothing of it has been waited for.
    ///
    /// # Errors
    /// When it is no form, or says that it is longer than its route allows.
    pub async fn open(request: Request, process: &Process, waits: Waits) -> Result<Self, ApiError> {
        let limit = request.extensions().get().map_or(BODY_LIMIT_BYTES, |BodyLimit(limit)| *limit);
        if declared_length(request.headers()).is_some_and(|length| length > limit) {
            return Err(ApiError::too_large(limit));
        }
        let held = Arc::new(AtomicI64::new(0));
        let counter = held.clone();
        let request = request.map(|body| counted(body, counter));
        let multipart = Multipart::from_request(request, &()).await.map_err(|_| ApiError::not_a_form())?;
        Ok(Self { multipart, held, pace: Pace::default(), process: process.clone(), waits, limit })
    }

    /// The next field; `None` after the last, which is at the end of the whole form and nowhere before.
    ///
    /// # Errors
    /// When the form breaks off, is none, is too long or does not go on.
    pub async fn next(&mut self) -> Result<Option<Field<'_>>, ApiError> {
        let Self { multipart, held, pace, process, waits, limit } = self;
        let (silence, limit) = (waits.piece, *limit);
        let next = arrived(process, silence, limit, multipart.next_field()).await?;
        let Some(inner) = next else { return Ok(None) };
        Ok(Some(Field { inner, held, pace, process, silence, limit }))
    }

    /// Reads on for a moment and throws away what comes. A client that is still sending finds its connection broken otherwise,
    /// and does not see why.
    pub async fn discard(mut self) {
        // From here on as much may come as the route allows.
        self.held.store(i64::MIN, Ordering::Relaxed);
        let linger = self.waits.linger;
        let rest = async { while let Ok(Some(_)) = self.multipart.next_field().await {} };
        // Whether it came to its end does not matter any more.
        drop(tokio::time::timeout(linger, rest).await);
    }
}

impl Field<'_> {
    /// What it is called.
    pub fn name(&self) -> Option<&str> {
        self.inner.name()
    }

    /// What its file is called, as the sender claims.
    pub fn file_name(&self) -> Option<&str> {
        self.inner.file_name()
    }

    /// The next piece of it, of any length; `None` at its end.
    ///
    /// # Errors
    /// When the form breaks off, is too long, or comes too slowly.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let asked = Instant::now();
        let piece = arrived(self.process, self.silence, self.limit, self.inner.chunk()).await?;
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.held.fetch_sub(i64::try_from(length).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.pace.count(length, asked.elapsed());
        if self.pace.is_too_slow() { Err(ApiError::timed_out()) } else { Ok(piece) }
    }

    /// Its beginning: `length` bytes or a few more, fewer where it ends before.
    ///
    /// # Errors
    /// As [`Field::piece`].
    pub async fn head(&mut self, length: usize) -> Result<Bytes, ApiError> {
        let mut head = BytesMut::new();
        while head.len() < length {
            let Some(piece) = self.piece().await? else { break };
            head.extend_from_slice(&piece);
        }
        Ok(head.freeze())
    }
}

/// Waits for what comes next, for as long as a client may be silent and the process goes on.
async fn arrived<T>(
    process: &Process,
    silence: Duration,
    limit: usize,
    next: impl Future<Output = Result<T, MultipartError>>,
) -> Result<T, ApiError> {
    tokio::select! {
        () = process.stopping() => Err(ApiError::unavailable()),
        next = tokio::time::timeout(silence, next) => match next {
            Ok(next) => next.map_err(|error| refuse(&error, limit)),
            Err(_) => Err(ApiError::timed_out()),
        },
    }
}

fn refuse(error: &MultipartError, limit: usize) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large(limit);
    }
    ApiError::invalid_form(format!("the form could not be read to its end: {}", error.body_text()))
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The same body, with what comes of it counted, and cut off when too much of it was not handed out: whoever sends the head of
/// a field and never ends it would have us keep all of it.
fn counted(body: Body, held: Arc<AtomicI64>) -> Body {
    let pieces = body.into_data_stream().then(move |piece| {
        let held = held.clone();
        async move {
            // The reader takes all that is there; with a pause between pieces that is one.
            tokio::task::yield_now().await;
            let piece = piece?;
            let length = i64::try_from(piece.len()).unwrap_or(i64::MAX);
            let before = held.fetch_add(length, Ordering::Relaxed);
            if before.saturating_add(length) > HELD_BYTES_MAX {
                return Err(axum::Error::new("a field's head does not end"));
            }
            Ok(piece)
        }
    });
    // The reader takes a form for broken off when its first piece and its end come between two looks of one call: a pause
    // between them as well.
    let end = futures::stream::once(tokio::task::yield_now()).filter_map(|()| std::future::ready(None));
    Body::from_stream(pieces.chain(end))
}

/// How a form gets on.
#[derive(Debug, Default)]
struct Pace {
    /// What came.
    bytes: u64,
    /// How long it was waited for.
    waited: Duration,
}

impl Pace {
    fn count(&mut self, length: usize, waited: Duration) {
        self.bytes = self.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.waited += waited;
    }

    fn is_too_slow(&self) -> bool {
        self.waited > GRACE && self.bytes < self.waited.as_secs() * BYTES_PER_SEC_MIN
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::DefaultBodyLimit;
    use http::HeaderValue;
    use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn form(body: Body) -> Request {
        Request::builder()
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
            .body(body)
            .expect("a request")
    }

    async fn open(body: Body) -> Form {
        Form::open(form(body), &Process::new(), Waits::default()).await.expect("a form")
    }

    #[test]
    fn a_client_may_be_slow_for_a_minute_and_must_be_fast_enough_over_all() {
        let is_too_slow =
            |bytes: u64, secs: u64| Pace { bytes, waited: Duration::from_secs(secs) }.is_too_slow();
        assert!(!is_too_slow(1, 60));
        assert!(is_too_slow(1, 61));
        assert!(!is_too_slow(61 * BYTES_PER_SEC_MIN, 61));
        assert!(is_too_slow(1000 * BYTES_PER_SEC_MIN, 1001));
        let mut pace = Pace::default();
        pace.count(3, Duration::from_secs(1));
        pace.count(4, Duration::from_secs(2));
        assert_eq!((pace.bytes, pace.waited), (7, Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn fields_come_in_their_order_and_a_form_that_breaks_off_has_no_end() {
        let whole = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n\
                     --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\nhello\r\n--b--\r\n";
        for cut in 0..=whole.len() {
            let mut form = open(Body::from(&whole[..cut])).await;
            let mut found = Vec::new();
            let end = loop {
                match form.next().await {
                    Ok(Some(mut field)) => {
                        let name = (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
                        match field.head(100).await {
                            Ok(bytes) => found.push((name, bytes)),
                            Err(error) => break Err(error),
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            // The two dashes behind the last boundary are the end, with or without a new line.
            assert_eq!(end.is_ok(), cut >= whole.len() - 2, "cut at {cut}");
            if end.is_ok() {
                let text = |text: &str| Some(text.to_owned());
                assert_eq!(found[0], ((text("purpose"), None), Bytes::from("vision")));
                assert_eq!(found[1], ((text("file"), text("a.png")), Bytes::from("hello")));
            }
        }
    }

    #[tokio::test]
    async fn a_form_that_came_too_slowly_is_not_read_on() {
        let whole = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n--b--\r\n";
        for (waited, expected) in [
            (Duration::ZERO, Ok(Bytes::from("vision"))),
            (GRACE + Duration::from_secs(1), Err(StatusCode::REQUEST_TIMEOUT)),
        ] {
            let mut form = open(Body::from(whole)).await;
            form.pace.count(1, waited);
            let mut field = form.next().await.expect("a form").expect("a field");
            assert_eq!(field.head(100).await.map_err(|refused| refused.status()), expected);
        }
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_kept() {
        let sent = Arc::new(AtomicI64::new(0));
        let counter = sent.clone();
        let endless = futures::stream::repeat_with(move || {
            counter.fetch_add(4096, Ordering::Relaxed);
            Ok::<_, axum::Error>(Bytes::from_static(&[b'x'; 4096]))
        });
        let begun = futures::stream::iter([Ok(Bytes::from_static(b"--b\r\n"))]);
        let mut form = open(Body::from_stream(begun.chain(endless))).await;
        let refused = form.next().await.map(|field| field.is_some()).expect_err("it never ends");
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent <= HELD_BYTES_MAX + 2 * 4096, "{sent} bytes were taken");
    }

    #[tokio::test]
    async fn what_is_no_form_or_says_to_be_too_long_is_not_read() {
        let (process, waits) = (Process::new(), Waits::default());
        let json = Request::builder().header(header::CONTENT_TYPE, "application/json").body(Body::from("{}"));
        let refused = Form::open(json.expect("a request"), &process, waits).await.expect_err("no form");
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let mut long = form(Body::empty());
        long.headers_mut().insert(header::CONTENT_LENGTH, http::HeaderValue::from(BODY_LIMIT_BYTES + 1));
        let refused = Form::open(long, &process, waits).await.expect_err("too long");
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    fn config(cases: u32) -> Config {
        Config { cases, failure_persistence: None, ..Config::default() }
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A field: its name, that of its file, and what is in it.
    type Part = (Option<String>, Option<String>, Vec<u8>);

    /// The fields of a form that arrives in these pieces.
    async fn fields(content_type: HeaderValue, pieces: Vec<Bytes>) -> Result<Vec<Part>, ApiError> {
        let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, axum::Error>));
        let mut request = Request::new(Body::from_stream(pieces));
        request.headers_mut().insert(header::CONTENT_TYPE, content_type);
        let mut form = Form::open(request, &Process::new(), Waits::default()).await?;
        let mut found = Vec::new();
        while let Some(mut field) = form.next().await? {
            let (name, file) = (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
            let mut content = Vec::new();
            while let Some(piece) = field.piece().await? {
                content.extend_from_slice(&piece);
            }
            found.push((name, file, content));
        }
        Ok(found)
    }

    /// A good form with these fields.
    fn written(boundary: &str, parts: &[Part]) -> Vec<u8> {
        let mut form: Vec<u8> = Vec::new();
        for (name, file, content) in parts {
            let name = name.as_ref().map_or_else(String::new, |name| format!("; name=\"{name}\""));
            let file = file.as_ref().map_or_else(String::new, |file| format!("; filename=\"{file}\""));
            let head = format!("--{boundary}\r\nContent-Disposition: form-data{name}{file}\r\n");
            form.extend(head.as_bytes());
            form.extend(b"Content-Type: text/plain\r\n\r\n");
            form.extend(content);
            form.extend(b"\r\n");
        }
        form.extend(format!("--{boundary}--\r\n").as_bytes());
        form
    }

    /// Cuts into pieces of these sizes, over and over.
    fn cut(bytes: Vec<u8>, sizes: &[usize]) -> Vec<Bytes> {
        let (mut rest, mut sizes) = (Bytes::from(bytes), sizes.iter().cycle());
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).min(rest.len()));
            pieces.push(rest.split_to(size));
        }
        pieces
    }

    fn boundary() -> impl Strategy<Value = String> {
        prop_oneof![Just("b".to_owned()), Just("--".to_owned()), "[0-9A-Za-z_-]{1,70}"]
    }

    fn part() -> impl Strategy<Value = Part> {
        let name = || proptest::option::of("[a-zж0-9_.;=\\[\\] -]{1,12}");
        // Bytes that are nearly a boundary among them.
        let content = prop_oneof![
            vec(any::<u8>(), 0..80),
            "(\r|\n|\r\n|-|--|\r\n-|b|x){0,16}".prop_map(String::into_bytes),
        ];
        (name(), name(), content)
    }

    fn is_within(bytes: &[u8], mark: &[u8]) -> bool {
        bytes.windows(mark.len()).any(|window| window == mark)
    }

    #[test]
    fn a_good_form_is_read_the_same_however_it_is_cut() {
        let runtime = runtime();
        proptest!(config(400), |(
            boundary in boundary(),
            parts in vec(part(), 0..5),
            sizes in vec(1..40_usize, 1..5),
        )| {
            let mark = format!("\r\n--{boundary}");
            prop_assume!(parts.iter().all(|(_, _, content)| !is_within(content, mark.as_bytes())));
            let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}")).unwrap();
            let pieces = cut(written(&boundary, &parts), &sizes);
            let found = runtime.block_on(fields(kind, pieces));
            prop_assert!(found.as_ref().is_ok_and(|found| *found == parts), "{found:?}");
        });
    }

    #[test]
    fn no_form_breaks_the_reader_or_makes_it_wait_or_gives_more_than_was_sent() {
        let runtime = runtime();
        let kind = prop_oneof![
            4 => Just("multipart/form-data; boundary=b".to_owned()),
            1 => "multipart/form-data; ?boundary=\"?[ -~]{0,20}\"?",
            1 => "[ -~]{0,40}",
        ];
        let head = "(--b|--b--|--|b)?(\r\n|\n| )?((?i)Content-Disposition: ?(form-data|file)?(; ?(file)?name\\*?=?\"?[a\\\\\"; ]{0,3}\"?){0,3}|[!-~]{0,9}:?[ -~]{0,9})?(\r\n){0,3}";
        let other = prop_oneof![vec(any::<u8>(), 0..6), head.prop_map(String::into_bytes)];
        let damage = (any::<Index>(), any::<Index>(), other);
        proptest!(config(500), |(
            kind in kind,
            parts in vec(part(), 0..4),
            damage in vec(damage, 0..4),
            sizes in vec(1..60_usize, 1..4),
        )| {
            let mut bytes = written("b", &parts);
            for (from, to, other) in damage {
                let at = from.index(bytes.len() + 1);
                let end = bytes.len().min(at + to.index(12));
                bytes.splice(at..end, other);
            }
            let sent = bytes.len();
            let kind = HeaderValue::from_str(&kind).unwrap();
            match runtime.block_on(fields(kind, cut(bytes, &sizes))) {
                Ok(found) => {
                    let given: usize = found.iter().map(|(_, _, content)| content.len()).sum();
                    prop_assert!(given <= sent, "{found:?}");
                }
                Err(refusal) => {
                    let known = [StatusCode::BAD_REQUEST, StatusCode::UNSUPPORTED_MEDIA_TYPE];
                    prop_assert!(known.contains(&refusal.status()), "{refusal:?}");
                }
            }
        });
    }

    #[test]
    fn of_a_form_without_end_no_more_is_taken_than_its_route_allows() {
        let runtime = runtime();
        let begun = proptest::sample::select(
            &["", "--b\r\n", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"][..],
        );
        proptest!(config(60), |(begun in begun, limit in 0..20_000_usize, size in 200..3000_usize, byte in any::<u8>())| {
            let sent = Arc::new(AtomicI64::new(0));
            let counter = sent.clone();
            let endless = futures::stream::repeat_with(move || {
                counter.fetch_add(i64::try_from(size).unwrap(), Ordering::Relaxed);
                Ok::<_, axum::Error>(Bytes::from(vec![byte; size]))
            });
            let begun = futures::stream::iter([Ok(Bytes::from_static(begun.as_bytes()))]);
            let mut request = form(Body::from_stream(begun.chain(endless)));
            request.extensions_mut().insert(BodyLimit(limit));
            DefaultBodyLimit::max(limit).apply(&mut request);
            let refused = runtime.block_on(async {
                let mut form = Form::open(request, &Process::new(), Waits::default()).await?;
                while let Some(mut field) = form.next().await? {
                    while field.piece().await?.is_some() {}
                }
                Ok::<_, ApiError>(())
            });
            let status = refused.map_err(|refusal| refusal.status());
            prop_assert_eq!(status, Err(StatusCode::PAYLOAD_TOO_LARGE));
            let taken = usize::try_from(sent.load(Ordering::Relaxed)).unwrap();
            prop_assert!(taken <= limit + 2 * size, "{taken} bytes were taken, and {limit} are allowed");
        });
    }
}
