"""What a peer may cost a cell: too large, too slow, too many or too silent is ended, the rest go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.event_loop import run
from tests.unit.vsock_bridge.edges import SMALL, Does, Peer, cell, echo, host_at
from tests.unit.vsock_bridge.pair import NAME
from vsock_bridge.errors import Code
from vsock_bridge.limits import CREDIT_BYTES_MAX, Limits
from vsock_bridge.messages import Bye, Data, Error, Mark, Open, Ping
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer

# W15, W17. A `Peer` is spoken for by hand.


def test_an_item_too_large_costs_the_connection_and_loses_nothing_beside_it(tmp_path: Path) -> None:
    # wire.md W17
    async def test() -> None:
        service = Does(echo)
        async with cell(f"unix:{tmp_path}/cell", service):
            peer = await Peer.reach(tmp_path / "cell")
            peer.say(Open(1, NAME, 0, 10_000), Open(2, b"m" * 16, 0, 10_000))
            pieces = [Data(1, number, 1, Mark.MORE, bytes(2000)) for number in range(5)]
            peer.say(*pieces, Data(2, 0, 1, Mark.END, b"beside it"))
            last = await peer.last()
            assert isinstance(last, Error)
            assert last.code is Code.ITEM
            await peer.close()
            again = await Peer.reach(tmp_path / "cell")  # what came beside it was received, and is answered
            again.say(Open(1, b"m" * 16, 0, 10_000))
            answer = await again.hear()
            assert isinstance(answer, Open)
            assert answer.received == 1
            assert await again.hear() == Data(1, 0, 1, Mark.END, b"beside it")
            await again.close()

    run(test())


TINY = replace(SMALL, hello_seconds_max=0.05, frame_seconds_max=0.1, silence_seconds_max=0.2, stall_seconds_max=0.1)


def test_a_peer_that_does_not_greet_is_ended(tmp_path: Path) -> None:
    # wire.md W15
    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo), TINY):
            peer = await Peer.reach(tmp_path / "cell", greet=False)
            last = await peer.last()
            assert isinstance(last, Error)
            assert last.code is Code.TIMEOUT
            assert "greeting" in last.text
            await peer.close()

    run(test())


def test_a_frame_that_trickles_is_ended(tmp_path: Path) -> None:
    """A slow loris: there is always something new, and never a frame."""

    async def test() -> None:
        limits = replace(TINY, silence_seconds_max=30.0)
        async with cell(f"unix:{tmp_path}/cell", Does(echo), limits) as server:
            peer = await Peer.reach(tmp_path / "cell")
            [edge] = server.ports[Port.STREAM]._edges.values()

            async def trickle() -> None:
                peer.writer.write(bytes([3, 0, 255, 0, 0, 0, 0, 0]))
                while True:
                    peer.writer.write(b"\0")
                    await asyncio.sleep(0.005)  # the attack itself, not a wait for anything

            trickling = asyncio.create_task(trickle())
            await edge.gone.wait()
            trickling.cancel()
            assert edge.connection.held_bytes > 8
            assert server.ports[Port.STREAM].counters.refused == 1
            await peer.close()

    run(test())


def test_a_silent_peer_is_asked_and_then_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo), TINY):
            peer = await Peer.reach(tmp_path / "cell")
            assert await peer.hear() == Ping(0, False)
            peer.say(Ping(0, True))
            assert await peer.hear() == Ping(0, False)  # it lived on, and is asked again
            last = await peer.last()
            assert isinstance(last, Error)
            assert "word" in last.text
            await peer.close()

    run(test())


def test_a_peer_that_does_not_read_what_it_asked_for_is_ended(tmp_path: Path) -> None:
    async def pour(item: bytes, answer: Answer) -> None:
        while True:
            await answer.send(bytes(60_000))

    async def test() -> None:
        limits = Limits(stall_seconds_max=0.1)
        async with cell(f"unix:{tmp_path}/cell", Does(pour), limits) as server:
            peer = await Peer.reach(tmp_path / "cell")
            [edge] = server.ports[Port.STREAM]._edges.values()
            peer.say(Open(1, NAME, 0, CREDIT_BYTES_MAX), Data(1, 0, 1, Mark.END, b""))
            await edge.gone.wait()
            assert server.ports[Port.STREAM].open_connections == 0
            await peer.close()

    run(test())


def test_a_busy_connection_is_not_taken_for_a_slow_one(tmp_path: Path) -> None:
    """Frames that lead to no event are frames too: with each of them, the clock of the next begins anew."""

    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo)) as server:
            peer = await Peer.reach(tmp_path / "cell")
            [edge] = server.ports[Port.STREAM]._edges.values()
            began = []
            for _ in range(4):  # every read ends inside the next ping
                peer.say(Ping(1, False))
                peer.writer.write(b"\7")
                assert await peer.hear() == Ping(1, True)
                began.append(edge._frame_began)
                peer.skip_a_byte()
            assert None not in began
            assert began == sorted(set(began), key=lambda at: at or 0)
            await peer.close()

    run(test())


def test_a_full_port_turns_away_newcomers_and_idlers_but_none_at_work(tmp_path: Path) -> None:
    # wire.md W18
    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo)) as server:
            path = tmp_path / "cell"
            host = host_at(f"unix:{path}")
            await host.start()
            idler = await Peer.reach(path, greet=False)
            others = [await Peer.reach(path) for _ in range(SMALL.connections_max - 2)]
            another = await Peer.reach(path)
            last = await idler.last()
            assert isinstance(last, Error)
            assert last.code is Code.BUSY
            newcomer = await Peer.reach(path, greet=False)
            refused = await newcomer.last()
            assert isinstance(refused, Error)
            assert refused.code is Code.BUSY
            assert await host.ask(b"still here") == b"still here"
            assert server.ports[Port.STREAM].open_connections <= SMALL.connections_max
            await host.close()
            for peer in (idler, another, newcomer, *others):
                await peer.close()

    run(test())


def test_newer_streams_push_out_abandoned_ones_and_their_host_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo)) as server:
            first = await Peer.reach(tmp_path / "cell")
            first.say(Open(1, NAME, 0, 10_000), Data(1, 0, 1, Mark.END, b"x"))
            assert isinstance(await first.hear(), Open)
            assert await first.hear() == Data(1, 0, 1, Mark.END, b"x")
            first.say(Bye())
            assert await first.last() is None
            await first.close()
            others = [await Peer.reach(tmp_path / "cell") for _ in range(SMALL.streams_max)]
            for number, peer in enumerate(others):
                peer.say(Open(1, bytes([number]) * 16, 0, 0))
                assert isinstance(await peer.hear(), Open)
            assert server.ports[Port.STREAM].counters.evicted == 1
            eldest = next(iter(server.ports[Port.STREAM]._edges.values()))
            await others[0].close()
            await eldest.gone.wait()
            again = await Peer.reach(tmp_path / "cell")
            again.say(Open(1, NAME, 1, 10_000))
            gap = await again.hear()
            assert isinstance(gap, Error)
            assert (gap.stream, gap.code) == (1, Code.GAP)
            for peer in (again, *others):
                await peer.close()

    run(test())
