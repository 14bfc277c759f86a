"""What schemas do not know of the Kubernetes manifests: that everything they name is there.

    scripts/manifests TREE RENDERED... [--image=IMAGE] [--only-rendered-secrets] [--asked=FILE]

Reads rendered manifests and compares them with each other and with the program in TREE: images, Secrets and their keys,
mounted files, variables, ports, probes, selectors, commands; ways through the network policies; what pods may do; the keys of
objects that operators read. A file called `with-NAME` is one with the component NAME, `everything` one with most of them.
Prints what is wrong, a line each; exit code 1 if there is something.
"""

import pathlib
import sys

import files
import operators
import pods
import policies
import programs
import said
import services
import sidecars
from objects import Manifests

CHECKS = [
    pods.namespaces,
    pods.restricted,
    pods.scaling,
    pods.redis,
    programs.commands,
    programs.environment,
    programs.probes,
    files.optional,
    services.ports,
    services.mail_ports,
    services.figures,
    policies.policies,
    said.said,
    operators.certificates,
    sidecars.unbound,
    sidecars.exporter,
]


def main():
    options = dict(one[2:].partition("=")[::2] for one in sys.argv[1:] if one.startswith("--"))
    tree, *rendered = (pathlib.Path(one) for one in sys.argv[1:] if not one.startswith("--"))
    secrets = {} if "only-rendered-secrets" in options else files.documented(tree)
    problems = list(programs.two_images(tree))
    for path in rendered:
        manifests = Manifests(tree, path)
        # What the others read.
        operators.custom(manifests)
        if not manifests.problems:
            programs.images(manifests, options.get("image"))
            files.mounts(manifests, secrets)
            for check in CHECKS:
                check(manifests)
        if "asked" in options:
            programs.asked(manifests, pathlib.Path(options["asked"]))
        problems += [f"{path.stem}: {problem}" for problem in manifests.problems]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
