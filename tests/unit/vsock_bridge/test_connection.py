"""Two ends agree whatever the cuts; every rule broken by hand costs the connection, its code said, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vsock_bridge.connection_ends import LIMITS, SMALL, cell_end, code_of, host_end, opened_cell
from tests.unit.vsock_bridge.pair import CELL_IDENTITY, HOST_IDENTITY, NAME, Hand, Pair
from vsock_bridge.cell import CellStreams
from vsock_bridge.codec import Decoder
from vsock_bridge.connection import (
    ADMITTED,
    Arrived,
    Attached,
    Connection,
    Detached,
    Greeted,
    Left,
    Ponged,
    Released,
    Role,
    State,
)
from vsock_bridge.errors import Code, LocalProtocolError, RemoteProtocolError
from vsock_bridge.limits import REPLIES_WAITING_MAX, Limits, frame_cost
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Kind, Mark, Message, Open, Ping
from vsock_bridge.streams import Stream, chunks

# -- together


@given(
    items=st.lists(st.binary(max_size=2048), min_size=1, max_size=5),
    chunk=st.integers(1, 700),
    cuts=st.sets(st.integers(0, 30), max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_two_ends_agree_whatever_the_chunks_and_the_cuts(items: list[bytes], chunk: int, cuts: set[int]) -> None:
    pair = Pair(SMALL)
    stream = pair.opened()
    unsent = [piece for item in items for piece in chunks(item, SMALL.chunk_bytes)]
    answers: list[bytes] = []
    for step in range(400):
        if step in cuts:
            pair.cut()
            pair.pump(chunk)
            pair.host.attach(stream)
        while unsent and stream.sending.has_room(len(unsent[0][1])):
            stream.sending.push(*unsent.pop(0))
        told, _ = pair.pump(chunk)
        held = pair.table.of(stream)
        if item := held.take():
            held.answer(Mark.END, item.payload[:100][::-1])
        for event in told:
            if isinstance(event, Arrived):
                answers.append(event.frame.payload)
                stream.receiving.taken(frame_cost(len(event.frame.payload)))
        if len(answers) == len(items):
            break
    assert answers == [item[:100][::-1] for item in items]


def test_the_greeting_tells_each_the_other() -> None:
    pair = Pair()
    host_told, cell_told = pair.pump()
    assert host_told == [Greeted(CELL_IDENTITY)]
    assert cell_told == [Greeted(HOST_IDENTITY)]


def test_opening_attaches_both_ends() -> None:
    pair = Pair()
    pair.pump()
    stream = Stream.of_host(NAME, LIMITS)
    pair.host.attach(stream)
    host_told, cell_told = pair.pump()
    assert host_told == [Attached(stream), Released(stream)]
    assert [type(event) for event in cell_told] == [Attached, Released]
    assert pair.cell.carries(pair.table.of(stream).stream)


def test_a_stream_takes_turns_with_its_neighbours() -> None:
    pair = Pair()
    first, second = pair.opened(b"1" * 16), pair.opened(b"2" * 16)
    for stream in (first, second):
        for _ in range(3):
            stream.sending.push(Mark.END, b"x")
    _, told = pair.pump()
    names = [event.stream.name[:1] for event in told if isinstance(event, Arrived)]
    assert names == [b"1", b"2"] * 3


def test_leaving_says_goodbye() -> None:
    pair = Pair()
    pair.opened()
    pair.host.leave()
    assert pair.pump()[1] == [Left(None)]
    assert pair.cell.closed
    assert pair.cell.receive(b"anything") == []


# -- what a tap is shown


def test_a_tap_is_shown_every_frame_on_the_wire_once_and_in_order() -> None:
    """Both ways, with the stream's number on this connection; frames sent again after a cut as well."""
    pair = Pair(SMALL)
    stream = pair.opened()
    for mark, piece in chunks(bytes(range(256)) * 5, SMALL.chunk_bytes):
        stream.sending.push(mark, piece)
    pair.host.gather()  # what is in it is lost with the connection
    pair.cut()
    shown: list[tuple[bool, Message]] = []
    pair.host = Connection.for_host(
        HOST_IDENTITY, SMALL, tap=lambda outgoing, message: shown.append((outgoing, message))
    )
    wire: list[tuple[bool, Message]] = []
    up, down = Decoder(), Decoder()

    def pump() -> None:
        while (out := pair.host.gather()) + (back := pair.cell.gather()):
            wire.extend((True, message) for message in up.feed(out))
            pair.at_cell(pair.cell.receive(out))
            wire.extend((False, message) for message in down.feed(back))
            pair.host.receive(back)

    pump()
    neighbour = Stream.of_host(b"2" * 16, SMALL)
    pair.host.attach(neighbour)
    pair.host.attach(stream)
    neighbour.sending.push(Mark.END, b"")
    pump()
    held = pair.table.of(stream)
    assert held.take() is not None
    held.answer(Mark.END, b"said")
    pair.host.cancel(stream, 1)
    pair.host.ping(7)
    pump()
    pair.host.leave()
    pump()
    assert shown == wire
    data = [(message.stream, message.payload) for outgoing, message in shown if outgoing and isinstance(message, Data)]
    assert [number for number, _ in data] == [1, 2, 2, 2]
    assert b"".join(payload for _, payload in data) == bytes(range(256)) * 5
    kinds = {(outgoing, type(message)) for outgoing, message in shown}
    assert kinds >= {(True, kind) for kind in (Hello, Open, Data, Cancel, Ping, Bye)}
    assert kinds >= {(False, kind) for kind in (Hello, Open, Data, Ping)}


# -- the tables


@pytest.mark.parametrize(("state", "role"), ADMITTED, ids=lambda cell: cell.value)
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_every_cell_of_the_table_of_what_may_come(state: State, role: Role, kind: Kind) -> None:
    """W7, at the wire: a kind that is not admitted is refused from eight bytes, one that is waits for its body."""
    # wire.md W7
    connection = Connection(role, b"i" * 16, LIMITS, CellStreams(LIMITS).find)
    hand = Hand(connection, greet=state is not State.GREETING)
    if state is State.CLOSED:
        connection.leave()
    events = connection.receive(bytes([kind, 0, 0, 1, 0, 0, 0, 0]))
    if state is State.CLOSED or kind in ADMITTED[state, role]:
        assert events == []
    else:
        hand.events += events
        assert code_of(hand) is Code.UNEXPECTED


def test_the_table_of_what_may_come() -> None:
    """The same as a picture, so that a change of the table is a change of this page."""
    picture = {place: "".join("x" if kind in kinds else "." for kind in Kind) for place, kinds in ADMITTED.items()}
    #                                          HELLO OPEN DATA CREDIT ACK CANCEL PING ERROR BYE
    assert picture == {
        (State.GREETING, Role.CELL): "x......xx",
        (State.GREETING, Role.HOST): "x......xx",
        (State.READY, Role.CELL): ".xxxxxxxx",
        (State.READY, Role.HOST): ".xxxx.xxx",
        (State.CLOSED, Role.CELL): ".........",
        (State.CLOSED, Role.HOST): ".........",
    }


@pytest.mark.parametrize(
    ("lowest", "highest", "speaks"), [(1, 1, True), (0, 9, True), (2, 3, False), (0, 0, False), (2, 1, False)]
)
@pytest.mark.parametrize("role", list(Role))
def test_versions(role: Role, lowest: int, highest: int, speaks: bool) -> None:
    # wire.md W6
    hand = Hand(Connection(role, b"i" * 16, LIMITS, CellStreams(LIMITS).find), greet=False)
    hand.say(Hello(lowest, highest, b"x" * 16))
    if speaks:
        assert hand.events == [Greeted(b"x" * 16)]
    else:
        assert code_of(hand) is Code.VERSION


# -- stream numbers, resume, superseding


def test_stream_numbers_only_grow() -> None:
    # wire.md W8
    for number in (1, 5):
        hand = cell_end()
        hand.say(Open(5, NAME, 0, 0), Open(number, b"m" * 16, 0, 0))
        assert code_of(hand) is Code.UNEXPECTED


def test_a_stream_is_opened_once_a_connection() -> None:
    hand = opened_cell()
    hand.say(Open(2, NAME, 0, 0))
    assert code_of(hand) is Code.UNEXPECTED


@pytest.mark.parametrize(
    "message", [Data(7, 0, 1, Mark.END, b""), Ack(7, 0), Credit(7, 1), Cancel(7, 1), Error(7, Code.GAP, "")], ids=repr
)
def test_a_stream_that_is_not_open_is_refused(message: Message) -> None:
    hand = opened_cell()
    hand.say(message)
    assert code_of(hand) is Code.NO_STREAM


def test_a_frame_that_crossed_with_a_detachment_is_let_pass() -> None:
    hand = opened_cell()
    stream = next(iter(hand.other._lanes.values())).stream
    hand.other.detach(stream, Code.SUPERSEDED, "elsewhere")
    assert hand.say(Data(1, 0, 1, Mark.END, b""), Ack(1, 0), Cancel(1, 1), Credit(1, 1), Error(1, Code.GAP, "")) == []
    assert hand.hear() == [Error(1, Code.SUPERSEDED, "elsewhere")]


def test_a_newer_connection_supersedes_an_older_one() -> None:
    table = CellStreams(LIMITS)
    older, newer = (Hand(Connection.for_cell(CELL_IDENTITY, LIMITS, table.find)) for _ in range(2))
    older.say(Open(1, NAME, 0, 0))
    older.hear()
    newer.say(Open(1, NAME, 0, 0))
    assert [(type(said), said.code) for said in older.hear() if isinstance(said, Error)] == [(Error, Code.SUPERSEDED)]
    assert not older.other.closed
    [held] = table.carried_by(newer.other)
    assert newer.other.carries(held.stream)
    assert not older.other.carries(held.stream)


def test_a_stream_given_up_and_opened_anew_at_once_keeps_its_connection() -> None:
    """The events of both come in one batch: the first must not undo the second."""
    table = CellStreams(LIMITS)
    hand = Hand(Connection.for_cell(CELL_IDENTITY, LIMITS, table.find))
    hand.say(Open(1, NAME, 0, 0))
    batch = hand.frame(Error(1, Code.GAP, "")) + hand.frame(Open(2, NAME, 0, 0))
    for event in hand.other.receive(batch):
        if isinstance(event, Detached):
            table.detached(event.stream, hand.other)
    [held] = table.carried_by(hand.other)
    assert hand.other.carries(held.stream)


@pytest.mark.parametrize("received", [1, 2**40])
def test_a_resume_from_what_is_not_held_is_a_gap(received: int) -> None:
    # wire.md W10
    hand = cell_end()
    told = hand.say(Open(1, NAME, received, 0))
    assert [(type(event), event.code) for event in told if isinstance(event, Detached)] == [(Detached, Code.GAP)]
    assert [said.code for said in hand.hear() if isinstance(said, Error)] == [Code.GAP]
    assert not hand.other.closed


def test_a_host_is_told_of_a_gap_too() -> None:
    hand, stream = host_end()
    told = hand.say(Open(1, NAME, 9, 100))
    assert told == [Detached(stream, Code.GAP, "expected a resume between 0 and 1, got 9")]


@pytest.mark.parametrize(
    "answer", [Open(1, b"m" * 16, 0, 0), Open(2, NAME, 0, 0)], ids=["another name", "another number"]
)
def test_a_host_refuses_an_answer_to_what_it_did_not_ask(answer: Open) -> None:
    hand, _ = host_end()
    hand.say(answer)
    assert code_of(hand) is Code.NO_STREAM


def test_a_second_answer_to_an_open_is_refused() -> None:
    hand, _ = host_end()
    hand.say(Open(1, NAME, 0, 1000), Open(1, NAME, 0, 1000))
    assert code_of(hand) is Code.NO_STREAM


# -- sequences, positions, marks


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Data(1, 1, 1, Mark.END, b""), Code.SEQUENCE),
        (Data(1, 0, 2, Mark.END, b""), Code.SEQUENCE),
        (Data(1, 0, 0, Mark.END, b""), Code.SEQUENCE),
        (Data(1, 0, 1, Mark.CANCELLED, b""), Code.UNEXPECTED),
        (Data(1, 0, 1, Mark.FAILED, b""), Code.UNEXPECTED),
    ],
    ids=["frame skipped", "position skipped", "position 0", "a host cancels by itself", "a host fails"],
)
def test_a_frame_out_of_turn_is_refused(frame: Data, code: Code) -> None:
    hand = opened_cell()
    hand.say(frame)
    assert code_of(hand) is code


def test_a_frame_repeated_is_refused() -> None:
    hand = opened_cell()
    hand.say(Data(1, 0, 1, Mark.END, b""), Data(1, 0, 1, Mark.END, b""))
    assert code_of(hand) is Code.SEQUENCE


def test_an_answer_to_what_was_not_asked_is_refused() -> None:
    hand, _ = host_end()
    hand.say(Open(1, NAME, 0, 1000))
    hand.say(Data(1, 0, 1, Mark.END, b""), Data(1, 1, 2, Mark.END, b""))
    assert code_of(hand) is Code.SEQUENCE


# -- floods


def test_pings_are_answered_and_a_flood_of_them_ends_it() -> None:
    # wire.md W16
    hand = cell_end()
    hand.say(Ping(9, False))
    assert hand.hear() == [Ping(9, True)]
    assert hand.say(Ping(9, True)) == [Ponged(9)]
    for _ in range(REPLIES_WAITING_MAX):
        hand.say(Ping(1, False))
    assert not hand.other.closed
    hand.say(Ping(1, False))
    assert isinstance(hand.events[-1], Left)
    assert len(hand.other._replies) == REPLIES_WAITING_MAX + 1
    assert code_of(hand) is Code.BUSY


def test_opens_are_bounded_a_connection() -> None:
    hand = cell_end(SMALL)
    hand.say(*(Open(number, bytes([number]) * 16, 0, 0) for number in (1, 2)))
    assert not hand.other.closed
    hand.say(Open(3, b"3" * 16, 0, 0))
    assert code_of(hand) is Code.STREAMS


def test_opens_that_fail_are_bounded_by_their_unread_answers() -> None:
    hand = cell_end()
    for number in range(1, REPLIES_WAITING_MAX + 2):
        hand.say(Open(number, number.to_bytes(16, "big"), 5, 0))
    assert isinstance(hand.events[-1], Left)
    assert hand.other.closed
    assert len(hand.other._replies) <= REPLIES_WAITING_MAX + 1


# -- our own mistakes


def test_our_own_mistakes_are_named_ours() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.host.attach(Stream.of_host(NAME, LIMITS))
    pair.pump()
    with pytest.raises(LocalProtocolError):
        pair.cell.attach(Stream.of_cell(NAME, LIMITS))


def test_a_refusal_is_told_once_and_its_text_is_plain_and_short() -> None:
    hand = cell_end()
    refusal = RemoteProtocolError(Code.TIMEOUT, expected="mañana" * 50, got="x")
    assert hand.other.refuse(refusal) == [Left(refusal)]
    assert hand.other.refuse(refusal) == []
    [error] = hand.hear()
    assert isinstance(error, Error)
    assert error.text.isascii()
    assert len(error.text) == 200


@pytest.mark.parametrize(
    "bad",
    [{"chunk_bytes": 0}, {"item_bytes_max": 3 * 1024 * 1024}, {"retained_bytes_max": 1000}, {"window_bytes": 2**31}],
)
def test_limits_that_could_not_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|is a frame's|cannot"):
        Limits(**bad)
