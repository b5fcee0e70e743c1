"""What is in an image, by package, why, and how much of it: `docs/image-contents.md` is this text for a release.

Sizes are of files as they are in the root, before its file system packs them. Our own files are not counted: they
change with every change of the project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from image_build.contents import Contents
from image_build.kernel.inputs import Inputs, read_declared
from image_build.lock import ImageLock
from image_build.tree import OURS


def table(contents: Contents, lock: ImageLock, root: Mapping[str, list[Any]]) -> str:
    """Markdown: one row for each package of the root, the largest first; then what starts it, and what makes it."""
    bytes_of: Counter[str] = Counter()
    paths_of: Counter[str] = Counter()
    for owner, _, size, _ in root.values():
        bytes_of[owner] += size
        paths_of[owner] += 1
    versions = {each.name: each.version for each in lock.inputs()}
    parts = [each for each in (*contents.packages, *contents.wheels) if "root" in each.trees or not each.trees]
    rows = [
        f"| {each.name} | {versions[each.name]} | {paths_of[each.name]} | {bytes_of[each.name]:,} | {each.why} |"
        for each in sorted(parts, key=lambda part: -bytes_of[part.name])
    ]
    others = sum(size for owner, size in bytes_of.items() if owner != OURS)
    return "\n".join(
        [
            "| package | version | paths | bytes | why it is there |",
            "|---|---|---:|---:|---|",
            *rows,
            f"| together | | | {others:,} | |",
            "",
            *_around(contents, versions),
            "",
        ]
    )


def _around(contents: Contents, versions: Mapping[str, str]) -> Iterator[str]:
    yield "| beside the root | version | why |"
    yield "|---|---|---|"
    for part in contents.packages:
        if "root" not in part.trees:
            yield f"| {part.name} | {versions[part.name]} | {part.why} |"
    locked = {each.name: each.version for each in Inputs.read().packages}
    for declared in read_declared():
        yield f"| {declared.name} | {locked[declared.name]} | for the kernel: {declared.why} |"
