"""A model as a plain folder, memory-mapped: for tools, tests and benchmarks. A cell opens packs.

with open_folder(path) as folder:
    load_model(folder.tensors(), describe(folder.file("config.json")))
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.models.errors import ModelRefused
from measurements.pack.errors import PackMalformed
from measurements.pack.files import SMALL_BYTES_MAX, Kind, kind_of
from measurements.pack.pack_reader import TensorView
from measurements.pack.safetensors import LENGTH_BYTES, SafetensorsHeader, header_bytes


@dataclass(frozen=True, slots=True)
class ModelFolder:
    path: Path
    shards: Mapping[str, Mapping[str, TensorView]]

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that a pack would take, weights aside."""
        return tuple(sorted(path.name for path in self.path.iterdir() if _is_small(path.name)))

    def file(self, name: str) -> bytes:
        """Raises OSError, and `ModelRefused` for one that is too large to be read whole."""
        path = self.path / name
        if path.stat().st_size > SMALL_BYTES_MAX:
            raise ModelRefused(
                "folder.size", expected=f"{name} of at most {SMALL_BYTES_MAX} bytes", got=path.stat().st_size
            )
        return path.read_bytes()

    def tensors(self) -> Mapping[str, TensorView]:
        return {name: view for views in self.shards.values() for name, view in views.items()}


@contextmanager
def open_folder(path: Path) -> Iterator[ModelFolder]:
    """Views live as long as the block. Raises `ModelRefused` and OSError."""
    files = sorted(path.glob("model*.safetensors"))
    if not files:
        raise ModelRefused("folder.weights", expected=f"safetensors in {path}", got="none")
    shards, seen = {}, set[str]()
    with ExitStack() as kept:
        for each in files:
            file = kept.enter_context(each.open("rb"))
            shards[each.name] = views_of(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), each.name)
            if twice := seen & set(shards[each.name]):
                raise ModelRefused("folder.tensor", expected="each tensor once", got=f"{min(twice)[:128]} twice")
            seen |= set(shards[each.name])
        yield ModelFolder(path, shards)


def views_of(whole: memoryview, what: str) -> dict[str, TensorView]:
    """The tensors of one safetensors file, where they lie."""
    try:
        size = LENGTH_BYTES + header_bytes(bytes(whole[:LENGTH_BYTES]), len(whole), what=what)
        header = SafetensorsHeader.parse(bytes(whole[:size]), len(whole), what=what)
    except PackMalformed as refusal:
        raise ModelRefused("folder.safetensors", expected=refusal.expected, got=refusal.got) from None
    data = whole[header.head_bytes :]
    return {
        tensor.name: TensorView(tensor.dtype, tensor.shape, data[tensor.begin : tensor.end])
        for tensor in header.tensors
    }


def _is_small(name: str) -> bool:
    try:
        return kind_of(name) is not Kind.WEIGHTS
    except PackMalformed:
        return False
