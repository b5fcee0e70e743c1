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
from measurements.pack.opening import TensorView
from measurements.pack.safetensors import LENGTH_BYTES, SafetensorsHeader, header_bytes


@dataclass(frozen=True, slots=True)
class ModelFolder:
    path: Path
    _views: Mapping[str, TensorView]

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that a pack would take, weights aside."""
        return tuple(sorted(path.name for path in self.path.iterdir() if _is_small(path.name)))

    def file(self, name: str) -> bytes:
        """Raises OSError, and `ModelRefused` for one that is too large to be read whole."""
        path = self.path / name
        if path.stat().st_size > SMALL_BYTES_MAX:
            raise ModelRefused("folder.size", expected=f"{name} of at most {SMALL_BYTES_MAX} bytes", got="more")
        return path.read_bytes()

    def tensors(self) -> Mapping[str, TensorView]:
        return self._views


@contextmanager
def open_folder(path: Path) -> Iterator[ModelFolder]:
    """Views live as long as the block. Raises `ModelRefused` and OSError."""
    shards = sorted(path.glob("model*.safetensors"))
    if not shards:
        raise ModelRefused("folder.weights", expected=f"safetensors in {path}", got="none")
    views: dict[str, TensorView] = {}
    with ExitStack() as kept:
        for shard in shards:
            file = kept.enter_context(shard.open("rb"))
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            for name, view in views_of(whole, shard.name).items():
                if views.setdefault(name, view) is not view:
                    raise ModelRefused("folder.tensor", expected=f"tensor {name[:128]} once", got="twice")
        yield ModelFolder(path, views)


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
