"""Who reaches whom: ports, selectors, policies."""

from objects import COMPONENT, PROGRAMS, matches

# Who has to reach whom, at which port, through the network policies.
WAYS = [("frontend", "auth", "grpc")] + [(who, "redis", "redis") for who in ("frontend", "auth", "delivery", "queue-init")]


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
    for name, budget in manifests.kind("PodDisruptionBudget").items():
        reached(manifests, f"PodDisruptionBudget {name}", budget["spec"]["selector"], [], "")


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


def ways(manifests):
    """Since all else is denied, each way is opened at both ends."""
    for source, target, port in WAYS:
        ends = [[pod for pod in manifests.pods if pod.labels.get(COMPONENT) == name] for name in (source, target)]
        for one, other in ((one, other) for one in ends[0] for other in ends[1]):
            if not opened(manifests, "egress", "to", one, other, port):
                manifests.say("no NetworkPolicy lets", source, "out to", target)
            if not opened(manifests, "ingress", "from", other, one, port):
                manifests.say("no NetworkPolicy lets", source, "in to", target)
    for pod in manifests.pods:
        if "accounts" in pod.volumes and not leaves(manifests, pod, 5432):
            manifests.say("no NetworkPolicy lets", pod.name, "out to a database")


def policies_of(manifests, pod):
    """What the network policies say that hold for a pod."""
    return [one["spec"] for one in manifests.kind("NetworkPolicy").values() if matches(one["spec"]["podSelector"], pod.labels)]


def leaves(manifests, pod, port):
    """For wherever that is."""
    return any({"port": port} in rule.get("ports", []) for one in policies_of(manifests, pod) for rule in one.get("egress") or [])


def opened(manifests, direction, peers, pod, other, port):
    for spec in policies_of(manifests, pod):
        for rule in spec.get(direction) or []:
            selectors = [peer["podSelector"] for peer in rule.get(peers) or [] if "podSelector" in peer]
            is_named = any(one["port"] == port for one in rule.get("ports") or [])
            if is_named and any(matches(one, other.labels) for one in selectors):
                return True
    return False
