"""The cell's memory of its streams: items in order and once, who makes room, what cancelling means."""

from __future__ import annotations

import pytest

from vsock_bridge.cell import CellStream, CellStreams, Item
from vsock_bridge.connection import Connection
from vsock_bridge.errors import Code, LocalProtocolError, StreamEnded
from vsock_bridge.limits import Limits
from vsock_bridge.messages import Data, Mark

LIMITS = Limits(streams_max=3)


def name(number: int) -> bytes:
    return bytes([number]) * 16


def connection(table: CellStreams) -> Connection:
    return Connection.for_cell(b"c" * 16, LIMITS, table.find)


def give(held: CellStream, *items: bytes) -> None:
    receiving = held.stream.receiving
    for item in items:
        frame = Data(1, receiving.received, receiving.position, Mark.END, item)
        receiving.accept(frame)
        held.arrived(frame)


def stream() -> CellStream:
    return CellStream(name(1), LIMITS)


# -- items


def test_items_are_taken_in_order_one_at_a_time() -> None:
    held = stream()
    give(held, b"a", b"b")
    taken = [held.take(), held.take()]
    held.answer(Mark.MORE, b"x")
    taken.append(held.take())
    assert held.running == 1
    held.answer(Mark.END, b"")
    taken.append(held.take())
    assert taken == [Item(1, b"a", False), None, None, Item(2, b"b", False)]


def test_taking_makes_room() -> None:
    held = stream()
    give(held, bytes(1000))
    assert held.stream.receiving.held_bytes > 1000
    held.take()
    assert held.stream.receiving.held_bytes == 0


def test_an_answer_needs_an_item() -> None:
    with pytest.raises(LocalProtocolError):
        stream().answer(Mark.END, b"")


def test_an_item_of_many_frames_arrives_with_its_last() -> None:
    held = stream()
    frames = [Data(1, n, 1, mark, b"ab") for n, mark in enumerate([Mark.MORE, Mark.MORE, Mark.END])]
    for frame in frames:
        held.stream.receiving.accept(frame)
    assert [held.arrived(frame) for frame in frames] == [False, False, True]
    assert held.take() == Item(1, b"ababab", False)


# -- cancelling


def test_cancelling_the_running_one_says_so() -> None:
    held = stream()
    give(held, b"a")
    held.take()
    assert held.cancel(1)
    held.answer(Mark.CANCELLED, b"")
    assert not held.cancel(1)


def test_cancelling_a_waiting_one_is_noted_for_its_turn() -> None:
    held = stream()
    give(held, b"a", b"b", b"c")
    held.take()
    assert not held.cancel(2)
    held.answer(Mark.END, b"")
    assert held.take() == Item(2, b"b", True)
    held.answer(Mark.CANCELLED, b"")
    assert held.take() == Item(3, b"c", False)


def test_cancelling_what_is_not_there_costs_no_memory() -> None:
    held = stream()
    give(held, b"a", b"b")
    held.take()
    held.answer(Mark.END, b"")
    for position in (0, 1, 3, 2**62):
        assert not held.cancel(position)
    assert held._cancelled == set()


# -- making room (W18)


def test_an_idle_abandoned_stream_makes_room_first() -> None:
    evicted: list[bytes] = []
    table = CellStreams(LIMITS, lambda held: evicted.append(held.stream.name))
    gone = [connection(table) for _ in range(3)]
    for number, one in enumerate(gone, start=1):
        table.find(name(number), one)
    give(table.of(table.find(name(1), gone[0])), b"work")  # the eldest, but somebody waits for it
    for one in gone:
        table.released(one)
    newcomer = connection(table)
    table.find(name(4), newcomer)
    assert evicted == [name(2)]
    table.find(name(5), newcomer)
    assert evicted == [name(2), name(3)]
    table.find(name(6), newcomer)
    assert evicted == [name(2), name(3), name(1)]  # nothing idle is left: the longest abandoned
    assert len(table) == 3


def test_the_longest_abandoned_makes_room_before_later_ones() -> None:
    table = CellStreams(LIMITS)
    gone = [connection(table) for _ in range(3)]
    for number, one in enumerate(gone, start=1):
        give(table.of(table.find(name(number), one)), b"work")
    for index in (1, 0, 2):
        table.released(gone[index])
    table.find(name(4), connection(table))
    assert list(table._streams) == [name(1), name(3), name(4)]


def test_a_carried_stream_never_makes_room() -> None:
    table = CellStreams(LIMITS)
    one = connection(table)
    for number in (1, 2, 3):
        table.find(name(number), one)
    with pytest.raises(StreamEnded) as caught:
        table.find(name(4), one)
    assert caught.value.code is Code.STREAMS
    assert len(table) == 3


def test_a_stream_found_again_is_the_same() -> None:
    table = CellStreams(LIMITS)
    one, other = connection(table), connection(table)
    first = table.find(name(1), one)
    table.released(one)
    assert table.find(name(1), other) is first
    table.released(one)  # an echo of the lost one
    assert [held.stream for held in table.carried_by(other)] == [first]
