//! `staffetta auth test`: a login, tried in the database as the auth service would, and then looked for among the blocks, as
//! the frontends do.

use std::process::ExitCode;

use serde_json::json;
use staffetta_auth::{Limits, Trial, Verdict};
use staffetta_config::{Backend, ByteSize, Config, Service};
use staffetta_telemetry::printable;

use crate::arguments::Auth;
use crate::command::block;
use crate::terminal::{complain, read_known_password, say};

pub(super) async fn run(auth: Auth) -> anyhow::Result<ExitCode> {
    let Auth::Test(asked) = auth;
    let config = asked.file.load(Service::Auth)?;
    anyhow::ensure!(
        config.auth.backend == Backend::Sql,
        "auth.backend is \"dovecot\": ask it with `doveadm auth test {}`",
        asked.login
    );
    let password = read_known_password("Password: ")?;
    let trial = staffetta_auth::try_login(&config.auth, &asked.login, &password).await?;
    let block = match &trial.verdict {
        Verdict::Accepted => blocked(&config, trial.login.as_ref().unwrap_or(&asked.login)).await,
        Verdict::Refused(_) | Verdict::Temporary(_) => None,
    };
    let (result, detail) = match (&trial.verdict, &block) {
        (Verdict::Accepted, None) => ("accepted", None),
        (Verdict::Accepted, Some(block)) => ("blocked", Some(block)),
        (Verdict::Refused(detail), _) => ("refused", Some(detail)),
        (Verdict::Temporary(detail), _) => ("temporary", Some(detail)),
    };
    if asked.json {
        let Trial { login, scheme, limits, .. } = &trial;
        let limits = json!({
            "messages": limits.messages.map(|limit| limit.to_string()),
            "recipients": limits.recipients.map(|limit| limit.to_string()),
            "size": limits.size,
        });
        let line = json!({"login": login, "scheme": scheme, "limits": limits, "result": result, "detail": detail});
        say(&line.to_string());
    } else {
        let login = trial.login.as_ref().unwrap_or(&asked.login);
        let scheme = trial.scheme.map(|scheme| format!(" (stored as {scheme})")).unwrap_or_default();
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        let limits = limits(&trial.limits);
        say(&printable(&format!("{login}: {result}{detail}{scheme}{limits}")));
    }
    Ok(if result == "accepted" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How it is blocked. Where Redis does not say so, no frontend lets anybody in for sure.
async fn blocked(config: &Config, login: &str) -> Option<String> {
    match block::of_login(config, login).await {
        Ok(block) => block,
        Err(error) => {
            complain(&format!("warning: whether it is blocked cannot be looked up: {error:#}"));
            None
        }
    }
}

/// What the account may send, if that is its own.
fn limits(limits: &Limits) -> String {
    let said = [
        limits.messages.map(|limit| format!("; messages {limit}")),
        limits.recipients.map(|limit| format!("; recipients {limit}")),
        limits.size.map(|octets| format!("; size {}", ByteSize(octets))),
    ];
    said.into_iter().flatten().collect()
}
