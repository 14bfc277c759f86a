//! `staffetta sink`: a test MX in the foreground.

use std::process::ExitCode;

use anyhow::Context;
use staffetta_transport::shutdown;

use crate::arguments;
use crate::sink::{Scenario, Settings, Sink};
use crate::terminal::say;

pub(super) async fn run(arguments: arguments::Sink) -> anyhow::Result<ExitCode> {
    let scenario = match &arguments.scenario {
        None => Scenario::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Scenario::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
        }
    };
    let stop = shutdown::on_signal()?;
    let settings = Settings { directory: arguments.directory, scenario, ..Settings::default() };
    let mut sink = Sink::start(arguments.bind, settings).await?;
    say(&format!("sink listens on {}", sink.address()));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(message) = sink.received() => say(&message.to_string()),
        }
    }
    match sink.missed() {
        0 => say(&format!("{} messages", sink.count())),
        missed => say(&format!("{} messages, {missed} of them not shown", sink.count())),
    }
    Ok(ExitCode::SUCCESS)
}
