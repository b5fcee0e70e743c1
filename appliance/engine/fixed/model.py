"""A model bound to the kernels: weights checked and pointed at, key-value caches, rows in and logits out.

The weights are used where their owner keeps them, but for bf16 matrices, which are read from tight rows of our own
(tight.py). What this does not establish: that they are the weights somebody meant (docs/spec/pack.md does).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.architecture import (
    BLOCK,
    EMBEDDING,
    FINAL_NORM,
    GROUPS,
    HEAD,
    LINE,
    Architecture,
    Format,
    Tensor,
    Weights,
    names,
)
from appliance.engine.fixed.library import CEnds, CLayer, CMatrix, CSizes, Library
from appliance.engine.fixed.memory import Held, HugeMemory
from appliance.engine.fixed.tight import tighten

_CODES: Final = {Format.BF16: 0, Format.INT8: 1, Format.INT4: 2}
_LARGEST: Final = {  # bounds before allocation: no size can make an index overflow
    "layers": 1 << 10,
    "width": 1 << 18,
    "heads": 1 << 12,
    "kv_heads": 1 << 12,
    "head_width": 1 << 12,
    "hidden": 1 << 20,
    "vocabulary": 1 << 24,
    "positions_max": 1 << 22,
    "rotary_width": 1 << 12,
}


def check_architecture(a: Architecture) -> None:
    """Raises `EngineRefused` for sizes that no model has or that do not fit each other."""
    for name, largest in _LARGEST.items():
        if not 1 <= getattr(a, name) <= largest:
            raise EngineRefused("engine.architecture", expected=f"{name} of 1 to {largest}", got=getattr(a, name))
    if a.heads % a.kv_heads:
        raise EngineRefused("engine.architecture", expected=f"heads in groups over {a.kv_heads}", got=a.heads)
    if a.rotary_width % 2 or a.rotary_width > a.head_width:
        raise EngineRefused(
            "engine.architecture", expected=f"an even rotary width up to {a.head_width}", got=a.rotary_width
        )
    if (a.window is not None and a.window < 1) or not a.window_from >= 0:
        raise EngineRefused("engine.architecture", expected="a window of at least one position", got=a.window)
    if not 0 <= a.epsilon < 1:
        raise EngineRefused("engine.architecture", expected="an epsilon of 0 to 1", got=a.epsilon)
    quantized = a.quantization.format is not Format.BF16
    group = a.quantization.group
    if quantized and group not in GROUPS:
        raise EngineRefused("engine.architecture", expected=f"groups of {GROUPS}", got=group)


def row_bytes(form: Format, columns: int) -> int:
    match form:
        case Format.BF16:
            return 2 * columns
        case Format.INT8:
            return -(-columns // BLOCK) * BLOCK
        case Format.INT4:
            return -(-columns // BLOCK) * (BLOCK // 2)


class _Pointing:
    """Tensors to addresses, each checked for its shape and size, all held."""

    def __init__(self, library: Library, weights: Weights, *, tight: bool) -> None:
        self._library = library
        self._tight = tight
        self._weights = weights
        self._group = weights.architecture.quantization.group
        self._shapes = dict(names(weights.architecture))
        self.held: list[Held] = []

    def hold(self, view: memoryview) -> Held:
        held = Held(view)
        self.held.append(held)
        return held

    def _tensor(self, name: str) -> Tensor:
        try:
            tensor = self._weights.tensor(name)
        except KeyError:
            raise EngineRefused("engine.weights", expected=f"a tensor {name}", got="none") from None
        if tensor.shape != self._shapes[name]:
            raise EngineRefused("engine.weights", expected=f"{name} of shape {self._shapes[name]}", got=tensor.shape)
        return tensor

    def _sized(self, view: memoryview, name: str, size: int) -> int:
        held = self.hold(view)
        if held.bytes != size:
            raise EngineRefused("engine.weights", expected=f"{size} bytes of {name}", got=held.bytes)
        return held.address

    def vector(self, name: str) -> int:
        tensor = self._tensor(name)
        if tensor.format is not Format.BF16:
            raise EngineRefused("engine.weights", expected=f"{name} in bf16", got=tensor.format.value)
        return self._sized(tensor.data, name, 2 * tensor.shape[0])

    def matrix(self, name: str, form: Format) -> CMatrix:
        tensor = self._tensor(name)
        rows, columns = tensor.shape
        if tensor.format is not form:
            raise EngineRefused("engine.weights", expected=f"{name} in {form.value}", got=tensor.format.value)
        stride = row_bytes(form, columns)
        matrix = CMatrix(self._sized(tensor.data, name, rows * stride), None, stride, 0, rows, columns, 0, _CODES[form])
        if form is Format.BF16:
            self._factors(matrix, name)
        else:
            self._scale(matrix, tensor, name)
        return matrix

    def _factors(self, matrix: CMatrix, name: str) -> None:
        """engine.md X6: what is too small to multiply by goes, and then they become tight rows where they can."""
        kernels, count, made = self._library.kernels, matrix.rows * matrix.columns, None
        match kernels.fixed_factors(matrix.data, None, count):
            case 0:
                pass
            case 1:
                made = HugeMemory(kernels, 2 * count)
                kernels.fixed_factors(matrix.data, made.address, count)
                matrix.data = made.address
            case _:
                raise EngineRefused(
                    "engine.weights", expected=f"weights below 2^60 in {name}", got="a weight at or over 2^60"
                )
        if self._tight and (rows := tighten(kernels, matrix)) is not None:
            self.held.append(rows)
        elif made is not None:
            self.hold(made.view)

    def _scale(self, matrix: CMatrix, tensor: Tensor, name: str) -> None:
        if tensor.scales is None:
            raise EngineRefused("engine.weights", expected=f"scales of {name}", got="none")
        matrix.group = self._group
        matrix.row_scales = -(-tensor.shape[1] // self._group)
        count = tensor.shape[0] * matrix.row_scales
        matrix.scales = self._sized(tensor.scales, f"scales of {name}", 2 * count)
        if not self._library.kernels.fixed_finite(matrix.scales, count):
            raise EngineRefused("engine.weights", expected=f"finite scales of {name}", got="infinity, or not a number")

    def embedding(self) -> int:
        tensor = self._tensor(EMBEDDING)
        return self._sized(tensor.data, EMBEDDING, 2 * tensor.shape[0] * tensor.shape[1])


def _layer(at: _Pointing, a: Architecture, index: int) -> CLayer:
    name, form = f"model.layers.{index}.", a.quantization.format
    windowed = a.window is not None and index >= a.window_from
    layer = CLayer(
        norm_before=at.vector(f"{name}input_layernorm.weight"),
        norm_after=at.vector(f"{name}post_attention_layernorm.weight"),
        o=at.matrix(f"{name}self_attn.o_proj.weight", form),
        window=min(a.window or 0, a.positions_max) if windowed else 0,
    )
    for part in "qkv":
        setattr(layer, part, at.matrix(f"{name}self_attn.{part}_proj.weight", form))
        if a.attention_bias:
            setattr(layer, f"{part}_bias", at.vector(f"{name}self_attn.{part}_proj.bias"))
    for part in ("gate", "up", "down"):
        setattr(layer, part, at.matrix(f"{name}mlp.{part}_proj.weight", form))
    if a.head_norm:
        layer.q_norm = at.vector(f"{name}self_attn.q_norm.weight")
        layer.k_norm = at.vector(f"{name}self_attn.k_norm.weight")
    if a.output_bias:
        layer.o_bias = at.vector(f"{name}self_attn.o_proj.bias")
    return layer


def _ends(at: _Pointing, a: Architecture, weights: Weights) -> CEnds:
    head = at.matrix(EMBEDDING, Format.BF16) if a.tied else at.matrix(HEAD, a.quantization.format)
    tables = [at.hold(table) for table in weights.rotary]
    size = a.positions_max * (a.rotary_width // 2) * 4
    if any(table.bytes != size for table in tables):
        raise EngineRefused(
            "engine.weights", expected=f"{size} bytes in each rotary table", got=[table.bytes for table in tables]
        )
    return CEnds(at.embedding(), at.vector(FINAL_NORM), tables[0].address, tables[1].address, head)


class Cache:
    """Keys and values of one sequence, for a number of positions. All of its memory is there from the start."""

    def __init__(self, library: Library, model: int, positions: int, size: int) -> None:
        address = library.kernels.fixed_cache_new(model, positions)
        if not address:
            raise EngineRefused(
                "engine.memory", expected=f"{size} bytes for keys and values", got="no memory from the system"
            )
        self.address: Final[int] = address
        self.positions: Final = positions
        weakref.finalize(self, library.kernels.fixed_cache_free, address)


class Model:
    """Weights, threads and buffers. One pass at a time; whoever calls meanwhile waits."""

    def __init__(
        self, weights: Weights, library: Library, *, threads: int, rows_max: int = 128, tight: bool = True
    ) -> None:
        a = weights.architecture
        check_architecture(a)
        if not 1 <= threads <= 1024 or not 1 <= rows_max <= 4096:
            raise EngineRefused(
                "engine.settings", expected="1 to 1024 threads and 1 to 4096 rows", got=(threads, rows_max)
            )
        self.architecture: Final = a
        self.library: Final = library
        self.rows_max: Final = rows_max
        self.weights: Final = weights
        pointing = _Pointing(library, weights, tight=tight and library.tightens)
        with ThreadPoolExecutor(threads) as pool:
            layers = (CLayer * a.layers)(*pool.map(lambda index: _layer(pointing, a, index), range(a.layers)))
        ends = _ends(pointing, a, weights)
        sizes = CSizes(
            a.layers,
            a.width,
            a.heads,
            a.kv_heads,
            a.head_width,
            a.hidden,
            a.vocabulary,
            a.positions_max,
            a.rotary_width,
            rows_max,
            a.epsilon,
        )
        self._held = pointing.held
        self._lock = threading.Lock()
        self._outputs = 0
        self._logits = (ctypes.c_float * 0)()
        self.address: Final = self._make(sizes, layers, ends, threads)

    def _make(self, sizes: CSizes, layers: ctypes.Array[CLayer], ends: CEnds, threads: int) -> int:
        kernels = self.library.kernels
        pool = kernels.fixed_pool_new(threads)
        if not pool:
            raise EngineRefused("engine.memory", expected=f"{threads} threads", got="no threads from the system")
        variant = self.library.variant.value
        address: int = kernels.fixed_model_new(ctypes.byref(sizes), layers, ctypes.byref(ends), variant, pool)
        if not address:
            kernels.fixed_pool_free(pool)
            raise EngineRefused(
                "engine.memory", expected="memory for the buffers of a pass", got="no memory from the system"
            )
        weakref.finalize(self, _end, kernels, address, pool)
        return address

    def cache_bytes(self, positions: int) -> int:
        a = self.architecture
        return 4 * a.layers * a.kv_heads * (-(-a.head_width // LINE) * LINE) * positions

    def cache(self, positions: int | None = None) -> Cache:
        """Raises `EngineRefused` where there is no memory for it."""
        positions = positions or self.architecture.positions_max
        return Cache(self.library, self.address, positions, self.cache_bytes(positions))

    def copy(self, to: Cache, source: Cache, positions: int) -> None:
        if not 0 <= positions <= min(to.positions, source.positions):
            raise EngineRefused("engine.bounds", expected="positions that both caches have", got=positions)
        with self._lock:
            self.library.kernels.fixed_cache_copy(self.address, to.address, source.address, positions)

    def forward(
        self, tokens: Sequence[int], caches: Sequence[Cache], positions: Sequence[int], wanted: Sequence[int] = ()
    ) -> list[int]:
        """One pass over rows of sequences; the addresses of the logits of the wanted rows, good until the next pass."""
        count, outputs = len(tokens), len(wanted)
        if len(caches) != count or len(positions) != count:
            raise EngineRefused("engine.bounds", expected="a cache and a position for each row", got=len(caches))
        if not all(0 <= n < 1 << 31 for n in (*tokens, *positions, *wanted)):
            raise EngineRefused(
                "engine.bounds",
                expected="tokens, positions and rows as they can be",
                got=f"numbers of {count} rows, not all from 0 to 2^31-1",
            )
        with self._lock:
            self._reserve(outputs)
            done = self.library.kernels.fixed_forward(
                self.address,
                count,
                (ctypes.c_int32 * count)(*tokens),
                (ctypes.c_void_p * count)(*(cache.address for cache in caches)),
                (ctypes.c_int32 * count)(*positions),
                outputs,
                (ctypes.c_int32 * outputs)(*wanted),
                self._logits,
            )
        if done != 0:
            raise EngineRefused(
                "engine.bounds",
                expected="tokens, positions and rows within the model",
                got=f"status {done} for {count} rows",
            )
        start, size = ctypes.addressof(self._logits), 4 * self.architecture.vocabulary
        return [start + index * size for index in range(outputs)]

    def logits(self, address: int) -> bytes:
        """The logits at an address that `forward` gave, as float32; a copy, for tests and tools."""
        return ctypes.string_at(address, 4 * self.architecture.vocabulary)

    def _reserve(self, outputs: int) -> None:
        if outputs > self._outputs:
            self._logits = (ctypes.c_float * (outputs * self.architecture.vocabulary))()
            self._outputs = outputs


def _end(kernels: ctypes.CDLL, model: int, pool: int) -> None:
    kernels.fixed_model_free(model)
    kernels.fixed_pool_free(pool)
