"""Halves of a stream and the cutting of items: kept until acknowledged, taken in turn, put together whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsock_bridge.errors import Code, LocalProtocolError, RemoteProtocolError, StreamEnded
from vsock_bridge.limits import CREDIT_BYTES_MAX, PAYLOAD_BYTES_MAX, Limits, frame_cost
from vsock_bridge.messages import Data, Mark
from vsock_bridge.streams import ITEM_MARKS, Reassembly, ReceivingHalf, SendingHalf, Stream, chunks


@given(st.binary(max_size=3000), st.integers(1, 1000))
def test_chunks_put_together_are_the_item(item: bytes, size: int) -> None:
    pieces = list(chunks(item, size))
    assert [mark for mark, _ in pieces[:-1]] == [Mark.MORE] * (len(pieces) - 1)
    assert pieces[-1][0] is Mark.END
    assert all(0 < len(piece) <= size for _, piece in pieces) or item == b""
    reassembly = Reassembly(3000)
    whole = [reassembly.add(Data(1, 0, 1, mark, piece)) for mark, piece in pieces]
    assert whole == [None] * (len(pieces) - 1) + [item]
    assert reassembly.cost_bytes == sum(frame_cost(len(piece)) for _, piece in pieces)


def test_an_item_too_large_is_refused_before_it_is_joined() -> None:
    # wire.md W19
    reassembly = Reassembly(10)
    assert reassembly.add(Data(1, 0, 1, Mark.MORE, bytes(10))) is None
    for _ in range(2):  # and stays refused
        with pytest.raises(RemoteProtocolError) as caught:
            reassembly.add(Data(1, 1, 1, Mark.END, b"x"))
        assert caught.value.code is Code.ITEM


@given(st.lists(st.tuples(st.sampled_from(["push", "push", "send", "ack", "resume"]), st.integers(0, 60)), max_size=60))
def test_a_sending_half_keeps_exactly_what_is_not_acknowledged(steps: list[tuple[str, int]]) -> None:
    half = SendingHalf(2000)
    sizes: list[int] = []
    base = cursor = 0
    for step, number in steps:
        if step == "push":
            room = half.has_room(number)
            assert room == (len(sizes) == base or sum(map(frame_cost, sizes[base:])) + frame_cost(number) <= 2000)
            if room:
                half.push(Mark.END, bytes(number))
                sizes.append(number)
            else:
                with pytest.raises(LocalProtocolError):
                    half.push(Mark.END, bytes(number))
        elif step == "ack" and number > cursor:
            with pytest.raises(RemoteProtocolError):
                half.acknowledge(number)
        elif step == "ack":
            assert half.acknowledge(number) == (number > base)
            base = max(base, number)
        elif step == "resume" and not base <= number <= len(sizes):
            with pytest.raises(StreamEnded):
                half.resume(number)
        elif step == "resume":
            half.resume(number)
            cursor = number
        else:
            frame = half.next_frame(CREDIT_BYTES_MAX)
            assert (frame.sequence if frame else None) == (cursor if cursor < len(sizes) else None)
            cursor += frame is not None
        assert half.retained_bytes == sum(map(frame_cost, sizes[base:]))
        assert half.idle == (base == len(sizes))


def test_a_frame_is_sent_only_when_the_credit_covers_its_cost() -> None:
    half = SendingHalf(10_000)
    half.push(Mark.END, bytes(100))
    assert half.next_frame(frame_cost(100) - 1) is None
    assert half.next_frame(frame_cost(100)) is not None


def test_a_frame_has_a_bound() -> None:
    with pytest.raises(LocalProtocolError):
        SendingHalf(1 << 30).push(Mark.END, bytes(PAYLOAD_BYTES_MAX + 1))


def test_positions_count_the_final_marks() -> None:
    # wire.md W9
    half = SendingHalf(10_000)
    marks = [Mark.MORE, Mark.END, Mark.CANCELLED, Mark.MORE, Mark.FAILED]
    assert [half.push(mark, b"") for mark in marks] == [1, 1, 2, 3, 3]
    assert half.position == 4


def test_taking_more_than_is_held_is_our_own_bug() -> None:
    half = ReceivingHalf(1000, ITEM_MARKS)
    half.accept(Data(1, 0, 1, Mark.END, b"x"))
    assert half.room_bytes == 1000 - frame_cost(1)
    for cost in (frame_cost(1) + 1, -1):
        with pytest.raises(LocalProtocolError):
            half.taken(cost)


def test_a_stream_is_idle_when_nobody_owes_anything() -> None:
    cell = Stream.of_cell(b"n" * 16, Limits())
    seen = [cell.idle]
    cell.receiving.accept(Data(1, 0, 1, Mark.END, b""))
    seen.append(cell.idle)
    cell.sending.push(Mark.END, b"")
    seen.append(cell.idle)
    cell.sending.next_frame(CREDIT_BYTES_MAX)
    cell.sending.acknowledge(1)
    seen.append(cell.idle)
    assert seen == [True, False, False, True]
