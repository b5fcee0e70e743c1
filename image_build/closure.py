"""Which of our own files a program needs: all it imports, and what these import, in whatever position, and no other.

Found in the source, without running it. A module that is named nowhere but in a text put together at run time is not
found; a profile names such a one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image_build.errors import ImageRefused

ROOMS: Final = ("foundation", "vsock_bridge", "measurements", "attestation", "appliance", "devnet")


@dataclass(frozen=True, slots=True)
class Closure:
    files: dict[str, Path]  # by where they are in the tree of sources
    outside: frozenset[str]  # the names of other people's modules


def closure(sources: Path, entries: Iterable[str], without: Sequence[str] = ()) -> Closure:
    """All that `entries` need, but what is below `without`: whoever imports one of these in the image fails."""
    waiting = list(entries)
    found: dict[str, Path] = {}
    seen: set[str] = set()
    outside: set[str] = set()
    for entry in waiting:
        if _file_of(sources, entry) is None:
            raise ImageRefused("closure.entry", expected=f"a module {entry} in the sources", got="none")
    while waiting:
        module = waiting.pop()
        if module in seen or any(module == each or module.startswith(f"{each}.") for each in without):
            continue
        seen.add(module)
        if module.partition(".")[0] not in ROOMS:
            outside.add(module.partition(".")[0])
            continue
        if (path := _file_of(sources, module)) is None:  # a name in a module rather than one
            continue
        found[path.relative_to(sources).as_posix()] = path
        waiting += [module.rpartition(".")[0]] if "." in module else []
        waiting += _imported(path, module)
    return Closure(dict(sorted(found.items())), frozenset(outside))


def _file_of(sources: Path, module: str) -> Path | None:
    place = sources / module.replace(".", "/")
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            return path
    return None


def _imported(path: Path, module: str) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                whole = ".".join(filter(None, (_above(package, level), base)))
                yield whole
                yield from (f"{whole}.{each.name}" for each in names)


def _above(package: str, level: int) -> str:
    parts = package.split(".")
    return ".".join(parts[: len(parts) - level + 1]) if level else ""
