"""What an image is: its four files by size and digest, what it was made of, and every path inside with its owner.

    manifest.json   the four files, verity, kernel, configuration, inputs
    contents.json   "root": path -> [owner, mode, size, SHA-256]; of a link, of where it leads

Neither is in the image, and neither is signed: they say what a second build has to come to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

from foundation.document import json_object
from foundation.refusal import outline
from image_build.downloads import digest_of
from image_build.errors import ImageRefused
from image_build.lock import Locked
from image_build.tree import Tree
from image_build.verity import Verity

ARTEFACTS: Final = ("root.img", "vmlinuz", "cmdline", "image.efi")
VERSION: Final = 2
BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Built:
    """What is known about an image when it has been made."""

    profile: str
    version: str
    epoch: int
    kernel: str
    config: bytes
    wheel: bytes
    verity: Verity
    inputs: tuple[Locked, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    image: dict[str, Any]
    contents: dict[str, dict[str, list[Any]]]

    @classmethod
    def of(cls, folder: Path, built: Built, *, root: Tree) -> Self:
        image = {
            "version": VERSION,
            "profile": built.profile,
            "release": built.version,
            "epoch": built.epoch,
            "files": {
                name: {"size": (folder / name).stat().st_size, "sha256": digest_of(folder / name)} for name in ARTEFACTS
            },
            "verity": {"blocks": built.verity.blocks, "salt": built.verity.salt.hex(), "root": built.verity.root.hex()},
            "kernel": built.kernel,
            "config": hashlib.sha256(built.config).hexdigest(),
            "wheel": hashlib.sha256(built.wheel).hexdigest(),
            "inputs": [{"name": each.name, "version": each.version, "sha256": each.sha256} for each in built.inputs],
        }
        return cls(image, {"root": _listed(root)})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises `ImageRefused` for files that are not as a build writes them."""
        manifest, contents = (
            json_object(
                (folder / name).read_bytes(), name.removesuffix(".json"), ImageRefused, bytes_max=BYTES_MAX, called=name
            )
            for name in ("manifest.json", "contents.json")
        )
        if not isinstance(manifest.get("profile"), str) or not isinstance(contents.get("root"), dict):
            raise ImageRefused(
                "manifest.fields",
                expected="a profile in manifest.json, and a root in contents.json",
                got=f"{outline(manifest)}, {outline(contents)}",
            )
        return cls(manifest, cast("dict[str, dict[str, list[Any]]]", contents))

    def write(self, folder: Path) -> None:
        (folder / "manifest.json").write_text(json.dumps(self.image, indent=1) + "\n")
        rows = {
            tree: ",\n".join(f"  {json.dumps(path)}: {json.dumps(facts)}" for path, facts in paths.items())
            for tree, paths in self.contents.items()
        }
        whole = ",\n".join(f' "{tree}": {{\n{text}\n }}' for tree, text in rows.items())
        (folder / "contents.json").write_text(f"{{\n{whole}\n}}\n")

    def sizes(self) -> dict[str, int]:
        return {name: facts["size"] for name, facts in self.image["files"].items()}


def _listed(tree: Tree) -> dict[str, list[Any]]:
    return {
        path: [entry.owner, f"{entry.mode:04o}", len(entry.content), hashlib.sha256(entry.content).hexdigest()]
        for path, entry in tree.entries()
    }
