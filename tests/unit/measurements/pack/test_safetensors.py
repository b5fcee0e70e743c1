"""pack.md P6: the header of a weights file, strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measurements.pack.errors import PackMalformed
from measurements.pack.safetensors import BITS, HEADER_BYTES_MAX, SafetensorsHeader, Tensor, header_bytes


def head(members: object, *, padding: bytes = b"") -> bytes:
    text = members if isinstance(members, bytes) else json.dumps(members).encode()
    return (len(text) + len(padding)).to_bytes(8, "little") + text + padding


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def refused(raw: bytes, data_bytes: int = 8) -> str:
    with pytest.raises(PackMalformed) as caught:
        SafetensorsHeader.parse(raw, len(raw) + data_bytes)
    return caught.value.code


def test_a_header_is_read_in_the_order_of_its_data():
    raw = head({"__metadata__": {"format": "pt"}, "b": entry(offsets=(8, 16)), "a": entry("U8", (2, 4))}, padding=b"  ")
    assert SafetensorsHeader.parse(raw, len(raw) + 16) == SafetensorsHeader(
        (Tensor("a", "U8", (2, 4), 0, 8), Tensor("b", "F32", (2,), 8, 16)), len(raw)
    )


def test_scalars_empty_tensors_and_small_types_have_their_sizes():
    members = {
        "none": entry("F64", (0, 7), (0, 0)),
        "one": entry("F64", (), (0, 8)),
        "four": entry("F4", (6,), (8, 11)),
        "six": entry("F6_E2M3", (4,), (11, 14)),
    }
    raw = head(members)
    found = {tensor.name: tensor.elements for tensor in SafetensorsHeader.parse(raw, len(raw) + 14).tensors}
    assert found == {"none": 0, "one": 1, "four": 6, "six": 4}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"a": entry(offsets=(0, 4))}, "safetensors.size"),
        ({"a": entry("F4", (15,))}, "safetensors.size"),
        ({"a": entry(offsets=(1, 9))}, "safetensors.cover"),
        ({"a": entry(offsets=(0, 8)), "b": entry(offsets=(4, 12))}, "safetensors.cover"),
        ({"a": entry("U8", (2,), (0, 2)), "b": entry("U8", (2,), (6, 8))}, "safetensors.cover"),
        ({"a": entry("U8", (4,), (0, 4))}, "safetensors.cover"),
        ({"a": entry("U8", (9,), (0, 9))}, "safetensors.cover"),
        ({"a": entry(offsets=(8, 0))}, "safetensors.size"),
        ({"a": entry(offsets=(0, 8, 8))}, "safetensors.offsets"),
        ({"a": entry(offsets=(-8, 0))}, "safetensors.offsets"),
        ({"a": entry(offsets=(True, 8))}, "safetensors.offsets"),
        ({"a": {**entry(), "data_offsets": 8}}, "safetensors.offsets"),
        ({"a": entry(shape=(-2,))}, "safetensors.shape"),
        ({"a": entry(shape=("2",))}, "safetensors.shape"),
        ({"a": entry(shape=(1 << 63,))}, "safetensors.shape"),
        ({"a": entry(shape=(1,) * 16 + (2,))}, "safetensors.shape"),
        ({"a": entry("F33")}, "safetensors.dtype"),
        ({"a": entry(None)}, "safetensors.dtype"),
        ({"a": entry(extra=1)}, "safetensors.tensor"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "safetensors.tensor"),
        ({"a": []}, "safetensors.tensor"),
        ({"a\n": entry()}, "safetensors.name"),
        ({"\ud800": entry()}, "safetensors.name"),
        ({"__metadata__": {"a": 1}, "a": entry()}, "safetensors.metadata"),
        ({"__metadata__": [], "a": entry()}, "safetensors.metadata"),
        (b"[]", "safetensors.header"),
        (b" {}", "safetensors.header"),
        (b"{}\n", "safetensors.header"),
        (b"{}\x00", "safetensors.header"),
        (b'{"a":1,}', "pack.json"),
        (b'{"a":\xff}', "pack.json"),
        (b'{"a":1.5}', "pack.json"),
        (b'{"a":NaN}', "pack.json"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "pack.json"),
        (b'{"a":' + b"9" * 5000 + b"}", "pack.json"),
        (b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", "pack.json"),
    ],
)
def test_a_wrong_header_is_refused_under_its_name(members: object, code: str):
    assert refused(head(members)) == code


@pytest.mark.parametrize("shape", [(1,) * 16, (2,) + (1,) * 15])
def test_sixteen_dimensions_are_the_most(shape: tuple[int, ...]):
    size = 4 * shape[0]
    raw = head({"a": entry(shape=shape, offsets=(0, size))})
    assert SafetensorsHeader.parse(raw, len(raw) + size).tensors[0].shape == shape


@pytest.mark.parametrize(
    ("size", "file_bytes", "good"),
    [
        (2, 10, True),
        (1, 10, False),
        (3, 10, False),
        (HEADER_BYTES_MAX, 1 << 40, True),
        (HEADER_BYTES_MAX + 1, 1 << 40, False),
        ((1 << 64) - 1, 1 << 40, False),
    ],
)
def test_the_length_is_held_to_its_bounds_before_anything_is_read(size: int, file_bytes: int, good: bool):
    length = size.to_bytes(8, "little")
    if good:
        assert header_bytes(length, file_bytes) == size
    else:
        with pytest.raises(PackMalformed, match=r"safetensors\.length"):
            header_bytes(length, file_bytes)


def test_a_short_start_is_refused():
    with pytest.raises(PackMalformed, match=r"safetensors\.length"):
        header_bytes(bytes(7), 100)
    with pytest.raises(PackMalformed, match=r"safetensors\.header"):
        SafetensorsHeader.parse((4).to_bytes(8, "little") + b"{}", 100)


whole_byte_types = st.sampled_from(sorted(set(BITS) - {"F4", "F6_E2M3", "F6_E3M2"}))
layouts = st.lists(st.tuples(whole_byte_types, st.lists(st.integers(0, 4), max_size=4)), max_size=8)


@given(layouts, st.randoms(use_true_random=False))
def test_what_covers_the_data_is_accepted_and_one_byte_more_or_less_is_not(layout: Any, chance: Any):
    members, at = [], 0
    for number, (dtype, shape) in enumerate(layout):
        size = BITS[dtype] // 8
        for side in shape:
            size *= side
        members.append((f"t{number}", entry(dtype, shape, (at, at + size))))
        at += size
    chance.shuffle(members)
    raw = head(dict(members))
    assert len(SafetensorsHeader.parse(raw, len(raw) + at).tensors) == len(layout)
    assert refused(raw, at + 1) == "safetensors.cover"
    if at:
        assert refused(raw, at - 1) == "safetensors.cover"
