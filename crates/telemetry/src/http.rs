//! The HTTP port of every service: `/livez`, `/readyz`, `/metrics`.
//!
//! Meant for kubelets, load balancers and Prometheus inside the cluster, yet safe against others: at most
//! `MAX_CONNECTIONS` at a time, each answered once and closed, each gone after `LIFETIME`, and after `REQUEST` if it has
//! not asked for anything by then. A newcomer is never kept waiting: when all places are taken, the oldest connection
//! goes. It stays up while the service drains, with `/readyz` telling so.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::IntoFuture as _;
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
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use crate::Readiness;

/// Connections served at a time.
const MAX_CONNECTIONS: usize = 128;
/// Between two looks at what was not reached yet.
const WATCH: Duration = Duration::from_secs(1);
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(2);
/// Longest life of a connection.
const LIFETIME: Duration = Duration::from_secs(10);

/// Serves until `shutdown`, then finishes the requests that are under way.
///
/// `readiness` is asked at each `/readyz`: `200 ok`, with what is missing if anything is, or `503` with the reason. Until all
/// was reached it is asked by itself, too, so that what happens later does not depend on who has looked before. It is
/// asked at `/metrics`, too, so that its gauges are of that moment. Where several services run in one process, the port of
/// the first that [`crate::init`] was told of has the metrics of all; those of the others are an empty page that says so.
pub async fn serve(
    service: &'static str,
    listener: TcpListener,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let metrics = match crate::registry::elsewhere(service) {
        None => get(metrics),
        Some(first) => get(async move || {
            let text = format!("# The metrics of this process, all of them, are at {first}.http.\n");
            answer(StatusCode::OK, METRICS, text)
        }),
    };
    let readiness = Arc::new(readiness);
    let router = Router::new()
        .route("/livez", get(async || answer(StatusCode::OK, TEXT, "ok\n".to_owned())))
        .route("/readyz", get(readyz))
        .route("/metrics", metrics)
        .with_state(readiness.clone())
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }));
    let listener = Bounded { listener, open: VecDeque::new() };
    let served = serve_http(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).into_future();
    tokio::select! {
        done = served => done,
        never = watch(&readiness) => match never {},
    }
}

/// Looks until all was reached.
async fn watch(readiness: &Readiness) -> Infallible {
    while readiness.check().is_err() {
        sleep(WATCH).await;
    }
    std::future::pending().await
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn readyz(State(readiness): State<Arc<Readiness>>) -> Response {
    match readiness.check() {
        Ok(None) => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Ok(Some(missing)) => answer(StatusCode::OK, TEXT, format!("ok, but {missing}\n")),
        Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
    }
}

async fn metrics(State(readiness): State<Arc<Readiness>>) -> Response {
    // For its gauges.
    let _ = readiness.check();
    answer(StatusCode::OK, METRICS, crate::registry::render())
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Hands out connections; the oldest makes room.
struct Bounded {
    listener: TcpListener,
    /// Dropping one ends its connection.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Listener for Bounded {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Limited, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if self.open.len() >= MAX_CONNECTIONS {
            self.open.retain(|open| !open.is_closed());
        }
        if self.open.len() >= MAX_CONNECTIONS {
            self.open.pop_front();
        }
        let (open, evicted) = oneshot::channel();
        self.open.push_back(open);
        (Limited { stream, end: Box::pin(sleep(REQUEST)), evicted, asked: false }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct Limited {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    evicted: oneshot::Receiver<()>,
    /// The request is there: it is being answered.
    asked: bool,
}

impl Limited {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.end.as_mut().poll(cx).is_ready() || Pin::new(&mut self.evicted).poll(cx).is_ready();
        if over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
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
        if !self.asked {
            self.asked = true;
            let end = Instant::now() + (LIFETIME - REQUEST);
            self.end.as_mut().reset(end);
        }
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
