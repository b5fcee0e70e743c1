"""A Debian package taken apart without Debian's tools. Nothing in it is run, its maintainer scripts least of all."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from image_build.lock import Missing

_MERGED: Final = frozenset({"bin", "sbin", "lib", "lib64"})  # Debian has these as links into usr


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a link of a package: owner, time and set-id bits are left behind."""

    path: str
    content: bytes  # of a link: where it leads
    executable: bool = False
    is_link: bool = False


def members(deb: Path, keep: Callable[[str], bool]) -> Iterator[Member]:
    """What `keep` likes of `deb`. A hard link comes as a file of its own, so what it leads to must be liked too."""
    files: dict[str, Member] = {}
    with tarfile.open(fileobj=io.BytesIO(_data(deb.read_bytes())), mode="r:") as archive:
        for each in archive:
            path = settled(each.name)
            if each.isdir() or not keep(path):
                continue
            if each.issym():
                member = Member(path, each.linkname.encode(), is_link=True)
            elif each.islnk():
                first = files[settled(each.linkname)]
                member = Member(path, first.content, first.executable)
            elif (source := archive.extractfile(each)) is not None:
                member = Member(path, source.read(), executable=bool(each.mode & 0o111))
            else:
                raise Missing(f"a package with a device or a socket in it: {path!r}")
            files[path] = member
            yield member


def unpack(deb: Path, keep: Callable[[str], bool], tree: Path) -> None:
    """Write the files of `deb` whose path `keep` likes below `tree`; links too."""
    for member in members(deb, keep):
        target = tree / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.is_link:
            target.unlink(missing_ok=True)
            target.symlink_to(member.content.decode())
        else:
            target.write_bytes(member.content)
            target.chmod(0o755 if member.executable else 0o644)


def settled(name: str) -> str:
    """The path with /bin, /lib and so on where they are nowadays, and never outside the tree."""
    parts = [part for part in PurePosixPath(name).parts if part not in (".", "/")]
    if ".." in parts:
        raise Missing(f"a package with a path that leaves its tree: {name!r}")
    if parts and parts[0] in _MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


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
