"""The objects of one rendering."""

import tomllib

import yaml

PROGRAMS = "/usr/local/bin/"
QUANTITY = r"\d+(?:m|Ki|Mi|Gi)?"
COMPONENT = "app.kubernetes.io/component"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job")


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
        # Disks of its own, by name, and how large they are.
        self.claims = {
            claim["metadata"]["name"]: claim["spec"].get("resources", {}).get("requests", {}).get("storage", "0")
            for claim in workload["spec"].get("volumeClaimTemplates") or []
        }
        self.volumes = {volume["name"]: volume for volume in self.spec.get("volumes") or []}
        self.containers = self.spec.get("initContainers", []) + self.spec["containers"]
        # Those that are meant to run for ever.
        self.services = self.spec["containers"] if workload["kind"] in ("Deployment", "StatefulSet", "DaemonSet") else []

    def is_ours(self):
        return any(one["command"][0].startswith(PROGRAMS) for one in self.containers)

    def ports(self):
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports") or []}


class Manifests:
    """The objects of one rendering, and what is wrong with them."""

    def __init__(self, tree, path):
        self.tree = tree
        self.rendered = path.stem
        self.objects = [one for one in yaml.safe_load_all(path.read_text()) if one]
        self.pods = [Pod(one) for one in self.objects if one["kind"] in WORKLOADS]
        self.problems = []

    def kind(self, kind):
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def say(self, *words):
        self.problems.append(" ".join(str(word) for word in words))

    def selected(self, selector):
        return [pod for pod in self.pods if matches(selector, pod.labels)]

    def has(self, component):
        """`with-NAME` has one, `everything` all but that which takes the pod of Redis away; that is seen where there is none."""
        if component == "managed-redis":
            return not self.named("redis")
        return self.rendered in (f"with-{component}", "everything")

    def named(self, name):
        """The pods of one of our programs, or of Redis."""
        return [pod for pod in self.pods if pod.labels.get(COMPONENT) == name]

    def settings(self):
        """The configuration that the services share."""
        return next((config for config in map(self.config, self.pods) if config), {})

    def config(self, pod):
        source = pod.volumes.get("config", {}).get("configMap")
        found = source and self.kind("ConfigMap").get(source["name"])
        return tomllib.loads(found["data"]["staffetta.toml"]) if found and "staffetta.toml" in found["data"] else {}
