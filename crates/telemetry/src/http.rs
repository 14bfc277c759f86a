//! The HTTP port of every service: `/livez`, `/readyz`, `/metrics`.
//!
//! Meant for kubelets, load balancers and Prometheus inside the cluster, yet safe against others: at most
//! `MAX_CONNECTIONS` at a time, each answered once and closed, each gone after `LIFETIME`. It stays up while the
//! service drains, with `/readyz` telling so.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Router, serve as serve_http};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// Connections served at a time; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 128;
/// Longest life of a connection.
const LIFETIME: Duration = Duration::from_secs(10);

type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves until `shutdown`, then finishes the requests that are under way.
///
/// `ready` is asked at each `/readyz`: `Ok` gives `200 ok`, `Err` gives `503` with the reason. It must not block.
pub async fn serve(
    listener: TcpListener,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let ready: Ready = Arc::new(ready);
    let router = Router::new()
        .route("/livez", get(async || answer(StatusCode::OK, TEXT, "ok\n".to_owned())))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async || answer(StatusCode::OK, METRICS, crate::registry::render())))
        .with_state(ready)
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }));
    let listener = Bounded { listener, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    serve_http(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn readyz(State(ready): State<Ready>) -> Response {
    match ready() {
        Ok(()) => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
    }
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Hands out connections only while there are slots.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Limited, SocketAddr) {
        // The semaphore is never closed.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Limited { stream, end: Box::pin(sleep(LIFETIME)), _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct Limited {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Limited {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
