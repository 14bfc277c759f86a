"""What runs: images, programs, and what is said to them."""

import re
import tomllib

from objects import PROGRAMS

FOREIGN = {"redis:7.2-bookworm", "oliver006/redis_exporter:v1.62.0-alpine"}
# Whose image is the operator's to choose.
CHOSEN = {"unbound"}
# A placeholder for whatever somebody has pushed, pinned by its digest.
PINNED = re.compile(r"[\w./-]+/staffetta@sha256:[0-9a-f]{64}")
# Containers that are started again, and left alone, by what their probes say.
PROBED = {"staffetta", "redis"}
# What the async runtime reads.
RUNTIME = {"TOKIO_WORKER_THREADS"}
# What a container may be told of its size.
SOURCES = {"requests.cpu", "limits.memory"}


def images(manifests, wanted):
    """Every container runs the image that was built, or one that is known to be another's."""
    for pod in manifests.pods:
        for one in pod.containers:
            is_ours = one["command"][0].startswith(PROGRAMS)
            good = one["image"] == wanted if wanted else PINNED.fullmatch(one["image"])
            if not (good if is_ours else one["image"] in FOREIGN | CHOSEN):
                manifests.say(pod.name, "container", one["name"], "runs the image", one["image"])


def commands(manifests):
    """The programs are those that the Dockerfile installs, for this user and these ports; what is said to them, they understand."""
    installed, user, ports = dockerfile(manifests.tree)
    for pod in manifests.pods:
        for one in pod.containers:
            program, *words = one["command"]
            if not program.startswith(PROGRAMS):
                continue
            declared = {port["containerPort"] for port in one.get("ports") or []}
            if not declared <= ports:
                manifests.say(pod.name, "has the ports", declared, "and the Dockerfile exposes", ports)
            if pod.spec["securityContext"]["runAsUser"] != user:
                manifests.say(pod.name, "runs as another user than the", user, "of the Dockerfile")
            if program.removeprefix(PROGRAMS) not in installed:
                manifests.say(pod.name, "runs", program, "which the image does not have")
            if one.get("args") and (one["args"][0] != "--config" or len(one["args"]) != 2):
                manifests.say(pod.name, "is told", one["args"])
            if words and not understands(manifests, words):
                manifests.say(pod.name, "runs the command", words, "which is none")


def understands(manifests, words):
    """Of `staffetta`: a command, or one below it."""
    folder = manifests.tree / "cli/src/arguments"
    first, *second = (word.capitalize() for word in words)
    if not re.search(rf"^    {first}\({first}\)", (folder.parent / "arguments.rs").read_text(), re.M):
        return False
    below = folder / f"{words[0]}.rs"
    commands = re.findall(r"^    (\w+)\(", below.read_text(), re.M) if below.exists() else []
    return second[0] in commands if second else not commands


def variables(tree):
    """What the configuration takes from the environment."""
    page = (tree / "docs/configuration.md").read_text()
    files = re.findall(r"^- A secret; its file: `([\w.]+)`", page, re.M)
    return set(re.findall(r"^- Environment: `(\w+)`", page, re.M)) | {f"STAFFETTA__{key.upper().replace('.', '__')}" for key in files}


def environment(manifests):
    """Whoever is given a variable reads it, and who cannot do without a secret is told of its file."""
    known = variables(manifests.tree) | RUNTIME
    for pod in manifests.pods:
        config = manifests.config(pod)
        for one in pod.containers:
            names = {variable["name"] for variable in one.get("env") or []}
            is_ours = one["command"][0].startswith(PROGRAMS)
            for name in sorted(names):
                if name not in known if is_ours else not re.search(rf"\b{name}\b", " ".join(one["args"])):
                    manifests.say(pod.name, "container", one["name"], f"is given {name}, which nobody reads")
            for variable in one.get("env") or []:
                source = variable.get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
                if not variable.get("value") and source not in SOURCES:
                    manifests.say(pod.name, "container", one["name"], "is given nothing as", variable["name"])
            for name in sorted(set() if is_ours else asked_for(one) - names):
                manifests.say(pod.name, "container", one["name"], f"asks for {name}, which it is not given")
            for wanted in needed(one, config) if is_ours else []:
                if not names & {wanted, f"{wanted}_FILE"}:
                    manifests.say(pod.name, "container", one["name"], "is not given", wanted, "or its file")


def asked_for(container):
    """Variables of a script, capital letters behind `$`."""
    return set(re.findall(r"\$(?:\(\(|\{)?([A-Z][A-Z_]+)", " ".join(container.get("args") or [])))


def needed(container, config):
    """The variables of what has a password, and so is in no ConfigMap."""
    program = " ".join(container["command"][:2]).removeprefix(PROGRAMS)
    if program in ("staffetta-frontend", "staffetta-auth", "staffetta-delivery", "staffetta queue"):
        yield "STAFFETTA__REDIS__URL"
    if program in ("staffetta-auth", "staffetta user") and config.get("auth", {}).get("backend", "sql") == "sql":
        yield "STAFFETTA__AUTH__SQL__URL"


def probes(manifests):
    """Paths are those that the program serves; ports are declared."""
    served = set(re.findall(r'route\("(/\w+)"', (manifests.tree / "crates/telemetry/src/http.rs").read_text()))
    for pod in manifests.pods:
        for one in pod.containers:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                how = one.get(probe) or {}
                asks = set(how) & {"httpGet", "tcpSocket", "exec"}
                if len(asks) != 1 and one in pod.services and one["name"] in PROBED:
                    manifests.say(pod.name, "container", one["name"], "has no", probe)
                get = how.get("httpGet") or how.get("tcpSocket")
                if get and get["port"] not in {port["name"] for port in one.get("ports") or []}:
                    manifests.say(pod.name, probe, "asks port", get["port"], "which it does not have")
                if "httpGet" in how and get.get("path") not in served:
                    manifests.say(pod.name, probe, "asks", get.get("path"), "which nobody serves")


def dockerfile(tree):
    """Its programs, user and ports."""
    text = (tree / "deploy/docker/Dockerfile").read_text()
    user, ports = (re.search(rf"^{word} (.+)$", text, re.M)[1] for word in ("USER", "EXPOSE"))
    return set(re.findall(r"target/release/([\w-]+)", text)), int(user.partition(":")[0]), {int(port) for port in ports.split()}


def two_images(tree):
    """In what the image of the Dockerfile would be another than that of scripts/image, or than this version."""
    text = (tree / "scripts/image").read_text()
    programs = set(re.findall(r'"([\w-]+)"', re.search(r"^PROGRAMS = (.+)$", text, re.M)[1]))
    if programs != dockerfile(tree)[0]:
        yield f"scripts/image has the programs {programs}, and the Dockerfile others"
    version = tomllib.loads((tree / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    if f'org.opencontainers.image.version="{version}"' not in (tree / "deploy/docker/Dockerfile").read_text():
        yield f"the label of the Dockerfile names another version than {version}"


def asked(manifests, path):
    """What the README asks kubectl for, besides `apply`: `deploy/NAME`, `service/NAME` with ports, in a namespace; commands in pods."""
    kinds = {"deploy": "Deployment", "service": "Service", "statefulset": "StatefulSet", "cronjob": "CronJob"}
    for line in path.read_text().splitlines():
        for kind, name in re.findall(r"\b(deploy|service|statefulset|cronjob)/([\w-]+)", line):
            found = manifests.kind(kinds[kind]).get(name)
            namespace = re.search(r"-n ([\w-]+)", line)
            if found is None or not namespace or found["metadata"].get("namespace") != namespace[1]:
                manifests.say("README.md asks for", f"{kind}/{name}", "which is not there:", line)
            elif kind == "service":
                ports = {port["port"] for port in found["spec"]["ports"]}
                for port in re.findall(r"\b\d+:(\d+)\b", line):
                    if int(port) not in ports:
                        manifests.say("README.md asks for port", port, "which the Service does not have")
        command = re.search(r" -- staffetta ((?:[a-z]+ ?)+)", line)
        if command and not understands(manifests, command[1].split()):
            manifests.say("README.md runs the command", command[1], "which is none")
