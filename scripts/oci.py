"""An OCI image archive made of files of this machine, without a daemon, a registry or root. The same files make the same octets."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import subprocess
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHIVE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def packed(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(octets):
    return "sha256:" + hashlib.sha256(octets).hexdigest()


class Root:
    """The files of an image, by path. What a program needs of the C library comes along with it."""

    def __init__(self, time):
        self.time = time
        self.entries = {}
        # Where each file was on this machine: its Debian package is what a bill of materials names.
        self.sources = []
        # As Debian has it since 12, so that the loader finds what it looks for in either.
        self.link("lib", "usr/lib")
        self.link("lib64", "usr/lib64")
        self.link("bin", "usr/bin")

    def _put(self, path, kind, mode, content, owner):
        path = path.lstrip("/")
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.folder(parent)
        self.entries[path] = (kind, mode, content, owner)

    def folder(self, path, mode=0o755, owner=0):
        self._put(path, tarfile.DIRTYPE, mode, b"", owner)

    def link(self, path, target):
        self._put(path, tarfile.SYMTYPE, 0o777, target, 0)

    def text(self, path, content, mode=0o644):
        self._put(path, tarfile.REGTYPE, mode, content.encode(), 0)

    def file(self, path, source, mode=0o644):
        self.sources.append(str(source))
        self._put(path, tarfile.REGTYPE, mode, pathlib.Path(source).read_bytes(), 0)

    def tree(self, source):
        """A folder of this machine, at the same place."""
        for folder, folders, files in os.walk(source):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                if os.path.islink(path) and not os.path.isabs(os.readlink(path)):
                    self.link(path, os.readlink(path))
                else:
                    self.file(path, path)

    def program(self, path, source):
        """A program, with the loader and the libraries that it is linked against."""
        self.file(path, source, 0o755)
        said = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
        for name, library in re.findall(r"^\t(?:(\S+) => )?(/\S+) \(0x", said, re.MULTILINE):
            folder = os.path.realpath(os.path.dirname(library))
            place = os.path.join(folder, os.path.basename(name or library))
            if place.lstrip("/") not in self.entries:
                self.file(place, os.path.realpath(library), 0o755)

    def layer(self):
        """The files as a tar archive, in order, with nothing in it that changes by itself."""
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self.entries):
                kind, mode, content, owner = self.entries[path]
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode, entry.mtime, entry.uid, entry.gid = kind, mode, self.time, owner, owner
                if kind == tarfile.SYMTYPE:
                    entry.linkname = content
                    archive.addfile(entry)
                else:
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        return output.getvalue()


def write(archive, name, root, created, settings):
    """Writes `archive`, which holds the image `name`, and gives the digest of its manifest. `settings` is what a Dockerfile
    would say, in the words of the OCI specification."""
    layer = root.layer()
    # No name and no time in the header.
    compressed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=compressed, mode="wb", compresslevel=6, mtime=0) as output:
        output.write(layer)
    blobs = {}

    def blob(kind, octets, **more):
        blobs[digest(octets)] = octets
        return {"mediaType": kind, "digest": digest(octets), "size": len(octets), **more}

    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": created,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": created, "created_by": "scripts/image"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, packed(config)),
        "layers": [blob(ARCHIVE, compressed.getvalue())],
        "annotations": settings.get("Labels", {}),
    }
    described = blob(MANIFEST, packed(manifest), annotations={"org.opencontainers.image.ref.name": name})
    files = {"oci-layout": packed({"imageLayoutVersion": "1.0.0"})}
    files["index.json"] = packed({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]})
    for one, octets in blobs.items():
        files["blobs/" + one.replace(":", "/")] = octets
    with tarfile.open(archive, mode="w", format=tarfile.GNU_FORMAT) as output:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime, entry.mode = len(files[path]), root.time, 0o644
            output.addfile(entry, io.BytesIO(files[path]))
    return described["digest"]
