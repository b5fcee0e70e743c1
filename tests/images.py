"""A small image that breaks no rule, made of the real programs and declarations, for tests that plant one violation."""

from __future__ import annotations

import _imp
import hashlib
import stat
import struct
from dataclasses import replace
from importlib.util import MAGIC_NUMBER

from image_build import uki
from image_build.build import FIRST
from image_build.contents import FOLDER
from image_build.finished_image import Found, Image
from image_build.image_manifest import Manifest
from image_build.kernel.configuration import OFF, Options
from image_build.kernel.inputs import CONFIGURATION
from image_build.profile import CONFIG, MACHINE, Profile
from image_build.staged import LIBRARIES, LOADER, PYTHON
from image_build.verity import BLOCK_BYTES, Verity, tree_over

SALT = bytes(32)
SITE = "opt/anchorhold/site"
SOURCES = FOLDER.parent


def file(content: bytes, mode: int = 0o644) -> Found:
    return Found(stat.S_IFREG | mode, content)


def link(to: str) -> Found:
    return Found(stat.S_IFLNK | 0o777, to.encode())


def folder(mode: int = 0o755) -> Found:
    return Found(stat.S_IFDIR | mode, b"")


def an_elf(*needed: str, interpreter: str | None = None) -> bytes:
    """As little of one as a loader, and a reader of its dependencies, must see."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    named = (interpreter or "").encode() + b"\0"
    dynamic_at = 64 + 3 * 56
    entries, at = [], 1
    for name in needed:
        entries.append((1, at))
        at += len(name) + 1
    strings_at = dynamic_at + (len(entries) + 2) * 16
    entries += [(5, strings_at), (0, 0)]
    named_at = strings_at + len(strings)
    end = named_at + len(named)
    segments = [(1, 0, end), (2, dynamic_at, len(entries) * 16)] + [(3, named_at, len(named))] * bool(interpreter)
    head = b"\x7fELF\x02\x01\x01".ljust(32, b"\0") + struct.pack("<Q", 64)
    head = (head.ljust(54, b"\0") + struct.pack("<HH", 56, len(segments))).ljust(64, b"\0")
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 0, at, at, 0, size, size, 0) for kind, at, size in segments)
    return (head + table).ljust(dynamic_at, b"\0") + b"".join(struct.pack("<qQ", *e) for e in entries) + strings + named


def a_stub(room: int = 8) -> bytes:
    """A PE file with one section and room in its table."""
    pe, optional_bytes = 64, 240
    raw = bytearray(1536)
    struct.pack_into("<I", raw, 0x3C, pe)
    struct.pack_into("<4sHHIIIHH", raw, pe, b"PE\0\0", 0x8664, 1, 0, 0, 0, optional_bytes, 0)
    optional = pe + 24
    struct.pack_into("<H", raw, optional, 0x20B)
    struct.pack_into("<II", raw, optional + 32, 4096, 512)
    table = optional + optional_bytes
    struct.pack_into("<I", raw, optional + 60, table + (1 + room) * 40)
    struct.pack_into("<8sIIII", raw, table, b".text", 100, 4096, 512, 1024)
    return bytes(raw)


def byte_code(source: bytes) -> bytes:
    hashed = _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source)
    return MAGIC_NUMBER + (1).to_bytes(4, "little") + hashed + b"code"


def a_root(profile: str = "release") -> dict[str, Found]:
    files = SOURCES / "image_build/profiles" / profile / "files"
    ports = (SOURCES / "vsock_bridge/ports.py").read_bytes()
    loader = "/lib64/ld-linux-x86-64.so.2"
    tree = {
        PYTHON: file(an_elf("libc.so.6", interpreter=loader), 0o755),
        LOADER: file(an_elf(), 0o755),
        f"{LIBRARIES}/libc.so.6": file(an_elf("ld-linux-x86-64.so.2", interpreter=loader), 0o755),
        "lib": link("usr/lib"),
        "dev": folder(),
        CONFIG: file((files / CONFIG).read_bytes()),
        MACHINE: file((files / MACHINE).read_bytes()),
        f"{SITE}/vsock_bridge/ports.py": file(ports),
        f"{SITE}/vsock_bridge/__pycache__/ports.cpython-311.pyc": file(byte_code(ports)),
    }
    for name in ("calls", "process_one", "start"):
        tree[f"opt/anchorhold/{name}.py"] = file((FOLDER / f"inside/{name}.py").read_bytes())
    return tree


def a_small_image(profile: str = "release") -> Image:
    root = a_root(profile)
    data = bytes(range(256)) * 16 * 3
    tree, top = tree_over(data, SALT)
    words = Verity(len(data) // BLOCK_BYTES, SALT, top).words
    files = {
        "root.img": data + tree,
        "vmlinuz": b"kernel",
        "cmdline": " ".join([*Profile.read(profile).command_line, words, FIRST]).encode(),
    }
    asked = Options.parse(CONFIGURATION.read_text()).options
    kernel = {each.name: each.value for each in asked if each.value != OFF}
    return listed(Image(Manifest({}, {}), unified(files), root, kernel))


def unified(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {
        "image.efi": uki.unified(
            a_stub(), os_release=b"ID=x\n", command_line=files["cmdline"], release="6.12", kernel=files["vmlinuz"]
        )
    }


def listed(image: Image) -> Image:
    """With a manifest that says what is there."""
    contents = {
        "root": {
            path: [
                "anchorhold",
                f"{stat.S_IMODE(found.mode):04o}",
                len(found.content),
                hashlib.sha256(found.content).hexdigest(),
            ]
            for path, found in image.root.items()
            if not found.is_folder
        }
    }
    config = hashlib.sha256(image.root[CONFIG].content).hexdigest()
    return replace(image, manifest=Manifest({"inputs": [], "config": config}, contents))
