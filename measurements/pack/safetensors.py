"""The header of a safetensors file, read without mercy.

    8 bytes     length of the header, little-endian
    header      JSON: {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}, padded with spaces
    data        the tensors, in the order of their offsets, without gaps or overlap

Establishes that every byte of the file belongs to the length, the header or exactly one tensor, so that nothing
can hide between them. What the numbers in a tensor do is beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Final, Self

from foundation.document import json_object
from foundation.refusal import outline, shown
from measurements.pack.errors import PackMalformed

LENGTH_BYTES: Final = 8
HEADER_BYTES_MAX: Final = 4 << 20
DIMENSIONS_MAX: Final = 16
METADATA: Final = "__metadata__"

BITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "F64": 64,
        "F32": 32,
        "F16": 16,
        "BF16": 16,
        "C64": 64,
        "I64": 64,
        "I32": 32,
        "I16": 16,
        "I8": 8,
        "U64": 64,
        "U32": 32,
        "U16": 16,
        "U8": 8,
        "BOOL": 8,
        "F8_E4M3": 8,
        "F8_E5M2": 8,
        "F8_E8M0": 8,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "F4": 4,
    }
)
"""The element types that are known, and their sizes."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `begin` and `end` count from the start of the file's data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a file says of itself. `head_bytes` is where its data begins."""

    tensors: tuple[Tensor, ...]
    head_bytes: int

    @classmethod
    def parse(cls, head: bytes, file_bytes: int, *, what: str = "the file") -> Self:
        """From the length and header of a file of `file_bytes`. Raises `PackMalformed` alone."""
        size = header_bytes(head[:LENGTH_BYTES], file_bytes, what=what)
        if len(head) != LENGTH_BYTES + size:
            raise PackMalformed(
                "safetensors.header", expected=f"{size} header bytes of {what}", got=f"{len(head) - LENGTH_BYTES}"
            )
        text = head[LENGTH_BYTES:]
        # The format starts with the brace and pads with spaces; other white space would be a second encoding.
        if not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
            raise PackMalformed(
                "safetensors.header",
                expected=f"an object, then spaces, in {what}",
                got=f"{shown(text[:1])} to {shown(text.rstrip(b' ')[-1:])}",
            )
        members = json_object(text, "pack", PackMalformed, bytes_max=HEADER_BYTES_MAX, called=f"the header of {what}")
        _check_metadata(members.pop(METADATA, {}), what)
        tensors = sorted(
            (_tensor(name, value, what) for name, value in members.items()),
            key=lambda tensor: (tensor.begin, tensor.end),
        )
        _check_cover(tensors, file_bytes - len(head), what)
        return cls(tuple(tensors), len(head))


def header_bytes(length: bytes, file_bytes: int, *, what: str = "the file") -> int:
    """The size of the header, from the first eight bytes of a file; refused before anything is read for it."""
    if len(length) != LENGTH_BYTES:
        raise PackMalformed(
            "safetensors.length", expected=f"{LENGTH_BYTES} bytes at the start of {what}", got=f"{len(length)}"
        )
    size = int.from_bytes(length, "little")
    if not 2 <= size <= min(HEADER_BYTES_MAX, file_bytes - LENGTH_BYTES):
        raise PackMalformed(
            "safetensors.length",
            expected=f"a header of {what} of 2 to {HEADER_BYTES_MAX} bytes, inside the file",
            got=f"{size} bytes",
        )
    return size


def _check_metadata(value: object, what: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise PackMalformed("safetensors.metadata", expected=f"an object of text in {what}", got=type(value).__name__)


def _tensor(name: str, value: object, what: str) -> Tensor:
    where = f"tensor {name[:128]!r} of {what}"
    if not name.isprintable():  # nor is a lone surrogate, which has no encoding
        raise PackMalformed("safetensors.name", expected=f"a printable name for {where}", got=shown(name))
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise PackMalformed(
            "safetensors.tensor", expected=f"dtype, shape and data_offsets for {where}", got=outline(value)
        )
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise PackMalformed("safetensors.dtype", expected=f"a known dtype for {where}", got=str(dtype)[:32])
    shape = _naturals(value["shape"], "safetensors.shape", where)
    offsets = _naturals(value["data_offsets"], "safetensors.offsets", where)
    if len(shape) > DIMENSIONS_MAX:
        raise PackMalformed(
            "safetensors.shape", expected=f"at most {DIMENSIONS_MAX} dimensions for {where}", got=len(shape)
        )
    if len(offsets) != 2:
        raise PackMalformed("safetensors.offsets", expected=f"begin and end for {where}", got=f"{len(offsets)} numbers")
    tensor = Tensor(name, dtype, shape, *offsets)
    if tensor.elements * BITS[dtype] != (tensor.end - tensor.begin) * 8:
        raise PackMalformed(
            "safetensors.size",
            expected=f"{tensor.elements} elements of {dtype} for {where}",
            got=f"{tensor.end - tensor.begin} bytes",
        )
    return tensor


def _naturals(value: object, code: str, where: str) -> tuple[int, ...]:
    # JSON's true is an int to Python.
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        raise PackMalformed(code, expected=f"a list of integers from 0 to 2^63-1 for {where}", got=shown(value))
    return tuple(value)


def _check_cover(tensors: list[Tensor], data_bytes: int, what: str) -> None:
    """pack.md P6: no overlap, no gap, nothing after the last tensor."""
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            raise PackMalformed(
                "safetensors.cover",
                expected=f"tensor {tensor.name[:128]!r} of {what} at byte {at}",
                got=f"byte {tensor.begin}",
            )
        at = tensor.end
    if at != data_bytes:
        raise PackMalformed("safetensors.cover", expected=f"{at} bytes of data in {what}", got=f"{data_bytes}")
