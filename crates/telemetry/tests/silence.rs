//! Spans that nobody takes: a collector that lets connect and says nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use staffetta_telemetry::spans::{self, Kind, Settings, Tracer};
use staffetta_telemetry::{Build, LogFormat, Readiness, http, init};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// As many as may wait.
const ROOM: usize = 8192;

/// The runtime has one thread: nothing is exported before the test waits for something.
#[tokio::test]
async fn what_has_no_room_is_counted_and_the_end_waits_for_a_moment_only() {
    let _guard = init(LogFormat::Json, "error", &["test"], Build::UNKNOWN).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    spans::start(&Settings { endpoint, ca: None, share: 1.0 }, Build::UNKNOWN).unwrap();
    for _ in 0..ROOM + 7 {
        let span = Tracer::of("test").root("work", Kind::Server);
        assert!(span.context().is_some());
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(http::serve("test", listener, Readiness::new(shutdown.clone()), shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    for line in ["staffetta_spans_dropped_total{reason=\"full\"} 7", "staffetta_spans_exported_total 0"] {
        assert!(page.lines().any(|it| it == line), "{line} is missing in\n{page}");
    }
    // A try alone takes ten seconds, and there are three for each batch.
    tokio::time::timeout(Duration::from_secs(9), spans::finish()).await.unwrap();
    shutdown.cancel();
}
