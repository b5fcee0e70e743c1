"""foundation.cbor against RFC 8949's examples and against its own rules (docs/spec/encoding.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.cbor import (
    DEPTH_MAX,
    SELF_DESCRIBED,
    CborRefused,
    Encodable,
    Limits,
    Tag,
    decode,
    decode_foreign,
    encode,
)
from foundation.digests import tagged_sha256

# RFC 8949 appendix A, the rows whose value we have and whose encoding is deterministic.
APPENDIX_A: list[tuple[Encodable, str]] = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (bytes.fromhex("01020304"), "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("ü", "62c3bc"),
    ("水", "63e6b0b4"),
    ("𐅑", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]

APPENDIX_A_TAGGED: list[tuple[Tag, str]] = [
    (Tag(2, bytes.fromhex("010000000000000000")), "c249010000000000000000"),
    (Tag(0, "2013-03-21T20:04:00Z"), "c074323031332d30332d32315432303a30343a30305a"),
    (Tag(1, 1363896240), "c11a514b67b0"),
    (Tag(23, bytes.fromhex("01020304")), "d74401020304"),
    (Tag(24, bytes.fromhex("6449455446")), "d818456449455446"),
    (Tag(32, "http://www.example.com"), "d82076687474703a2f2f7777772e6578616d706c652e636f6d"),
]

# The rows of appendix A that have no place here, and others no encoder of ours makes: (rule, bytes, code).
REFUSED: list[tuple[str, str, str]] = [
    ("C2 half", "f90000", "cbor.float"),
    ("C2 single", "fa47c35000", "cbor.float"),
    ("C2 double", "fb3ff199999999999a", "cbor.float"),
    ("C2 undefined", "f7", "cbor.simple"),
    ("C2 simple 16", "f0", "cbor.simple"),
    ("C2 simple 255", "f8ff", "cbor.simple"),
    ("C2 false written long", "f814", "cbor.simple"),
    ("C3 zero in one byte", "1800", "cbor.not-shortest"),
    ("C3 23 in one byte", "1817", "cbor.not-shortest"),
    ("C3 255 in two bytes", "1900ff", "cbor.not-shortest"),
    ("C3 65535 in four bytes", "1a0000ffff", "cbor.not-shortest"),
    ("C3 2^32-1 in eight bytes", "1b00000000ffffffff", "cbor.not-shortest"),
    ("C3 length of bytes", "580100", "cbor.not-shortest"),
    ("C3 length of text", "780161", "cbor.not-shortest"),
    ("C3 length of an array", "980100", "cbor.not-shortest"),
    ("C3 length of a map", "b8010000", "cbor.not-shortest"),
    ("C3 negative", "3800", "cbor.not-shortest"),
    ("C4 bytes", "5f42010243030405ff", "cbor.indefinite"),
    ("C4 text", "7f657374726561646d696e67ff", "cbor.indefinite"),
    ("C4 array", "9fff", "cbor.indefinite"),
    ("C4 map", "bf61610161629f0203ffff", "cbor.indefinite"),
    ("C4 a lone break", "ff", "cbor.indefinite"),
    ("C5 integer keys", "a203040102", "cbor.key-order"),
    ("C5 text keys", "a2616202616101", "cbor.key-order"),
    ("C5 a longer key is higher", "a262616101616201", "cbor.key-order"),
    ("C5 in a nested map", "81a203040102", "cbor.key-order"),
    ("C6 integers", "a201020103", "cbor.duplicate-key"),
    ("C6 text", "a2616101616102", "cbor.duplicate-key"),
    ("C6 not adjacent", "a3616101616202616103", "cbor.duplicate-key"),
    ("C6 a bool key", "a1f500", "cbor.key-type"),
    ("C6 an array key", "a1810000", "cbor.key-type"),
    ("C6 an empty array key", "a18000", "cbor.key-type"),
    ("C6 a null key", "a1f600", "cbor.key-type"),
    ("C7 nothing", "", "cbor.truncated"),
    ("C7 head cut", "19", "cbor.truncated"),
    ("C7 head half", "1903", "cbor.truncated"),
    ("C7 bytes beyond the end", "4401", "cbor.truncated"),
    ("C7 exabytes of bytes", "5b7fffffffffffffff00", "cbor.truncated"),
    ("C7 exabytes of items", "9b7fffffffffffffff00", "cbor.truncated"),
    ("C7 exabytes of pairs", "bbffffffffffffffff00", "cbor.truncated"),
    ("C7 array short of one", "8201", "cbor.truncated"),
    ("C7 map without its value", "a101", "cbor.truncated"),
    ("C7 tag without its value", "d9d9f7", "cbor.tag"),
    ("C8 one byte more", "0000", "cbor.trailing"),
    ("C8 a second map", "a0a0", "cbor.trailing"),
    ("C1 not UTF-8", "61ff", "cbor.text"),
    ("C1 UTF-8 of a surrogate", "63eda080", "cbor.text"),
    ("C1 overlong UTF-8", "62c0af", "cbor.text"),
    ("C1 text cut inside a character", "61c3", "cbor.text"),
    ("reserved 28", "1c", "cbor.reserved"),
    ("reserved 29", "5d", "cbor.reserved"),
    ("reserved 30", "9e", "cbor.reserved"),
    ("C11 a tag nobody named", "c11a514b67b0", "cbor.tag"),
]


@pytest.mark.parametrize(("value", "text"), APPENDIX_A, ids=[text[:16] for _, text in APPENDIX_A])
def test_the_examples_of_rfc_8949_both_ways(value: Encodable, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode(value) == data
    assert decode(data) == value
    assert type(decode(data)) is type(value)


@pytest.mark.parametrize(("value", "text"), APPENDIX_A_TAGGED, ids=[row[1][:8] for row in APPENDIX_A_TAGGED])
def test_the_tagged_examples_when_the_tag_is_named(value: Tag, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode(value) == data
    assert decode(data, tags=frozenset({value.number})) == value
    with pytest.raises(CborRefused, match="no tag"):
        decode(data)


@pytest.mark.parametrize(("rule", "text", "code"), REFUSED, ids=[rule for rule, _, _ in REFUSED])
def test_what_is_refused_and_under_which_code(rule: str, text: str, code: str) -> None:
    with pytest.raises(CborRefused) as caught:
        decode(bytes.fromhex(text))
    assert caught.value.code == code
    assert caught.value.stage == "cbor"
    assert caught.value.offset is not None


@pytest.mark.parametrize(
    ("rule", "text", "code"),
    [row for row in REFUSED if row[2] not in ("cbor.key-order", "cbor.tag")],
    ids=[row[0] for row in REFUSED if row[2] not in ("cbor.key-order", "cbor.tag")],
)
def test_foreign_bytes_get_no_more_than_free_map_order(rule: str, text: str, code: str) -> None:
    # encoding.md C10
    with pytest.raises(CborRefused) as caught:
        decode_foreign(bytes.fromhex(text))
    assert caught.value.code == code


def test_foreign_maps_come_in_any_order() -> None:
    data = bytes.fromhex("a2616202616101")
    assert decode_foreign(data) == {"b": 2, "a": 1}
    assert encode(decode_foreign(data)) != data


def test_the_offset_is_where_the_fault_is() -> None:
    with pytest.raises(CborRefused) as caught:
        decode(bytes.fromhex("8301021800"))
    assert caught.value.offset == 3
    assert "at byte 3" in str(caught.value)
    with pytest.raises(CborRefused) as caught:
        decode(bytes.fromhex("82636161ff00"))
    assert caught.value.offset == 4


def test_a_self_described_value_keeps_its_tag_where_foreign_bytes_have_one() -> None:
    data = bytes.fromhex("d9d9f7a0")
    assert decode_foreign(data) == Tag(SELF_DESCRIBED, {})
    assert encode(Tag(SELF_DESCRIBED, {})) == data


def test_map_keys_are_sorted_by_their_encoding_not_their_value() -> None:
    keys: list[int | bytes | str] = ["aa", "b", b"z", -1, 1000, 24, 10]
    data = encode(dict.fromkeys(keys, 0))
    assert data.hex() == "a7" + "0a00" + "181800" + "1903e800" + "2000" + "417a00" + "616200" + "62616100"
    assert encode(decode(data)) == data


def test_keys_of_different_types_do_not_collide() -> None:
    value: dict[int | bytes | str, Encodable] = {b"a": 1, "a": 2, 97: 3}
    assert decode(encode(value)) == value


def test_depth_is_bounded_by_the_limit_and_not_by_the_stack() -> None:
    deep = b"\x81" * 100_000 + b"\x00"
    with pytest.raises(CborRefused, match="depth"):
        decode(deep)
    at_most = Limits(depth_max=DEPTH_MAX)
    fits = b"\x81" * DEPTH_MAX + b"\x00"
    assert encode(decode(fits, at_most)) == fits
    with pytest.raises(CborRefused, match="depth"):
        decode(b"\x81" + fits, at_most)
    tags = b"\xc1" * DEPTH_MAX + b"\x00"
    assert encode(decode(tags, at_most, tags=frozenset({1}))) == tags
    with pytest.raises(ValueError, match="depth_max"):
        Limits(depth_max=DEPTH_MAX + 1)


def test_a_value_that_contains_itself_has_no_encoding() -> None:
    ring: list[Encodable] = []
    ring.append(ring)
    with pytest.raises(CborRefused, match="depth"):
        encode(ring)


def test_size_and_item_count_are_bounded() -> None:
    with pytest.raises(CborRefused) as caught:
        decode(b"\x00" * 11, Limits(bytes_max=10))
    assert caught.value.code == "cbor.size"
    assert decode(encode([0] * 9), Limits(items_max=10)) == [0] * 9
    with pytest.raises(CborRefused) as caught:
        decode(encode([0] * 10), Limits(items_max=10))
    assert caught.value.code == "cbor.items"


class _Count(int):
    pass


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.5, "cbor.type"),
        (float("nan"), "cbor.type"),
        (bytearray(b"x"), "cbor.type"),
        ({1}, "cbor.type"),
        (_Count(1), "cbor.type"),
        (object(), "cbor.type"),
        (memoryview(b"x"), "cbor.type"),
        (1 << 64, "cbor.integer"),
        (-(1 << 64) - 1, "cbor.integer"),
        ("\ud800", "cbor.text"),
        ({True: 1}, "cbor.key-type"),
        ({None: 1}, "cbor.key-type"),
        ({(1,): 1}, "cbor.key-type"),
        ({"\ud800": 1}, "cbor.text"),
        (Tag(-1, 0), "cbor.tag"),
        (Tag(1 << 64, 0), "cbor.tag"),
        (Tag(True, 0), "cbor.tag"),
        ([{"a": {"b": 0.0}}], "cbor.type"),
    ],
)
def test_a_value_without_an_encoding_is_refused(value: object, code: str) -> None:
    with pytest.raises(CborRefused) as caught:
        encode(value)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_only_bytes_are_decoded() -> None:
    with pytest.raises(TypeError):
        decode(bytearray(b"\x00"))  # type: ignore[arg-type]


def test_a_tuple_is_an_array() -> None:
    assert encode((1, (2,))) == encode([1, [2]])


def test_the_example_of_the_specification_is_true() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "spec" / "encoding.md").read_text()
    encoded = encode([7, b"\x04", 0, b"\xf6"])
    assert encoded.hex(" ") in page
    assert f"= {tagged_sha256('example/v1', encoded).hex()}" in page


def test_nothing_of_the_content_is_in_the_message() -> None:
    with pytest.raises(CborRefused) as caught:
        decode(encode({"a secret": "of mine"}) + b"\x00")
    assert "secret" not in str(caught.value)
    with pytest.raises(CborRefused) as caught:
        encode({"a secret": 1 << 70})
    assert "secret" not in str(caught.value)
