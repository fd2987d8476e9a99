//! The connections that requests come by: taken, not waited for without end, and brought to a good end.
//!
//! HTTP/1.1, and HTTP/2 for proxies that speak it without TLS. A client that says nothing, says it too slowly or does not take its
//! answer loses its connection and nobody else's. At a stop, what is under way goes on while there is time; whoever comes meanwhile
//! is still let in, to hear from the routes that they go elsewhere. This is axum's `serve` with those limits, which that has no
//! place for. Deliberately absent: TLS, which the proxy in front does.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, extract::ConnectInfo};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::socket::Socket;

/// Longest head of a request, its address and headers; longer ones get 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The same for HTTP/2, where headers come packed.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Most requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 200;
/// How often a silent connection of HTTP/2 is asked whether it lives, and how long it has to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Rest after connections could not be taken, as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long those who came during a stop have to take their answers, once all others have theirs.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How long who is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The whole head of a request, also the next one on a connection.
    pub head: Duration,
    /// A client that takes nothing of its answer.
    pub stall: Duration,
    /// Requests under way at a stop.
    pub drain: Duration,
}

impl Patience {
    /// That of a public door. A connection rests between two requests for as long as a head may take: longer than proxies keep one
    /// (a minute, as nginx and the balancers of clouds have it), so that none sends a request into one that is just being closed.
    pub fn draining(drain: Duration) -> Self {
        Self { head: Duration::from_secs(75), stall: Duration::from_secs(60), drain }
    }
}

/// Answers by `router` until `stop` completes and the requests under way are answered, or have had their time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Patience,
    stop: impl Future<Output = ()>,
) {
    let (graceful, mut connections) = (GracefulShutdown::new(), JoinSet::new());
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            (stream, peer) = next(&listener) => {
                connections.spawn(converse(stream, peer, router.clone(), patience, Some(graceful.watcher())));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = &mut stop => break,
        }
    }
    if timeout(patience.drain, drain(listener, router, patience, graceful)).await.is_err() {
        tracing::warn!("requests were still under way when the time to stop had come");
    }
    connections.shutdown().await;
}

/// Completes when all that was under way is answered. Until then whoever comes anew is let in for one request, so that they hear
/// that the process is stopping, and whoever watches over it that it is not ready.
async fn drain(listener: TcpListener, router: Router, patience: Patience, graceful: GracefulShutdown) {
    let mut late = JoinSet::new();
    let mut answered = pin!(graceful.shutdown());
    loop {
        tokio::select! {
            () = &mut answered => break,
            (stream, peer) = next(&listener) => {
                late.spawn(converse(stream, peer, router.clone(), patience, None));
            }
            Some(_) = late.join_next(), if !late.is_empty() => {}
        }
    }
    drop(listener);
    let rest = async { while late.join_next().await.is_some() {} };
    // Whoever has not asked by then is not waited for.
    drop(timeout(LATE_MAX, rest).await);
}

/// The next connection.
async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // It was gone before it was taken.
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers the requests of one connection: all of them, or just one where nobody watches over its end.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    patience: Patience,
    watcher: Option<Watcher>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "events may wait for each other");
    }
    let io = TokioIo::new(Socket::new(stream, patience.head, patience.stall));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut builder = configured(patience);
    if watcher.is_none() {
        builder.http1().keep_alive(false);
        builder = builder.http1_only();
    }
    let connection = builder.serve_connection(io, service).into_owned();
    let ended = match watcher {
        Some(watcher) => watcher.watch(connection).await,
        None => connection.await,
    };
    if let Err(error) = ended {
        // A client that left, was too slow or sent nonsense.
        tracing::debug!(%error, "a connection ended early");
    }
}

fn configured(patience: Patience) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.head).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::mpsc,
    };

    use super::*;

    /// Says when it is dropped.
    struct Told(mpsc::UnboundedSender<()>);

    impl Drop for Told {
        fn drop(&mut self) {
            // Nobody listens any more at the end of the test.
            self.0.send(()).ok();
        }
    }

    /// Longest wait of a test for what should happen at once.
    const SOON: Duration = Duration::from_secs(20);

    /// Runs a test against a door with hardly any patience.
    async fn at_a_hasty_door<T>(router: Router, test: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let short = Duration::from_millis(100);
        let patience = Patience { head: short, stall: short, drain: SOON };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::select! {
            () = serve(listener, router, patience, std::future::pending()) => unreachable!("it is not told to stop"),
            tested = timeout(SOON, test(addr)) => tested.expect("in time"),
        }
    }

    /// All that comes of a connection by which this was sent, until it is closed.
    async fn answer(addr: SocketAddr, sent: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is reset has come to its end as well.
        drop(stream.write_all(sent).await);
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_its_head_loses_its_connection() {
        let router = Router::new().route("/", get(|| async { "hello" }));
        at_a_hasty_door(router, async |addr| {
            let begun: [&[u8]; 4] =
                [b"", b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nslow: "];
            for sent in begun {
                let answer = answer(addr, sent).await;
                assert!(!answer.contains("hello"), "{answer}");
            }
            // The connection is kept for another request, which does not come.
            let whole = answer(addr, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("hello"), "{whole}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_loses_its_connection() {
        let (sender, mut dropped) = mpsc::unbounded_channel();
        let endless = get(move || {
            let told = Told(sender.clone());
            async move {
                Body::from_stream(futures::stream::repeat_with(move || {
                    let _held: &Told = &told;
                    Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 65536]))
                }))
            }
        });
        let router = Router::new().route("/", endless);
        at_a_hasty_door(router, async |addr| {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            // The client is there and reads nothing more; the answer is dropped all the same.
            assert_eq!(dropped.recv().await, Some(()));
        })
        .await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let router = Router::new().route("/", get(|| async { "hello" }));
        at_a_hasty_door(router, async |addr| {
            let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
            let refused = answer(addr, long.as_bytes()).await;
            // Where the rest arrives too late to be read, the connection is reset, and the answer with it.
            assert!(refused.starts_with("HTTP/1.1 431 ") || refused.is_empty(), "{refused}");
        })
        .await;
    }
}
