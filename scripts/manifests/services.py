"""Ports and selectors: what is named is there, and Prometheus is told of all that has figures."""

import urllib.parse

from objects import COMPONENT, PROGRAMS, matches

# The ports of the Service for the world, and what the frontends call them.
MAIL = {25: "smtp", 587: "submission", 465: "submissions"}
# Ports with figures, and the namespace from which they are asked for.
FIGURES, WATCHER = {"http", "exporter"}, "monitoring"
# Ports that others speak of, and the components that bring them.
SPARE = {"exporter": "redis-exporter"}


def ports(manifests):
    """What is configured is declared, and what is named is declared."""
    for pod in manifests.pods:
        declared, config = pod.ports(), manifests.config(pod)
        programs = {one["command"][0].removeprefix(PROGRAMS) for one in pod.containers}
        for name, address in listening(config, programs):
            if declared.get(name) != int(address.rpartition(":")[2]):
                manifests.say(pod.name, "listens on", address, "and declares", name, "as", declared.get(name))
        scraped = pod.annotations.get("prometheus.io/port")
        if scraped and int(scraped) not in declared.values():
            manifests.say(pod.name, "would be scraped on port", scraped, "which it does not have")
    for name, service in manifests.kind("Service").items():
        reached(manifests, f"Service {name}", {"matchLabels": service["spec"]["selector"]}, service["spec"]["ports"], "targetPort")
    for name, one in manifests.kind("NetworkPolicy").items():
        policy(manifests, f"NetworkPolicy {name}", one["spec"])
    for name, monitor in manifests.kind("PodMonitor").items():
        reached(manifests, f"PodMonitor {name}", monitor["spec"]["selector"], monitor["spec"]["podMetricsEndpoints"], "port")
    asked = urllib.parse.urlsplit(manifests.settings().get("frontend", {}).get("auth", ""))
    ways = {(name, port["port"]) for name, service in manifests.kind("Service").items() for port in service["spec"]["ports"]}
    if (asked.hostname, asked.port) not in ways:
        manifests.say("no Service is at", asked.netloc or "frontend.auth", "where frontends ask")
    alone(manifests)


def alone(manifests):
    """A Service, a budget and a workload are about the pods of the workload of their name."""
    for pod in manifests.pods:
        if pod.name.split()[1] != pod.labels.get(COMPONENT):
            manifests.say(pod.name, "is called", pod.labels.get(COMPONENT), "by its label")
    for kind in ("Service", "PodDisruptionBudget", "Deployment", "StatefulSet"):
        for name, one in manifests.kind(kind).items():
            selector = one["spec"]["selector"]
            names = [pod.name for pod in manifests.selected({"matchLabels": selector} if kind == "Service" else selector)]
            if [each.split()[1] for each in names] != [name]:
                manifests.say(kind, name, "selects", names or "no pod")


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


def reached(manifests, who, selector, ports, key):
    pods = manifests.selected(selector)
    ports = [port for port in ports if port.get(key) not in SPARE or manifests.has(SPARE[port[key]])]
    if not pods:
        manifests.say(who, "selects no pod")
    for port in ports:
        name = port.get(key)
        if isinstance(name, str) and not any(name in pod.ports() for pod in pods):
            manifests.say(who, "names the port", name, "which no pod has")


def policy(manifests, who, spec):
    everybody = spec["podSelector"]
    for rule in spec.get("ingress") or []:
        reached(manifests, who, everybody, rule.get("ports") or [], "port")
        for peer in rule.get("from") or []:
            if "podSelector" in peer:
                reached(manifests, who, peer["podSelector"], [], "")
    for rule in spec.get("egress") or []:
        reached(manifests, who, everybody, [], "")
        for peer in rule.get("to") or []:
            if "podSelector" in peer:
                reached(manifests, who, peer["podSelector"], rule.get("ports") or [], "port")


def mail_ports(manifests):
    """The world comes to the three ports, with addresses of its own."""
    for name, service in manifests.kind("Service").items():
        spec = service["spec"]
        if spec.get("type", "ClusterIP") == "ClusterIP":
            continue
        if spec.get("externalTrafficPolicy") != "Local":
            manifests.say("Service", name, "hides the addresses of clients: its externalTrafficPolicy is", spec.get("externalTrafficPolicy"))
        if {port["port"]: port["targetPort"] for port in spec["ports"]} != MAIL:
            manifests.say("Service", name, "has other ports than", MAIL)


def figures(manifests):
    """The operator of Prometheus, where it is, is told of all of them."""
    monitors = [one["spec"] for one in manifests.kind("PodMonitor").values()]
    for pod in manifests.pods:
        for port in FIGURES & set(pod.ports()):
            scraped = any(matches(one["selector"], pod.labels) and port in endpoints(one) for one in monitors)
            if monitors and not scraped:
                manifests.say("no PodMonitor scrapes", pod.name, port)
    for name, one in manifests.kind("ScaledObject").items():
        for trigger in one["spec"]["triggers"]:
            if f".{WATCHER}.svc:" not in trigger["metadata"]["serverAddress"]:
                manifests.say("ScaledObject", name, "asks", trigger["metadata"]["serverAddress"], "which is not in", WATCHER)


def endpoints(monitor):
    return {one["port"] for one in monitor["podMetricsEndpoints"]}
