"""Certified time: one encoding per number, and how far from a clock it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.certified_time import SKEW_NS_MAX, check_near, parse_time
from attestation.consensus.refusals import TimeRefused
from foundation import leb128


@given(st.integers(0, (1 << 64) - 1))
def test_every_number_has_its_encoding(time_ns: int) -> None:
    assert parse_time(leb128.unsigned(time_ns)) == time_ns


@given(st.binary(max_size=12))
def test_any_bytes_are_refused_or_the_only_encoding(raw: bytes) -> None:
    # certificates.md K13
    try:
        time_ns = parse_time(raw)
    except TimeRefused:
        return
    assert leb128.unsigned(time_ns) == raw
    assert time_ns < 1 << 64


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"\x80\x00", b"\x01\x00", b"\x01\x01", b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\xff" * 11]
)
def test_other_encodings_are_refused(raw: bytes) -> None:
    with pytest.raises(TimeRefused):
        parse_time(raw)


def test_a_time_is_held_against_a_clock_both_ways() -> None:
    # certificates.md K14
    now = 1_700_000_000_000_000_000
    check_near(now - SKEW_NS_MAX, now)
    check_near(now + SKEW_NS_MAX, now)
    with pytest.raises(TimeRefused) as caught:
        check_near(now + SKEW_NS_MAX + 1, now)
    assert caught.value.code == "time.future"
    with pytest.raises(TimeRefused) as caught:
        check_near(now - SKEW_NS_MAX - 1, now)
    assert caught.value.code == "time.stale"
