"""The locked packages as a tree that a build sees instead of this machine, and how a program is started in it.

Without privilege: a user namespace of its own lets a user change the root and bind /dev/null. Where a machine forbids
that, root does it without a namespace.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from image_build.deb import members, unpack
from image_build.errors import ImageRefused
from image_build.kernel.inputs import Inputs

_LINKS: Final = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "usr/bin/sh": "dash",
    "usr/bin/awk": "mawk",
    "usr/bin/gcc": "gcc-12",
    "usr/bin/cpp": "cpp-12",
}
"""What packages leave to their scripts, which are not run."""
_LEFT_OUT: Final = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/")
_UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--mount")
_ENTER: Final = 'mount --bind /dev/null "$0/dev/null" && exec chroot "$0" "$@"'


def lay(tree: Path, inputs: Inputs, cache: Path) -> None:
    """Everything that the recipe finds, below `tree`, a folder that is not there yet."""
    tree.mkdir()
    for name, to in _LINKS.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(to)
    for each in inputs.toolchain:
        unpack(cache / each.sha256, lambda path: not path.startswith(_LEFT_OUT) and path not in _LINKS, tree)
    archive = next(members(cache / inputs.source.sha256, lambda path: path.endswith(".tar.xz")))
    (tree / "sources").write_bytes(archive.content)
    (tree / "configuration").write_text(inputs.options.fragment)
    (tree / "recipe.sh").write_bytes(inputs.recipe)
    for name, content in inputs.patches.items():
        (tree / "patches").mkdir(exist_ok=True)
        (tree / "patches" / name).write_bytes(content)
    (tree / "dev").mkdir()
    (tree / "dev/null").touch()


def run(tree: Path, jobs: int) -> Iterator[str]:
    """Run the recipe, and yield what it says, line by line. Raises `ImageRefused` if it fails."""
    words = [*_enter(tree), "/usr/bin/env", "-i", f"JOBS={jobs}", "/bin/sh", "/recipe.sh"]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        said: list[str] = []
        for line in process.stdout or ():
            said.append(line.rstrip())
            yield said[-1]
    if process.returncode != 0:
        raise ImageRefused(
            "kernel.build", expected="the recipe to end with 0", got=f"{process.returncode}: " + " | ".join(said[-8:])
        )


def _enter(tree: Path) -> list[str]:
    """The words before those of a program that is to see `tree` alone."""
    if subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode == 0:
        return [*_UNSHARE, "sh", "-c", _ENTER, str(tree)]
    if os.geteuid() != 0:
        raise ImageRefused(
            "kernel.tree",
            expected="a machine on which `unshare --user --mount` works, or root",
            got=f"user {os.geteuid()}, and no namespaces",
        )
    (tree / "dev/null").unlink()
    os.mknod(tree / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tree / "dev/null").chmod(0o666)
    return ["chroot", str(tree)]
