//! One relay with everything around it.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use rustix::process::Signal;
use secrecy::SecretString;
use staffetta_auth::accounts::Accounts;
use staffetta_cli::sink::{self, Scenario, Sink};
use staffetta_config::Config;
use staffetta_queue::Queue;
use staffetta_queue::server::{LocalServer, Options};
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_testkit::child::Running;
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::ports::Port;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::http::{Metrics, get};
use crate::{Client, Hand, Redis, SOON, eventually};

/// One of the three services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `staffetta-auth`
    Auth,
    /// `staffetta-frontend`
    Frontend,
    /// `staffetta-delivery`
    Delivery,
}

impl Service {
    const ALL: [Self; 3] = [Self::Auth, Self::Frontend, Self::Delivery];

    fn program(self) -> &'static str {
        match self {
            Self::Auth => "staffetta-auth",
            Self::Frontend => "staffetta-frontend",
            Self::Delivery => "staffetta-delivery",
        }
    }
}

/// A relay, its Redis, its accounts, its DNS.
pub struct World {
    folder: TempDir,
    /// The zone that the relay sees.
    pub dns: FakeDns,
    /// The queue's server.
    pub redis: LocalServer,
    authority: Authority,
    ports: Ports,
    settings: Vec<(&'static str, String)>,
    tables: String,
    listeners: String,
    clocks: Vec<(Service, i64)>,
    /// What services find in their environment.
    environment: Vec<(String, String)>,
    running: Vec<(Service, Running)>,
    mail_hosts: u8,
}

struct Ports {
    auth: Port,
    auth_http: Port,
    frontend_http: Port,
    delivery_http: Port,
    second_http: Port,
    smtp: Port,
    submission: Port,
    submissions: Port,
    mx: Port,
}

impl Ports {
    fn reserve() -> anyhow::Result<Self> {
        let port = Port::reserve;
        Ok(Self {
            auth: port()?,
            auth_http: port()?,
            frontend_http: port()?,
            delivery_http: port()?,
            second_http: port()?,
            smtp: port()?,
            submission: port()?,
            submissions: port()?,
            mx: port()?,
        })
    }
}

impl World {
    /// Prepares everything but the services: strangers come from any loopback address but 127.0.0.9, retries and
    /// leases are short, MX hosts listen on one free port.
    ///
    /// # Errors
    /// If a part cannot start.
    pub async fn new() -> anyhow::Result<Self> {
        transport_provider();
        let folder = tempfile::Builder::new().prefix("staffetta").tempdir()?;
        let redis = LocalServer::start_with(&folder.path().join("redis"), Options::default())?;
        let authority = Authority::new(folder.path())?;
        let world = Self {
            dns: FakeDns::start().await?,
            redis,
            authority,
            ports: Ports::reserve()?,
            settings: vec![
                ("delivery.retry_min", "\"1s\"".into()),
                ("delivery.retry_max", "\"2s\"".into()),
                ("delivery.lease", "\"5s\"".into()),
                ("delivery.blocked_networks", "[]".into()),
                ("frontend.trusted_networks", "[\"127.0.0.9/32\"]".into()),
                ("auth.drain_delay", "\"0s\"".into()),
                ("frontend.drain_delay", "\"0s\"".into()),
            ],
            tables: String::new(),
            listeners: String::new(),
            clocks: Vec::new(),
            environment: Vec::new(),
            running: Vec::new(),
            mail_hosts: 0,
            folder,
        };
        world.authority.leaf("relay", &["mail.example.org", "localhost"])?;
        Ok(world)
    }

    /// Sets a dotted key to a TOML value. A value given earlier for the same key is replaced.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.retain(|(k, _)| *k != key);
        self.settings.push((key, value.into()));
        self
    }

    /// Lets the clock of a service be wrong by so many seconds. Its monotonic clock stays right.
    ///
    /// # Errors
    /// Without a C compiler, which the build needs too.
    pub fn skewed(mut self, service: Service, seconds: i64) -> anyhow::Result<Self> {
        crate::skew::build(self.folder.path())?;
        self.clocks.push((service, seconds));
        Ok(self)
    }

    /// Adds variables to the environment of the services.
    #[must_use]
    pub fn environment(mut self, variables: Vec<(String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Adds whole tables, such as `[[delivery.route]]`.
    #[must_use]
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self
    }

    /// Adds a listener, an inline table, to the usual three.
    #[must_use]
    pub fn listener(mut self, toml: &str) -> Self {
        self.listeners.push_str(&format!("  {toml},\n"));
        self
    }

    /// Adds an account to the SQLite back end, hashed with the default scheme.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn user(self, email: &str, password: &str) -> anyhow::Result<Self> {
        self.accounts().await?.add(email, &SecretString::from(password)).await?;
        Ok(self)
    }

    /// The same with what SCRAM needs.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn scram_user(self, email: &str, password: &str) -> anyhow::Result<Self> {
        let accounts = self.accounts().await?.storing_as("SCRAM-SHA-256")?;
        accounts.add(email, &SecretString::from(password)).await?;
        Ok(self)
    }

    /// The account store; opening it makes it, with its tables.
    async fn accounts(&self) -> anyhow::Result<Accounts> {
        self.write_config()?;
        let config = Config::load(&self.config_file())?;
        Ok(Accounts::open(&config.auth.sql).await?)
    }

    /// Starts the three services and waits until they are ready.
    ///
    /// # Errors
    /// If one of them does not become ready; the text has the end of its log.
    pub async fn start(mut self) -> anyhow::Result<Self> {
        self.accounts().await?.close().await;
        for service in Service::ALL {
            self.spawn(service)?;
        }
        for service in Service::ALL {
            self.until_ready(service).await?;
        }
        Ok(self)
    }

    /// Starts one service (again) without waiting.
    ///
    /// # Errors
    /// If the binary is missing.
    pub fn spawn(&mut self, service: Service) -> anyhow::Result<()> {
        self.spawn_with(service, self.config_file(), &self.log_file(service))
    }

    /// Starts one more process of a service, with these changes to the text of its configuration, and waits until it is
    /// ready at `http`.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn another(
        &mut self,
        service: Service,
        http: SocketAddr,
        changes: &[(SocketAddr, SocketAddr)],
    ) -> anyhow::Result<()> {
        let mut text = fs::read_to_string(self.config_file())?;
        for (old, new) in [&[(self.http(service), http)], changes].concat() {
            text = text.replace(&old.to_string(), &new.to_string());
        }
        let name = format!("{}-{}", service.program(), self.running.len());
        let config = self.folder.path().join(format!("{name}.toml"));
        fs::write(&config, text)?;
        self.spawn_with(service, config, &self.folder.path().join(format!("{name}.log")))?;
        until_ready(http).await
    }

    /// Where the first auth pod listens.
    pub fn auth(&self) -> SocketAddr {
        self.ports.auth.address()
    }

    /// Starts one more worker, of the same configuration but for the HTTP port, and waits until it is ready; where its
    /// metrics are.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn second_worker(&mut self) -> anyhow::Result<SocketAddr> {
        let http = self.ports.second_http.address();
        self.another(Service::Delivery, http, &[]).await?;
        Ok(http)
    }

    fn spawn_with(&mut self, service: Service, config: PathBuf, log: &Path) -> anyhow::Result<()> {
        let program = program(service.program())?;
        let mut arguments: Vec<OsString> = vec![program.into(), "--config".into(), config.into()];
        if let Some((_, seconds)) = self.clocks.iter().find(|(s, _)| *s == service) {
            arguments.splice(0..0, crate::skew::environment(self.folder.path(), *seconds));
        }
        arguments.splice(0..0, self.environment.iter().map(|(name, value)| format!("{name}={value}").into()));
        // It becomes the program, and keeps its process id.
        let running = Running::start("env", &arguments, log)?;
        self.running.push((service, running));
        Ok(())
    }

    /// Waits until `/readyz` says yes, and that nothing is missing.
    ///
    /// # Errors
    /// With the reason and the service's log.
    pub async fn until_ready(&self, service: Service) -> anyhow::Result<()> {
        let ready = until_ready(self.http(service));
        ready.await.with_context(|| format!("{} is not ready: {}", service.program(), self.log(service)))
    }

    /// Kills every process of a service at once (SIGKILL).
    pub fn kill(&mut self, service: Service) {
        self.running.retain_mut(|(s, running)| {
            if *s == service {
                running.kill();
            }
            *s != service
        });
    }

    /// Asks a service to drain (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it does not end in time, or not with exit code 0.
    pub fn stop(&mut self, service: Service) -> anyhow::Result<()> {
        for (_, running) in self.running.iter_mut().filter(|(s, _)| *s == service) {
            running.signal(Signal::TERM)?;
            let code = running.wait(SOON)?;
            if code != Some(0) {
                bail!("{} ended with {code:?}: {}", service.program(), read_log(&self.folder, service));
            }
        }
        self.running.retain(|(s, _)| *s != service);
        Ok(())
    }

    /// Asks a service to read its files again (SIGHUP).
    ///
    /// # Errors
    /// If it does not run.
    pub fn hang_up(&self, service: Service) -> anyhow::Result<()> {
        let all = || self.running.iter().filter(move |(s, _)| *s == service);
        if all().next().is_none() {
            bail!("{} does not run", service.program());
        }
        all().try_for_each(|(_, running)| running.signal(Signal::HUP))
    }

    /// Sends every process of a service a signal.
    ///
    /// # Errors
    /// Of the system.
    pub fn signal(&self, service: Service, signal: Signal) -> anyhow::Result<()> {
        self.running.iter().filter(|(s, _)| *s == service).try_for_each(|(_, running)| running.signal(signal))
    }

    /// The process ids of a service.
    pub fn pids(&self, service: Service) -> Vec<u32> {
        self.running.iter().filter(|(s, _)| *s == service).map(|(_, r)| r.pid()).collect()
    }

    /// Starts an MX for `domain` with an address and a certificate of its own, and puts it into the DNS.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn mx(&mut self, domain: &str, scenario: Scenario) -> anyhow::Result<Sink> {
        self.mail_hosts += 1;
        let host = format!("mx{}.{domain}", self.mail_hosts);
        let address = SocketAddr::from(([127, 0, 1, self.mail_hosts], self.ports.mx.number()));
        let leaf = self.authority.leaf(&host, &[&host])?;
        let settings = sink::Settings {
            hostname: host.clone(),
            certificate: Some((leaf.certificate, leaf.key)),
            scenario,
            ..sink::Settings::default()
        };
        let sink = Sink::start(address, settings).await?;
        self.dns.mx(domain, 10 * u16::from(self.mail_hosts), &host).host(&host, address.ip());
        Ok(sink)
    }

    /// The same for an MX that the test plays itself.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn hand(&mut self, domain: &str) -> anyhow::Result<Hand> {
        self.mail_hosts += 1;
        let host = format!("mx{}.{domain}", self.mail_hosts);
        let address = SocketAddr::from(([127, 0, 1, self.mail_hosts], self.ports.mx.number()));
        let listener = tokio::net::TcpListener::bind(address).await?;
        self.dns.mx(domain, 10 * u16::from(self.mail_hosts), &host).host(&host, address.ip());
        Ok(Hand { listener })
    }

    /// A hand in the store.
    ///
    /// # Errors
    /// If Redis is away.
    pub fn store(&self) -> anyhow::Result<Redis> {
        Redis::connect(self.redis.socket())
    }

    /// A certificate signed by the world's authority.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn certificate(&self, name: &str) -> anyhow::Result<Leaf> {
        self.authority.leaf(name, &[name, "localhost"])
    }

    /// The certificate of a client, for these mail addresses or host names.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn client_certificate(&self, file: &str, names: &[&str]) -> anyhow::Result<Leaf> {
        self.authority.leaf(file, names)
    }

    /// The certificate of the world's authority, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// The port that every MX listens on.
    pub fn mx_port(&self) -> u16 {
        self.ports.mx.number()
    }

    /// Port 25.
    pub fn smtp(&self) -> SocketAddr {
        self.ports.smtp.address()
    }

    /// Port 587.
    pub fn submission(&self) -> SocketAddr {
        self.ports.submission.address()
    }

    /// Port 465.
    pub fn submissions(&self) -> SocketAddr {
        self.ports.submissions.address()
    }

    /// An encrypted, logged-in session on 587.
    ///
    /// # Errors
    /// If a step is refused.
    pub async fn login(&self, login: &str, password: &str) -> anyhow::Result<Client> {
        let mut client = Client::connect(self.submission()).await?.start_tls().await?;
        let reply = client.auth(login, password).await?;
        if reply.code != 235 {
            bail!("AUTH: {}", reply.text());
        }
        Ok(client)
    }

    /// The HTTP address of a service.
    pub fn http(&self, service: Service) -> SocketAddr {
        match service {
            Service::Auth => self.ports.auth_http.address(),
            Service::Frontend => self.ports.frontend_http.address(),
            Service::Delivery => self.ports.delivery_http.address(),
        }
    }

    /// Scrapes a service.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self, service: Service) -> anyhow::Result<Metrics> {
        Metrics::scrape(self.http(service)).await
    }

    /// A connection of the test's own to the queue.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn queue(&self) -> anyhow::Result<Queue> {
        queue_of(&self.config_file()).await
    }

    /// Waits until nothing is queued.
    ///
    /// # Errors
    /// With what is left when the time is over.
    pub async fn until_empty(&self) -> anyhow::Result<()> {
        let queue = self.queue().await?;
        eventually(SOON, || async {
            match queue.counts().await? {
                counts if counts.messages == 0 => Ok(()),
                counts => bail!("still queued: {counts:?}"),
            }
        })
        .await
    }

    /// What a service wrote so far, mail log and diagnostics.
    pub fn log(&self, service: Service) -> String {
        read_log(&self.folder, service)
    }

    /// The folder of this world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file that all services read.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("staffetta.toml")
    }

    /// What `staffetta` says with this configuration.
    ///
    /// # Errors
    /// If it fails or complains.
    pub fn staffetta(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program("staffetta")?);
        let output = command.args(arguments).arg("--config").arg(self.config_file()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success() && complaint.is_empty(), "{arguments:?}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn log_file(&self, service: Service) -> PathBuf {
        self.folder.path().join(format!("{}.log", service.program()))
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let folder = self.folder.path().display();
        let mut text = format!(
            r#"hostname = "mail.example.org"
redis.url = "{redis}"
tls.certificate = "{folder}/relay.crt"
tls.key = "{folder}/relay.key"
auth.listen = "{auth}"
auth.http = "{auth_http}"
auth.sql.url = "sqlite://{folder}/users.db"
frontend.http = "{frontend_http}"
frontend.auth = "http://{auth}"
frontend.postmaster = "postmaster@example.org"
frontend.listener = [
  {{ name = "smtp", bind = "{smtp}", kind = "relay" }},
  {{ name = "submission", bind = "{submission}", kind = "submission" }},
  {{ name = "submissions", bind = "{submissions}", kind = "submission", tls = "implicit" }},
{listeners}]
dns.servers = ["{dns}"]
delivery.http = "{delivery_http}"
delivery.port = {mx}
"#,
            redis = self.redis.url(),
            auth = self.ports.auth.address(),
            auth_http = self.ports.auth_http.address(),
            frontend_http = self.ports.frontend_http.address(),
            delivery_http = self.ports.delivery_http.address(),
            smtp = self.ports.smtp.address(),
            submission = self.ports.submission.address(),
            submissions = self.ports.submissions.address(),
            listeners = self.listeners,
            dns = self.dns.address(),
            mx = self.ports.mx.number(),
        );
        for (key, value) in &self.settings {
            // Of what is said above, too, the test has the last word.
            text = text.split_inclusive('\n').filter(|line| !line.starts_with(&format!("{key} = "))).collect();
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push_str(&self.tables);
        fs::write(self.config_file(), text).context("cannot write the configuration")
    }
}

async fn until_ready(address: SocketAddr) -> anyhow::Result<()> {
    eventually(SOON, || async move {
        match get(address, "/readyz").await? {
            (200, body) if body == "ok\n" => Ok(()),
            (code, body) => bail!("{code} {body}"),
        }
    })
    .await
}

fn read_log(folder: &TempDir, service: Service) -> String {
    fs::read_to_string(folder.path().join(format!("{}.log", service.program()))).unwrap_or_default()
}

/// A binary of the workspace: it lies beside this test's own folder, as cargo lays them out.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target directory")?;
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is missing: run `cargo build --workspace --bins` first", path.display());
    }
    Ok(path)
}

/// Tests of one process share the provider.
fn transport_provider() {
    staffetta_transport::tls::install_provider();
}

/// A connection to the queue of a configuration, as a worker has it.
///
/// # Errors
/// If the file is wrong or Redis is away.
pub async fn queue_of(file: &Path) -> anyhow::Result<Queue> {
    let config = Config::load_for(file, staffetta_config::Service::Delivery)?;
    let queue = Queue::open((&config).into(), CancellationToken::new())?;
    queue.ready(SOON).await?;
    Ok(queue)
}
