//! An S3 service on loopback that keeps objects as files.
//!
//! `s3s` speaks the protocol and checks signatures, `s3s-fs` reads and writes the files. Every request must be
//! signed; an unsigned read is refused like anywhere else. What `s3s-fs` leaves out and the platform relies on is
//! added here: signed `response-*` parameters of a download. Deliberately absent: `s3s`'s own log lines. They
//! show whole requests, signatures included; failures are logged here with method and path instead.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, ensure};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use s3s::{
    HttpError, HttpResponse,
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::lock::FolderLock;

/// How long a stop waits for answers under way.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, which mostly means no free file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Query parameters that name a header of the answer, after the `GetObject` reference of S3.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", CACHE_CONTROL),
    ("response-content-disposition", CONTENT_DISPOSITION),
    ("response-content-encoding", CONTENT_ENCODING),
    ("response-content-language", CONTENT_LANGUAGE),
    ("response-content-type", CONTENT_TYPE),
    ("response-expires", EXPIRES),
];

/// A running S3 service.
#[derive(Debug)]
pub struct S3Server {
    endpoint: String,
    stopping: CancellationToken,
    tasks: TaskTracker,
    _lock: FolderLock,
}

impl S3Server {
    /// Serves `dir`, a folder of its own, made on first use, on a port of loopback, any free one for 0. The one
    /// user may do everything; the bucket is made if it is not there.
    ///
    /// # Errors
    /// When the bucket's name is none, the port is taken, or another run uses the folder.
    pub async fn start(
        dir: &Path,
        port: u16,
        access_key: &str,
        secret_key: &str,
        bucket: &str,
    ) -> anyhow::Result<Self> {
        ensure!(s3s::path::check_bucket_name(bucket), "{bucket:?} is no name for a bucket");
        let make = || std::fs::create_dir_all(dir.join(bucket));
        make().with_context(|| format!("make the folder {}", dir.join(bucket).display()))?;
        let lock = FolderLock::take(dir)?;
        let files = s3s_fs::FileSystem::new(dir)
            .map_err(|error| anyhow::anyhow!("serve files from {}: {error:?}", dir.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("listen on 127.0.0.1:{port} for S3"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, service.build(), stopping.clone(), tasks.clone()));
        tracing::info!(s3.endpoint = endpoint, s3.bucket = bucket, "S3 service is up");
        Ok(Self { endpoint, stopping, tasks, _lock: lock })
    }

    /// Base URL of the service. Clients must address buckets by path.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops accepting requests and gives those under way a few seconds to end.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests to the S3 service were cut off after {DRAIN_MAX:?}");
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn accept(listener: TcpListener, service: S3Service, stopping: CancellationToken, tasks: TaskTracker) {
    let builder = Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let socket = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection to the S3 service");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let service = service.clone();
        let answering = service_fn(move |request| answer(service.clone(), request));
        let connection =
            graceful.watch(builder.serve_connection(TokioIo::new(socket), answering).into_owned());
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection to the S3 service broke off");
            }
        });
    }
    drop(listener);
    // Idle connections are closed, busy ones after their answer.
    graceful.shutdown().await;
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<HttpResponse, HttpError> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response =
        service.call(request.map(s3s::Body::from)).with_subscriber(NoSubscriber::new()).await?;
    let status = response.status();
    if status.is_server_error() {
        tracing::warn!(http.method = %method, http.path = uri.path(), http.status = status.as_u16(), "S3 request failed");
    }
    if method == Method::GET && status.is_success() {
        // The signature covered the parameters, or the answer would not be a success.
        override_headers(response.headers_mut(), &uri);
    }
    Ok(response)
}

/// Sets the headers that the query asks for.
fn override_headers(headers: &mut HeaderMap, uri: &Uri) {
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let header = OVERRIDES.iter().find(|(parameter, _)| *parameter == name);
        if let (Some((_, header)), Ok(value)) = (header, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(header, value);
        }
    }
}

#[cfg(test)]
mod tests;
