//! A web server with the policies of domains, which may be sent something: HTTPS, one answer a connection.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use staffetta_testkit::web::{self, Connection};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

#[derive(Default)]
struct State {
    /// Whole answers, by host.
    answers: HashMap<String, String>,
    /// `host path`.
    requests: Vec<String>,
    /// Host and path of what was posted, and the content.
    posts: Vec<(String, Vec<u8>)>,
    /// Where it is taken.
    takes: HashSet<String>,
}

/// A running server; it ends when dropped.
pub(crate) struct Web {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Web {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(tls: TlsAcceptor) -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), tls).await
    }

    pub(crate) async fn start_on(address: SocketAddr, tls: TlsAcceptor) -> anyhow::Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let (address, tasks) = web::serve(address, Some(tls), move |stream| serve(stream, shared.clone())).await?;
        Ok(Self { address, state, _tasks: tasks })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this host has this policy: lines without `version`.
    pub(crate) fn policy(&self, host: &str, lines: &str) {
        let body = format!("version: STSv1\n{lines}\nmax_age: 86400\n");
        self.answer(host, "200 OK", "text/plain; charset=utf-8", &body);
    }

    pub(crate) fn answer(&self, host: &str, status: &str, kind: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nLocation: https://{host}/elsewhere\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        lock(&self.state).answers.insert(host.to_owned(), answer);
    }

    /// From now on what is posted to this host and path is taken.
    pub(crate) fn take_posts_at(&self, place: &str) {
        lock(&self.state).takes.insert(place.to_owned());
    }

    /// What was posted there so far, taken or not.
    pub(crate) fn posts(&self, place: &str) -> Vec<Vec<u8>> {
        let state = lock(&self.state);
        state.posts.iter().filter(|(at, _)| at == place).map(|(_, content)| content.clone()).collect()
    }

    /// What was asked for of this host so far.
    pub(crate) fn requests(&self, host: &str) -> Vec<String> {
        let all = lock(&self.state).requests.clone();
        all.into_iter().filter_map(|request| request.strip_prefix(&format!("{host} ")).map(str::to_owned)).collect()
    }
}

async fn serve(mut stream: Connection, state: Arc<Mutex<State>>) {
    let (mut path, mut host, mut posted) = (String::new(), String::new(), None);
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return;
        }
        match line.trim_end().split_once(' ') {
            Some(("GET", rest)) => path = rest.trim_end_matches(" HTTP/1.1").to_owned(),
            Some(("POST", rest)) => {
                path = rest.trim_end_matches(" HTTP/1.1").to_owned();
                posted = Some(Vec::new());
            }
            Some((key, value)) if key.eq_ignore_ascii_case("content-length:") => {
                posted = posted.map(|_| vec![0; value.parse().unwrap_or(0)]);
            }
            Some((key, value)) if key.eq_ignore_ascii_case("host:") => host = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    if let Some(mut content) = posted {
        if stream.read_exact(&mut content).await.is_err() {
            return;
        }
        let place = format!("{host}{path}");
        let status = {
            let mut state = lock(&state);
            let taken = state.takes.contains(&place);
            state.posts.push((place, content));
            if taken { "201 Created" } else { "503 Later" }
        };
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        let _ = stream.shutdown().await;
        return;
    }
    let answer = {
        let mut state = lock(&state);
        state.requests.push(format!("{host} {path}"));
        state.answers.get(&host).cloned().unwrap_or_else(|| "HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n".to_owned())
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
