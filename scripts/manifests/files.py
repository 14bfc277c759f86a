"""What pods are given: Secrets, mounted files, paths that programs are told of."""

import re

from objects import PROGRAMS, QUANTITY

# What each program reads of the configuration, besides what is not a path.
TABLES = {
    "staffetta-frontend": ["redis", "tls", "rpc", "frontend", "dns"],
    "staffetta-auth": ["redis", "rpc", "auth"],
    "staffetta-delivery": ["redis", "delivery", "dns"],
    "staffetta queue": ["redis"],
    "staffetta user": ["rpc", "auth"],
}
# Whose keys become variables: the libraries of the stores read them there and nowhere else.
IN_ENVIRONMENT = {"object-store"}


def mounts(manifests, documented):
    """Volumes are there; files that programs are told of lie in them."""
    wanted = {volume["secret"]["secretName"] for pod in manifests.pods for volume in pod.volumes.values() if "secret" in volume}
    for name, made in manifests.kind("ExternalSecret").items():
        if made["spec"]["target"]["name"] not in wanted:
            manifests.say("ExternalSecret", name, "makes what no pod mounts")
    for pod in manifests.pods:
        if pod.spec.get("serviceAccountName") not in manifests.kind("ServiceAccount"):
            manifests.say(pod.name, "has no ServiceAccount")
        files = {name: files_of(manifests, volume, documented) for name, volume in pod.volumes.items()}
        for name, volume in pod.volumes.items():
            mounts = [mount["mountPath"] for one in pod.containers for mount in one.get("volumeMounts") or [] if mount["name"] == name]
            for slip in kept(volume, mounts, pod.is_ours()):
                manifests.say(pod.name, "volume", name, slip)
        for one in pod.containers:
            mounted = {}
            for mount in one.get("volumeMounts") or []:
                if mount["name"] not in files and mount["name"] not in pod.claims:
                    manifests.say(pod.name, "mounts", mount["name"], "which is no volume")
                mounted[mount["mountPath"]] = files.get(mount["name"])
                is_given = {"configMap", "secret"} & set(pod.volumes.get(mount["name"], {}))
                if is_given and mount.get("readOnly") is not True:
                    manifests.say(pod.name, "container", one["name"], "may write to", mount["mountPath"])
            for path in paths(manifests, pod, one):
                folder, _, name = path.rpartition("/")
                if folder not in mounted or mounted[folder] is not None and name not in mounted[folder]:
                    manifests.say(pod.name, "container", one["name"], "has no file", path)


def kept(volume, mounts, is_ours):
    """How a volume is held, and where."""
    if not mounts:
        yield "is mounted by nobody"
    if is_ours and "secret" in volume and set(mounts) != {f"/run/secrets/staffetta/{volume['name']}"}:
        yield f"is at {mounts}, where nobody looks"
    if len(volume) != 2:
        yield "has no source, or several"
    # In octal 0440.
    if "secret" in volume and volume["secret"].get("defaultMode") != 288:
        yield f"is a Secret of the mode {volume['secret'].get('defaultMode')}, and not 0440"
    if "emptyDir" in volume and not re.fullmatch(QUANTITY, str(volume["emptyDir"].get("sizeLimit"))):
        yield "may grow without an end"
    if volume.get("emptyDir", {}).get("medium", "Memory") != "Memory":
        yield "is in no memory"


def optional(manifests):
    """A pod starts without what the runbook says may be left out, and without nothing else; who keeps bodies has the keys of the store."""
    for pod in manifests.named("frontend") + manifests.named("delivery") if manifests.has("object-store") else []:
        given = {one.get("secretRef", {}).get("name") for each in pod.services for one in each.get("envFrom") or []}
        if "object-store" not in given:
            manifests.say(pod.name, "has no keys of the store")
    page = secrets_table(manifests.tree)
    spare = {row.split("|")[1].strip(" `") for row in page if "may be left out" in row}
    for pod in manifests.pods:
        sources = [(one["secret"]["secretName"], one["secret"]) for one in pod.volumes.values() if "secret" in one]
        for one in pod.containers:
            sources += [(each["secretRef"]["name"], each["secretRef"]) for each in one.get("envFrom") or [] if "secretRef" in each]
        for name, source in sources:
            if bool(source.get("optional")) != (name in spare):
                manifests.say(pod.name, "starts" if source.get("optional") else "does not start", "without", name)


def files_of(manifests, volume, documented):
    """The files of a volume by name; `None`: any."""
    if "configMap" in volume:
        source, name = volume["configMap"], volume["configMap"]["name"]
        found = manifests.kind("ConfigMap").get(name)
        keys = found and set(found.get("data") or {})
    elif "secret" in volume:
        source, name = volume["secret"], volume["secret"]["secretName"]
        keys = secret(manifests, name, documented)
    else:
        return None
    if keys is None and not source.get("optional"):
        manifests.say("nobody makes", name, "for the volume", volume["name"])
    items = source.get("items")
    if items is None:
        return keys
    for item in items:
        if keys is not None and item["key"] not in keys:
            manifests.say(name, "has no key", item["key"])
    return {item["path"] for item in items}


def secret(manifests, name, documented):
    """The keys of a Secret that is rendered, made by cert-manager, or asked for in the documents."""
    rendered = manifests.kind("Secret").get(name)
    if rendered:
        return set(rendered.get("data") or {}) | set(rendered.get("stringData") or {})
    if any(one["spec"]["secretName"] == name for one in manifests.kind("Certificate").values()):
        return {"tls.crt", "tls.key", "ca.crt"}
    return documented.get(name)


def paths(manifests, pod, container):
    """Every file that a container is told of: arguments, environment, its tables of the configuration."""
    words = container["command"][1:] + (container.get("args") or [])
    yield from (one for one in words if one.startswith("/"))
    for one in container.get("env") or []:
        if str(one.get("value", "")).startswith("/"):
            yield one["value"]
        if "secretKeyRef" in (one.get("valueFrom") or {}):
            manifests.say(pod.name, "has the secret", one["name"], "in its environment")
    for one in container.get("envFrom") or []:
        name = one.get("secretRef", {}).get("name")
        if name not in IN_ENVIRONMENT:
            manifests.say(pod.name, "has all of", name or one, "in its environment")
    # In the script of somebody else's image.
    yield from re.findall(r"(?<!\w)/(?:etc|run|tmp|data)/[\w./-]+", " ".join(container.get("args") or []) if not container["command"][0].startswith(PROGRAMS) else "")
    config, program = manifests.config(pod), " ".join(container["command"][:2]).removeprefix(PROGRAMS)
    for table in TABLES.get(program, []):
        yield from strings(config.get(table, {}))


def strings(value):
    """Every path in a table."""
    if isinstance(value, str):
        yield from [value] if value.startswith("/") else []
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def secrets_table(tree):
    page = (tree / "docs/operations.md").read_text()
    return page.partition("| Secret | keys | what |\n")[2].partition("\n\n")[0].splitlines()[1:]


def documented(tree):
    """The table of Secrets in the runbook: name to keys, `None` for any."""
    secrets = {}
    for row in secrets_table(tree):
        name, keys = row.split("|")[1:3]
        keys = re.findall(r"`([^`]+)`", keys) if "each" not in keys else None
        secrets[name.strip(" `")] = keys and set(keys)
    return secrets
