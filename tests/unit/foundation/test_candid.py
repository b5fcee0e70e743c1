"""The Candid codec against bytes worked out by hand from the specification.

The second implementation is the one compiled into the gateway: test_gateway.py speaks to it with this codec.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.candid import (
    BLOB,
    BOOL,
    NAT,
    NAT8,
    NAT32,
    NAT64,
    NULL,
    PRINCIPAL,
    TEXT,
    CandidRefused,
    Opt,
    Record,
    Type,
    Variant,
    Vec,
    decode,
    encode,
    label,
)
from tests.fuzz.fuzz_candid import SEEDS, one_input

WORKED: list[tuple[Type, Any, str]] = [
    (NULL, None, "00017f"),
    (BOOL, True, "00017e01"),
    (NAT, 300, "00017dac02"),
    (NAT64, 1, "0001780100000000000000"),
    (TEXT, "é", "00017102c3a9"),
    (PRINCIPAL, b"\x04", "000168010104"),
    (BLOB, b"\x01\x02", "016d7b0100020102"),
    (Opt(NAT8), 5, "016e7b01000105"),
    (Opt(NAT8), None, "016e7b010000"),
    (Record({"a": NAT8, "b": NAT8}), {"a": 1, "b": 2}, "016c02617b627b01000102"),
    (Variant({"a": NULL, "b": NAT8}), ("b", 9), "016b02617f627b01000109"),
]


@pytest.mark.parametrize(("of", "value", "worked"), WORKED)
def test_worked_examples(of: Type, value: Any, worked: str) -> None:
    raw = b"DIDL" + bytes.fromhex(worked)
    assert encode([of], [value]) == raw
    assert decode([of], raw) == [value]


def test_labels_are_the_specifications_hash() -> None:
    assert label("") == 0
    assert label("a") == 97
    assert label("ab") == 97 * 223 + 98


types = st.recursive(
    st.sampled_from([BOOL, NAT, NAT8, NAT32, NAT64, TEXT, PRINCIPAL, BLOB]),
    lambda inner: st.one_of(
        inner.filter(lambda of: not isinstance(of, Opt)).map(Opt),
        inner.map(Vec),
        st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=4).map(Record),
        st.dictionaries(st.text(min_size=1, max_size=6), inner, min_size=1, max_size=4).map(Variant),
    ),
    max_leaves=6,
)


def values_of(of: Type) -> st.SearchStrategy[Any]:
    simple: dict[Type, st.SearchStrategy[Any]] = {
        BOOL: st.booleans(),
        NAT: st.integers(0, 2**64 - 1),
        NAT8: st.integers(0, 255),
        NAT32: st.integers(0, 2**32 - 1),
        NAT64: st.integers(0, 2**64 - 1),
        TEXT: st.text(max_size=8),
        PRINCIPAL: st.binary(max_size=29),
        BLOB: st.binary(max_size=20),
    }
    if of in simple:
        return simple[of]
    match of:
        case Opt():
            return st.none() | values_of(of.of)
        case Vec():
            return st.lists(values_of(of.of), max_size=3)
        case Record():
            return st.fixed_dictionaries({name: values_of(field) for _, name, field in of.fields})
        case Variant():
            return st.one_of([st.tuples(st.just(name), values_of(field)) for _, name, field in of.fields])
        case _:
            raise AssertionError(of)


@given(data=st.data())
def test_what_is_encoded_decodes_to_itself(data: st.DataObject) -> None:
    of = data.draw(types)
    value = data.draw(values_of(of))
    assert decode([of], encode([of], [value])) == [value]


def test_unknown_fields_are_skipped_and_missing_options_absent() -> None:
    sent = Record({"kept": NAT64, "new": Vec(Record({"x": Opt(TEXT)})), "also": Variant({"q": BLOB})})
    wanted = Record({"kept": NAT64, "gone": Opt(TEXT)})
    raw = encode([sent], [{"kept": 5, "new": [{"x": "y"}, {"x": None}], "also": ("q", b"z")}])
    assert decode([wanted], raw) == [{"kept": 5, "gone": None}]


@pytest.mark.parametrize(
    ("code", "of", "worked"),
    [
        ("trailing", NAT8, "00017b0100"),
        ("arguments", NAT8, "00027b7b0101"),
        ("truncated", NAT64, "000178010000"),
        ("type", NAT64, "00017b01"),
        ("type", NAT64, "01017b0100"),
        ("text", TEXT, "00017101ff"),
        ("variant.index", Variant({"a": NULL}), "016b01617f010001"),
        ("variant.tag", Variant({"a": NULL}), "016b01627f010000"),
        ("record.field", Record({"a": NAT8}), "016c01627b010001"),
        ("depth", Record({}), "026e006c0161000101" + "01" * 40),
    ],
)
def test_malformed_bytes_are_refused_by_name(code: str, of: Type, worked: str) -> None:
    with pytest.raises(CandidRefused) as refused:
        decode([of], b"DIDL" + bytes.fromhex(worked))
    assert refused.value.code == code


def test_magic() -> None:
    with pytest.raises(CandidRefused, match="magic"):
        decode([], b"DIDK\0\0")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fuzzers_seeds_and_their_neighbours(seed: bytes) -> None:
    random = Random(seed)
    one_input(seed)
    for _ in range(300):
        mutated = bytearray(seed)
        mutated[random.randrange(len(mutated))] = random.randrange(256)
        one_input(bytes(mutated[: random.randrange(len(mutated) + 1)]))
        one_input(bytes(mutated))


def test_values_of_no_bytes_are_counted_too() -> None:
    """A few bytes may claim 2^31 values: a record of two records of two records, of nothing in the end."""
    levels = [bytes([0x6C, 2, 0, n + 1, 1, n + 1]) for n in range(31)]
    bomb = b"DIDL" + bytes([32]) + b"".join(levels) + b"\x6c\x00" + b"\x01\x00"
    with pytest.raises(CandidRefused) as caught:
        decode([Record({})], bomb)
    assert caught.value.code == "items"
    nulls = b"DIDL\x02\x6d\x01\x6d\x7f\x01\x00" + b"\x64" + b"\xc0\x84\x3d" * 100
    with pytest.raises(CandidRefused) as caught:
        decode([Vec(Vec(NULL))], nulls)
    assert caught.value.code == "items"
