//! The relay in pods, as deploy/k8s/overlays/prod has it, and what a cluster does with them: names of Services that lead to the pods
//! that are ready, connections that go to one of them, pods that are replaced one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_testkit::dns::FakeDns;
use staffetta_tests::{Client, SOON, Told, Verdict, eventually};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::kubelet::{Pod, RESOLVER, SEARCH, Sources};
use crate::podman::podman;
use crate::projected::Files;

pub(crate) const LOGIN: &str = "john@example.org";
pub(crate) const PASSWORD: &str = "summersun";

/// As tests/pods/kustomization.yaml names it, and as `scripts/test-k8s` names that of the earlier build.
const IMAGE: &str = "localhost/staffetta:test";
const EARLIER_IMAGE: &str = "localhost/staffetta:earlier";
/// What a pod may take until it is ready.
const START_UP: Duration = Duration::from_secs(60);
/// How often readiness is asked; the base has five seconds.
const PERIOD: Duration = Duration::from_millis(200);

/// The pods of a Service that are ready, for those who connect to it.
#[derive(Clone, Default)]
pub(crate) struct Endpoints {
    ready: Arc<Mutex<Vec<SocketAddr>>>,
    turn: Arc<AtomicUsize>,
}

/// Which build is in the image of the pods that are started from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Present,
    /// That of `scripts/earlier`.
    Earlier,
}

/// A namespace with its pods.
pub(crate) struct Cluster {
    pub(crate) build: Build,
    folder: TempDir,
    dns: FakeDns,
    authority: Authority,
    objects: Vec<Value>,
    pub(crate) sources: Sources,
    pods: Vec<(&'static str, Pod)>,
    started: u8,
    has_account: bool,
    pub(crate) submission: Endpoints,
}

impl Endpoints {
    /// One after the other, as kube-proxy spreads connections.
    fn next(&self) -> Option<SocketAddr> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(self.turn.fetch_add(1, Ordering::Relaxed) % ready.len().max(1)).copied()
    }

    /// A client that has logged in, encrypted.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let connect = async {
            let mut client = Client::connect(self.next().context("no frontend is ready")?).await?.start_tls().await?;
            let reply = client.auth(LOGIN, PASSWORD).await?;
            ensure!(reply.code == 235, "{}", reply.text());
            Ok(client)
        };
        timeout(SOON, connect).await?
    }
}

impl Cluster {
    /// Secrets as docs/operations.md lists them, a Redis without a queue, an internet with one domain; nothing of ours runs yet.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let mut cluster = Self::of_overlay("prod").await?;
        cluster.sources.secrets = secrets(&cluster.authority)?;
        cluster.add("redis", "StatefulSet").await?;
        Ok(cluster)
    }

    /// The overlay for development, which brings its Secrets along, as README.md has it.
    pub(crate) async fn development() -> anyhow::Result<Self> {
        let mut cluster = Self::of_overlay("dev").await?;
        cluster.add("redis", "StatefulSet").await?;
        for service in ["auth", "frontend", "delivery"] {
            cluster.add(service, "Deployment").await?;
        }
        Ok(cluster)
    }

    async fn of_overlay(overlay: &str) -> anyhow::Result<Self> {
        staffetta_transport::tls::install_provider();
        let setup = PathBuf::from(std::env::var("STAFFETTA_PODS").context("run this by `make test-k8s`")?);
        let rendered = |name: &str| -> anyhow::Result<Vec<Value>> {
            Ok(serde_json::from_slice(&fs::read(setup.join(name).with_extension("json"))?)?)
        };
        let mut objects = rendered(overlay)?;
        let sink = rendered("prod")?.into_iter().find(|one| one["metadata"]["name"] == "sink");
        objects.extend(sink.filter(|_| overlay != "prod"));
        let folder = tempfile::tempdir_in(&setup)?;
        let authority = Authority::new(folder.path())?;
        let dns = FakeDns::start_at((RESOLVER.parse::<Ipv4Addr>()?, 53).into()).await?;
        let sources = Sources { config_maps: files(&objects, "ConfigMap")?, secrets: files(&objects, "Secret")? };
        let submission = Endpoints::default();
        let mut cluster = Self {
            build: Build::Present,
            folder,
            dns,
            authority,
            objects,
            sources,
            pods: Vec::new(),
            started: 1,
            has_account: false,
            submission,
        };
        let sink = cluster.run("Pod", "sink").await?;
        cluster.dns.mx("example.com", 10, "mx.example.com").host("mx.example.com", sink.address);
        cluster.dns.host("example.org", Ipv4Addr::new(198, 51, 100, 1));
        cluster.pods.push(("sink", sink));
        Ok(cluster)
    }

    /// The whole relay: the queue is made by hand, two of each service are ready, John has an account.
    pub(crate) async fn relay() -> anyhow::Result<Self> {
        Self::relay_of(Build::Present).await
    }

    /// The same of this build.
    pub(crate) async fn relay_of(build: Build) -> anyhow::Result<Self> {
        let mut cluster = Self::new().await?;
        cluster.build = build;
        cluster.make_queue().await?;
        for service in ["auth", "frontend", "delivery"] {
            for _ in 0..2 {
                cluster.add(service, "Deployment").await?;
            }
        }
        Ok(cluster)
    }

    /// A domain whose mail host does not answer: nobody is at the address of the resolver.
    pub(crate) fn close(&self, domain: &str) -> anyhow::Result<()> {
        let host = format!("mx.{domain}");
        self.dns.mx(domain, 10, &host).host(&host, RESOLVER.parse::<Ipv4Addr>()?);
        Ok(())
    }

    /// From now on its mail host is the sink.
    pub(crate) fn open(&self, domain: &str) -> anyhow::Result<()> {
        let host = format!("mx.{domain}");
        self.dns.remove(&host).host(&host, self.of("sink").next().context("no sink")?.address);
        Ok(())
    }

    /// Runs `staffetta …` in a worker, so by its build.
    pub(crate) async fn staffetta(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let worker = self.of("delivery").next().context("no worker")?;
        worker.exec(&[&["staffetta"], arguments].concat(), "").await
    }

    /// As `kubectl create job --from=cronjob/queue-init` does.
    pub(crate) async fn make_queue(&mut self) -> anyhow::Result<()> {
        let job = self.run("CronJob", "queue-init").await?;
        ensure!(job.end().await? == 0, "{}", job.log().await?);
        Ok(())
    }

    /// The accounts, with John, from within the first pod of auth, which is not ready without them.
    async fn make_account(&self, auth: &Pod) -> anyhow::Result<()> {
        auth.exec(&["staffetta", "user", "init"], "").await?;
        auth.exec(&["staffetta", "user", "add", LOGIN], PASSWORD).await.map(drop)
    }

    /// The pods of a workload.
    pub(crate) fn of(&self, workload: &str) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |(of, _)| *of == workload).map(|(_, pod)| pod)
    }

    /// One more pod, which gets its part of the traffic when it is ready.
    pub(crate) async fn add(&mut self, workload: &'static str, kind: &str) -> anyhow::Result<()> {
        let pod = self.run(kind, workload).await?;
        if workload == "auth" && !self.has_account {
            self.make_account(&pod).await?;
            self.has_account = true;
        }
        self.until_ready(&pod).await?;
        self.pods.push((workload, pod));
        self.publish(workload)
    }

    /// Starts a pod of a workload, and waits for nothing.
    pub(crate) async fn run(&mut self, kind: &str, workload: &str) -> anyhow::Result<Pod> {
        let object = self.objects.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == workload);
        let object = object.with_context(|| format!("there is no {kind} {workload}"))?;
        let mut spec = match kind {
            "Pod" => &object["spec"],
            "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            _ => &object["spec"]["template"]["spec"],
        }
        .clone();
        if self.build == Build::Earlier {
            let containers = spec["containers"].as_array_mut().context("no containers")?;
            let ours = containers.iter_mut().filter(|one| one["image"] == IMAGE);
            ours.for_each(|one| one["image"] = EARLIER_IMAGE.into());
        }
        for claim in object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            let name = &claim["metadata"]["name"];
            let volume = serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
            spec["volumes"].as_array_mut().context("no volumes")?.push(volume);
        }
        self.started += 1;
        let (name, address) = (format!("{workload}-{}", self.started), Ipv4Addr::new(203, 0, 113, self.started));
        Pod::start(&name, address, &spec, self.folder.path(), &self.sources).await
    }

    /// Waits until the probe of a pod says yes.
    pub(crate) async fn until_ready(&self, pod: &Pod) -> anyhow::Result<()> {
        let asked = eventually(START_UP, || async {
            let answer = pod.is_ready().await;
            if answer.is_err() {
                sleep(PERIOD).await;
            }
            answer
        });
        match asked.await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(pod.log().await?)),
        }
    }

    /// Takes a pod out of its Service and deletes it, both at once.
    async fn remove(&mut self, name: &str) -> anyhow::Result<Duration> {
        let place = self.pods.iter().position(|(_, pod)| pod.name == name).context("no such pod")?;
        let (workload, pod) = self.pods.remove(place);
        self.publish(workload)?;
        pod.delete().await
    }

    /// Replaces each pod of a Deployment, the next one when the one before is ready. Gives the longest stop.
    pub(crate) async fn roll(&mut self, workload: &'static str) -> anyhow::Result<Duration> {
        let old: Vec<String> = self.of(workload).map(|pod| pod.name.clone()).collect();
        let mut longest = Duration::ZERO;
        for name in old {
            self.add(workload, "Deployment").await?;
            longest = longest.max(self.remove(&name).await?);
        }
        Ok(longest)
    }

    /// Deletes all pods of a Deployment at once, with new ones beside them, as when a node is drained. Gives the longest stop.
    pub(crate) async fn drain(&mut self, workload: &'static str) -> anyhow::Result<Duration> {
        let all = std::mem::take(&mut self.pods);
        let (going, staying): (Vec<_>, Vec<_>) = all.into_iter().partition(|(of, _)| *of == workload);
        self.pods = staying;
        self.publish(workload)?;
        let ends: Vec<_> = going.into_iter().map(|(_, pod)| tokio::spawn(pod.delete())).collect();
        for _ in &ends {
            self.add(workload, "Deployment").await?;
        }
        let mut longest = Duration::ZERO;
        for end in ends {
            longest = longest.max(end.await??);
        }
        Ok(longest)
    }

    /// What is behind the names now.
    fn publish(&self, workload: &str) -> anyhow::Result<()> {
        let name = format!("{workload}.{SEARCH}");
        self.dns.remove(&name);
        for pod in self.of(workload) {
            self.dns.host(&name, pod.address);
        }
        if workload == "frontend" {
            let ready: Vec<SocketAddr> = self.of(workload).map(|pod| pod.at("submission")).collect::<Result<_, _>>()?;
            *self.submission.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
        }
        Ok(())
    }

    /// Other contents of a Secret, in all pods that have it.
    pub(crate) fn change_secret(&mut self, name: &str, files: &Files) -> anyhow::Result<()> {
        self.sources.secrets.insert(name.to_owned(), files.clone());
        self.change("Secret", name, files)
    }

    /// Other contents of a ConfigMap, in all pods that have it.
    pub(crate) fn change_config_map(&mut self, name: &str, files: &Files) -> anyhow::Result<()> {
        self.sources.config_maps.insert(name.to_owned(), files.clone());
        self.change("ConfigMap", name, files)
    }

    fn change(&mut self, kind: &str, name: &str, files: &Files) -> anyhow::Result<()> {
        let volumes = self.pods.iter_mut().flat_map(|(_, pod)| &mut pod.volumes);
        let mut changed = 0;
        for volume in volumes.filter(|volume| volume.of.0 == kind && volume.of.1 == name) {
            volume.change(files)?;
            changed += 1;
        }
        ensure!(changed > 0, "no pod has the {kind} {name}");
        Ok(())
    }

    /// A certificate of the authority of this cluster, as a Secret has it.
    pub(crate) fn certificate(&self, name: &str) -> anyhow::Result<Files> {
        files_of(&self.authority, name)
    }

    /// Waits until all that was accepted is at the sink and nothing more comes for so long.
    pub(crate) async fn verdict(&self, told: Told, calm: Duration) -> anyhow::Result<Verdict> {
        let mut last = (0, tokio::time::Instant::now());
        loop {
            let came = self.came().await?;
            let total = came.values().sum::<usize>();
            let now = tokio::time::Instant::now();
            if total != last.0 {
                last = (total, now);
            }
            let missing = told.accepted.iter().any(|name| !came.contains_key(name));
            if now - last.1 > if missing { 2 * SOON } else { calm } {
                return Ok(told.compared(&came));
            }
            sleep(PERIOD).await;
        }
    }

    /// What the queue, and the logs of pods that still are, have of these recipients' messages.
    pub(crate) async fn known_of(&self, recipients: &[String]) -> anyhow::Result<String> {
        if recipients.is_empty() {
            return Ok(String::new());
        }
        let mut known = self.staffetta(&["queue", "list"]).await?;
        for (workload, pod) in &self.pods {
            let log = pod.log().await?;
            let about = log.lines().filter(|line| recipients.iter().any(|name| line.contains(name.as_str())));
            known.extend(about.map(|line| format!("{workload}: {line}\n")));
        }
        Ok(known)
    }

    /// How often each recipient's message came to the sink.
    pub(crate) async fn came(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut came = BTreeMap::new();
        let log = self.of("sink").next().context("no sink")?.log().await?;
        for line in log.lines() {
            let recipients = line.split_once(" to=<").and_then(|(_, rest)| rest.split_once("> "));
            for recipient in recipients.map(|(all, _)| all.split(">,<")).into_iter().flatten() {
                *came.entry(recipient.to_owned()).or_default() += 1;
            }
        }
        Ok(came)
    }

    /// Ends all of it.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        podman(&["pod", "rm", "--all", "--force", "--time", "0"]).await.map(drop)
    }
}

/// The files of all ConfigMaps or Secrets that were rendered.
fn files(objects: &[Value], kind: &str) -> anyhow::Result<BTreeMap<String, Files>> {
    let octets = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        if kind == "Secret" { BASE64_STANDARD.decode(text.replace('\n', "")) } else { Ok(text.as_bytes().to_vec()) }
    };
    let mut all = BTreeMap::new();
    for object in objects.iter().filter(|one| one["kind"] == kind) {
        let data = object["data"].as_object().into_iter().flatten();
        let files: Result<Files, _> = data.map(|(key, text)| Ok((key.clone(), octets(text)?))).collect();
        let files: Files = files.map_err(|error: base64::DecodeError| anyhow::anyhow!("{kind}: {error}"))?;
        all.insert(object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), files);
    }
    Ok(all)
}

/// Those of the table in docs/operations.md that may not be left out.
fn secrets(authority: &Authority) -> anyhow::Result<BTreeMap<String, Files>> {
    // With what YAML, a URL and Redis' own file would take for something else.
    let password = "a\"b\\c #d%e'f";
    let in_url = "a%22b%5Cc%20%23d%25e'f";
    let text = |text: &str| text.as_bytes().to_vec();
    let redis = Files::from([
        ("password".to_owned(), text(password)),
        ("url".to_owned(), text(&format!("redis://:{in_url}@redis:6379"))),
    ]);
    let accounts = Files::from([("url".to_owned(), text("sqlite:///var/lib/staffetta/users.db"))]);
    Ok(BTreeMap::from([
        ("redis".to_owned(), redis),
        ("accounts".to_owned(), accounts),
        ("frontend-tls".to_owned(), files_of(authority, "mail.example.org")?),
        ("frontend-rpc".to_owned(), files_of(authority, "frontend")?),
        ("auth-rpc".to_owned(), files_of(authority, "auth")?),
    ]))
}

/// As cert-manager writes a Secret.
fn files_of(authority: &Authority, name: &str) -> anyhow::Result<Files> {
    let Leaf { certificate, key } = authority.leaf(name, &[name])?;
    let read = |path: &Path| fs::read(path);
    Ok(Files::from([
        ("ca.crt".to_owned(), read(&authority.ca())?),
        ("tls.crt".to_owned(), read(&certificate)?),
        ("tls.key".to_owned(), read(&key)?),
    ]))
}
