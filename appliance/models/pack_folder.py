"""A pack as a folder, for an engine that reads its model from files and from nothing else.

    with laid_out(pack) as path:
        engine = VllmEngine(path, positions_max)

The folder is in memory (tmpfs), is the cell's alone (0700, its files 0600), and is gone once the block ends. Until then
there is a second copy of the weights. What this does not keep out: whoever is root, and swap, which is the image's to
leave out (docs/spec/secrecy.md S10).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from appliance.models.errors import ModelRefused
from foundation import private_files
from measurements.pack.files import kind_of

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # checked to be memory, and the folder in it is private
MOUNTS: Final = Path("/proc/self/mounts")


class Files(Protocol):
    @property
    def names(self) -> tuple[str, ...]: ...

    def file(self, name: str) -> bytes | memoryview: ...


@contextmanager
def laid_out(model: Files, memory: Path = MEMORY) -> Iterator[Path]:
    """The model's folder: its own where it is one. Raises `ModelRefused` where `memory` is none, and OSError."""
    own = getattr(model, "path", None)
    if isinstance(own, Path):
        yield own
        return
    if (kind := filesystem(memory, MOUNTS.read_text("utf-8", "replace"))) != "tmpfs":
        raise ModelRefused("folder.memory", expected=f"a tmpfs on {memory}", got=kind)
    with TemporaryDirectory(prefix="model-", dir=memory) as made:
        for name in model.names:
            kind_of(name)  # no name of a pack leads anywhere else
            private_files.write_new(Path(made, name), model.file(name))
        yield Path(made)


def filesystem(place: Path, mounts: str) -> str:
    """Of what is mounted exactly there, by /proc/self/mounts: the last word on a place is the one that holds."""
    found = "nothing mounted"
    for line in mounts.splitlines():
        match line.split(" "):
            case [_, where, kind, *_] if where == str(place):
                found = kind
    return found
