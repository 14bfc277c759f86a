"""Objects of operators that a cluster may have: cert-manager, KEDA, External Secrets, Prometheus' own.

Their schemas are not in the tree, and a key that an operator does not know is dropped without a word, so what our objects use of
them is written down here: `KEY!` must be there, a text is any text, a tuple are the words that are allowed, a list are several of one shape.
"""

import re
import urllib.parse

TEXT, NUMBER, FLAG, WORDS, TIME, FIGURE = "text", "number", "flag", "words", "time", "figure"
# Kinds of Kubernetes itself; kubernetes-validate knows their keys.
OWN = {"", "apps", "autoscaling", "batch", "policy", "networking.k8s.io"}

PATTERNS = {TIME: r"\d+[smhd]", FIGURE: r"\d+"}
ISSUER = {"name!": TEXT, "kind!": ("Issuer", "ClusterIssuer")}
SELECTOR = {"matchLabels": WORDS, "matchExpressions": [{"key!": TEXT, "operator!": ("In",), "values!": [TEXT]}]}
SCALING = {"stabilizationWindowSeconds": NUMBER, "policies": [{"type!": ("Pods", "Percent"), "value!": NUMBER, "periodSeconds!": NUMBER}]}
USAGES = ("digital signature", "server auth", "client auth")

SHAPES = {
    "cert-manager.io/v1 Issuer": {"selfSigned": {}, "ca": {"secretName!": TEXT}},
    "cert-manager.io/v1 Certificate": {
        "secretName!": TEXT,
        "issuerRef!": ISSUER,
        "commonName": TEXT,
        "dnsNames": [TEXT],
        "duration": TIME,
        "isCA": FLAG,
        "privateKey!": {"algorithm!": ("ECDSA",), "size!": NUMBER, "rotationPolicy": ("Always", "Never")},
        "renewBefore": TIME,
        "usages": [USAGES],
    },
    "external-secrets.io/v1 ExternalSecret": {
        "refreshInterval!": TIME,
        "secretStoreRef!": {"kind!": ("SecretStore", "ClusterSecretStore"), "name!": TEXT},
        "target!": {"name!": TEXT},
        "dataFrom!": [{"extract!": {"key!": TEXT}}],
    },
    "keda.sh/v1alpha1 ScaledObject": {
        "scaleTargetRef!": {"name!": TEXT},
        "minReplicaCount!": NUMBER,
        "maxReplicaCount!": NUMBER,
        "pollingInterval": NUMBER,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": SCALING, "scaleUp": SCALING}}},
        "triggers!": [
            {
                "type!": ("prometheus",),
                "name!": TEXT,
                "metricType": ("AverageValue", "Value"),
                "metadata!": {"serverAddress!": TEXT, "query!": TEXT, "threshold!": FIGURE, "ignoreNullValues!": ("true", "false")},
            }
        ],
    },
    "monitoring.coreos.com/v1 PodMonitor": {
        "selector!": SELECTOR,
        "podTargetLabels": [TEXT],
        "podMetricsEndpoints!": [{"port!": TEXT, "path": TEXT, "interval": TIME}],
    },
    "monitoring.coreos.com/v1 PrometheusRule": {
        "groups!": [
            {
                "name!": TEXT,
                "rules!": [
                    {
                        "alert!": TEXT,
                        "expr!": TEXT,
                        "for": TIME,
                        "labels!": {"severity!": ("warning", "critical")},
                        "annotations!": {"summary!": TEXT, "runbook_url!": TEXT},
                    }
                ],
            }
        ]
    },
}


def custom(manifests):
    """Each object of an operator has the keys that it must have, and none that the operator would pass by."""
    for one in manifests.objects:
        kind = f"{one['apiVersion']} {one['kind']}"
        if one["apiVersion"].rpartition("/")[0] in OWN:
            continue
        if kind not in SHAPES:
            manifests.say(kind, one["metadata"]["name"], "is of a kind whose keys scripts/manifests/operators.py does not know")
            continue
        shape = {"apiVersion!": TEXT, "kind!": TEXT, "metadata!": {"name!": TEXT, "namespace": TEXT, "labels": WORDS, "annotations": WORDS}, "spec!": SHAPES[kind]}
        for slip in slips(shape, one, ""):
            manifests.say(one["kind"], one["metadata"]["name"], slip)


def slips(shape, value, place):
    """In what a value is not of its shape; `place` says where it stands."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"has no table at {place}"
            return
        known = {key.rstrip("!"): one for key, one in shape.items()}
        yield from (f"has an unknown key {place}{key}" for key in value if key not in known)
        yield from (f"lacks {place}{key[:-1]}" for key in shape if key.endswith("!") and key[:-1] not in value)
        for key, one in known.items():
            if key in value:
                yield from slips(one, value[key], f"{place}{key}.")
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            yield f"has no list at {place}"
            return
        for number, one in enumerate(value):
            yield from slips(shape[0], one, f"{place}{number}.")
    elif not fits(shape, value):
        yield f"has {value!r} at {place.rstrip('.')}"


def fits(shape, value):
    if isinstance(shape, tuple):
        return value in shape
    if shape in PATTERNS:
        return isinstance(value, str) and bool(re.fullmatch(PATTERNS[shape], value))
    if shape == WORDS:
        return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    return type(value) is {TEXT: str, NUMBER: int, FLAG: bool}[shape]


def certificates(manifests):
    """They are for the names that are asked for, by issuers that are there."""
    settings = manifests.settings()
    if not settings:
        return
    names = {"frontend-tls": settings["hostname"], "auth-rpc": urllib.parse.urlsplit(settings["frontend"]["auth"]).hostname}
    usages = {"auth-rpc": "server auth", "frontend-rpc": "client auth"}
    mounted = {volume["secret"]["secretName"] for pod in manifests.pods for volume in pod.volumes.values() if "secret" in volume}
    signing = {one["spec"]["ca"]["secretName"] for one in manifests.kind("Issuer").values() if "ca" in one["spec"]}
    for name, one in manifests.kind("Certificate").items():
        spec = one["spec"]
        wanted, usage = names.get(spec["secretName"]), usages.get(spec["secretName"])
        if wanted and wanted not in spec.get("dnsNames", []):
            manifests.say("Certificate", name, "is for", spec.get("dnsNames"), "and not for", wanted)
        if usage and usage not in spec.get("usages", []):
            manifests.say("Certificate", name, "is not for the usage", usage)
        issuer = spec.get("issuerRef") or {}
        if issuer.get("kind") == "Issuer" and issuer.get("name") not in manifests.kind("Issuer"):
            manifests.say("Certificate", name, "is asked of the Issuer", issuer.get("name"), "which is not there")
        if spec["secretName"] not in mounted | signing:
            manifests.say("Certificate", name, f"makes {spec['secretName']}, which nobody mounts")
    for name, one in manifests.kind("Issuer").items():
        if len(one["spec"]) != 1:
            manifests.say("Issuer", name, "signs with", list(one["spec"]))
    for name in signing - {one["spec"]["secretName"] for one in manifests.kind("Certificate").values() if one["spec"].get("isCA")}:
        manifests.say("no Certificate makes the authority", name)
