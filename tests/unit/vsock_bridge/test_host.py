"""The host's library: cuts at every byte go unseen, forgetting is told, giving up is told, half an item never is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.event_loop import run
from tests.unit.vsock_bridge.edges import SMALL, CuttingWire, Does, cell, echo, spell
from vsock_bridge.codec import Decoder, encode
from vsock_bridge.errors import Code, ConnectFailed, StreamEnded
from vsock_bridge.host import Host, Patience
from vsock_bridge.limits import Limits
from vsock_bridge.messages import Data, Error, Hello, Mark, Message, Open, Ping
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer
from vsock_bridge.transport import Address

QUICK = Patience(first_seconds=0.0, most_seconds=0.01)


def host_at(address: str, limits: Limits = SMALL, patience: Patience = QUICK) -> Host:
    return Host(Address.parse(address), Port.STREAM, limits, patience)


def cut(host: Host) -> None:
    assert host._edge is not None
    assert host._edge._transport is not None
    host._edge._transport.abort()


# -- asking


def test_ask_and_iterate() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(spell)), host_at("memory:a") as host:
            assert await host.ask(b"abc") == b"abc"
            assert [piece async for piece in await host.submit(b"abc")] == [b"a", b"b", b"c"]
            assert await host.ask(b"") == b""

    run(test())


def test_answers_come_in_order_however_they_are_read() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            exchanges = [await host.submit(bytes([number]) * 700) for number in range(8)]
            assert [exchange.position for exchange in exchanges] == list(range(1, 9))
            said = await asyncio.gather(*(exchange.read() for exchange in reversed(exchanges)))
            assert said == [bytes([number]) * 700 for number in reversed(range(8))]

    run(test())


def test_a_tap_is_shown_what_is_asked_and_what_is_answered() -> None:
    shown: list[tuple[bool, bytes]] = []

    def tap(outgoing: bool, message: Message) -> None:
        if isinstance(message, Data):
            shown.append((outgoing, message.payload))

    async def test() -> None:
        async with cell("memory:a", Does(echo)), Host(Address.parse("memory:a"), Port.STREAM, tap=tap) as host:
            for item in (b"one", b"two"):
                assert await host.ask(item) == item

    run(test())
    assert [payload for outgoing, payload in shown if outgoing] == [b"one", b"two"]
    assert b"".join(payload for outgoing, payload in shown if not outgoing) == b"onetwo"


def test_an_item_too_large_is_refused_before_it_is_sent() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            with pytest.raises(ValueError, match="at most 8192 bytes, got 8193"):
                await host.submit(bytes(8193))
            assert await host.ask(bytes(8192)) == bytes(8192)

    run(test())


def test_nothing_is_kept_of_what_has_ended() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            for _ in range(50):
                await host.ask(bytes(3000))
            assert host._exchanges == {}
            assert host._stream.cancelled == set()
            assert host._stream.receiving.held_bytes == 0

    run(test())


# -- cuts


def test_a_cut_after_any_piece_of_an_answer_goes_unseen() -> None:
    async def test() -> None:
        service = Does(spell)
        async with cell("memory:a", service), host_at("memory:a") as host:
            item = bytes(range(40))
            for at in range(len(item)):
                exchange = await host.submit(item)
                got = b""
                async for piece in exchange:
                    got += piece
                    if len(got) == at + 1:
                        cut(host)
                assert got == item
                assert exchange.outcome is Mark.END
            assert host.cuts >= len(item) - 1
            assert len(service.items) == len(item)  # none was run twice

    run(test())


@pytest.mark.parametrize("first", [0, 3])
def test_cuts_at_every_byte_of_a_conversation_go_unseen(tmp_path: Path, first: int) -> None:
    """Every budget cuts the first connection somewhere else; the second is cut too, soon after it resumed."""

    async def test() -> None:
        service = Does(echo)
        async with cell(f"unix:{tmp_path}/cell", service):
            for budget in range(60 + first, 2600, 29):
                service.items.clear()
                async with (
                    CuttingWire(tmp_path / "wire", tmp_path / "cell", [budget, 150 + budget // 2]) as wire,
                    host_at(f"unix:{tmp_path}/wire") as host,
                ):
                    items = [bytes([number]) * 250 for number in range(4)]
                    exchanges = [await host.submit(item) for item in items]
                    assert [await exchange.read() for exchange in exchanges] == items
                    assert service.items == items
                    assert wire.connections >= 1 + (budget < 1000)

    run(test())


def test_cuts_while_an_item_goes_out_lose_none_of_it(tmp_path: Path) -> None:
    async def test() -> None:
        service = Does(echo)
        async with cell(f"unix:{tmp_path}/cell", service):
            budgets = [700, 2100, 1500, 4000, 900, 3000]
            async with (
                CuttingWire(tmp_path / "wire", tmp_path / "cell", budgets) as wire,
                host_at(f"unix:{tmp_path}/wire") as host,
            ):
                items = [bytes([number]) * 8000 for number in range(3)]
                assert [await host.ask(item) for item in items] == items
                assert service.items == items
                assert wire.connections == len(budgets) + 1

    run(test())


def test_a_cancel_survives_a_cut() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        await answer.send(b"begun")
        await asyncio.Event().wait()

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            exchange = await host.submit(b"")
            assert await anext(exchange) == b"begun"
            cut(host)
            exchange.cancel()
            assert await exchange.read() == b""
            assert exchange.outcome is Mark.CANCELLED

    run(test())


def test_a_cell_that_restarts_ends_what_was_asked_of_it(tmp_path: Path) -> None:
    async def stuck(item: bytes, answer: Answer) -> None:
        await answer.send(b"begun")
        await asyncio.Event().wait()

    async def test() -> None:
        address = f"unix:{tmp_path}/cell"
        async with cell(address, Does(stuck)):
            host = host_at(address)
            await host.start()
            exchange, waiting = await host.submit(b"1"), await host.submit(b"2")
            assert await anext(exchange) == b"begun"
        async with cell(address, Does(echo)):
            for one in (exchange, waiting):
                with pytest.raises(StreamEnded) as caught:
                    await one.read()
                assert caught.value.code is Code.GAP
            assert await host.ask(b"anew") == b"anew"
            await host.close()

    run(test())


def test_a_cell_that_restarts_is_not_given_the_same_item_again(tmp_path: Path) -> None:
    """W6: nothing was heard of it yet, so the frames alone would fit; only the identity tells."""
    begun = asyncio.Event()

    async def stuck(item: bytes, answer: Answer) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def test() -> None:
        address = f"unix:{tmp_path}/cell"
        async with cell(address, Does(stuck)):
            host = host_at(address)
            await host.start()
            exchange = await host.submit(b"once")
            await begun.wait()
        service = Does(echo)
        async with cell(address, service):
            with pytest.raises(StreamEnded):
                await exchange.read()
            assert await host.ask(b"anew") == b"anew"
            assert service.items == [b"anew"]
            await host.close()

    run(test())


def test_pieces_that_came_before_the_end_are_still_read() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        await answer.send(b"begun")
        await asyncio.Event().wait()

    async def test() -> None:
        async with cell("memory:a", Does(work)):
            host = host_at("memory:a")
            await host.start()
            exchange = await host.submit(b"")
            await exchange._news.wait()
            await host.close()
            assert await anext(exchange) == b"begun"
            with pytest.raises(StreamEnded):
                await anext(exchange)

    run(test())


# -- giving up


def test_nobody_at_all_is_told_at_once() -> None:
    async def test() -> None:
        with pytest.raises(ConnectFailed):
            await host_at("memory:nobody").start()

    run(test())


def test_patience_runs_out(tmp_path: Path) -> None:
    async def test() -> None:
        address = f"unix:{tmp_path}/cell"
        host = host_at(address, patience=replace(QUICK, total_seconds=0.05))
        async with cell(address, Does(echo)):
            await host.start()
            assert await host.ask(b"x") == b"x"
        with suppress(ConnectFailed):  # unless it has given up already
            exchange = await host.submit(b"into the dark")
            with pytest.raises(ConnectFailed):
                await exchange.read()
        for asked in (host.submit(b"later"), host.ping()):
            with pytest.raises(ConnectFailed):
                await asked
        await host.close()

    run(test())


class _Scripted:
    """A cell that says one thing at once, and what else there is when a stream is asked for."""

    def __init__(self, *messages: Message) -> None:
        self.messages = messages
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readline()
        frames = [encode(message, counter) for counter, message in enumerate(self.messages)]
        writer.write(b"OK 1\n" + frames[0])
        decoder = Decoder()
        with suppress(ConnectionResetError, BrokenPipeError):
            while data := await reader.read(4096):
                if any(isinstance(message, Open) for message in decoder.feed(data)):
                    writer.write(b"".join(frames[1:]))
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("said", "tries"),
    [
        ([Hello(2, 3, b"c" * 16)], 1),
        ([Error(0, Code.VERSION, "expected version 2")], 1),
        ([Error(0, Code.BUSY, "no place")], None),
        ([Hello(1, 1, b"c" * 16), Error(1, Code.STREAMS, "no room")], None),
    ],
    ids=["another version", "refused for the version", "busy", "no room"],
)
def test_a_cell_that_carries_nothing_is_given_up(tmp_path: Path, said: list[Message], tries: int | None) -> None:
    """What cannot change is given up at once, what may change when patience has run out."""

    async def test() -> None:
        script = _Scripted(*said)
        server = await asyncio.start_unix_server(script.serve, tmp_path / "cell")
        async with server:
            host = host_at(f"unix:{tmp_path}/cell", patience=replace(QUICK, total_seconds=0.05))
            with pytest.raises(ConnectFailed, match="to carry a stream, got"):
                await host.start()
            assert script.connections == tries if tries else script.connections > 1

    run(test())


def test_a_host_that_is_closed_takes_nothing_more() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)):
            host = host_at("memory:a")
            await host.start()
            await host.close()
            await host.close()
            with pytest.raises(StreamEnded):
                await host.submit(b"x")
            with pytest.raises(StreamEnded):
                await host.ping()

    run(test())


# -- half an item


def test_a_submit_cut_off_midway_leaves_the_stream_whole() -> None:
    gate = asyncio.Event()

    async def work(item: bytes, answer: Answer) -> None:
        await gate.wait()
        await answer.end(item)

    async def test() -> None:
        service = Does(work)
        async with cell("memory:a", service), host_at("memory:a") as host:
            first = await host.submit(b"first")
            second = await host.submit(b"x" * 8000)
            submitting = asyncio.create_task(host.submit(b"y" * 8000))
            while not submitting.done() and host._stream.sending._frames[-1].position != 3:
                await host.ping()
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            gate.set()
            assert await first.read() == b"first"
            assert await second.read() == b"x" * 8000
            assert await host.ask(b"after it") == b"after it"
            assert set(service.items) <= {b"first", b"x" * 8000, b"y" * 8000, b"after it"}
            assert host._stream.receiving.held_bytes == 0

    run(test())


def test_a_submit_cut_off_before_its_turn_sends_nothing() -> None:
    gate = asyncio.Event()

    async def work(item: bytes, answer: Answer) -> None:
        await gate.wait()
        await answer.end(item)

    async def test() -> None:
        service = Does(work)
        async with cell("memory:a", service), host_at("memory:a") as host:
            blocked = [asyncio.create_task(host.submit(bytes([number]) * 8000)) for number in range(4)]
            while not host._submitting.locked():
                await host.ping()
            for _ in range(5):
                await host.ping()
            blocked[3].cancel()
            gate.set()
            for number, task in enumerate(blocked[:3]):
                assert await (await task).read() == bytes([number]) * 8000
            with pytest.raises(asyncio.CancelledError):
                await blocked[3]
            assert await host.ask(b"last") == b"last"
            assert service.items == [bytes([number]) * 8000 for number in range(3)] + [b"last"]

    run(test())


def test_an_abandoned_answer_keeps_no_room() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        if item == b"pour":
            while True:
                await answer.send(bytes(500))
        await answer.end(item)

    async def test() -> None:
        async with cell("memory:a", Does(work)), host_at("memory:a") as host:
            for _ in range(4):
                exchange = await host.submit(b"pour")
                assert len(await anext(exchange)) == 500
                exchange.abandon()
                assert await host.ask(b"next") == b"next"
            assert host._stream.receiving.held_bytes == 0

    run(test())


def test_an_ask_that_is_cut_off_lets_go_of_its_answer() -> None:
    async def work(item: bytes, answer: Answer) -> None:
        if item == b"pour":
            while True:
                await answer.send(bytes(500))
        await answer.end(item)

    async def test() -> None:
        async with cell("memory:a", Does(work)) as server, host_at("memory:a") as host:
            asking = asyncio.create_task(host.ask(b"pour"))
            while not server.ports[Port.STREAM].counters.items:
                await host.ping()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await host.ask(b"next") == b"next"

    run(test())


# -- pings


def test_a_ping_that_is_cut_off_hurts_nobody() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            for _ in range(3):
                pinging = asyncio.create_task(host.ping())
                await asyncio.sleep(0)
                pinging.cancel()
            await asyncio.gather(*(host.ping() for _ in range(20)))
            assert await host.ask(b"x") == b"x"
            assert host.cuts == 0

    run(test())


def test_a_ping_on_a_connection_that_is_cut_says_so() -> None:
    async def test() -> None:
        async with cell("memory:a", Does(echo)), host_at("memory:a") as host:
            pinging = asyncio.create_task(host.ping())
            await asyncio.sleep(0)
            cut(host)
            with pytest.raises(ConnectFailed, match="got a cut"):
                await pinging
            await host.ping()  # the next connection

    run(test())


def test_a_cells_silence_is_asked_about(tmp_path: Path) -> None:
    """Without a word for a while, the host pings; the ping's answer is nobody's `ping`."""

    async def test() -> None:
        heard: list[Message] = []
        asked = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"OK 1\n" + encode(Hello(1, 1, b"c" * 16), 0))
            decoder = Decoder()
            while data := await reader.read(4096):
                heard.extend(decoder.feed(data))
                if Ping(0, False) in heard:
                    asked.set()
            writer.close()

        server = await asyncio.start_unix_server(serve, tmp_path / "cell")
        async with server:
            host = host_at(f"unix:{tmp_path}/cell", replace(SMALL, silence_seconds_max=0.05))
            starting = asyncio.create_task(host.start())
            await asked.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting

    run(test())


# -- without an event loop
