"""Credit, acknowledgements and cancels of a connection: what is granted and repeated, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vsock_bridge.connection_ends import SMALL, code_of, host_end, opened_cell
from tests.unit.vsock_bridge.pair import NAME, Pair
from vsock_bridge.connection import CancelAsked, Released
from vsock_bridge.errors import Code
from vsock_bridge.limits import FRAME_COST_BYTES, Limits, frame_cost
from vsock_bridge.messages import Ack, Cancel, Credit, Data, Mark, Message, Open

# -- credit and acknowledgement


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    credit=st.integers(0, 5000),
    more=st.lists(st.integers(1, 3000), max_size=8),
)
@settings(deadline=None)
def test_credit_is_never_exceeded(sizes: list[int], credit: int, more: list[int]) -> None:
    hand, stream = host_end(Limits(retained_bytes_max=1 << 20))
    for size in sizes:
        stream.sending.push(Mark.END, bytes(size))
    hand.say(Open(1, NAME, 0, credit))
    heard = hand.hear()
    for grant in more:
        hand.say(Credit(1, grant))
        heard += hand.hear()
    costs = [frame_cost(len(frame.payload)) for frame in heard if isinstance(frame, Data)]
    left = credit + sum(more) - sum(costs)
    assert left >= 0
    assert left < frame_cost(3000) or len(costs) == len(sizes) + 1  # and no more is held back than must be


def test_a_byte_above_the_credit_is_refused() -> None:
    # wire.md W12
    hand = opened_cell(SMALL)
    size = SMALL.window_bytes // 4 - FRAME_COST_BYTES
    hand.say(*(Data(1, number, 1, Mark.MORE, bytes(size // 2)) for number in range(4)))
    granted = hand.other._lanes[1].granted
    assert not hand.other.closed
    hand.say(Data(1, 4, 1, Mark.MORE, bytes(granted - FRAME_COST_BYTES)))
    assert not hand.other.closed
    hand.say(Data(1, 5, 1, Mark.MORE, b""))
    assert code_of(hand) is Code.CREDIT


def test_empty_frames_cost_credit() -> None:
    hand = opened_cell(SMALL)
    count = SMALL.window_bytes // FRAME_COST_BYTES
    hand.say(*(Data(1, number, number + 1, Mark.END, b"") for number in range(count)))
    assert not hand.other.closed
    hand.say(Data(1, count, count + 1, Mark.END, b""))
    assert code_of(hand) is Code.CREDIT


def test_more_credit_than_can_be_is_refused() -> None:
    hand = opened_cell()
    hand.say(Credit(1, 1))
    assert code_of(hand) is Code.CREDIT


def test_what_is_taken_is_granted_again() -> None:
    # wire.md W13
    hand = opened_cell(SMALL)
    stream = hand.other._lanes[1].stream
    for sent in range(50):  # many windows' worth
        hand.say(Data(1, sent, sent + 1, Mark.END, bytes(500)))
        assert not hand.other.closed
        stream.receiving.taken(frame_cost(500))
        hand.hear()
    assert hand.other._lanes[1].granted <= SMALL.window_bytes


@pytest.mark.parametrize("received", [1, 2**62])
def test_an_acknowledgement_of_the_unsent_is_refused(received: int) -> None:
    hand = opened_cell()
    hand.say(Ack(1, received))
    assert code_of(hand) is Code.ACKNOWLEDGEMENT


def test_an_acknowledgement_of_what_waits_to_be_sent_is_refused() -> None:
    hand, stream = host_end()
    hand.say(Open(1, NAME, 0, 0))  # no credit: the item stays here
    assert hand.hear() == []
    hand.say(Ack(1, 1))
    assert code_of(hand) is Code.ACKNOWLEDGEMENT
    assert not stream.sending.idle


def test_an_older_acknowledgement_changes_nothing() -> None:
    hand, stream = host_end()
    hand.say(Open(1, NAME, 0, 10_000))
    hand.hear()
    assert hand.say(Ack(1, 1)) == [Released(stream)]
    assert hand.say(Ack(1, 1), Ack(1, 0)) == []


def test_a_receiver_acknowledges_as_often_as_it_says() -> None:
    # wire.md W11
    hand = opened_cell(SMALL)
    heard: list[Message] = []
    for number in range(SMALL.ack_frames * 2):
        hand.say(Data(1, number, 1, Mark.MORE, b""))
        heard += hand.hear()
    assert [one for one in heard if isinstance(one, Ack)] == [Ack(1, SMALL.ack_frames), Ack(1, 2 * SMALL.ack_frames)]


# -- cancelling


def test_a_cancel_is_repeated_until_its_position_has_ended() -> None:
    pair = Pair()
    stream = pair.opened()
    stream.sending.push(Mark.END, b"item")
    pair.host.cancel(stream, 1)
    assert any(isinstance(event, CancelAsked) for event in pair.pump()[1])
    pair.cut()
    pair.pump()
    pair.host.attach(stream)
    asked = [event for event in pair.pump()[1] if isinstance(event, CancelAsked)]
    assert [event.position for event in asked] == [1]
    stream.cancelled.discard(1)
    pair.cut()
    pair.pump()
    pair.host.attach(stream)
    assert not any(isinstance(event, CancelAsked) for event in pair.pump()[1])


def test_a_cancel_waits_for_its_item() -> None:
    """W14: the cell would forget it, and run what was cancelled."""
    # wire.md W14
    hand, stream = host_end()
    hand.say(Open(1, NAME, 0, 0))
    hand.other.cancel(stream, 1)
    assert hand.hear() == []
    hand.say(Credit(1, 10_000))
    assert hand.hear() == [Data(1, 0, 1, Mark.END, b"item"), Cancel(1, 1)]
