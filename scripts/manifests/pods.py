"""What pods may do, and how many there are."""

import pathlib
import re
import subprocess
import tempfile

from objects import QUANTITY

# What the restricted level of Pod Security lets a pod mount, but for disks of its node that are provisioned as it starts.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
CONTEXT = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
# A limit of CPU shows up as slow replies long before a node is full.
RESOURCES = {"requests": {"cpu", "memory"}, "limits": {"memory"}}
# Which keys of a scaler say how few pods there are, and how many.
SCALERS = {"HorizontalPodAutoscaler": ("minReplicas", "maxReplicas"), "ScaledObject": ("minReplicaCount", "maxReplicaCount")}
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def octets(quantity):
    return int(quantity[:-2]) * UNITS[quantity[-2:]] if quantity[-2:] in UNITS else int(quantity)


def namespaces(manifests):
    """A component that an overlay takes in brings no namespace along."""
    for one in manifests.objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "staffetta":
            manifests.say(one["kind"], one["metadata"]["name"], "is in no namespace")
    for name, one in manifests.kind("Namespace").items():
        level = (one["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
        if level != "restricted":
            manifests.say("Namespace", name, "enforces the level", level)


def restricted(manifests):
    """The restricted level of Pod Security, as its admission reads it, with a root that is read-only and without a token."""
    for pod in manifests.pods:
        for breach in of_pod(pod.spec):
            manifests.say(pod.name, breach)
        for one in pod.containers:
            for breach in of_container(pod.spec.get("securityContext") or {}, one):
                manifests.say(pod.name, "container", one["name"], breach)
    for name, account in manifests.kind("ServiceAccount").items():
        if account.get("automountServiceAccountToken") is not False:
            manifests.say("ServiceAccount", name, "would hand out a token")


def of_pod(spec):
    if not spec.get("containers"):
        yield "has no container"
    if spec.get("automountServiceAccountToken") is not False:
        yield "would hold a token"
    if spec.get("enableServiceLinks") is not False:
        yield "would get the addresses of all Services in its environment"
    yield from (f"is not restricted: it has {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    if (spec.get("securityContext") or {}).get("sysctls"):
        yield "is not restricted: it has sysctls"
    for volume in spec.get("volumes") or []:
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"is not restricted: the volume {volume['name']} is of another kind"


def of_container(pod, one):
    """What is said at the container goes before what is said at its pod."""
    context = pod | (one.get("securityContext") or {})
    for key, wanted in CONTEXT.items():
        if context.get(key) is not wanted:
            yield f"is not restricted: {key} is {context.get(key)}"
    if not context.get("runAsUser"):
        yield "is not restricted: it runs as root"
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield f"is not restricted: its seccompProfile is {context.get('seccompProfile')}"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"is not restricted: its capabilities are {context.get('capabilities')}"
    if context.get("privileged") or context.get("procMount", "Default") != "Default":
        yield "is not restricted: it is privileged"
    if any("hostPort" in port for port in one.get("ports") or []):
        yield "is not restricted: it has a port of its node"
    if not context.get("runAsUser") == context.get("runAsGroup") == context.get("fsGroup"):
        yield "has files of other groups than its own"
    if one.get("imagePullPolicy", "IfNotPresent") != "IfNotPresent":
        yield f"fetches its image {one['imagePullPolicy']}"
    for quantity in (each for wanted in (one.get("resources") or {}).values() for each in wanted.values()):
        if not re.fullmatch(QUANTITY, str(quantity)):
            yield f"has the resource {quantity}"
    resources = {kind: set(wanted) for kind, wanted in (one.get("resources") or {}).items()}
    if resources != RESOURCES:
        yield f"has the resources {resources}, and not a request of CPU and memory and a limit of memory alone"


def scaling(manifests):
    scaled = {one["spec"]["scaleTargetRef"]["name"] for kind in SCALERS for one in manifests.kind(kind).values()}
    for name, one in manifests.kind("Deployment").items():
        if name not in scaled and not one["spec"].get("replicas"):
            manifests.say("Deployment", name, "has no number of replicas, and nobody who says it")
    for kind, (least, most) in SCALERS.items():
        for name, scaler in manifests.kind(kind).items():
            spec = scaler["spec"]
            target = manifests.kind("Deployment").get(spec["scaleTargetRef"]["name"])
            if target is None:
                manifests.say(kind, name, "scales what is not there")
            elif "replicas" in target["spec"]:
                manifests.say("Deployment", name, "has a number of replicas beside its", kind)
            # With less than two, mail waits for a pod that moves.
            if not 2 <= spec.get(least, 0) <= spec.get(most, 0):
                manifests.say(kind, name, "scales from", spec.get(least), "to", spec.get(most))


def redis(manifests):
    """Its memory is its own, and twice what it may fill; its disk is three times that, where redis.conf has its `dir`."""
    for pod in manifests.pods:
        for one in pod.containers:
            if one["name"] != "redis":
                continue
            requested, limit = (octets(one["resources"][kind]["memory"]) for kind in ("requests", "limits"))
            most = maxmemory(manifests, one, limit)
            # redis.conf says nothing of a port.
            if pod.ports().get("redis") != 6379:
                manifests.say("Redis is looked for on port", pod.ports().get("redis"))
            if requested != limit:
                manifests.say("Redis requests", requested, "octets of memory, and its limit is", limit)
            disks = [pod.claims[mount["name"]] for mount in one["volumeMounts"] if mount["mountPath"] == "/data" and mount["name"] in pod.claims]
            if not disks or octets(disks[0]) < 3 * most:
                manifests.say("Redis has the disks", disks, "at /data, and not three times of", most)
            if not 0 < 2 * most <= limit:
                manifests.say("Redis may fill", most, "octets of", limit)


def maxmemory(manifests, container, limit):
    """What the start of the container writes, with its paths elsewhere."""
    conf = next(one["data"]["redis.conf"] for name, one in manifests.kind("ConfigMap").items() if name.startswith("redis"))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("redis.conf", conf), ("password", "secret")):
            pathlib.Path(folder, name).write_text(text)
        script = container["args"][0].replace("/tmp/redis.conf", f"{folder}/made")
        script = script.replace("/etc/redis", folder).replace("/run/secrets/redis", folder)
        script = script.replace("exec redis-server", "cat")
        run = subprocess.run(
            [*container["command"], script], env={"MEMORY_LIMIT": str(limit), "PATH": "/bin:/usr/bin"}, capture_output=True, text=True
        )
        found = re.findall(r"^maxmemory (\d+)$", run.stdout, re.M)
        return int(found[-1]) if found else 0
