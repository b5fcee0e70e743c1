"""governance.md V23: the blocks a release is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measurements.release.heights import HEIGHT_MAX, Heights

HEIGHTS = st.builds(
    lambda first, more: Heights(first, None if more is None else first + more),
    st.integers(1, 50),
    st.none() | st.integers(0, 50),
)


@given(HEIGHTS, HEIGHTS)
def test_what_a_successor_ends_shares_no_block_with_it(before: Heights, after: Heights) -> None:
    if after.first <= before.first:
        return
    ended = before.ended_by(after)
    assert not ended.overlaps(after)
    assert ended.first == before.first
    assert all((height in ended) is (height in before and height < after.first) for height in range(110))


@given(HEIGHTS, HEIGHTS)
def test_two_overlap_where_a_block_is_in_both(one: Heights, other: Heights) -> None:
    assert one.overlaps(other) is any(height in one and height in other for height in (*range(110), HEIGHT_MAX))


@pytest.mark.parametrize(("first", "last"), [(0, None), (2, 1), (1, HEIGHT_MAX + 1), (HEIGHT_MAX + 1, None)])
def test_what_are_no_heights(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match="heights"):
        Heights(first, last)


def test_they_say_what_they_are() -> None:
    assert str(Heights(1, 4)) == "blocks 1 to 4"
    assert str(Heights(5, None)) == "blocks from 5 on"
