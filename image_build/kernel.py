"""The kernel of a package, and of its modules those that are asked for, in the order they need each other."""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from pathlib import Path

from image_build.contents import Part
from image_build.deb import members
from image_build.errors import ImageRefused

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True)
class Module:
    name: str  # with dashes
    file: str
    content: bytes  # unpacked: the signature behind it is over this


@dataclass(frozen=True, slots=True)
class Kernel:
    release: str
    image: bytes
    modules: tuple[Module, ...]


def read_kernel(deb: Path, part: Part, wanted: tuple[str, ...]) -> Kernel:
    packed: dict[str, tuple[str, bytes]] = {}
    built_in: set[str] = set()
    release, image = "", b""
    for member in members(deb, part.keeps):
        name = member.path.rpartition("/")[2]
        if name.startswith("vmlinuz-"):
            release, image = name.removeprefix("vmlinuz-"), member.content
        elif name.endswith(".ko.xz"):
            packed[_dashed(name.removesuffix(".ko.xz"))] = (name.removesuffix(".xz"), member.content)
        elif name == "modules.builtin":
            built_in = {_dashed(Path(line).stem) for line in member.content.decode().split()}
    if not image:
        raise ImageRefused("kernel.image", expected="a vmlinuz in the package", got="none")
    return Kernel(release, image, tuple(_in_order(packed, built_in, wanted)))


def _in_order(packed: dict[str, tuple[str, bytes]], built_in: set[str], wanted: tuple[str, ...]) -> list[Module]:
    """Each behind all it depends on, each once."""
    found: dict[str, Module] = {}

    def visit(name: str) -> None:
        if name in found or name in built_in:
            return
        if name not in packed:
            raise ImageRefused(
                "kernel.module", expected=f"{name} as a module or built in", got=f"{len(packed)} modules without it"
            )
        file, content = packed[name]
        raw = lzma.decompress(content)
        depends = _DEPENDS.search(raw)
        for other in filter(None, depends[1].decode().split(",") if depends else ()):
            visit(_dashed(other))
        found[name] = Module(name, file, raw)

    for name in wanted:
        visit(_dashed(name))
    return list(found.values())


def _dashed(name: str) -> str:
    return name.replace("_", "-")
