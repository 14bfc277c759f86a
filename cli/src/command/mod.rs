//! One file a command.

mod auth;
mod block;
mod check;
mod completions;
mod config;
mod dkim;
mod hash;
mod login;
mod man;
mod queue;
mod resolve;
mod sendmail;
mod sink;
mod suppress;
mod suspended;
mod trace;
mod up;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use staffetta_config::{Config, Service};
use staffetta_telemetry::Build;

use crate::arguments::{Arguments, Command, ConfigFile};

/// The configuration file of an installed system.
const SYSTEM_CONFIG: &str = "/etc/staffetta/staffetta.toml";
/// The configuration file that `staffetta up` writes.
const LOCAL_CONFIG: &str = ".staffetta/staffetta.toml";

/// Runs one command.
pub(crate) async fn dispatch(arguments: Arguments, build: Build) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Up(up) => up::run(up, build).await,
        Command::Check(file) => check::run(&file).await,
        Command::Config(config) => config::run(&config),
        Command::User(user) => user::run(user).await,
        Command::Auth(auth) => auth::run(auth).await,
        Command::Hash(hash) => hash::run(&hash),
        Command::Queue(queue) => queue::run(queue).await,
        Command::Login(login) => login::run(login).await,
        Command::Block(block) => block::block(block).await,
        Command::Unblock(unblock) => block::unblock(unblock).await,
        Command::Blocks(blocks) => block::list(&blocks).await,
        Command::Trace(trace) => trace::run(&trace).await,
        Command::Suppress(suppress) => suppress::run(suppress).await,
        Command::Destination(destination) => suppress::destination(destination).await,
        Command::Source(source) => suppress::source(source).await,
        Command::Resolve(resolve) => resolve::run(&resolve).await,
        Command::Dkim(dkim) => dkim::run(dkim).await,
        Command::Sink(sink) => sink::run(sink).await,
        Command::Sendmail(sendmail) => Ok(sendmail::run(sendmail).await),
        Command::Completions(completions) => Ok(completions::run(&completions)),
        Command::Man(man) => man::run(&man),
    }
}

impl ConfigFile {
    /// The file that was named; else the system's; else the one of a local `staffetta up`.
    fn path(&self) -> PathBuf {
        match &self.config {
            Some(path) => path.clone(),
            None if !Path::new(SYSTEM_CONFIG).exists() && Path::new(LOCAL_CONFIG).exists() => LOCAL_CONFIG.into(),
            None => SYSTEM_CONFIG.into(),
        }
    }

    /// In a pod, only the files that this service needs are there.
    fn load(&self, service: Service) -> anyhow::Result<Config> {
        Ok(Config::load_for(&self.path(), service)?)
    }
}
