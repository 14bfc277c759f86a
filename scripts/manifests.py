"""What schemas do not know of the Kubernetes manifests: that everything they name is there.

    manifests.py TREE RENDERED... [--image=IMAGE] [--only-rendered-secrets] [--asked=FILE]

Reads rendered manifests and compares them with each other and with the program in TREE: images, Secrets and their keys,
mounted files, ports, probes, selectors, commands. Prints what is wrong, a line each; exit code 1 if there is something.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import yaml

PROGRAMS = "/usr/local/bin/"
FOREIGN = {"redis:7.2-bookworm", "oliver006/redis_exporter:v1.62.0-alpine"}
# Whose image is the operator's to choose.
CHOSEN = {"unbound"}
# A placeholder for whatever somebody has pushed, pinned by its digest.
PINNED = re.compile(r"[\w./-]+/staffetta@sha256:[0-9a-f]{64}")
# What each program reads of the configuration, besides what is not a path.
TABLES = {
    "staffetta-frontend": ["redis", "tls", "rpc", "frontend", "dns"],
    "staffetta-auth": ["redis", "rpc", "auth"],
    "staffetta-delivery": ["redis", "delivery", "dns"],
    "staffetta queue": ["redis"],
    "staffetta user": ["rpc", "auth"],
}
# Who has to reach whom, at which port, through the network policies.
WAYS = [("frontend", "auth", "grpc")] + [(who, "redis", "redis") for who in ("frontend", "auth", "delivery", "queue-init")]
COMPONENT = "app.kubernetes.io/component"
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def octets(quantity):
    return int(quantity[:-2]) * UNITS[quantity[-2:]] if quantity[-2:] in UNITS else int(quantity)


def matches(selector, labels):
    """A selector by labels; `In` is the only expression that is used."""
    wanted = (selector.get("matchLabels") or {}).items()
    expressions = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted) and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"] for one in expressions
    )


class Pod:
    """The template of one workload."""

    def __init__(self, workload):
        spec = workload["spec"]
        if workload["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        self.name = f"{workload['kind']} {workload['metadata']['name']}"
        self.labels = spec["template"]["metadata"].get("labels") or {}
        self.annotations = spec["template"]["metadata"].get("annotations") or {}
        self.spec = spec["template"]["spec"]
        self.claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates") or []}
        self.volumes = {volume["name"]: volume for volume in self.spec.get("volumes") or []}
        self.containers = self.spec.get("initContainers", []) + self.spec["containers"]

    def ports(self):
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports") or []}


class Manifests:
    """The objects of one rendering, and what is wrong with them."""

    def __init__(self, tree, path):
        self.tree = tree
        self.objects = [one for one in yaml.safe_load_all(path.read_text()) if one]
        workloads = ("Deployment", "StatefulSet", "CronJob", "Job")
        self.pods = [Pod(one) for one in self.objects if one["kind"] in workloads]
        self.problems = []

    def kind(self, kind):
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def say(self, *words):
        self.problems.append(" ".join(str(word) for word in words))

    def selected(self, selector):
        return [pod for pod in self.pods if matches(selector, pod.labels)]

    # What runs.

    def images(self, wanted):
        """Every container runs the image that was built, or one that is known to be another's."""
        for pod in self.pods:
            for one in pod.containers:
                is_ours = one["command"][0].startswith(PROGRAMS)
                good = one["image"] == wanted if wanted else PINNED.fullmatch(one["image"])
                if not (good if is_ours else one["image"] in FOREIGN | CHOSEN):
                    self.say(pod.name, "container", one["name"], "runs the image", one["image"])

    def commands(self):
        """The programs are those that the Dockerfile installs, for this user and these ports; what is said to them, they understand."""
        installed, user, ports = dockerfile(self.tree)
        for pod in self.pods:
            for one in pod.containers:
                program, *words = one["command"]
                if not program.startswith(PROGRAMS):
                    continue
                declared = {port["containerPort"] for port in one.get("ports") or []}
                if not declared <= ports:
                    self.say(pod.name, "has the ports", declared, "and the Dockerfile exposes", ports)
                if pod.spec["securityContext"]["runAsUser"] != user:
                    self.say(pod.name, "runs as another user than the", user, "of the Dockerfile")
                if program.removeprefix(PROGRAMS) not in installed:
                    self.say(pod.name, "runs", program, "which the image does not have")
                if one.get("args") and (one["args"][0] != "--config" or len(one["args"]) != 2):
                    self.say(pod.name, "is told", one["args"])
                if words and not self.understands(words):
                    self.say(pod.name, "runs the command", words, "which is none")

    def understands(self, words):
        """Of `staffetta`: a command, or one below it."""
        folder = self.tree / "cli/src/arguments"
        first, *second = (word.capitalize() for word in words)
        if not re.search(rf"^    {first}\({first}\)", (folder.parent / "arguments.rs").read_text(), re.M):
            return False
        below = folder / f"{words[0]}.rs"
        return not second or below.exists() and bool(re.search(rf"^    {second[0]}\(", below.read_text(), re.M))

    # Where it is.

    def namespaces(self):
        """A component that an overlay takes in brings no namespace along."""
        for one in self.objects:
            if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "staffetta":
                self.say(one["kind"], one["metadata"]["name"], "is in no namespace")

    # What it is given.

    def files_of(self, volume, documented):
        """The files of a volume by name; `None`: any."""
        if "configMap" in volume:
            source, name = volume["configMap"], volume["configMap"]["name"]
            found = self.kind("ConfigMap").get(name)
            keys = found and set(found.get("data") or {})
        elif "secret" in volume:
            source, name = volume["secret"], volume["secret"]["secretName"]
            keys = self.secret(name, documented)
        else:
            return None
        if keys is None and not source.get("optional"):
            self.say("nobody makes", name, "for the volume", volume["name"])
        items = source.get("items")
        if items is None:
            return keys
        for item in items:
            if keys is not None and item["key"] not in keys:
                self.say(name, "has no key", item["key"])
        return {item["path"] for item in items}

    def secret(self, name, documented):
        """The keys of a Secret that is rendered, made by cert-manager, or asked for in the documents."""
        rendered = self.kind("Secret").get(name)
        if rendered:
            return set(rendered.get("data") or {}) | set(rendered.get("stringData") or {})
        if any(one["spec"]["secretName"] == name for one in self.kind("Certificate").values()):
            return {"tls.crt", "tls.key", "ca.crt"}
        return documented.get(name)

    def mounts(self, documented):
        """Volumes are there; files that programs are told of lie in them."""
        wanted = {volume["secret"]["secretName"] for pod in self.pods for volume in pod.volumes.values() if "secret" in volume}
        for name, made in self.kind("ExternalSecret").items():
            if made["spec"]["target"]["name"] not in wanted:
                self.say("ExternalSecret", name, "makes what no pod mounts")
        for pod in self.pods:
            if pod.spec.get("serviceAccountName") not in self.kind("ServiceAccount"):
                self.say(pod.name, "has no ServiceAccount")
            files = {name: self.files_of(volume, documented) for name, volume in pod.volumes.items()}
            for one in pod.containers:
                mounted = {}
                for mount in one.get("volumeMounts") or []:
                    if mount["name"] not in files and mount["name"] not in pod.claims:
                        self.say(pod.name, "mounts", mount["name"], "which is no volume")
                    mounted[mount["mountPath"]] = files.get(mount["name"])
                for path in self.paths(pod, one):
                    folder, _, name = path.rpartition("/")
                    if folder not in mounted or mounted[folder] is not None and name not in mounted[folder]:
                        self.say(pod.name, "container", one["name"], "has no file", path)

    def paths(self, pod, container):
        """Every file that a container is told of: arguments, environment, its tables of the configuration."""
        words = container["command"][1:] + (container.get("args") or [])
        yield from (one for one in words if one.startswith("/"))
        for one in container.get("env") or []:
            if str(one.get("value", "")).startswith("/"):
                yield one["value"]
            if "secretKeyRef" in (one.get("valueFrom") or {}):
                self.say(pod.name, "has the secret", one["name"], "in its environment")
        config, program = self.config(pod), " ".join(container["command"][:2]).removeprefix(PROGRAMS)
        for table in TABLES.get(program, []):
            yield from strings(config.get(table, {}))

    def config(self, pod):
        source = pod.volumes.get("config", {}).get("configMap")
        found = source and self.kind("ConfigMap").get(source["name"])
        return tomllib.loads(found["data"]["staffetta.toml"]) if found and "staffetta.toml" in found["data"] else {}

    # Who reaches it.

    def ports(self):
        """What is configured is declared, and what is named is declared."""
        for pod in self.pods:
            declared, config = pod.ports(), self.config(pod)
            programs = {one["command"][0].removeprefix(PROGRAMS) for one in pod.containers}
            for name, address in listening(config, programs):
                if declared.get(name) != int(address.rpartition(":")[2]):
                    self.say(pod.name, "listens on", address, "and declares", name, "as", declared.get(name))
            scraped = pod.annotations.get("prometheus.io/port")
            if scraped and int(scraped) not in declared.values():
                self.say(pod.name, "would be scraped on port", scraped, "which it does not have")
        for name, service in self.kind("Service").items():
            self.reached(f"Service {name}", {"matchLabels": service["spec"]["selector"]}, service["spec"]["ports"], "targetPort")
        for name, policy in self.kind("NetworkPolicy").items():
            self.policy(f"NetworkPolicy {name}", policy["spec"])
        for name, monitor in self.kind("PodMonitor").items():
            self.reached(f"PodMonitor {name}", monitor["spec"]["selector"], monitor["spec"]["podMetricsEndpoints"], "port")
        for name, budget in self.kind("PodDisruptionBudget").items():
            self.reached(f"PodDisruptionBudget {name}", budget["spec"]["selector"], [], "")

    def reached(self, who, selector, ports, key):
        pods = self.selected(selector)
        if not pods:
            self.say(who, "selects no pod")
        for port in ports:
            name = port.get(key)
            if isinstance(name, str) and not any(name in pod.ports() for pod in pods):
                self.say(who, "names the port", name, "which no pod has")

    def policy(self, who, spec):
        everybody = spec["podSelector"]
        for rule in spec.get("ingress") or []:
            self.reached(who, everybody, rule.get("ports") or [], "port")
            for peer in rule.get("from") or []:
                if "podSelector" in peer:
                    self.reached(who, peer["podSelector"], [], "")
        for rule in spec.get("egress") or []:
            self.reached(who, everybody, [], "")
            for peer in rule.get("to") or []:
                if "podSelector" in peer:
                    self.reached(who, peer["podSelector"], rule.get("ports") or [], "port")

    def ways(self):
        """Since all else is denied, each way is opened at both ends."""
        for source, target, port in WAYS:
            ends = [[pod for pod in self.pods if pod.labels.get(COMPONENT) == name] for name in (source, target)]
            for one, other in ((one, other) for one in ends[0] for other in ends[1]):
                if not self.opened("egress", "to", one, other, port):
                    self.say("no NetworkPolicy lets", source, "out to", target)
                if not self.opened("ingress", "from", other, one, port):
                    self.say("no NetworkPolicy lets", source, "in to", target)
        for pod in self.pods:
            if "accounts" in pod.volumes and not self.leaves(pod, 5432):
                self.say("no NetworkPolicy lets", pod.name, "out to a database")

    def leaves(self, pod, port):
        """For wherever that is."""
        policies = [one["spec"] for one in self.kind("NetworkPolicy").values() if matches(one["spec"]["podSelector"], pod.labels)]
        return any({"port": port} in rule.get("ports", []) for one in policies for rule in one.get("egress") or [])

    def opened(self, direction, peers, pod, other, port):
        for policy in self.kind("NetworkPolicy").values():
            for rule in policy["spec"].get(direction) or [] if matches(policy["spec"]["podSelector"], pod.labels) else []:
                selectors = [peer["podSelector"] for peer in rule.get(peers) or [] if "podSelector" in peer]
                is_named = any(one["port"] == port for one in rule.get("ports") or [])
                if is_named and any(matches(one, other.labels) for one in selectors):
                    return True
        return False

    def probes(self):
        """Paths are those that the program serves; ports are declared."""
        served = set(re.findall(r'route\("(/\w+)"', (self.tree / "crates/telemetry/src/http.rs").read_text()))
        for pod in self.pods:
            for one in pod.containers:
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    how = one.get(probe) or {}
                    get = how.get("httpGet") or how.get("tcpSocket")
                    if get and get["port"] not in {port["name"] for port in one.get("ports") or []}:
                        self.say(pod.name, probe, "asks port", get["port"], "which it does not have")
                    if get and "path" in get and get["path"] not in served:
                        self.say(pod.name, probe, "asks", get["path"], "which nobody serves")

    def scaling(self):
        for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            for name, scaler in self.kind(kind).items():
                target = self.kind("Deployment").get(scaler["spec"]["scaleTargetRef"]["name"])
                if target is None:
                    self.say(kind, name, "scales what is not there")
                elif "replicas" in target["spec"]:
                    self.say("Deployment", name, "has a number of replicas beside its", kind)

    def restricted(self):
        for pod in self.pods:
            if pod.spec.get("automountServiceAccountToken") is not False:
                self.say(pod.name, "would hold a token")
            for one in pod.containers:
                context = one.get("securityContext") or {}
                if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
                    self.say(pod.name, "container", one["name"], "is not restricted")
        for name, account in self.kind("ServiceAccount").items():
            if account.get("automountServiceAccountToken") is not False:
                self.say("ServiceAccount", name, "would hand out a token")

    def redis(self):
        """Its memory is its own, and twice what it may fill."""
        for pod in self.pods:
            for one in pod.containers:
                if one["name"] != "redis":
                    continue
                requested, limit = (octets(one["resources"][kind]["memory"]) for kind in ("requests", "limits"))
                maxmemory = self.maxmemory(one, limit)
                if requested != limit:
                    self.say("Redis requests", requested, "octets of memory, and its limit is", limit)
                if not 0 < 2 * maxmemory <= limit:
                    self.say("Redis may fill", maxmemory, "octets of", limit)

    def maxmemory(self, container, limit):
        """What the start of the container writes, with its paths elsewhere."""
        conf = next(one["data"]["redis.conf"] for name, one in self.kind("ConfigMap").items() if name.startswith("redis"))
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


def strings(value):
    """Every path in a table."""
    if isinstance(value, str):
        yield from [value] if value.startswith("/") else []
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def listening(config, programs):
    """Names of ports and addresses, by the configuration."""
    if "staffetta-frontend" in programs:
        yield "http", config["frontend"]["http"]
        yield from ((one["name"], one["bind"]) for one in config["frontend"]["listener"])
    if "staffetta-auth" in programs:
        yield "http", config["auth"]["http"]
        yield "grpc", config["auth"]["listen"]
    if "staffetta-delivery" in programs:
        yield "http", config["delivery"]["http"]


def documented(tree):
    """The table of Secrets in the runbook: name to keys, `None` for any."""
    page = (tree / "docs/operations.md").read_text()
    table = page.partition("| Secret | keys | what |\n")[2].partition("\n\n")[0]
    secrets = {}
    for row in table.splitlines()[1:]:
        name, keys = row.split("|")[1:3]
        keys = re.findall(r"`([^`]+)`", keys) if "each" not in keys else None
        secrets[name.strip(" `")] = keys and set(keys)
    return secrets


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
        if command and not manifests.understands(command[1].split()):
            manifests.say("README.md runs the command", command[1], "which is none")


def main():
    options = dict(one[2:].partition("=")[::2] for one in sys.argv[1:] if one.startswith("--"))
    tree, *rendered = (pathlib.Path(one) for one in sys.argv[1:] if not one.startswith("--"))
    secrets = {} if "only-rendered-secrets" in options else documented(tree)
    problems = list(two_images(tree))
    for path in rendered:
        manifests = Manifests(tree, path)
        manifests.images(options.get("image"))
        manifests.mounts(secrets)
        for check in ("namespaces", "commands", "ports", "ways", "probes", "scaling", "restricted", "redis"):
            getattr(manifests, check)()
        if "asked" in options:
            asked(manifests, pathlib.Path(options["asked"]))
        problems += [f"{path.stem}: {problem}" for problem in manifests.problems]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
