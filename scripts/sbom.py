"""What an image is made of, as SPDX 2.3: the crates that are linked into the programs, and the packages of Debian.

    scripts/sbom.py COMMIT      prints that of the image of the Dockerfile, whose packages its base lists itself, in /var/lib/dpkg
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

PROGRAMS = ["staffetta-frontend", "staffetta-auth", "staffetta-delivery", "staffetta-cli"]
UNKNOWN = "NOASSERTION"


def debian_packages(files):
    """Which packages these files of this machine are of; of none where there is no dpkg."""
    names = set()
    for path in {spelled for file in files for spelled in spellings(file)}:
        found = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True, check=False).stdout
        names |= set(re.findall(r"^([^\s:,]+(?::\w+)?): /", found, re.MULTILINE))
    # It writes that file itself.
    names |= {"ca-certificates"} if "/etc/ssl/certs/ca-certificates.crt" in files else set()
    form = "${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(["dpkg-query", "-W", f"-f={form}", *sorted(names)], capture_output=True, text=True, check=False).stdout
    return [dict(zip(("name", "version", "architecture"), line.split("\t"))) for line in sorted(set(listed.splitlines()))]


def spellings(path):
    """dpkg knows a file as its package has it, with /usr or, for some libraries of Debian 12, without."""
    folder = "/usr/share/zoneinfo" if path.startswith("/usr/share/zoneinfo/") else os.path.realpath(path)
    return {folder, folder.removeprefix("/usr")}


def crates(tree):
    """Name, version, licence and source of what is linked; macros run at compile time and are not."""
    words = ["cargo", "tree", "--locked", "--offline", "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}|{l}|{r}"]
    words += [word for program in PROGRAMS for word in ("-p", program)]
    listed = subprocess.run(words, cwd=tree, check=True, capture_output=True, text=True).stdout
    lock = tomllib.loads((tree / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    for line in sorted({line.removesuffix(" (*)") for line in listed.splitlines() if line.strip()}):
        package, licence, repository = line.split("|")
        name, version = package.split()[:2]
        version = version.removeprefix("v")
        if not name.startswith("staffetta-"):
            yield name, version, licence, repository, checksums.get((name, version))


def licence(text):
    """As SPDX writes it; crates of former times wrote a slash."""
    return re.sub(r"\s*/\s*", " OR ", text) or UNKNOWN


def package(kind, name, version, purl, declared=UNKNOWN, checksum=None, home=None):
    one = {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{name}-{version}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": declared,
        "copyrightText": UNKNOWN,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
    }
    if checksum:
        one["checksums"] = [{"algorithm": "SHA256", "checksumValue": checksum}]
    if home:
        one["homepage"] = home
    return one


def document(tree, version, commit, created, debian):
    """The bill of materials, as JSON."""
    purl = f"pkg:github/staffetta/staffetta@{commit}"
    packages = [package("image", "staffetta", version, purl, "Apache-2.0")]
    for name, number, declared, home, checksum in crates(tree):
        packages.append(package("crate", name, number, f"pkg:cargo/{name}@{number}", licence(declared), checksum, home))
    for one in debian:
        found = f"pkg:deb/debian/{one['name']}@{one['version']}?arch={one['architecture']}"
        packages.append(package("deb", one["name"], one["version"], found))
    whole = packages[0]["SPDXID"]
    links = [("SPDXRef-DOCUMENT", "DESCRIBES", whole)] + [(whole, "CONTAINS", one["SPDXID"]) for one in packages[1:]]
    # A name of its own for each content, and the same for the same.
    unique = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    bill = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"staffetta-{version}",
        "documentNamespace": f"https://github.com/staffetta/staffetta/sbom/{unique}",
        "creationInfo": {"created": created, "creators": ["Tool: staffetta-scripts-image"]},
        "packages": packages,
        "relationships": [{"spdxElementId": a, "relationshipType": kind, "relatedSpdxElement": b} for a, kind, b in links],
    }
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent.parent
    number = tomllib.loads((here / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    # Without a time of its own, so that the same tree gives the same list.
    print(document(here, number, sys.argv[1], "1970-01-01T00:00:00Z", []), end="")
