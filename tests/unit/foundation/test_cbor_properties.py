"""What holds of foundation.cbor for every value and every string of bytes."""

from __future__ import annotations

from typing import Any

import cbor2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundation.cbor import SELF_DESCRIBED, CborRefused, Encodable, Tag, decode, decode_foreign, encode

TAGS = frozenset({18, SELF_DESCRIBED})

integers = st.integers(min_value=-(1 << 64), max_value=(1 << 64) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = integers | st.binary(max_size=40) | texts
scalars = keys | st.booleans() | st.none()
values: st.SearchStrategy[Encodable] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=5)
        | st.builds(Tag, st.sampled_from(sorted(TAGS)), inner)
    ),
    max_leaves=25,
)


def decoded(data: bytes) -> Encodable | CborRefused:
    try:
        return decode(data, tags=TAGS)
    except CborRefused as refusal:
        return refusal


def as_cbor2(value: object) -> Any:
    match value:
        case Tag(number=number, value=inner):
            return cbor2.CBORTag(number, as_cbor2(inner))
        case list():
            return [as_cbor2(item) for item in value]
        case dict():
            return {key: as_cbor2(item) for key, item in value.items()}
    return value


@given(values)
def test_decoding_an_encoding_gives_the_value(value: Encodable) -> None:
    assert decode(encode(value), tags=TAGS) == value


@given(st.binary(max_size=60))
@example(bytes.fromhex("a2016161026162"))
@example(bytes.fromhex("d9d9f7820001"))
def test_what_is_accepted_encodes_to_the_same_bytes(data: bytes) -> None:
    value = decoded(data)
    if not isinstance(value, CborRefused):
        assert encode(value) == data


@given(values, st.data())
def test_every_flipped_bit_is_refused_or_another_value(value: Encodable, data: st.DataObject) -> None:
    encoded = encode(value)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    flipped = bytearray(encoded)
    flipped[bit // 8] ^= 1 << bit % 8
    got = decoded(bytes(flipped))
    if not isinstance(got, CborRefused):
        # True == 1 in Python: the encodings tell them apart.
        assert encode(got) == bytes(flipped) != encoded


@given(values, st.data())
def test_no_prefix_of_an_encoding_is_one(value: Encodable, data: st.DataObject) -> None:
    encoded = encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert isinstance(decoded(encoded[:cut]), CborRefused)


@given(values)
def test_the_canonical_encoder_of_cbor2_agrees_on_scalars_and_arrays(value: Encodable) -> None:
    # On maps it sorts by length first, as RFC 7049 did; and integer tags 2 and 3 begin where ours end.
    if "map" not in shapes(value):
        assert cbor2.dumps(as_cbor2(value), canonical=True) == encode(value)


def shapes(value: object) -> set[str]:
    match value:
        case Tag(value=inner):
            return shapes(inner)
        case list():
            return set().union(*map(shapes, value))
        case dict():
            return {"map"}
    return set()


@given(values)
def test_cbor2_reads_what_we_write(value: Encodable) -> None:
    assert same(cbor2.loads(encode(value)), value)


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_what_both_accept_both_read_alike(data: bytes) -> None:
    try:
        ours = decode_foreign(data)
    except CborRefused:
        return
    assert same(cbor2.loads(data), ours)


def same(theirs: object, ours: object) -> bool:
    match ours:
        case Tag(number=number, value=inner):
            if number == SELF_DESCRIBED:
                return same(theirs, inner)  # cbor2 drops this tag
            return isinstance(theirs, cbor2.CBORTag) and theirs.tag == number and same(theirs.value, inner)
        case list():
            return isinstance(theirs, list | tuple) and len(theirs) == len(ours) and all(map(same, theirs, ours))
        case dict():
            return (
                hasattr(theirs, "keys")
                and theirs.keys() == ours.keys()
                and all(same(theirs[key], ours[key]) for key in ours)
            )
    return type(theirs) is type(ours) and theirs == ours


@given(st.dictionaries(keys, scalars, min_size=2, max_size=6), st.randoms())
def test_only_one_order_of_a_map_is_accepted(mapping: dict[Any, Any], random: Any) -> None:
    pairs = [encode(key) + encode(value) for key, value in mapping.items()]
    random.shuffle(pairs)
    data = bytes([0xA0 | len(pairs)]) + b"".join(pairs)
    assert decode_foreign(data) == mapping
    if data == encode(mapping):
        assert decode(data) == mapping
    else:
        refusal = decoded(data)
        assert isinstance(refusal, CborRefused)
        assert refusal.code == "cbor.key-order"
