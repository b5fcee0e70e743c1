"""The cell's edge: every item ended exactly once and rightly, slow and greedy peers ended, the rest unharmed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.event_loop import run
from tests.unit.vsock_bridge.edges import SMALL, Does, Peer, cell, echo, host_at, spell
from tests.unit.vsock_bridge.pair import NAME
from vsock_bridge.errors import Code, LocalProtocolError, StreamEnded
from vsock_bridge.host import Host
from vsock_bridge.limits import CREDIT_BYTES_MAX, FRAME_COST_BYTES, Limits
from vsock_bridge.messages import Bye, Data, Error, Hello, Mark, Open
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer, Failed
from vsock_bridge.transport import Address

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
