"""Wheels: other people's taken apart, and our own made, of the files a profile's programs need.

Ours is made without a build backend: a zip of sources whose order, times and attributes are fixed, so that the same
files give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from image_build.contents import Part
from image_build.deb import Member
from image_build.errors import ImageRefused

_SCHEMES: Final = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that the format has


def wheel_members(wheel: Path, part: Part) -> Iterator[Member]:
    """What the declaration keeps. Scripts, headers and data for elsewhere stay out, whatever it says."""
    with zipfile.ZipFile(wheel) as archive:
        for each in archive.infolist():
            path = _SCHEMES.sub("", each.filename)
            if each.is_dir() or ".data/" in path or not part.keeps(path) or path.endswith("/RECORD"):
                continue
            if path.startswith("/") or ".." in path.split("/"):
                raise ImageRefused("wheel.path", expected="a path inside the wheel", got=repr(path))
            yield Member(path, archive.read(each))


def our_wheel(name: str, version: str, tag: str, files: Mapping[str, bytes]) -> bytes:
    """A wheel with `files`, each where it belongs below the folder of packages."""
    info = f"{name}-{version}.dist-info"
    head = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: {name}\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    whole = {**{path: files[path] for path in sorted(files)}, **head}
    rows = [f"{path},sha256={_urlsafe(content)},{len(content)}" for path, content in whole.items()]
    whole[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path, content in whole.items():
            entry = zipfile.ZipInfo(path, _ZIP_TIME)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return sink.getvalue()


def _urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
