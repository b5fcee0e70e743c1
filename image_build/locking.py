"""`anchorhold image lock`: write the lock anew, from what is declared and what is the newest of it today.

Debian's packages by apt's signed indices, wheels by the hashes of requirements/cell.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from image_build import apt
from image_build.contents import LOCK, Contents, Part
from image_build.errors import ImageRefused
from image_build.fetching import PIP_TARGET, Told, digest_of
from image_build.lock import ImageLock, Package, Wheel


def lock_anew(contents: Contents, requirements: Path, cache: Path, tell: Told, out: Path = LOCK) -> ImageLock:
    tell("asking apt's signed indices")
    packages = apt.refreshed([_to_find(each) for each in (contents.kernel, *contents.packages)])
    tell("asking pip for the wheels")
    lock = ImageLock(tuple(packages), tuple(_wheels(contents, requirements, cache)))
    lock.write(out)
    return lock


def _to_find(part: Part) -> Package:
    return Package(part.name, part.suite, "", "", 0, "", part.trees)


def _wheels(contents: Contents, requirements: Path, cache: Path) -> list[Wheel]:
    """Every wheel that is declared, as the requirements' hashes allow it."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes",
             *PIP_TARGET, f"--dest={folder}", f"--requirement={requirements}"],
            check=True,
        )
        files = {path.name.partition("-")[0].replace("_", "-"): path for path in Path(folder).iterdir()
                 if path.suffix == ".whl"}
        if lost := [each.name for each in contents.wheels if each.name not in files]:
            raise ImageRefused("lock.wheels", expected=f"{', '.join(lost)} in {requirements.name}", got="others")
        found = []
        for each in contents.wheels:
            path = files[each.name]
            version = path.name.split("-")[1]
            found.append(Wheel(each.name, version, path.name, path.stat().st_size, digest := digest_of(path)))
            path.rename(cache / digest)
        return found
