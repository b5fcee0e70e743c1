"""Inputs, fetched once into a folder where each is named by its digest; nothing is fetched that is there.

Trust is the lock's digest: the mirror is whichever the machine's own apt uses, wheels come through pip from whichever
index it uses, and either may lie.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from image_build.lock import Locked, Missing, Package, Wheel

MIRROR_VARIABLE: Final = "ANCHORHOLD_DEBIAN_MIRROR"
FETCH_SECONDS_MAX: Final = 120
INTERPRETER: Final = "3.11"
PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_34_x86_64")
PIP_TARGET: Final = (
    "--no-deps",
    "--only-binary=:all:",
    "--implementation=cp",
    f"--python-version={INTERPRETER}",
    *(f"--platform={each}" for each in PLATFORMS),
)
Told = Callable[[str], None]


def silent(_: str) -> None:
    """Nobody is told."""


def mirrors() -> list[str]:
    """Where Debian's pool is, by the environment or by this machine's apt."""
    if named := os.environ.get(MIRROR_VARIABLE):
        return [named.rstrip("/")]
    try:
        told = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        told = ""
    found = [uri.rstrip("/") for uri in dict.fromkeys(told.split()) if uri.startswith(("http://", "https://"))]
    if not found:
        raise Missing(f"no Debian mirror: apt here names none (is there a `apt-get update`?); set {MIRROR_VARIABLE}")
    return found


def fetch(inputs: Sequence[Locked], cache: Path, *, refresh: str, tell: Told = silent) -> int:
    """Have every input in `cache`, named by its digest. Returns the bytes that had to be downloaded; `refresh` is the
    command that locks newer ones, for the message about those that are gone."""
    wanted = [each for each in inputs if not _is_whole(cache / each.sha256, each)]
    if not wanted:
        return 0
    cache.mkdir(parents=True, exist_ok=True)
    places = mirrors() if any(isinstance(each, Package) for each in wanted) else []
    lost: list[Locked] = []
    for number, each in enumerate(wanted, 1):
        tell(f"fetching {number}/{len(wanted)}: {each.name} {each.version}, {each.size} bytes")
        if not _fetched(each, places, cache):
            lost.append(each)
    if lost:
        names = ", ".join(f"{each.name} {each.version}" for each in lost)
        raise Missing(
            f"unavailable: {names}. A newer version has taken the place of each, or the network is "
            f"down. If it is the former: `{refresh}` locks the newer ones."
        )
    return sum(each.size for each in wanted)


def _fetched(each: Locked, places: Sequence[str], cache: Path) -> bool:
    match each:
        case Package():
            return any(_fetch(f"{place}/{each.path}", each, cache) for place in places)
        case Wheel():
            return _fetch_wheel(each, cache)


def _fetch(uri: str, package: Package, cache: Path) -> bool:
    part = cache / f"{package.sha256}.{os.getpid()}.part"
    try:
        with urllib.request.urlopen(uri, timeout=FETCH_SECONDS_MAX) as source, part.open("wb") as sink:  # noqa: S310
            shutil.copyfileobj(source, sink)
    except (urllib.error.URLError, OSError):
        part.unlink(missing_ok=True)
        return False
    _keep(part, package, cache)
    return True


def _fetch_wheel(wheel: Wheel, cache: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        told = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                *PIP_TARGET,
                f"--dest={folder}",
                f"--requirement={wanted}",
            ],
            check=False,
            capture_output=True,
        )
        found = Path(folder) / wheel.file
        if told.returncode != 0 or not found.is_file():
            return False
        _keep(found, wheel, cache)
        return True


def _keep(part: Path, each: Locked, cache: Path) -> None:
    if not _is_whole(part, each):
        part.unlink()
        raise Missing(f"{each.name} {each.version}: what came is not what is locked")
    part.rename(cache / each.sha256)


def _is_whole(path: Path, each: Locked) -> bool:
    return path.is_file() and path.stat().st_size == each.size and digest_of(path) == each.sha256


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
