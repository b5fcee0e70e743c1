"""Invariant: whatever the bytes, a safetensors header parses or is refused with PackMalformed; the tensors of a parsed
one, in order, cover the data after it exactly, each as long as its shape and type say.
"""

from __future__ import annotations

from measurements.pack.errors import PackMalformed
from measurements.pack.safetensors import BITS, LENGTH_BYTES, SafetensorsHeader, header_bytes
from tests.packs import FILES, weights

SEEDS: list[bytes] = [
    FILES["model.safetensors"],
    weights(),
    weights(a=("F64", [], bytes(8)), b=("F4", [2, 1], b"\0")),
    b"",
    bytes(9),
]


def one_input(data: bytes) -> None:
    try:
        head = LENGTH_BYTES + header_bytes(data[:LENGTH_BYTES], len(data))
        header = SafetensorsHeader.parse(data[:head], len(data))
    except PackMalformed:
        return
    at = 0
    for tensor in header.tensors:
        assert tensor.begin == at
        assert tensor.elements * BITS[tensor.dtype] == 8 * (tensor.end - tensor.begin)
        at = tensor.end
    assert header.head_bytes + at == len(data)
    assert len({tensor.name for tensor in header.tensors}) == len(header.tensors)
