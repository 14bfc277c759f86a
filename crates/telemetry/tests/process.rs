//! Telemetry as a process has it: one registry, one mail log, the HTTP port.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use staffetta_telemetry::{Build, LogFormat, Readiness, Standing, http, init};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What Prometheus' own linter says; `None` where it is not installed.
fn promtool(page: &str) -> Option<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Where nobody polls, the first to ask may come in the middle of an outage.
#[tokio::test]
async fn what_was_reached_before_anybody_asked_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (looks, shutdown) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
    let count = looks.clone();
    // Not there at first, then once, then never again.
    let ask = move || match count.fetch_add(1, Relaxed) {
        1 => Standing::Up,
        _ => Standing::Away("no store".to_owned()),
    };
    let readiness = Readiness::new(CancellationToken::new()).needs("store", ask);
    let server = tokio::spawn(http::serve("pages", listener, readiness, shutdown.clone()));
    while looks.load(Relaxed) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let said = fetch(address, "/readyz").await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nok, but no store\n"), "{said}");
    shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_three_pages() {
    let build = Build { version: "1.2.3", commit: "abcdef" };
    let _guard = init(LogFormat::Json, "info", &["test", "guest"], build).unwrap();
    let _again = init(LogFormat::Json, "info", &["test", "guest"], build).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, draining) = (CancellationToken::new(), CancellationToken::new());
    let away = CancellationToken::new();
    let store = away.clone();
    let ask = move || if store.is_cancelled() { Standing::Away("no store".to_owned()) } else { Standing::Up };
    let readiness = Readiness::new(draining.clone()).needs("store", ask);
    let server = tokio::spawn(http::serve("test", listener, readiness, shutdown.clone()));

    let live = fetch(address, "/livez").await;
    assert!(live.starts_with("HTTP/1.1 200 OK\r\n") && live.ends_with("\r\n\r\nok\n"), "{live}");
    assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(fetch(address, "/metrics").await.contains("\nstaffetta_dependency_up{dependency=\"store\"} 1\n"));
    away.cancel();
    let poor = fetch(address, "/readyz").await;
    assert!(poor.starts_with("HTTP/1.1 200 OK\r\n") && poor.ends_with("\r\n\r\nok, but no store\n"), "{poor}");
    assert!(fetch(address, "/metrics").await.contains("\nstaffetta_dependency_up{dependency=\"store\"} 0\n"));
    draining.cancel();
    let late = fetch(address, "/readyz").await;
    assert!(late.starts_with("HTTP/1.1 503 ") && late.ends_with("\r\n\r\ndraining\n"), "{late}");
    assert!(fetch(address, "/else").await.starts_with("HTTP/1.1 404 "));

    metrics::describe_histogram!("staffetta_message_size_bytes", "Size of accepted messages.");
    metrics::histogram!("staffetta_message_size_bytes").record(4711.0);
    metrics::describe_histogram!("staffetta_queue_commit_duration_seconds", "Time from the final dot to the reply.");
    metrics::histogram!("staffetta_queue_commit_duration_seconds").record(0.003);
    let page = fetch(address, "/metrics").await;
    let (head, page) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "staffetta_message_size_bytes_bucket{le=\"5000\"} 1",
        "staffetta_queue_commit_duration_seconds_bucket{le=\"0.005\"} 1",
        "staffetta_log_write_errors_total 0",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE staffetta_runtime_alive_tasks gauge",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
    }
    for service in ["test", "guest"] {
        let line = format!("staffetta_build_info{{version=\"1.2.3\",commit=\"abcdef\",service=\"{service}\"}} 1");
        assert!(page.lines().any(|it| it == line), "{line} is missing in\n{page}");
    }
    assert_eq!(promtool(page).unwrap_or_default(), "");

    // A second service of the process: whoever scrapes both must not count everything twice.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let guest = tokio::spawn(http::serve("guest", listener, Readiness::new(draining), shutdown.clone()));
    assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let empty = fetch(address, "/metrics").await;
    assert!(empty.starts_with("HTTP/1.1 200 ") && empty.ends_with(" at test.http.\n"), "{empty}");
    assert!(!empty.contains("\nstaffetta_"), "{empty}");

    shutdown.cancel();
    guest.await.unwrap().unwrap();
    server.await.unwrap().unwrap();
}
