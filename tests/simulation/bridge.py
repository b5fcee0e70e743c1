"""One seed, one run: hosts and a cell on a network that cuts, delays, repeats, drops and corrupts bytes.

Everything real but the wires and the clock: connections, streams, reassembly, credit, resume. A run ends when
all that was submitted is answered; then every item must have been run exactly once and answered exactly once,
in order, with the right bytes. A run that stands still is a failure too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from vsock_bridge.cell import CellStream, CellStreams, Item
from vsock_bridge.connection import Arrived, Attached, CancelAsked, Connection, Detached, Greeted, Left, State
from vsock_bridge.errors import Code
from vsock_bridge.limits import Limits, frame_cost
from vsock_bridge.messages import Data, Mark
from vsock_bridge.streams import Stream, chunks

LIMITS = Limits(
    window_bytes=8192,
    retained_bytes_max=1600,
    chunk_bytes=96,
    ack_frames=3,
    ack_bytes=1000,
    item_bytes_max=1500,
    gather_bytes_max=512,
)
STEPS_MAX = 60_000
CELL_IDENTITY = b"c" * 16


@dataclass
class Wire:
    """Bytes on their way in one direction of one connection."""

    pieces: list[bytes] = field(default_factory=list)
    broken: bool = False  # the reader has been told that nothing more will come

    def put(self, data: bytes) -> None:
        if data:
            self.pieces.append(data)


@dataclass
class Link:
    """One connection: what each end holds of it, and the two wires between."""

    host_end: Connection
    cell_end: Connection
    up: Wire = field(default_factory=Wire)
    down: Wire = field(default_factory=Wire)
    host_knows_cut: bool = False
    cell_knows_cut: bool = False
    cut: bool = False
    damaged: bool = False  # bytes are missing or wrong: if nothing else shows it, an edge's clock will


@dataclass
class SimHost:
    name: bytes
    stream: Stream
    to_submit: list[bytes]
    unsent: list[tuple[Mark, bytes]] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    link: Link | None = None
    untaken: list[Data] = field(default_factory=list)
    answers: dict[int, list[Data]] = field(default_factory=dict)
    asked_to_cancel: set[int] = field(default_factory=set)


def expected_answer(item: bytes) -> list[bytes]:
    """What the cell says to an item: its pieces reversed, a frame each, so that order and content both show."""
    return [item[at : at + 40][::-1] for at in range(0, len(item), 40)]


class Simulation:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.faults_left = self.random.randint(0, 12)
        self.table = CellStreams(LIMITS)
        self.hosts = [self._new_host(number) for number in range(self.random.randint(1, 3))]
        self.links: list[Link] = []
        self.runs: dict[tuple[bytes, int], int] = {}
        self.running: dict[CellStream, tuple[Item, list[bytes]]] = {}

    def _new_host(self, number: int) -> SimHost:
        name = bytes([number]) * 16
        sizes = [0, 1, 95, 96, 97, self.random.randint(0, 400), self.random.randint(400, 1500)]
        items = [self.random.randbytes(self.random.choice(sizes)) for _ in range(self.random.randint(1, 7))]
        return SimHost(name, Stream.of_host(name, LIMITS), items)

    # -- the run

    def run(self) -> None:
        for _ in range(STEPS_MAX):
            if self._done():
                self._check()
                return
            self._step()
        raise AssertionError(f"stood still: {self._where()}")

    def _step(self) -> None:
        choice = self.random.random()
        if choice < 0.04 and self.faults_left and self.links:
            self._fault(self.random.choice(self.links))
        elif choice < 0.40 and self.links:
            self._deliver(self.random.choice(self.links))
        elif choice < 0.60:
            self._host_acts(self.random.choice(self.hosts))
        elif choice < 0.80:
            self._cell_works()
        elif self.links:
            self._gather(self.random.choice(self.links))

    def _done(self) -> bool:
        return all(
            not host.to_submit and not host.unsent and len(self._ended(host)) == len(host.submitted)
            for host in self.hosts
        )

    @staticmethod
    def _ended(host: SimHost) -> list[int]:
        return [position for position, frames in host.answers.items() if frames[-1].mark is not Mark.MORE]

    # -- the network

    def _fault(self, link: Link) -> None:
        self.faults_left -= 1
        wire = self.random.choice([link.up, link.down])
        kind = self.random.choice(["cut", "cut", "corrupt", "repeat", "drop", "swap"])
        if kind == "cut":
            link.cut = True
        elif wire.pieces:
            link.damaged = True
            at = self.random.randrange(len(wire.pieces))
            if kind == "corrupt":
                piece = bytearray(wire.pieces[at])
                piece[self.random.randrange(len(piece))] ^= 1 << self.random.randrange(8)
                wire.pieces[at] = bytes(piece)
            elif kind == "repeat":
                wire.pieces.insert(at, wire.pieces[at])
            elif kind == "drop":
                del wire.pieces[at]
            else:
                self.random.shuffle(wire.pieces)

    def _deliver(self, link: Link) -> None:
        """Move some bytes, or tell one end of a cut: the two learn of it independently."""
        if link.damaged and self.random.random() < 0.02:
            link.cut = True
        up = self.random.random() < 0.5
        wire = link.up if up else link.down
        if wire.pieces and not (link.cut and self.random.random() < 0.5):
            piece = wire.pieces.pop(0)
            size = self.random.choice([1, 7, len(piece), len(piece), len(piece)])
            if len(piece) > size:
                wire.pieces.insert(0, piece[size:])
            self._hand_over(link, piece[:size], up)
        elif link.cut and up:
            self._cell_loses(link)
        elif link.cut:
            self._host_loses(link)

    def _hand_over(self, link: Link, data: bytes, up: bool) -> None:
        if up and not link.cell_knows_cut:
            for event in link.cell_end.receive(data):
                self._on_cell_event(link, event)
        elif not up and not link.host_knows_cut:
            for event in link.host_end.receive(data):
                self._on_host_event(link, event)

    def _gather(self, link: Link) -> None:
        if not link.host_knows_cut:
            link.up.put(link.host_end.gather())
            link.cut = link.cut or link.host_end.closed
        if not link.cell_knows_cut:
            link.down.put(link.cell_end.gather())
            link.cut = link.cut or link.cell_end.closed

    def _cell_loses(self, link: Link) -> None:
        if not link.cell_knows_cut:
            link.cell_knows_cut = True
            self.table.released(link.cell_end)
        self._bury(link)

    def _host_loses(self, link: Link) -> None:
        link.host_knows_cut = True
        for host in self.hosts:
            if host.link is link:
                host.link = None
        self._bury(link)

    def _bury(self, link: Link) -> None:
        if link.host_knows_cut and link.cell_knows_cut and link in self.links:
            self.links.remove(link)

    # -- a host

    def _host_acts(self, host: SimHost) -> None:
        if host.link is None:
            cell_end = Connection.for_cell(CELL_IDENTITY, LIMITS, self.table.find)
            link = Link(Connection.for_host(b"h" * 16, LIMITS), cell_end)
            host.link = link
            self.links.append(link)
            return
        if host.untaken and self.random.random() < 0.6:
            frame = host.untaken.pop(0)
            host.stream.receiving.taken(frame_cost(len(frame.payload)))
            host.answers.setdefault(frame.position, []).append(frame)
            if frame.mark is not Mark.MORE:
                host.stream.cancelled.discard(frame.position)
        elif host.unsent:
            _, payload = host.unsent[0]
            if host.stream.sending.has_room(len(payload)):
                host.stream.sending.push(*host.unsent.pop(0))
        elif host.to_submit:
            item = host.to_submit.pop(0)
            host.submitted.append(item)
            host.unsent = list(chunks(item, LIMITS.chunk_bytes))
            if self.random.random() < 0.15:
                position = self.random.randint(1, len(host.submitted))
                if position < host.stream.sending.position and position not in self._ended(host):
                    host.asked_to_cancel.add(position)
                    host.link.host_end.cancel(host.stream, position)

    def _on_host_event(self, link: Link, event: object) -> None:
        host = next(one for one in self.hosts if one.link is link)
        match event:
            case Greeted(identity):
                assert identity == CELL_IDENTITY
                link.host_end.attach(host.stream)
            case Arrived(_, frame):
                host.untaken.append(frame)
            case Detached(_, code, text):
                assert code is Code.SUPERSEDED, f"a stream was lost: {code} {text}"
                link.cut = True
            case Left():
                link.cut = True

    # -- the cell

    def _on_cell_event(self, link: Link, event: object) -> None:
        match event:
            case Arrived(stream, frame):
                self.table.of(stream).arrived(frame)
            case CancelAsked(stream, position):
                held = self.table.of(stream)
                if held.cancel(position):
                    item, _ = self.running[held]
                    self.running[held] = (Item(item.position, item.payload, cancelled=True), [])
            case Detached(stream):
                self.table.detached(stream, link.cell_end)
            case Left():
                self.table.released(link.cell_end)
                link.cut = True
            case Attached():
                assert link.cell_end.state is not State.GREETING

    def _cell_works(self) -> None:
        for host in self.hosts:
            held = next((one for name, one in self.table._streams.items() if name == host.name), None)
            if held is None:
                continue
            item = held.take()
            if item is not None:
                key = (host.name, item.position)
                self.runs[key] = self.runs.get(key, 0) + 1
                self.running[held] = (item, expected_answer(item.payload))
            if held in self.running:
                self._say_next(held)

    def _say_next(self, held: CellStream) -> None:
        item, pieces = self.running[held]
        if not held.stream.sending.has_room(len(pieces[0]) if pieces else 0):
            return
        if pieces and not item.cancelled:
            held.answer(Mark.MORE, pieces.pop(0))
        else:
            held.answer(Mark.CANCELLED if item.cancelled else Mark.END, b"")
            del self.running[held]

    # -- the verdict

    def _check(self) -> None:
        for host in self.hosts:
            for position, item in enumerate(host.submitted, start=1):
                assert self.runs[host.name, position] == 1, f"position {position} was run {self.runs} times"
                self._check_answer(host, position, item)
            assert sorted(host.answers) == list(range(1, len(host.submitted) + 1))

    def _check_answer(self, host: SimHost, position: int, item: bytes) -> None:
        *pieces, last = host.answers[position]
        said = [frame.payload for frame in pieces]
        whole = expected_answer(item)
        if last.mark is Mark.CANCELLED:
            assert position in host.asked_to_cancel, f"position {position} was cancelled unasked"
            assert said == whole[: len(said)]
        else:
            assert last.mark is Mark.END
            assert said == whole, f"position {position} was answered with something else"
        assert all(frame.mark is Mark.MORE for frame in pieces)

    def _where(self) -> str:
        return "; ".join(
            f"{len(host.submitted)} submitted, {len(self._ended(host))} ended, linked {host.link is not None}"
            for host in self.hosts
        )


def run(seed: int) -> Simulation:
    """One whole run. Raises AssertionError with what went wrong; the caller names the seed."""
    simulation = Simulation(seed)
    simulation.run()
    return simulation
