//! Hands out the metrics: over HTTP to whoever scrapes, and as a file to node_exporter.
//!
//! The listener exists only where the configuration asks for it. It answers `GET /metrics` and nothing else, reads no body, and serves a few at a time for
//! a few seconds each, so that nobody who reaches it can hold the daemon up.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::Metrics;

/// Served at the same time; more have to come again.
const MOST_AT_ONCE: usize = 8;
/// How long one connection may last.
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes of a request's head; a scrape has some hundred.
const LARGEST_HEAD: usize = 16 << 10;

const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The listener; it stops when dropped.
#[derive(Debug)]
pub struct Exporter {
    task: tokio::task::JoinHandle<()>,
}

impl Exporter {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(address: SocketAddr, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address} for metrics"))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { task: tokio::spawn(accept(listener, metrics)) })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the caller is gone already: at once it would be the same.
                tracing::debug!(%error, "a scrape could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let _place = place;
            if tokio::time::timeout(LONGEST, serve(stream, metrics)).await.is_err() {
                tracing::debug!("a scrape took too long and was ended");
            }
        });
    }
}

async fn serve(stream: TcpStream, metrics: Arc<Metrics>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &metrics);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(LONGEST).max_buf_size(LARGEST_HEAD).keep_alive(false);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a scrape came to nothing");
    }
}

fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, body) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, metrics.openmetrics()),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there is only /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    match status {
        StatusCode::OK => drop(response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS)),
        StatusCode::METHOD_NOT_ALLOWED => drop(response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"))),
        _ => {}
    }
    response
}

/// Replaces the file that node_exporter's textfile collector reads, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_textfile(path: &Path, metrics: &Metrics) -> anyhow::Result<()> {
    // The collector reads names that end in `.prom`; this one does not.
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let write = || {
        std::fs::write(&temporary, metrics.textfile())?;
        // The collector is another user, whatever our umask.
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644))?;
        std::fs::rename(&temporary, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write the metrics to {}", path.display()))
}
