"""Who reaches whom through the network policies: whoever has to, and nobody else."""

from objects import COMPONENT, matches
from services import FIGURES, MAIL, WATCHER

# Who has to reach whom, at which port.
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


def policies(manifests):
    """Everything is denied; each way that is needed is opened at both ends, and no other."""
    specs = [one["spec"] for one in manifests.kind("NetworkPolicy").values()]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in specs:
        manifests.say("no NetworkPolicy denies everything")
    for name, one in manifests.kind("NetworkPolicy").items():
        spec = one["spec"]
        directions = [way for way in ("Ingress", "Egress") if way.lower() in spec]
        if directions and spec.get("policyTypes") != directions:
            manifests.say("NetworkPolicy", name, "is about", spec.get("policyTypes"), "and has rules for", directions)
    for pod in manifests.pods:
        needed, found = needed_in(manifests, pod), let_in(manifests, pod)
        for who, port in sorted(needed - found):
            manifests.say("no NetworkPolicy lets", who, "in to", pod.name, port)
        for who, port in sorted(found - needed, key=str):
            manifests.say("a NetworkPolicy lets", who, "in to", pod.name, port or "at any port", "without need")
        needed, found = needed_out(manifests, pod), let_out(manifests, pod)
        for who, port in sorted(needed - found, key=str):
            manifests.say("no NetworkPolicy lets", pod.name, "out to", who, port)
        for who, port in sorted(found - needed, key=str):
            manifests.say("a NetworkPolicy lets", pod.name, "out to", who, port, "without need")
    strangers(manifests)


def needed_in(manifests, pod):
    """Pairs of whoever comes, and the port."""
    component = pod.labels.get(COMPONENT)
    ways = {(source, port) for source, target, port in WAYS if target == component and manifests.named(source)}
    ways |= {("the world", port) for port in MAIL.values() if component == "frontend"}
    return ways | {(WATCHER, port) for port in FIGURES & set(pod.ports())}


def needed_out(manifests, pod):
    """Pairs of whoever is reached, and the port; outside of the cluster it is a number."""
    component = pod.labels.get(COMPONENT)
    ways = {(target, port) for source, target, port in WAYS if source == component and manifests.named(target)}
    for name, names, ports in OUT:
        if (not name or manifests.has(name)) and (not names or component in names):
            ways |= {(f"{protocol} port", port) for port, protocol in ports}
    return ways


def let_in(manifests, pod):
    found = set()
    for rule in rules_of(manifests, pod, "ingress"):
        # A name that the pod does not have opens nothing.
        ports = {port["port"] for port in rule.get("ports") or [{"port": 0}] if port["port"] in pod.ports() or isinstance(port["port"], int)}
        peers = {name for peer in rule.get("from") or [{}] for name in named(manifests, peer)}
        found |= {(who, port) for who in peers for port in ports}
    return found


def let_out(manifests, pod):
    found = set()
    for rule in rules_of(manifests, pod, "egress"):
        networks = {peer["ipBlock"]["cidr"] for peer in rule.get("to") or [] if "ipBlock" in peer}
        names = {name for peer in rule.get("to") or [] if "ipBlock" not in peer for name in named(manifests, peer)}
        for port in rule.get("ports") or [{"port": 0}]:
            found |= {(who, port["port"]) for who in names}
            if not names and ("to" not in rule or networks == set(INSIDE)):
                found.add((f"{port.get('protocol', 'TCP')} port", port["port"]))
    return found


def named(manifests, peer):
    """What stands at the other end of a rule, by name."""
    if not peer:
        return {"the world"}
    if "namespaceSelector" in peer:
        return {(peer["namespaceSelector"].get("matchLabels") or {}).get("kubernetes.io/metadata.name", "any namespace")}
    return {str(pod.labels.get(COMPONENT)) for pod in manifests.selected(peer.get("podSelector") or {})}


def strangers(manifests):
    """Of what is inside, no stranger says where mail goes."""
    for pod in manifests.named("delivery"):
        for rule in rules_of(manifests, pod, "egress"):
            if 25 in {port["port"] for port in rule.get("ports") or []} and inside(rule):
                manifests.say(pod.name, "is let in to", *sorted(inside(rule)), "by a stranger's MX record")


def inside(rule):
    """The networks of ours that a rule leaves open."""
    if "to" not in rule:
        return set().union(*INSIDE.values())
    blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
    return {one for block in blocks for one in INSIDE.get(block["cidr"], set()) - set(block.get("except") or [])}


def rules_of(manifests, pod, direction):
    """Of all network policies that hold for a pod."""
    specs = [one["spec"] for one in manifests.kind("NetworkPolicy").values() if matches(one["spec"]["podSelector"], pod.labels)]
    return [rule for spec in specs for rule in spec.get(direction) or []]
