"""Attacks on the window: what a hostile host writes to a cell's socket, in the frames' grammar and outside of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from anchorhold.host.slice_feed import standing
from appliance.serving.window import PositionQuery, encode_ask
from tests.attack.cells import PlainCell, plain_cell
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import Patch, instead, nothing
from tests.unit.vsock_bridge.edges import Peer
from vsock_bridge import codec
from vsock_bridge.codec import checksum
from vsock_bridge.connection import Connection
from vsock_bridge.errors import Code, StreamEnded
from vsock_bridge.host import Host
from vsock_bridge.limits import CREDIT_BYTES_MAX, PAYLOAD_BYTES_MAX, REPLIES_WAITING_MAX
from vsock_bridge.messages import Credit, Data, Error, Hello, Kind, Mark, Message, Open, Ping
from vsock_bridge.ports import Port
from vsock_bridge.transport import OPENINGS_MAX

ASK = encode_ask(PositionQuery())
Work = Callable[[PlainCell], Awaitable[Outcome]]


def against(room: Room, work: Work) -> Outcome:
    """`work` against a cell, which then answers an honest host, or else is broken."""

    async def both(cell: PlainCell) -> Outcome:
        outcome = await work(cell)
        if outcome.held:
            async with Host(cell.address, Port.STREAM) as host:
                await standing(host)
        return outcome

    with plain_cell(room) as cell:
        return asyncio.run(both(cell))


def path_of(cell: PlainCell) -> Path:
    return Path(str(cell.address).removeprefix("unix:"))


@asynccontextmanager
async def reached(cell: PlainCell) -> AsyncIterator[Peer]:
    peer = await Peer.reach(path_of(cell))
    try:
        yield peer
    finally:
        await peer.close()


def opening(credit: int = 1 << 20) -> Open:
    return Open(1, secrets.token_bytes(16), 0, credit)


async def until_it_answers(peer: Peer, token: int = 7) -> Message | None:
    """Everything up to the answer to a ping, or an error, or the end."""
    with suppress(ConnectionError):
        peer.say(Ping(token, False))
    while (said := await peer.hear()) is not None:
        if isinstance(said, Error) or said == Ping(token, True):
            return said
    return None


def ended_with(said: Message | None, code: Code) -> Outcome:
    match said:
        case Error(_, got) if got is code:
            return held(f"the connection ended: {code.name.lower().replace('_', '-')}")
        case Ping():
            return broken("taken, and the connection goes on")
        case Data():
            return broken("answered")
    raise Unexpected(f"expected {code.name} or to go on, got {said}")


def ended_after(room: Room, code: Code, *said: Message) -> Outcome:
    """What a cell does with a peer that says all this at once: it ends the connection with `code`, or is broken."""

    async def work(cell: PlainCell) -> Outcome:
        async with reached(cell) as peer:
            with suppress(ConnectionError):
                peer.say(*said)
            return ended_with(await until_it_answers(peer), code)

    return against(room, work)


# -- sizes


def oversized(number: int, counter: int, payload_bytes: int) -> bytes:
    """A well-formed DATA frame of any size, as the codec makes none."""
    payload = bytes(payload_bytes)
    head = codec._pack((1, 0, 1, Mark.END, b""))[:-2] + b"\xc6" + payload_bytes.to_bytes(4, "big")
    word = ((number << 24) | (len(head) + payload_bytes)).to_bytes(4, "big")
    return b"".join((word, checksum(counter, word + head, payload).to_bytes(4, "big"), head, payload))


def frames_of_any_size(patch: Patch) -> None:
    for name, size in (("PAYLOAD_BYTES_MAX", 1 << 21), ("FRAME_BYTES_MAX", (1 << 21) + 1024)):
        patch.put(f"vsock_bridge.codec:{name}", size)
    bounds = dict(patch.now("vsock_bridge.codec:_BOUND_BY_NUMBER"))
    patch.put("vsock_bridge.codec:_BOUND_BY_NUMBER", dict.fromkeys(bounds, 1 << 21))


@attack(
    "frame-oversized",
    tries="a frame four times as long as any may be",
    defence="a length above the bound of its kind is refused from the header, before anything of it is kept (W3)",
    without=frames_of_any_size,
)
def frame_oversized(room: Room) -> Outcome:
    async def work(cell: PlainCell) -> Outcome:
        async with reached(cell) as peer:
            peer.say(opening())
            peer.writer.write(oversized(Kind.DATA, 2, 4 * PAYLOAD_BYTES_MAX))
            while (said := await peer.hear()) is not None and not isinstance(said, Error | Data):
                pass
        return ended_with(said, Code.OVERSIZED)

    return against(room, work)


def joined_whatever_its_size(self: Any, frame: Data) -> bytes | None:
    self._parts.append(frame.payload)
    self.cost_bytes = 0 if len(self._parts) == 1 else self.cost_bytes
    self.cost_bytes += len(frame.payload) + 256
    if frame.mark is Mark.MORE:
        return None
    item, self._parts = b"".join(self._parts), []
    return item


@attack(
    "item-without-end",
    tries="an item of 2.5 MiB, in frames that are each allowed",
    defence="an item is refused from its running size, before it is joined (W19)",
    without=instead("vsock_bridge.streams:Reassembly.add", joined_whatever_its_size),
)
def item_without_end(room: Room) -> Outcome:
    marks = (*[Mark.MORE] * 9, Mark.END)
    frames = (Data(1, sequence, 1, mark, bytes(PAYLOAD_BYTES_MAX)) for sequence, mark in enumerate(marks))
    return ended_after(room, Code.ITEM, opening(), *frames)


# -- credit


def any_credit(self: Any, lane: Any, bytes_more: int) -> None:
    lane.credit += bytes_more


@attack(
    "credit-beyond-bounds",
    tries="more credit than can exist",
    defence="credit outstanding has a bound (W12)",
    without=instead("vsock_bridge.connection:Connection._on_credit", any_credit),
)
def credit_beyond_bounds(room: Room) -> Outcome:
    return ended_after(room, Code.CREDIT, opening(CREDIT_BYTES_MAX), Credit(1, CREDIT_BYTES_MAX))


def data_without_credit(self: Any, lane: Any, frame: Data) -> None:
    from vsock_bridge.connection import Arrived

    lane.stream.receiving.accept(frame)
    self._told.append(Arrived(lane.stream, frame))


@attack(
    "more-than-granted",
    tries="twenty thousand questions at once, no answer taken",
    defence="a frame that its sender was granted no room for ends the connection (W12)",
    without=instead("vsock_bridge.connection:Connection._on_data", data_without_credit),
)
def more_than_granted(room: Room) -> Outcome:
    questions = (Data(1, number, number + 1, Mark.END, b"") for number in range(20_000))
    return ended_after(room, Code.CREDIT, opening(0), *questions)


# -- replays


def accepted_in_any_turn(self: Any, frame: Data) -> None:
    self.received += 1
    self.held_bytes += len(frame.payload) + 256
    self._position += frame.mark is not Mark.MORE


@attack(
    "frame-repeated",
    tries="one frame twice, for the same question to be asked twice",
    defence="frames are numbered, and one out of turn ends the connection (W9)",
    without=instead("vsock_bridge.streams:ReceivingHalf.accept", accepted_in_any_turn),
)
def frame_repeated(room: Room) -> Outcome:
    frame = Data(1, 0, 1, Mark.END, ASK)
    return ended_after(room, Code.SEQUENCE, opening(), frame, frame)


# -- floods


def kept_however_many(self: Any, message: Message) -> None:
    self._replies.append(message)


@attack(
    "answers-left-unread",
    tries="300,000 pings, and none of the answers is read until the end",
    defence="answers that wait to be read have a bound (W16)",
    without=instead("vsock_bridge.connection:Connection._reply", kept_however_many),
)
def answers_left_unread(room: Room) -> Outcome:
    async def work(cell: PlainCell) -> Outcome:
        async with reached(cell) as peer:
            with suppress(ConnectionError):
                for _ in range(3000):
                    peer.say(*(Ping(1, False) for _ in range(100)))
                    await peer.writer.drain()
            said = await until_it_answers(peer)
        if said is None:  # what the cell wrote last went with the connection
            return held(f"cut off after {REPLIES_WAITING_MAX} that waited")
        return ended_with(said, Code.BUSY)

    return against(room, work)


async def connected(cell: PlainCell, said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path_of(cell))
    writer.write(said)
    await writer.drain()
    return reader, writer


@attack(
    "half-open-flood",
    tries=f"{OPENINGS_MAX + 172} connections that never say which port they want",
    defence="those that have not said it are few, and the oldest gives way (W18)",
    without=instead("vsock_bridge.transport:_HybridListener._drop_oldest_opening", nothing),
)
def half_open_flood(room: Room) -> Outcome:
    async def work(cell: PlainCell) -> Outcome:
        before = descriptors(cell)
        flood = [await connected(cell, b"CONNECT 50") for _ in range(OPENINGS_MAX + 172)]
        async with Host(cell.address, Port.STREAM) as host:  # accepted after them all
            await standing(host)
            more = descriptors(cell) - before
        for _, writer in flood:
            writer.transport.abort()
        words = f"an honest host is served; {more} descriptors held"
        return held(words) if more <= OPENINGS_MAX + 8 else broken(words)

    return against(room, work)


def descriptors(cell: PlainCell) -> int:
    return len(list(Path(f"/proc/{cell.process.pid}/fd").iterdir()))


def newcomer_turned_away(self: Any) -> Any:
    """`PortServer.accept` that lets nobody give way."""
    from vsock_bridge.edge import Edge

    edge = Edge(
        Connection.for_cell(self._identity, self._limits, self._streams.find),
        self._limits,
        self._on_events,
        self._on_lost,
    )
    if len(self._edges) >= self._limits.connections_max:
        self._turn_away(edge)
    self._edges[edge.connection] = edge
    return edge


@attack(
    "greetings-withheld",
    tries="as many connections as a port has places, none of which greets",
    defence="who has not greeted gives way to a newcomer (W18)",
    without=instead("vsock_bridge.server:PortServer.accept", newcomer_turned_away),
)
def greetings_withheld(room: Room) -> Outcome:
    async def work(cell: PlainCell) -> Outcome:
        flood = [await Peer.reach(path_of(cell), greet=False) for _ in range(64)]
        for each in flood:
            await each.hear()
        peer = await Peer.reach(path_of(cell), greet=False)
        peer.say(Hello(1, 1, b"x" * 16))
        said = [await peer.hear(), await until_it_answers(peer)]
        for each in (*flood, peer):
            each.writer.transport.abort()
        if Ping(7, True) in said:
            return held("an honest host finds a place")
        if any(isinstance(each, Error) and each.code is Code.BUSY for each in said):
            return broken("an honest host finds no place")
        raise Unexpected(f"expected a place or none, got {said}")

    return against(room, work)


def nobody_makes_room(self: Any) -> None:
    if len(self._streams) >= self._limits.streams_max:
        raise StreamEnded(Code.STREAMS, "no room")


@attack(
    "streams-abandoned",
    tries="every stream a port remembers, opened and left",
    defence="a stream that nobody carries makes room for a new one (W18)",
    without=instead("vsock_bridge.cell:CellStreams._make_room", nobody_makes_room),
)
def streams_abandoned(room: Room) -> Outcome:
    async def work(cell: PlainCell) -> Outcome:
        for _ in range(3):
            async with reached(cell) as peer:
                peer.say(*(Open(number, secrets.token_bytes(16), 0, 0) for number in range(1, 9)))
                await until_it_answers(peer)
        async with reached(cell) as peer:
            peer.say(opening(), Data(1, 0, 1, Mark.END, ASK))
            while not isinstance(said := await peer.hear(), Data | Error | None):
                pass
        match said:
            case Data():
                return held("an honest host's stream is opened and answered")
            case Error(_, Code.STREAMS):
                return broken("no stream for an honest host")
        raise Unexpected(f"expected an answer or no stream, got {said}")

    return against(room, work)
