"""The cell's edge: every item ended exactly once and rightly, slow and greedy peers ended, the rest unharmed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vsock_bridge.edges import SMALL, Does, Peer, cell, echo, run, spell
from vsock_bridge.errors import Code, LocalProtocolError, StreamEnded
from vsock_bridge.host import Host
from vsock_bridge.limits import CREDIT_BYTES_MAX, FRAME_COST_BYTES, Limits
from vsock_bridge.messages import Bye, Data, Error, Hello, Mark, Open, Ping
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer, Failed
from vsock_bridge.transport import Address

NAME = b"n" * 16


def host_at(address: str, limits: Limits = SMALL) -> Host:
    return Host(Address.parse(address), Port.STREAM, limits)


# -- how items end


@pytest.mark.parametrize(("work", "outcome", "said"), [(echo, Mark.END, b"item"), (spell, Mark.END, b"item")])
def test_an_item_that_is_answered_ends_with_end(work: object, outcome: Mark, said: bytes) -> None:
    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:  # type: ignore[arg-type]
            exchange = await host.submit(b"item")
            assert await exchange.read() == said
            assert exchange.outcome is outcome

    run(test())


def test_a_service_that_fails_is_ended_with_a_code_and_its_text_never_travels() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        await answer.send(b"so far")
        if item == b"known":
            raise Failed("no-model")
        raise RuntimeError("a prompt, a path, a key")

    async def test() -> None:
        async with cell("memory:a", Does(work)) as server, host_at("memory:a") as host:
            for item, code in ((b"known", b"no-model"), (b"unknown", b"internal")):
                exchange = await host.submit(item)
                assert await exchange.read() == b"so far" + code
                assert exchange.outcome is Mark.FAILED
            with pytest.raises(StreamEnded, match="internal"):
                await host.ask(b"unknown")
            assert server.ports[Port.STREAM].counters.failed == 3

    run(test())


@pytest.mark.parametrize("code", ["münchen", "x" * 41])
def test_a_failure_code_is_a_short_plain_word(code: str) -> None:
    with pytest.raises(LocalProtocolError):
        Failed(code)


def test_cancelled_midway_an_item_ends_with_cancelled_and_the_next_one_runs() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        if item == b"long":
            await answer.send(b"begun")
            await asyncio.Event().wait()
        await answer.end(b"done")

    async def test() -> None:
        async with cell("memory:a", Does(work)) as server, host_at("memory:a") as host:
            for _ in range(3):
                exchange = await host.submit(b"long")
                assert await anext(exchange) == b"begun"
                exchange.cancel()
                exchange.cancel()
                assert await exchange.read() == b""
                assert exchange.outcome is Mark.CANCELLED
                assert await host.ask(b"short") == b"done"
            assert server.ports[Port.STREAM].counters.cancelled == 3

    run(test())


def test_cancelled_before_its_turn_an_item_never_runs() -> None:
    gate = asyncio.Event()

    async def work(item: bytes, answer: Answer) -> None:
        if item == b"first":
            await gate.wait()
        await answer.end(item)

    async def test() -> None:
        service = Does(work)
        async with cell("memory:a", service), host_at("memory:a") as host:
            first, second, third = [await host.submit(item) for item in (b"first", b"second", b"third")]
            second.cancel()
            await host.ping()  # the cell has heard of it
            gate.set()
            assert await first.read() == b"first"
            assert await second.read() == b""
            assert second.outcome is Mark.CANCELLED
            assert await third.read() == b"third"
            assert service.items == [b"first", b"third"]

    run(test())


def test_cancelling_what_has_ended_changes_nothing() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            exchange = await host.submit(b"item")
            assert await exchange.read() == b"item"
            exchange.cancel()
            assert exchange.outcome is Mark.END
            assert await host.ask(b"next") == b"next"

    run(test())


def test_a_service_with_a_time_limit_of_its_own_keeps_it() -> None:
    """The host's cancelling and a service's `asyncio.timeout` use the same word and must not be mixed up."""

    async def work(item: bytes, answer: Answer) -> None:
        try:
            async with asyncio.timeout(None if item == b"wait" else 0):
                await answer.send(b"begun")
                await asyncio.Event().wait()
        except TimeoutError:
            await answer.end(b"late")

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            assert await host.ask(b"hurry") == b"begunlate"
            exchange = await host.submit(b"wait")
            assert await anext(exchange) == b"begun"
            exchange.cancel()
            assert await exchange.read() == b""
            assert exchange.outcome is Mark.CANCELLED
            assert await host.ask(b"hurry") == b"begunlate"

    run(test())


def test_a_service_that_ignores_the_cancelling_ends_as_it_says() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        await answer.send(b"begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await answer.end(b" and finished")

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            for _ in range(2):
                exchange = await host.submit(b"")
                assert await anext(exchange) == b"begun"
                exchange.cancel()
                assert await exchange.read() == b" and finished"
                assert exchange.outcome is Mark.END

    run(test())


def test_a_cancellation_inside_a_service_is_its_own_failure_and_not_its_end() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        if item == b"helper":
            helper = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(helper.cancel)
            await helper
        await answer.end(item)

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            exchange = await host.submit(b"helper")
            assert await exchange.read() == b"internal"
            assert exchange.outcome is Mark.FAILED
            assert await host.ask(b"next") == b"next"

    run(test())


def test_an_answer_that_has_ended_takes_nothing_more() -> None:
    kept: list[Answer] = []

    async def work(item: bytes, answer: Answer) -> None:
        if kept:
            with pytest.raises(LocalProtocolError):
                await kept[0].send(b"from the grave")
        kept.append(answer)
        await answer.end(item)
        await answer.send(b"after the end")  # raises, and the item has ended well nevertheless

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            assert [await host.ask(item) for item in (b"1", b"2")] == [b"1", b"2"]

    run(test())


# -- backpressure


def test_a_host_that_does_not_read_stops_the_service() -> None:
    """W20: what waits in the cell is bounded by what it retains and what the host granted, not by the answer."""
    said = 0

    async def work(item: bytes, answer: Answer) -> None:
        nonlocal said
        while True:
            await answer.send(bytes(256))
            said += 1

    async def test() -> None:
        async with cell("memory:a", Does(work)) as server, host_at("memory:a") as host:
            exchange = await host.submit(b"pour")
            [held] = server.ports[Port.STREAM]._streams._streams.values()
            before = -1
            while said != before:  # until a whole round trip brings nothing more
                before = said
                await host.ping()
                assert held.stream.sending.retained_bytes <= SMALL.retained_bytes_max
                assert host._stream.receiving.held_bytes <= SMALL.window_bytes
            bound = SMALL.window_bytes + SMALL.retained_bytes_max
            assert bound // 2 <= said * (256 + FRAME_COST_BYTES) <= bound
            for _ in range(2 * said):  # reading sets it going again
                await anext(exchange)
            exchange.abandon()

    run(test())


def test_submit_waits_while_the_cell_takes_nothing() -> None:
    gate = asyncio.Event()

    async def work(item: bytes, answer: Answer) -> None:
        await gate.wait()
        await answer.end(item[:1])

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            exchanges = []
            items = [bytes([number]) * 8000 for number in range(6)]

            async def submit() -> None:
                for item in items:
                    exchanges.append(await host.submit(item))  # noqa: PERF401  # one by one is the point

            submitting = asyncio.create_task(submit())
            while len(exchanges) < 2:
                await host.ping()
            for _ in range(5):
                await host.ping()
            assert not submitting.done()
            gate.set()
            await submitting
            assert [await exchange.read() for exchange in exchanges] == [item[:1] for item in items]

    run(test())


# -- many at once


def test_several_hosts_are_served_side_by_side() -> None:
    meeting = asyncio.Barrier(3)

    async def work(item: bytes, answer: Answer) -> None:
        await meeting.wait()  # passes only if all three are being served
        await answer.end(item)

    async def test() -> None:
        async with cell("memory:a", Does(work)):
            hosts = [host_at("memory:a") for _ in range(3)]
            for host in hosts:
                await host.start()
            answers = await asyncio.gather(*(host.ask(bytes([n])) for n, host in enumerate(hosts)))
            assert answers == [b"\0", b"\1", b"\2"]
            for host in hosts:
                await host.close()

    run(test())


def test_ports_do_not_share_streams_or_services() -> None:
    async def other(item: bytes, answer: Answer) -> None:
        await answer.end(b"release")

    async def test() -> None:
        server = CellServer({Port.STREAM: Does(echo), Port.RELEASE: Does(other)}, SMALL)
        await server.start(Address.parse("memory:a"))
        async with host_at("memory:a") as one, Host(Address.parse("memory:a"), Port.RELEASE, SMALL) as two:
            assert await one.ask(b"x") == b"x"
            assert await two.ask(b"x") == b"release"
        await server.close()

    run(test())


# -- rude peers, by hand (W15, W17)


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


# -- the end


def test_closing_says_goodbye_and_stops_the_services(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    async def work(item: bytes, answer: Answer) -> None:
        try:
            await answer.send(b"begun")
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(work)):
            peer = await Peer.reach(tmp_path / "cell")
            peer.say(Open(1, NAME, 0, 10_000), Data(1, 0, 1, Mark.END, b""))
            assert isinstance(await peer.hear(), Open)
            assert await peer.hear() == Data(1, 0, 1, Mark.MORE, b"begun")
        assert stopped.is_set()
        assert await peer.last() == Bye()
        await peer.close()

    run(test())


def test_closing_waits_for_no_reader(tmp_path: Path) -> None:
    async def pour(item: bytes, answer: Answer) -> None:
        while True:
            await answer.send(bytes(60_000))

    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(pour), Limits()) as server:
            peer = await Peer.reach(tmp_path / "cell")
            [edge] = server.ports[Port.STREAM]._edges.values()
            peer.say(Open(1, NAME, 0, CREDIT_BYTES_MAX), Data(1, 0, 1, Mark.END, b""))
            while not edge._paused:  # noqa: ASYNC110  # asyncio tells the edge, and the edge tells nobody
                await asyncio.sleep(0)
        await peer.close()

    run(test())


def test_a_hello_of_another_version_is_told_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with cell(f"unix:{tmp_path}/cell", Does(echo)):
            peer = await Peer.reach(tmp_path / "cell", greet=False)
            peer.say(Hello(2, 3, b"x" * 16))
            last = await peer.last()
            assert isinstance(last, Error)
            assert last.code is Code.VERSION
            await peer.close()

    run(test())
