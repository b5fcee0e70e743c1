"""Debian packages without Debian's tools: locked by digest, fetched once, taken apart here.

Nothing a package contains is run, its maintainer scripts least of all. Trust is the lock's digest; the mirror
is whichever the machine's own apt uses, and may lie.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

MIRROR_VARIABLE: Final = "ANCHORHOLD_DEBIAN_MIRROR"
FETCH_SECONDS_MAX: Final = 120
_MERGED: Final = frozenset({"bin", "sbin", "lib", "lib64"})     # Debian has these as links into usr
_KERNEL: Final = re.compile(r"linux-image-[0-9]\S*-cloud-amd64")
_KERNEL_OF_THE_DAY: Final = "linux-image-cloud-amd64"


class Missing(Exception):
    """Something that is needed cannot be had. The text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """One line of the lock."""

    name: str
    suite: str              # where a refresh looks for it
    version: str
    path: str               # below whatever mirror is used
    size: int
    sha256: str
    trees: tuple[str, ...]  # into which of our trees it is unpacked


def read_lock(path: Path) -> list[Package]:
    return [Package(**{**each, "trees": tuple(each["trees"])}) for each in json.loads(path.read_text())]


def write_lock(path: Path, packages: Sequence[Package]) -> None:
    path.write_text(json.dumps([asdict(each) for each in packages], indent=1) + "\n")


# -- fetching

def mirrors() -> list[str]:
    """Where Debian's pool is, by the environment or by this machine's apt."""
    if named := os.environ.get(MIRROR_VARIABLE):
        return [named.rstrip("/")]
    try:
        told = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"],
            check=True, capture_output=True, text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        told = ""
    found = [uri.rstrip("/") for uri in dict.fromkeys(told.split()) if uri.startswith(("http://", "https://"))]
    if not found:
        raise Missing(f"no Debian mirror: apt here names none (is there a `apt-get update`?); set {MIRROR_VARIABLE}")
    return found


def fetch(packages: Sequence[Package], cache: Path) -> int:
    """Have every package in `cache`, named by its digest. Returns the bytes that had to be downloaded."""
    wanted = [each for each in packages if not _is_whole(cache / each.sha256, each)]
    if not wanted:
        return 0
    cache.mkdir(parents=True, exist_ok=True)
    places = mirrors()
    lost = [each for each in wanted if not any(_fetch(f"{place}/{each.path}", each, cache) for place in places)]
    if lost:
        names = ", ".join(f"{each.name} {each.version} ({each.suite})" for each in lost)
        raise Missing(
            f"not on this machine's mirror: {names}. A newer version has taken the place of each, or the network is "
            f"down. If it is the former: `python -m tests.vm.tools --refresh` locks the newer ones."
        )
    return sum(each.size for each in wanted)


def _fetch(uri: str, package: Package, cache: Path) -> bool:
    part = cache / f"{package.sha256}.part"
    try:
        with urllib.request.urlopen(uri, timeout=FETCH_SECONDS_MAX) as source, part.open("wb") as sink:  # noqa: S310
            shutil.copyfileobj(source, sink)
    except (urllib.error.URLError, OSError):
        return False
    if not _is_whole(part, package):
        part.unlink()
        raise Missing(f"{package.name} {package.version}: what the mirror gave is not what is locked")
    part.rename(cache / package.sha256)
    return True


def _is_whole(path: Path, package: Package) -> bool:
    if not path.is_file() or path.stat().st_size != package.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256


# -- taking apart

def unpack(deb: Path, keep: Callable[[str], bool], tree: Path) -> None:
    """Write the files of `deb` whose path `keep` likes below `tree`; links too; owners and set-id bits not."""
    with tarfile.open(fileobj=io.BytesIO(_data(deb.read_bytes())), mode="r:") as members:
        for member in members:
            name = _settled(member.name)
            if member.isdir() or not keep(name):
                continue
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                target.unlink(missing_ok=True)
                target.symlink_to(member.linkname)
            elif member.islnk():
                target.unlink(missing_ok=True)
                target.hardlink_to(tree / _settled(member.linkname))
            elif (source := members.extractfile(member)) is not None:
                target.write_bytes(source.read())
                target.chmod(0o755 if member.mode & 0o111 else 0o644)


def _data(raw: bytes) -> bytes:
    for name, body in _ar_members(raw):
        match name:
            case "data.tar.xz":
                return lzma.decompress(body)
            case "data.tar":
                return body
    raise Missing("a package without data.tar.xz: its compression is one we do not read")


def _ar_members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    at = len(b"!<arch>\n")
    while at < len(raw):
        head, size = raw[at : at + 60], int(raw[at + 48 : at + 58])
        yield head[:16].decode().strip().rstrip("/"), raw[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def _settled(name: str) -> str:
    """The path with /bin, /lib and so on where they are nowadays, and never outside the tree."""
    parts = [part for part in PurePosixPath(name).parts if part not in (".", "/")]
    if ".." in parts:
        raise Missing(f"a package with a path that leaves its tree: {name!r}")
    if parts and parts[0] in _MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


# -- a newer lock

def refreshed(packages: Sequence[Package]) -> list[Package]:
    """The same packages as apt's signed indices have them now. Needs apt and Debian's archive keyring."""
    with tempfile.TemporaryDirectory() as folder:
        apt = _Apt(Path(folder), mirrors()[0], sorted({each.suite for each in packages}))
        return apt.newest(packages)


class _Apt:
    """apt with lists of its own, beside the machine's. Few calls: each may read all its lists anew."""

    def __init__(self, folder: Path, mirror: str, suites: Sequence[str]) -> None:
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "sources.list").write_text(
            "".join(f"deb [arch=amd64 signed-by={keyring}] {mirror} {suite} main\n" for suite in suites)
        )
        (folder / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{folder}/sources.list"; Dir::Etc::sourceparts "{folder}/parts";'
            f'Dir::State::Lists "{folder}/lists"; Dir::State::status "{folder}/status"; Dir::Cache "{folder}/cache";'
            'APT::Sandbox::User "root";'
        )
        self._environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
        self._run("apt-get", "-qq", "update")

    def newest(self, packages: Sequence[Package]) -> list[Package]:
        named = [self._of_today(each) for each in packages]
        versions = self._versions([each.name for each in named])
        if lost := [each.name for each in named if (each.name, each.suite) not in versions]:
            raise Missing(f"not in their suites any more: {', '.join(lost)}")
        said = self._show([f"{each.name}={versions[each.name, each.suite]}" for each in named])
        return [
            replace(each, version=fields["Version"], path=fields["Filename"], size=int(fields["Size"]),
                    sha256=fields["SHA256"])
            for each in named
            for fields in [said[each.name, versions[each.name, each.suite]]]
        ]

    def _of_today(self, package: Package) -> Package:
        """A kernel's version is part of its name; another package knows the current one."""
        if not _KERNEL.fullmatch(package.name):
            return package
        version = self._versions([_KERNEL_OF_THE_DAY])[_KERNEL_OF_THE_DAY, package.suite]
        said = self._show([f"{_KERNEL_OF_THE_DAY}={version}"])[_KERNEL_OF_THE_DAY, version]
        found = _KERNEL.search(said["Depends"])
        return replace(package, name=found[0]) if found else package

    def _versions(self, names: Sequence[str]) -> dict[tuple[str, str], str]:
        """The newest version by name and suite."""
        found: dict[tuple[str, str], str] = {}
        for row in self._run("apt-cache", "madison", *names).splitlines():
            name, version, place = (part.strip() for part in row.split(" | "))
            if not place.endswith("Sources"):
                found.setdefault((name, place.split()[1].partition("/")[0]), version)
        return found

    def _show(self, wanted: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
        stanzas = (
            dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
            for stanza in self._run("apt-cache", "show", *wanted).split("\n\n") if stanza.strip()
        )
        return {(fields["Package"], fields["Version"]): fields for fields in stanzas}

    def _run(self, *command: str) -> str:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=self._environment).stdout
