"""What stands beside our programs in a pod: unbound with the worker, the exporter with Redis."""

import pathlib
import re
import shutil
import subprocess
import tempfile

# Of redis_exporter, as far as they are used, and where it listens unless told otherwise.
OPTIONS, EXPORTER = {"redis.addr", "redis.password-file"}, 9121


def together(manifests, name):
    """Pods with a container of this name, and it."""
    return [(pod, one) for pod in manifests.pods for one in pod.containers if one["name"] == name]


def unbound(manifests):
    """unbound takes its file, listens for its pod alone, and is whom the worker asks and believes."""
    beside = together(manifests, "unbound")
    if bool(beside) != manifests.has("unbound"):
        manifests.say("unbound stands beside", [pod.name for pod, _ in beside])
    for pod, one in beside:
        if one.get("restartPolicy") != "Always":
            manifests.say(pod.name, "waits for the end of unbound")
        if one["command"] != ["/usr/sbin/unbound", "-d", "-c", "/etc/unbound/unbound.conf"]:
            manifests.say(pod.name, "starts unbound as", one["command"])
        volume = pod.volumes["unbound"]["configMap"]["name"]
        conf = (manifests.kind("ConfigMap").get(volume) or {"data": {}})["data"].get("unbound.conf", "")
        for refusal in refusals(conf):
            manifests.say(pod.name, "container unbound:", refusal)
        host, port = (re.search(rf"^ +{key}: (\S+)$", conf, re.M) for key in ("interface", "port"))
        address = f"{host and host[1]}:{port and port[1]}"
        if pod.ports().get("resolver") != (port and int(port[1])):
            manifests.say(pod.name, "declares the resolver as", pod.ports().get("resolver"), "and it listens at", address)
        for worker in pod.services:
            told = {variable["name"]: variable.get("value") for variable in worker["env"]}
            for name, wanted in (("STAFFETTA__DNS__SERVERS", address), ("STAFFETTA__DNS__DNSSEC", "trust-ad")):
                if told.get(name) != wanted:
                    manifests.say(pod.name, "has", told.get(name), "as", name, "and the resolver beside it would be", wanted)


def refusals(conf):
    """What unbound itself says of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "unbound.conf")
        path.write_text(conf)
        checker = shutil.which("unbound-checkconf", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if checker is None:
            return ["unbound-checkconf is missing: scripts/setup test"]
        run = subprocess.run([checker, str(path)], capture_output=True, text=True)
        return [] if run.returncode == 0 else [run.stdout.strip() + run.stderr.strip()]


def exporter(manifests):
    """The exporter of Redis is told what it knows, and asks the Redis beside it."""
    beside = together(manifests, "exporter")
    if bool(beside) != manifests.has("redis-exporter"):
        manifests.say("the exporter stands beside", [pod.name for pod, _ in beside])
    for pod, one in beside:
        script, ports = " ".join(one["args"]), pod.ports()
        options = set(re.findall(r"--([\w.-]+)=", script))
        if options != OPTIONS:
            manifests.say(pod.name, "container exporter has the options", options, "and not", OPTIONS)
        for address in re.findall(r"redis://([\w.:]+)", script):
            if address != f"localhost:{ports.get('redis')}":
                manifests.say(pod.name, "container exporter asks", address, "and Redis has the port", ports.get("redis"))
        if ports.get("exporter") != EXPORTER or pod.annotations.get("prometheus.io/port") != str(EXPORTER):
            manifests.say(pod.name, "container exporter is looked for elsewhere than on port", EXPORTER)
