//! One pod: what the kubelet makes of a pod's template, in the words of `podman kube play`.
//!
//! podman runs it as the manifest says: user, capabilities, read-only root, seccomp, limits, environment. What it does not do, or in
//! another way, is done here: volumes are folders of the host, with the owners and links that the kubelet gives them; init containers
//! are pods that come to an end before; readiness is asked by [`Pod::is_ready`].

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use staffetta_tests::get;

use crate::podman::{asked, both, podman};
use crate::projected::{Files, GROUP, Projected};

/// Where pods ask for names; `scripts/test-k8s` has made the address.
pub(crate) const RESOLVER: &str = "192.0.2.53";
/// What is behind a name of one word.
pub(crate) const SEARCH: &str = "staffetta.svc.cluster.local";
/// What podman does after the last second of a grace period.
const KILLED: i32 = 137;

/// What volumes are made of.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Files>,
    pub(crate) secrets: BTreeMap<String, Files>,
}

/// A pod that was started.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) volumes: Vec<Projected>,
    container: String,
    probe: Value,
    liveness: Value,
    ports: BTreeMap<String, u16>,
    grace: Duration,
}

impl Pod {
    /// Starts the pod `name` at `address` from a template; its folders are below `folder`, those of claims in `folder/claims`, shared
    /// by whoever names them.
    ///
    /// # Errors
    /// A volume cannot be made, or podman cannot start it.
    pub(crate) async fn start(
        name: &str,
        address: Ipv4Addr,
        spec: &Value,
        folder: &Path,
        sources: &Sources,
    ) -> anyhow::Result<Self> {
        let mut spec = spec.clone();
        let mut volumes = Vec::new();
        for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
            mount(volume, name, folder, sources, &mut volumes)?;
        }
        let container = &mut spec["containers"][0];
        let ports = container["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|port| {
            Some((port["name"].as_str()?.to_owned(), port["containerPort"].as_u64()?.try_into().ok()?))
        });
        let pod = Self {
            name: name.to_owned(),
            address,
            volumes,
            container: format!("{name}-{}", container["name"].as_str().context("a container without a name")?),
            probe: container["readinessProbe"].clone(),
            liveness: container["livenessProbe"].clone(),
            ports: ports.collect(),
            grace: Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30)),
        };
        for key in ["ports", "startupProbe", "livenessProbe", "readinessProbe"] {
            spec["containers"][0].as_object_mut().context("no container")?.remove(key);
        }
        let before = spec.as_object_mut().context("no spec")?.remove("initContainers");
        for container in before.as_ref().and_then(Value::as_array).into_iter().flatten() {
            pod.prepare(container, &spec, folder).await?;
        }
        pod.play(name, spec, folder).await?;
        Ok(pod)
    }

    /// An init container: with the volumes of the pod, and to its end.
    async fn prepare(&self, container: &Value, spec: &Value, folder: &Path) -> anyhow::Result<()> {
        let mut spec = spec.clone();
        spec["containers"] = json!([container]);
        let name = format!("{}-init", self.name);
        self.play(&name, spec, folder).await?;
        let container = format!("{name}-{}", container["name"].as_str().context("a container without a name")?);
        let code = ended(&container).await?;
        ensure!(code == 0, "{container} ended with {code}: {}", podman(&["logs", &container]).await?);
        podman(&["pod", "rm", "--force", "--time", "0", &name]).await.map(drop)
    }

    async fn play(&self, name: &str, mut spec: Value, folder: &Path) -> anyhow::Result<()> {
        // A pod that ends by itself shall be seen.
        spec["restartPolicy"] = json!("Never");
        spec["dnsPolicy"] = json!("None");
        spec["dnsConfig"] = json!({
            "nameservers": [RESOLVER], "searches": [SEARCH], "options": [{"name": "ndots", "value": "5"}],
        });
        let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let file = folder.join(format!("{name}.yaml"));
        fs::write(&file, manifest.to_string())?;
        let (file, address) = (file.display().to_string(), self.address.to_string());
        podman(&["kube", "play", "--quiet", "--network", "pods", "--ip", &address, &file]).await.map(drop)
    }

    /// What its readiness probe says; a pod without one is ready when it runs.
    pub(crate) async fn is_ready(&self) -> anyhow::Result<()> {
        if let Some(command) = self.probe["exec"]["command"].as_array() {
            let mut arguments = vec!["exec", &self.container];
            arguments.extend(command.iter().filter_map(Value::as_str));
            return podman(&arguments).await.map(drop);
        }
        self.probed(&self.probe["httpGet"]).await
    }

    /// Would a kubelet let it live? Its liveness probe fails three times before.
    pub(crate) async fn is_alive(&self) -> anyhow::Result<()> {
        self.probed(&self.liveness["httpGet"]).await
    }

    async fn probed(&self, probe: &Value) -> anyhow::Result<()> {
        let Some(path) = probe["path"].as_str() else { return Ok(()) };
        let port = probe["port"].as_str().context("a port without a name")?;
        let (status, text) = tokio::time::timeout(Duration::from_secs(3), get(self.at(port)?, path)).await??;
        ensure!(status == 200, "{}: {text}", self.name);
        Ok(())
    }

    /// The address of a port by its name.
    pub(crate) fn at(&self, port: &str) -> anyhow::Result<SocketAddr> {
        let number = self.ports.get(port).with_context(|| format!("{} has no port {port}", self.name))?;
        Ok((self.address, *number).into())
    }

    /// The process of its container, as this side sees it.
    pub(crate) async fn pid(&self) -> anyhow::Result<u32> {
        Ok(podman(&["inspect", "--format", "{{.State.Pid}}", &self.container]).await?.trim().parse()?)
    }

    /// Runs a command in it.
    pub(crate) async fn exec(&self, command: &[&str], input: &str) -> anyhow::Result<String> {
        let arguments: Vec<&str> = ["exec", "-i", &self.container].iter().chain(command).copied().collect();
        asked(&arguments, input, Duration::from_secs(60)).await
    }

    /// What it has written: the mail log.
    pub(crate) async fn log(&self) -> anyhow::Result<String> {
        podman(&["logs", &self.container]).await
    }

    /// What it has written to its standard error: diagnostics.
    pub(crate) async fn diagnostics(&self) -> anyhow::Result<String> {
        Ok(both(&["logs", &self.container], "", Duration::from_secs(60)).await?.1)
    }

    /// Waits until it has come to its end by itself.
    pub(crate) async fn end(&self) -> anyhow::Result<i32> {
        ended(&self.container).await
    }

    /// Deletes it: SIGTERM, and SIGKILL when its grace period is over. Gives how long it took to end.
    ///
    /// # Errors
    /// It had to be killed, or complains.
    pub(crate) async fn delete(self) -> anyhow::Result<Duration> {
        let (begun, grace) = (Instant::now(), self.grace.as_secs().to_string());
        asked(&["stop", "--time", &grace, &self.container], "", self.grace + Duration::from_secs(30)).await?;
        let took = begun.elapsed();
        let code: i32 =
            podman(&["inspect", "--format", "{{.State.ExitCode}}", &self.container]).await?.trim().parse()?;
        if code != 0 {
            let log = self.log().await?;
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            bail!("{} ended with {code}{}: {tail:#?}", self.name, if code == KILLED { ", killed" } else { "" });
        }
        podman(&["pod", "rm", "--force", "--time", "0", &self.name]).await?;
        Ok(took)
    }
}

async fn ended(container: &str) -> anyhow::Result<i32> {
    Ok(asked(&["wait", container], "", Duration::from_secs(60)).await?.trim().parse()?)
}

/// Puts a folder of the host into the place of what a volume is; those that change are kept.
fn mount(
    volume: &mut Value,
    pod: &str,
    folder: &Path,
    sources: &Sources,
    kept: &mut Vec<Projected>,
) -> anyhow::Result<()> {
    let name = volume["name"].as_str().context("a volume without a name")?.to_owned();
    let place = folder.join(pod).join(&name);
    let (place, projected) = if let Some(source) = volume.get("configMap") {
        let of = ("ConfigMap", source["name"].as_str().unwrap_or_default().to_owned());
        let files = sources.config_maps.get(&of.1).with_context(|| format!("there is no ConfigMap {}", of.1))?;
        (place.clone(), Some(Projected::new(place, of, source, files)?))
    } else if let Some(source) = volume.get("secret") {
        let of = ("Secret", source["secretName"].as_str().unwrap_or_default().to_owned());
        match sources.secrets.get(&of.1) {
            Some(files) => (place.clone(), Some(Projected::new(place, of, source, files)?)),
            None if source["optional"].as_bool() == Some(true) => (writable(place)?, None),
            None => bail!("there is no Secret {}", of.1),
        }
    } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        (writable(folder.join("claims").join(claim))?, None)
    } else if volume.get("emptyDir").is_some() {
        (writable(place)?, None)
    } else {
        bail!("{pod}: nobody knows what {name} is");
    };
    kept.extend(projected);
    *volume = json!({"name": name, "hostPath": {"path": place, "type": "Directory"}});
    Ok(())
}

/// A folder that the pod's group may write to, as `fsGroup` has it.
fn writable(place: PathBuf) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(&place)?;
    chown(&place, Some(0), Some(GROUP))?;
    fs::set_permissions(&place, Permissions::from_mode(0o2775))?;
    Ok(place)
}
