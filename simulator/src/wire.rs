//! The connections: accepting them, and cutting them on purpose.
//!
//! A vendor that takes the work and then vanishes is the hardest fault there is, and it cannot be told in HTTP.
//! So the accept loop is our own: a handler that wants the line cut returns [`cut`], whose marker turns the
//! hyper service's result into an error, and hyper then closes the socket without writing one byte of a
//! response. The client sees a connection closed before the message completed.
//!
//! HTTP/1 only: an HTTP/2 stream reset would leave the connection standing and look different to a client.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, header},
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

/// How long requests in flight may still run once a shutdown was asked for; a slow fault must not hold it up.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// Rest after a failed accept, so that running out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between the last good byte and the cut, so that the byte is on its way before the line goes.
const CUT_PAUSE: Duration = Duration::from_millis(50);

/// Marks a response that must never be written.
#[derive(Debug, Clone, Copy)]
struct Cut;

/// Asks the accept loop to close the connection without any response.
pub(crate) fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Cut);
    response
}

/// The same response with half of its body: the length promises the whole, then the line is cut.
pub(crate) async fn cut_short(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = gather(body).await;
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    let pieces = stream::unfold(Some(half), |half| async move {
        match half {
            Some(half) if !half.is_empty() => Some((Ok::<Bytes, io::Error>(half), Some(Bytes::new()))),
            Some(_) => {
                sleep(CUT_PAUSE).await;
                Some((Err(io::Error::other("cut on purpose")), None))
            }
            None => None,
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// The whole of a body this server made itself.
pub(crate) async fn gather(body: Body) -> Bytes {
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

/// Serves connections until `shutdown` resolves, then gives those in flight a short grace.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let mut connections = JoinSet::new();
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone(), graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    if timeout(SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        connections.shutdown().await;
    }
}

async fn converse(stream: TcpStream, router: Router, watcher: hyper_util::server::graceful::Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off write coalescing");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            if response.extensions().get::<Cut>().is_some() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose"));
            }
            Ok(response)
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}
