"""`anchorhold image lock`: write the lock anew, from what is declared and what is the newest of it today.

Debian's packages by apt's signed indices, wheels by the hashes of requirements/.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from image_build import apt
from image_build.contents import LOCK, Contents, Part
from image_build.downloads import PIP_TARGET, Told, digest_of
from image_build.errors import ImageRefused
from image_build.kernel.inputs import LOCK as KERNEL_LOCK
from image_build.kernel.inputs import read_declared
from image_build.lock import ImageLock, Package, Wheel, write_lock


def lock_anew(
    contents: Contents, requirements: Sequence[Path], cache: Path, tell: Told, *, out: Path = LOCK
) -> ImageLock:
    tell("asking apt's signed indices")
    packages = apt.refreshed([_to_find(each) for each in contents.packages])
    tell("asking pip for the wheels")
    lock = ImageLock(tuple(packages), tuple(_wheels(contents, requirements, cache)))
    lock.write(out)
    return lock


def lock_kernel_anew(tell: Told, out: Path = KERNEL_LOCK) -> list[Package]:
    """Newer inputs lead to another kernel: `anchorhold image kernel --state` builds it, and states which."""
    tell("asking apt's signed indices for the kernel")
    packages = apt.refreshed([each.to_find for each in read_declared()])
    write_lock(out, packages)
    return packages


def _to_find(part: Part) -> Package:
    return Package(part.name, part.suite, "", "", 0, "", part.trees)


def _wheels(contents: Contents, requirements: Sequence[Path], cache: Path) -> list[Wheel]:
    """Every wheel that is declared, at the version and by the hashes of the first of `requirements` that has it."""
    cache.mkdir(parents=True, exist_ok=True)
    parts = (*contents.wheels, contents.compiler)
    stanzas = {name: text for path in reversed(requirements) for name, text in _stanzas(path)}
    if lost := [each.name for each in parts if each.name not in stanzas]:
        raise ImageRefused(
            "lock.wheels",
            expected=f"{', '.join(lost)} in requirements/",
            got=f"{len(stanzas)} requirements without them",
        )
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        (wanted := Path(folder) / "wanted.txt").write_text("".join(stanzas[each.name] for each in parts))
        subprocess.run(
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
            check=True,
        )
        files = {path.name.partition("-")[0].replace("_", "-"): path for path in Path(folder).glob("*.whl")}
        found = []
        for each in parts:
            path = files[each.name]
            version = path.name.split("-")[1]
            found.append(Wheel(each.name, version, path.name, path.stat().st_size, digest := digest_of(path)))
            path.rename(cache / digest)
        return found


def _stanzas(requirements: Path) -> Iterator[tuple[str, str]]:
    """A requirement's name, and its line with the hashes that follow it."""
    for text in re.split(r"\n(?=[a-zA-Z0-9])", requirements.read_text()):
        name, pinned, _ = text.partition("==")
        if pinned:
            yield name.partition("[")[0].lower(), f"{text}\n"
