"""What is measured, what rules and dashboards ask for, and what the runbook says of it.

    alarms.py TREE OUT
    alarms.py TREE     prints what deploy/prometheus/rules.yml holds

Compares the rules of deploy/k8s/components/monitoring and the dashboard with the metrics that the
program declares, and with the table of alarms in docs/operations.md. Writes OUT/rules.yaml, OUT/rules.test.yaml and, with
what dashboards, scalers and the runbook's questions ask for, OUT/queries.yaml for promtool. Prints what is wrong, a line each; exit code 1 if there is something.
"""

import html
import json
import pathlib
import re
import shutil
import sys

import yaml

NAME = re.compile(r"\b(?:staffetta|process)_[a-z0-9_]+")
METRIC = re.compile(r"\b(?:staffetta|process|kubelet|kube|redis)_[a-z0-9_]+")
# Prometheus makes these of a histogram.
SERIES = re.compile(r"_(bucket|sum|count)$")
# By whoever scrapes, and by Prometheus.
FOREIGN_LABELS = {"namespace", "instance", "job", "pod", "alertname", "alertstate", "le"}
# What others measure: the kubelet, kube-state-metrics, the exporter of Redis; and with which labels.
FOREIGN = {
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim": None},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim": None},
    "kube_pod_container_status_restarts_total": {"container": None},
    "redis_aof_last_bgrewrite_status": {},
    "redis_aof_last_write_status": {},
}


class Program:
    """What it measures, as docs/metrics.md has it, which a test compares with the program; and words of its source."""

    def __init__(self, tree):
        rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) \|", (tree / "docs/metrics.md").read_text(), re.M)
        self.metrics = FOREIGN | {name: dict(self.label(one) for one in cell.split(";") if one.strip()) for name, cell in rows}
        source = [
            path.read_text()
            for folder in ("crates", "services", "cli")
            for path in sorted((tree / folder).rglob("*.rs"))
            if "tests" not in path.parts and path.name != "tests.rs"
        ]
        self.words = set(re.findall(r'"([\w.-]+)"', "\n".join(source)))
        manifests = (tree / "crates").glob("*/Cargo.toml"), (tree / "services").glob("*/Cargo.toml")
        self.crates = {f"staffetta_{path.parent.name}" for group in manifests for path in group}

    @staticmethod
    def label(cell):
        """Its name and, where they are listed, its values."""
        name, *values = re.findall(r"`([^`]+)`", cell)
        return name, set(values) or None

    def labels(self, name):
        """Name to values, or to `None`; of no metric, `None`."""
        return self.metrics.get(name, self.metrics.get(SERIES.sub("", name)))

    def metric(self, name):
        return self.labels(name) is not None


def expression(program, where, text):
    """What an expression names and the program does not have."""
    labels = set()
    for name in METRIC.findall(text):
        if not program.metric(name):
            yield f"{where} asks for {name}, which is no metric"
        labels |= set(program.labels(name) or {})
    for group in re.findall(r"\b(?:by|on|group_left) \(([\w, ]+)\)", text):
        for label in set(re.split(r",\s*", group)) - labels - FOREIGN_LABELS:
            yield f"{where} asks for the label {label}, which no metric in it has"
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", text):
        known = program.labels(name) or {}
        for label, values in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', selector):
            if label in FOREIGN_LABELS:
                continue
            if label not in known:
                yield f"{where} asks for the label {label}, which {name} does not have"
                continue
            for value in values.split("|"):
                if "$" not in value and ".*" not in value and value not in (known[label] or program.words):
                    yield f"{where} asks for {label}={value}, which is no value of {name}"


def for_prometheus(rules):
    """The rules as a file that Prometheus reads itself."""
    head = "# The rules of deploy/k8s/components/monitoring, for a Prometheus without its operator; made by `make docs`.\n"
    lines = rules.split("  groups:\n", 1)[1].splitlines(keepends=True)
    return head + "groups:\n" + "".join(line.removeprefix("  ") for line in lines)


def table(page):
    """The alarms of the runbook: name to expression and time."""
    rows = re.findall(r'^\| <a id="(\w+)"></a>`(\w+)` \| `([^`]+)`(?: for (\w+))? \|', page, re.M)
    return {name: (text.replace("\\|", "|"), time or None) for anchor, name, text, time in rows if anchor == name}


def compare(rules, page):
    documented = table(page)
    for name in sorted({rule["alert"] for rule in rules} ^ set(documented)):
        yield f"the alarm {name} is in the rules or in docs/operations.md, not in both"
    for rule in rules:
        name = rule["alert"]
        if documented.get(name) not in (None, (rule["expr"], rule.get("for"))):
            yield f"the alarm {name} has another expression in docs/operations.md"
        if not rule["annotations"]["runbook_url"].endswith(f"/docs/operations.md#{name}"):
            yield f"the alarm {name} names another place of the runbook"


def anchors(page):
    """Links within the runbook that lead nowhere."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    there = set(re.findall(r'<a id="([^"]+)"', page))
    there |= {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", page):
        if anchor not in there:
            yield f"docs/operations.md links to #{anchor}, which is not there"


def queries(tree):
    """Every expression that is no alarm's, of dashboards, of what scales by figures, of the runbook's questions: where, text."""
    scaler = yaml.safe_load((tree / "deploy/k8s/components/keda/scaledobject.yaml").read_text())
    for trigger in scaler["spec"]["triggers"]:
        yield f"the trigger {trigger['name']}", trigger["metadata"]["query"]
    for question, text in re.findall(r"^\| ([^|]+\?) \| `((?:[^`|]|\\\|)+)`", (tree / "docs/operations.md").read_text(), re.M):
        yield f"the question {question!r}", text.replace("\\|", "|")
    for path in sorted((tree / "deploy/k8s/components/grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets") or []:
                yield f"{path.name}, {panel['title']},", target["expr"]


def pictures(tree):
    """What the dashboard has and docs/pictures does not show."""
    page, name, shown = (tree / "docs/operations.md").read_text(), "", ""
    for panel in json.loads((tree / "deploy/k8s/components/grafana/staffetta.json").read_text())["panels"]:
        title = panel["title"]
        if panel["type"] == "row":
            name = re.sub(r"\W+", "-", title.lower()) + ".svg"
            picture = tree / "docs/pictures" / name
            shown = picture.read_text() if picture.exists() else ""
            if f"(pictures/{name})" not in page:
                yield f"docs/operations.md does not show pictures/{name}"
        elif f">{html.escape(title)}<" not in shown:
            yield f"docs/pictures/{name} does not show {title!r}: scripts/pictures draws it"


def keys(tree):
    """Keys of the configuration that a page names, with their table, and that are none."""
    reference = (tree / "docs/configuration.md").read_text()
    known = set(re.findall(r"^#+ `\[*([\w.]+)", reference, re.M))
    known |= set(re.findall(r"^- A secret; its file: `([\w.]+)`", reference, re.M))
    for page in ("from-postfix.md", "redis.md", "one-machine.md"):
        text = (tree / "docs" / page).read_text()
        for key in re.findall(r"`((?:frontend|delivery|auth|redis|tls|dns|log)\.\w[\w.]*)(?: = [^`]*)?`", text):
            if key not in known and not key.endswith(".md"):
                yield f"{page} names {key}, which is no key"


def as_rules(expressions):
    """These expressions in a form that promtool reads."""
    fill = {"$__rate_interval": "5m", "$namespace": ".*", "$provider": ".*"}
    for number, (_, text) in enumerate(expressions):
        for variable, value in fill.items():
            text = text.replace(variable, value)
        yield {"record": f"query:{number}", "expr": text}


def main():
    tree, *rest = (pathlib.Path(one) for one in sys.argv[1:])
    if not rest:
        print(for_prometheus((tree / "deploy/k8s/components/monitoring/rules.yaml").read_text()), end="")
        return
    out = rest[0]
    program = Program(tree)
    folder = tree / "deploy/k8s/components/monitoring"
    spec = yaml.safe_load((folder / "rules.yaml").read_text())["spec"]
    (out / "rules.yaml").write_text(yaml.safe_dump(spec))
    shutil.copy(folder / "rules.test.yaml", out)
    others = list(queries(tree))
    (out / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": list(as_rules(others))}]}))
    rules = [rule for group in spec["groups"] for rule in group["rules"]]
    problems = [one for rule in rules for one in expression(program, f"the alarm {rule['alert']}", rule["expr"])]
    problems += [one for where, text in others for one in expression(program, where, text)]
    page = (tree / "docs/operations.md").read_text()
    problems += [*compare(rules, page), *anchors(page), *keys(tree), *pictures(tree)]
    for path in [tree / "README.md", *sorted((tree / "docs").glob("*.md"))]:
        for name in NAME.findall(path.read_text()):
            if not program.metric(name) and name not in program.crates:
                problems.append(f"{path.name} names {name}, which is no metric")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
