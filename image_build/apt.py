"""A newer lock: the same packages as apt's signed indices have them today. Needs apt and Debian's archive keyring."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from image_build.downloads import mirrors
from image_build.lock import Missing, Package

_KERNEL: Final = re.compile(r"linux-image-[0-9]\S*-cloud-amd64")
_SECURITY: Final = "-security"
_SUPPORTED: Final = ("bookworm", "trixie")  # those that have a suite of security updates
_KERNEL_OF_THE_DAY: Final = "linux-image-cloud-amd64"


def refreshed(packages: Sequence[Package]) -> list[Package]:
    """The same packages as apt's signed indices have them now. Needs apt and Debian's archive keyring."""
    with tempfile.TemporaryDirectory() as folder:
        apt = _Apt(Path(folder), mirrors(), sorted({each.suite for each in packages}))
        return apt.newest(packages)


class _Apt:
    """apt with lists of its own, beside the machine's. Few calls: each may read all its lists anew."""

    def __init__(self, folder: Path, places: Sequence[str], suites: Sequence[str]) -> None:
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "sources.list").write_text(
            "".join(f"deb [arch=amd64 signed-by={keyring}] {place} main\n" for place in _places(places, suites))
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
            replace(
                each,
                version=fields["Version"],
                path=fields["Filename"],
                size=int(fields["Size"]),
                sha256=fields["SHA256"],
            )
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
                found.setdefault((name, place.split()[1].partition("/")[0].removesuffix(_SECURITY)), version)
        return found

    def _show(self, wanted: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
        stanzas = (
            dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
            for stanza in self._run("apt-cache", "show", *wanted).split("\n\n")
            if stanza.strip()
        )
        return {(fields["Package"], fields["Version"]): fields for fields in stanzas}

    def _run(self, *command: str) -> str:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=self._environment).stdout


def _places(mirrored: Sequence[str], suites: Sequence[str]) -> list[str]:
    """Mirror and suite, pairwise; and the security updates of a suite, where this machine's apt knows of any."""
    own = next(each for each in mirrored if not each.endswith(_SECURITY))
    fixes = next((each for each in mirrored if each.endswith(_SECURITY)), None)
    found = [f"{own} {suite}" for suite in suites]
    if fixes is not None:
        found += [f"{fixes} {suite}{_SECURITY}" for suite in suites if suite in _SUPPORTED]
    return found
