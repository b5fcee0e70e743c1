"""The one reader of documents: what it bounds, what it refuses, and that errors name the member and show what came."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.document import (
    ANY_HEX,
    ANY_TEXT,
    SPACED_HEX,
    Fields,
    hexadecimal,
    json_object,
    json_value,
    shown,
    toml_table,
)
from foundation.refusal import Refused


class ThingRefused(Refused):
    stage = "thing"


def fields(**members: object) -> Fields:
    return Fields(members, "thing", ThingRefused)


def code_of(read: Callable[[], object]) -> str:
    with pytest.raises(ThingRefused) as refused:
        read()
    assert refused.value.expected
    assert refused.value.got
    return refused.value.code


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"1 2",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1.5}',
        b'{"a":NaN}',
        b"[" * 100_000,
        b"\xff",
        b'{"a":' + b"9" * 5000 + b"}",
        "\ufeff{}".encode(),
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_json_is_one_value_without_surprises(raw: bytes) -> None:
    assert code_of(lambda: json_value(raw, "thing", ThingRefused, bytes_max=1 << 20)) == "thing.json"


def test_json_is_bounded_in_bytes_and_in_depth() -> None:
    assert json_value("[1]", "thing", ThingRefused, bytes_max=3) == [1]
    assert code_of(lambda: json_value(b"[1]", "thing", ThingRefused, bytes_max=2)) == "thing.size"
    assert json_value(b"[[1]]", "thing", ThingRefused, bytes_max=9, depth_max=2) == [[1]]
    assert code_of(lambda: json_value(b"[[[]]]", "thing", ThingRefused, bytes_max=9, depth_max=2)) == "thing.json"
    assert code_of(lambda: json_object(b"[]", "thing", ThingRefused, bytes_max=9)) == "thing.json"


def test_a_name_that_is_there_twice_is_named() -> None:
    with pytest.raises(ThingRefused, match="each name of the card once, got 'root' twice"):
        json_value(b'{"root": 1, "root": 2}', "thing", ThingRefused, bytes_max=99, called="the card")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_json_wrote_comes_back(value: object) -> None:
    raw = json.dumps(value)
    assert json_value(raw, "thing", ThingRefused, bytes_max=1 << 16) == value
    assert json_value(raw.encode(), "thing", ThingRefused, bytes_max=1 << 16, encoding="ascii") == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"a = ", "thing.toml"),
        (b"a = 1\na = 2", "thing.toml"),
        (b"\xff", "thing.toml"),
        (b"a=" + b"[" * 9_000, "thing.toml"),
        (b" " * 10_000, "thing.size"),
    ],
)
def test_toml_is_bounded_and_has_each_name_once(raw: bytes, code: str) -> None:
    assert code_of(lambda: toml_table(raw, "thing", ThingRefused, bytes_max=9_999)) == code
    assert toml_table(b'a = "b"', "thing", ThingRefused, bytes_max=9) == {"a": "b"}


@pytest.mark.parametrize("value", ["AB", "a", "zz", " ab", "ab ", "a b", "\u0661\u0661", 7, None, b"ab", ["ab"]])
def test_hexadecimal_has_one_spelling(value: object) -> None:
    assert code_of(lambda: hexadecimal(value, "thing.root", ThingRefused)) == "thing.root"
    assert hexadecimal("ab00", "thing.root", ThingRefused) == b"\xab\0"
    assert hexadecimal("aB00", "thing.root", ThingRefused, form=ANY_HEX) == b"\xab\0"


@given(st.text(" \n\t\x0b0aF9g-\u00a0\u0661", max_size=7))
def test_hexadecimal_as_people_paste_it_is_what_the_library_reads(text: str) -> None:
    try:
        expected = bytes.fromhex(text)
    except ValueError:
        assert code_of(lambda: hexadecimal(text, "thing.root", ThingRefused, form=SPACED_HEX)) == "thing.root"
    else:
        assert hexadecimal(text, "thing.root", ThingRefused, form=SPACED_HEX) == expected


def test_hexadecimal_has_a_size() -> None:
    assert hexadecimal("ab" * 48, "thing.root", ThingRefused, 32, 48) == b"\xab" * 48
    with pytest.raises(ThingRefused, match="32 or 48 bytes in lower-case hexadecimal, got 33 bytes"):
        hexadecimal("ab" * 33, "thing.root", ThingRefused, 32, 48)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("x" * 10, lambda it: it.text("it", 9)),
        ("é", lambda it: it.text("it", 9)),
        ("", lambda it: it.text("it", 9)),
        ("\ud800", lambda it: it.text("it", 9, ANY_TEXT)),
        (7, lambda it: it.text("it", 9)),
        ("b", lambda it: it.text("it", 9, re.compile("a"))),
        (True, lambda it: it.uint("it")),
        (-1, lambda it: it.uint("it")),
        (5, lambda it: it.uint("it", 4)),
        (5, lambda it: it.uint("it", 9, 6)),
        ("5", lambda it: it.uint("it")),
        ([1, True], lambda it: it.uints("it", 9)),
        ([1, 10], lambda it: it.uints("it", 9, 9)),
        (1, lambda it: it.flag("it")),
        ("2026-01-31", lambda it: it.time("it")),
        (None, lambda it: it.time("it")),
        ("ab", lambda it: it.digest("it")),
        (None, lambda it: it.digest("it")),
        ("ab" * 9, lambda it: it.blob("it", 8)),
        ("ab", lambda it: it.optional_digest("it")),
        (["ab"], lambda it: it.optional_digests("it", 2, 1)),
        ({}, lambda it: it.items("it", 9)),
        ([1, 2], lambda it: it.items("it", 1)),
        ([], lambda it: it.items("it", 9, 1)),
        (["a", 1], lambda it: it.texts("it", 9, 9)),
        ([], lambda it: it.fields("it")),
        (3, lambda it: it.optional_fields("it")),
        ([3], lambda it: it.rows("it", 9)),
        ({"A": 1}, lambda it: it.named("it", 9, re.compile("a"))),
        ({1: 1}, lambda it: it.named("it", 9, re.compile("a"))),
        ({"a": 1, "b": 1}, lambda it: it.named("it", 1, ANY_TEXT)),
        ({"a": 1}, lambda it: it.table("it", 9, ANY_TEXT)),
        ({}, lambda it: it.digests("it", 9, ANY_TEXT)),
        ({"a": "00"}, lambda it: it.digests("it", 9, ANY_TEXT)),
    ],
)
def test_a_member_of_another_kind_is_refused_by_its_path(value: object, read: Callable[[Fields], object]) -> None:
    it = fields(it=value)
    assert code_of(lambda: read(it)) == "thing.it"
    assert code_of(lambda: read(fields())) == "thing.it"


def test_members_are_read_once_and_none_is_left_over() -> None:
    it = fields(
        name="tiny",
        size=3,
        on=True,
        root="ab" * 32,
        der="Ab",
        at="2026-01-31T12:00:00Z",
        none=None,
        list=["a", "b"],
        counts=[0, 9],
        rows=[{"x": 1}],
        by={"one": "cd" * 32},
        inner={"y": 2},
        more=[],
    )
    assert (it.text("name", 9), it.uint("size"), it.flag("on"), it.digest("root")) == ("tiny", 3, True, b"\xab" * 32)
    assert (it.blob("der", 1), it.time("at")) == (b"\xab", datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert it.optional_fields("none") is None
    assert it.texts("list", 2, 1) == ("a", "b")
    assert it.uints("counts", 2, 9) == (0, 9)
    (row,) = it.rows("rows", 1)
    assert row.uint("x") == 1
    assert it.digests("by", 1, ANY_TEXT) == {"one": b"\xcd" * 32}
    assert it.optional("absent", it.flag) is None
    inner = it.fields("inner")
    assert inner.where == "thing.inner"
    assert it.optional("more", lambda name: it.items(name, 0)) == []
    it.done()
    assert code_of(lambda: it.text("name", 9)) == "thing.name"
    assert code_of(inner.done) == "thing.inner.y"


def test_a_set_of_members_is_held_to() -> None:
    fields(a=1, b=2).only("a", "b")
    with pytest.raises(ThingRefused, match="expected a, c, got missing or unknown: 'b, c'"):
        fields(a=1, b=2).only("a", "c")
    assert code_of(lambda: fields(a=1).only("b", code="other")) == "other"


@given(st.text() | st.integers() | st.lists(st.integers()) | st.none() | st.floats())
def test_what_is_shown_is_short_and_ascii(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert text.isascii()
