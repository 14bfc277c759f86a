"""What pods may do, and how many there are."""

import pathlib
import re
import subprocess
import tempfile

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def octets(quantity):
    return int(quantity[:-2]) * UNITS[quantity[-2:]] if quantity[-2:] in UNITS else int(quantity)


def namespaces(manifests):
    """A component that an overlay takes in brings no namespace along."""
    for one in manifests.objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "staffetta":
            manifests.say(one["kind"], one["metadata"]["name"], "is in no namespace")


def restricted(manifests):
    for pod in manifests.pods:
        if pod.spec.get("automountServiceAccountToken") is not False:
            manifests.say(pod.name, "would hold a token")
        for one in pod.containers:
            context = one.get("securityContext") or {}
            if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
                manifests.say(pod.name, "container", one["name"], "is not restricted")
    for name, account in manifests.kind("ServiceAccount").items():
        if account.get("automountServiceAccountToken") is not False:
            manifests.say("ServiceAccount", name, "would hand out a token")


def scaling(manifests):
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for name, scaler in manifests.kind(kind).items():
            target = manifests.kind("Deployment").get(scaler["spec"]["scaleTargetRef"]["name"])
            if target is None:
                manifests.say(kind, name, "scales what is not there")
            elif "replicas" in target["spec"]:
                manifests.say("Deployment", name, "has a number of replicas beside its", kind)


def redis(manifests):
    """Its memory is its own, and twice what it may fill."""
    for pod in manifests.pods:
        for one in pod.containers:
            if one["name"] != "redis":
                continue
            requested, limit = (octets(one["resources"][kind]["memory"]) for kind in ("requests", "limits"))
            most = maxmemory(manifests, one, limit)
            if requested != limit:
                manifests.say("Redis requests", requested, "octets of memory, and its limit is", limit)
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
