"""Who reaches whom: ports, selectors, policies."""

from objects import COMPONENT, PROGRAMS, matches

# Who has to reach whom, at which port, through the network policies.
WAYS = [("frontend", "auth", "grpc")] + [(who, "redis", "redis") for who in ("frontend", "auth", "delivery", "queue-init")]
# Besides these, which ports outside of the cluster somebody has to reach, by the component that lets him.
# "" is the base; nobody stands for everybody.
OUT = [
    ("", [], [(53, "UDP"), (53, "TCP")]),
    ("", ["delivery"], [(25, "TCP"), (443, "TCP")]),
    ("", ["auth", "accounts-init"], [(5432, "TCP"), (3306, "TCP")]),
    ("managed-redis", ["frontend", "auth", "delivery", "queue-init"], [(6379, "TCP"), (6380, "TCP"), (26379, "TCP")]),
    ("smart-host", ["delivery"], [(587, "TCP"), (465, "TCP"), (24, "TCP")]),
    ("relay-domains", ["frontend"], [(25, "TCP"), (24, "TCP")]),
    ("object-store", ["frontend", "delivery"], [(443, "TCP")]),
    ("traces", ["frontend", "auth", "delivery"], [(4317, "TCP")]),
]
# Of each family, what is not the internet.
INSIDE = {
    "0.0.0.0/0": {"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"},
    "::/0": {"fc00::/7", "fe80::/10"},
}
# The ports of the Service, and what the frontends call them.
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


def ways(manifests):
    """Since all else is denied, each way is opened at both ends."""
    for source, target, port in WAYS:
        ends = [manifests.named(name) for name in (source, target)]
        for one, other in ((one, other) for one in ends[0] for other in ends[1]):
            if not opened(manifests, "egress", "to", one, other, port):
                manifests.say("no NetworkPolicy lets", source, "out to", target)
            if not opened(manifests, "ingress", "from", other, one, port):
                manifests.say("no NetworkPolicy lets", source, "in to", target)


def outwards(manifests):
    """What is outside of the cluster can be reached; of what is inside, no stranger says where mail goes."""
    for component, names, ports in OUT:
        if component and not manifests.has(component):
            continue
        for pod in [pod for name in names for pod in manifests.named(name)] if names else manifests.pods:
            for port, protocol in ports:
                if not leaves(manifests, pod, port, protocol):
                    manifests.say("no NetworkPolicy lets", pod.name, "out to", protocol, "port", port)
    for pod in manifests.named("delivery"):
        for rule in (rule for spec in policies_of(manifests, pod) for rule in spec.get("egress") or []):
            if 25 in {port["port"] for port in rule["ports"]} and inside(rule):
                manifests.say(pod.name, "is let in to", *sorted(inside(rule)), "by a stranger's MX record")


def leaves(manifests, pod, port, protocol):
    """For any address that is not inside."""
    for rule in (rule for spec in policies_of(manifests, pod) for rule in spec.get("egress") or []):
        networks = {peer["ipBlock"]["cidr"] for peer in rule.get("to") or [] if "ipBlock" in peer}
        ports = {(one["port"], one.get("protocol", "TCP")) for one in rule.get("ports") or []}
        if (port, protocol) in ports and ("to" not in rule or networks == set(INSIDE)):
            return True
    return False


def inside(rule):
    """The networks of ours that a rule leaves open."""
    if "to" not in rule:
        return set().union(*INSIDE.values())
    blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
    return {one for block in blocks for one in INSIDE.get(block["cidr"], set()) - set(block.get("except") or [])}


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
        for pod in manifests.selected({"matchLabels": spec["selector"]}):
            for port in MAIL.values():
                if not lets_in(manifests, pod, port, None):
                    manifests.say("no NetworkPolicy lets the world in to", pod.name, port)


def figures(manifests):
    """Prometheus reaches whatever has figures, and its operator, where it is, is told of all of them."""
    monitors = [one["spec"] for one in manifests.kind("PodMonitor").values()]
    for pod in manifests.pods:
        for port in FIGURES & set(pod.ports()):
            if not lets_in(manifests, pod, port, WATCHER):
                manifests.say("no NetworkPolicy lets", WATCHER, "in to", pod.name, port)
            scraped = any(matches(one["selector"], pod.labels) and port in endpoints(one) for one in monitors)
            if monitors and not scraped:
                manifests.say("no PodMonitor scrapes", pod.name, port)
    for name, one in manifests.kind("ScaledObject").items():
        for trigger in one["spec"]["triggers"]:
            if f".{WATCHER}.svc:" not in trigger["metadata"]["serverAddress"]:
                manifests.say("ScaledObject", name, "asks", trigger["metadata"]["serverAddress"], "which is not in", WATCHER)


def endpoints(monitor):
    return {one["port"] for one in monitor["podMetricsEndpoints"]}


def lets_in(manifests, pod, port, namespace):
    """From a namespace; `None`: from everywhere."""
    for rule in (rule for spec in policies_of(manifests, pod) for rule in spec.get("ingress") or []):
        selectors = [peer.get("namespaceSelector") for peer in rule.get("from") or []]
        wanted = [{"matchLabels": {"kubernetes.io/metadata.name": namespace}}] if namespace else []
        if selectors == wanted and {"port": port} in rule["ports"]:
            return True
    return False


def policies_of(manifests, pod):
    """What the network policies say that hold for a pod."""
    return [one["spec"] for one in manifests.kind("NetworkPolicy").values() if matches(one["spec"]["podSelector"], pod.labels)]


def opened(manifests, direction, peers, pod, other, port):
    for spec in policies_of(manifests, pod):
        for rule in spec.get(direction) or []:
            selectors = [peer["podSelector"] for peer in rule.get(peers) or [] if "podSelector" in peer]
            is_named = any(one["port"] == port for one in rule.get("ports") or [])
            if is_named and any(matches(one, other.labels) for one in selectors):
                return True
    return False
