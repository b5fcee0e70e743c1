"""image.md I1 to I4, I23, I28: one release, built by two that have nothing in common, is one; and it breaks no rule.

About ten seconds of one processor. Without its inputs in build/cache it is skipped, or fails if
ANCHORHOLD_REQUIRE_ALL=1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image_build.build import needed_inputs
from image_build.compare import first_difference
from image_build.contents import LOCK, Contents
from image_build.contents_page import table
from image_build.finished_image import Image
from image_build.hardening import findings
from image_build.image_manifest import Manifest
from image_build.kernel.inputs import Inputs
from image_build.kernel.kernel_cache import is_kept, kept_in
from image_build.lock import ImageLock
from image_build.profile import Profile

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "cache"
LOCKED = ImageLock.read(LOCK)
INPUTS = needed_inputs(Contents.read(), LOCKED, Profile.read("release").ours(ROOT))
SOURCES = (
    "foundation",
    "vsock_bridge",
    "measurements",
    "attestation",
    "appliance",
    "image_build",
    "anchorhold",
    "pyproject.toml",
    "setup.py",
)
COMMAND = "import sys; from anchorhold.command import main; sys.exit(main())"

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(
        not (all((CACHE / each.sha256).is_file() for each in INPUTS) and is_kept(Inputs.read())),
        reason="the inputs of an image are not in build/cache, or its kernel is not built: `make image` does both",
    ),
]


def copied(folder: Path) -> Path:
    """The sources at another place, with other times and modes."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def built(sources: Path, out: Path, umask: int, before: list[str], **environment: str) -> Path:
    subprocess.run(
        [*before, sys.executable, "-c", COMMAND, "image", "build", f"--out={out}", f"--cache={CACHE}"],
        check=True,
        cwd=sources,
        umask=umask,
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(sources),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ANCHORHOLD_DEBIAN_MIRROR": "http://mirror.invalid",
            "PIP_NO_INDEX": "1",
            "XDG_CACHE_HOME": str(kept_in().parents[1]),
            **environment,
        },
    )
    return out


def elsewhere() -> list[str]:
    """A machine of another name, where this one lets us pretend."""
    named = ["unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    works = subprocess.run([*named, "true"], check=False, capture_output=True).returncode == 0
    return named if works else []


def test_two_who_share_nothing_build_one_image_and_it_breaks_no_rule(tmp_path: Path) -> None:  # image.md I3, I4
    (tmp_path / "a longer name for a folder").mkdir()
    one = built(ROOT, tmp_path / "one", 0o022, [], LC_ALL="C", TZ="UTC", PYTHONHASHSEED="1", USER="one")
    other = built(
        copied(tmp_path / "a longer name for a folder"),
        tmp_path / "other",
        0o077,
        elsewhere(),
        LC_ALL="C.UTF-8",
        TZ="Pacific/Kiritimati",
        PYTHONHASHSEED="2",
        USER="other",
        SOURCE_DATE_EPOCH="1",
        HOME="/nonexistent",
    )
    assert first_difference(one, other) is None
    assert list(findings(Image.read(one, CACHE))) == []
    listed = table(Contents.read(), LOCKED, Manifest.read(one).contents["root"])
    assert listed in (ROOT / "docs/image-contents.md").read_text(), "`anchorhold image list` says something newer"
