"""Built once for the same inputs, and kept outside the clone: `${XDG_CACHE_HOME:-~/.cache}/anchorhold/kernel/DIGEST/`.

`stated.json` says which bytes the inputs of this clone lead to. A kernel that is built here, or was kept here, and is
another one, is refused: it is either not reproducible, or not what was built.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from image_build.downloads import Told, fetch
from image_build.errors import ImageRefused
from image_build.kernel.inputs import FOLDER, Inputs
from image_build.kernel.kernel_build import Built, build

STATED: Final = FOLDER / "stated.json"
REFRESH: Final = "anchorhold image lock"


@dataclass(frozen=True, slots=True)
class Kernel:
    release: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Stated:
    """Which kernel some inputs lead to."""

    inputs: str
    sha256: str
    size: int
    release: str
    objects: int

    @classmethod
    def read(cls, path: Path = STATED) -> Self:
        return cls(**json.loads(path.read_text()))

    @classmethod
    def of(cls, inputs: Inputs, built: Built) -> Self:
        return cls(
            inputs.digest, hashlib.sha256(built.image).hexdigest(), len(built.image), built.release, built.objects
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def kept_in() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "anchorhold" / "kernel"


def is_kept(inputs: Inputs) -> bool:
    return (kept_in() / inputs.digest / STATED.name).is_file()


def have_kernel(inputs: Inputs, cache: Path, tell: Told, *, stated: Stated | None = None) -> Kernel:
    """The kept one, or one that is built now and kept."""
    stated = Stated.read() if stated is None else stated
    place = kept_in() / inputs.digest
    with _alone(place):
        if not is_kept(inputs):
            _build_into(place, inputs, cache, tell, stated=stated)
        found = Stated.read(place / STATED.name)
        image = (place / "vmlinuz").read_bytes()
    _check(found, image, inputs, stated, place=place)
    return Kernel(found.release, image)


def build_again(inputs: Inputs, cache: Path, within: Path, tell: Told) -> Stated:
    """Without anything that was kept. Raises `ImageRefused` where other bytes come of it than are stated."""
    stated = Stated.read()
    fetch(inputs.packages, cache, refresh=REFRESH, tell=tell)
    within.mkdir(parents=True, exist_ok=True)
    built = build(inputs, cache, within, tell, expected_objects=stated.objects)
    made = Stated.of(inputs, built)
    tell(f"kernel: {made.release}, {made.size} bytes, {made.objects} objects, {built.seconds:.0f} s")
    _check(made, built.image, inputs, stated, place=within)
    return made


def state(inputs: Inputs) -> Stated:
    """Say in this clone what the kept kernel of its inputs is."""
    found = Stated.read(kept_in() / inputs.digest / STATED.name)
    found.write(STATED)
    return found


def _build_into(place: Path, inputs: Inputs, cache: Path, tell: Told, *, stated: Stated) -> None:
    fetch(inputs.packages, cache, refresh=REFRESH, tell=tell)
    tell("kernel: built once for these inputs, some minutes of every processor; then kept")
    built = build(inputs, cache, place.parent, tell, expected_objects=stated.objects)
    made = Stated.of(inputs, built)
    tell(f"kernel: {made.release}, {made.size} bytes, {made.objects} objects, {built.seconds:.0f} s")
    _check(made, built.image, inputs, stated, place=place)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        folder = Path(name) / "made"
        folder.mkdir()
        (folder / "vmlinuz").write_bytes(built.image)
        made.write(folder / STATED.name)
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)


def _check(found: Stated, image: bytes, inputs: Inputs, stated: Stated, *, place: Path) -> None:
    """I28."""
    digest = hashlib.sha256(image).hexdigest()
    if (digest, found.inputs) != (found.sha256, inputs.digest):
        raise ImageRefused("kernel.kept", expected=f"{found.sha256} in {place}", got=f"{digest}; remove that folder")
    if stated.inputs == inputs.digest and digest != stated.sha256:
        raise ImageRefused("kernel.stated", expected=stated.sha256, got=f"{digest}, of the same inputs")


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One build at a time: a second one waits, and then finds the first one's."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{place.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
