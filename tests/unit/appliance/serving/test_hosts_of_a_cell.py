"""window.md: several hosts of one cell, and hosts that are cut, cancelled or gone: answers arrive once and in order."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from anchorhold.host.slice_feed import CellDeclined, feed, propose, standing
from appliance.serving.window import Piece, Propose, Say, Supply, encode_ask
from tests.event_loop import run
from tests.unit.appliance.orders import GatedEngine, until
from tests.unit.appliance.serving.service_cell import CHAIN, NOW, PLACES, Cell, bodies, cell, ends, heard, words
from vsock_bridge.messages import Mark


@pytest.mark.parametrize("hosts", [2, 5])
def test_hosts_side_by_side_get_every_answer_once_between_them(hosts: int) -> None:
    """window.md N7, N8: each proposes and supplies all it has; whoever is first with a body has its answers."""

    async def one(at: Cell, number: int, told: list[Say]) -> None:
        async with at.host() as host:
            for last in range(1 + number % 2, CHAIN.height + 1):
                await heard(host, Propose(CHAIN.proof(1, last, NOW + 9 + last)))
                for height in range(1, last + 1):
                    told.extend(await heard(host, Supply(CHAIN.body(height))))

    async def work() -> None:
        engine = GatedEngine()
        async with cell(engine) as at:
            told: list[list[Say]] = [[] for _ in range(hosts)]
            await asyncio.gather(*(one(at, number, told[number]) for number in range(hosts)))
            together = Counter(place for each in told for place in ends(each))
            assert together == dict.fromkeys(PLACES, 1)
            assert [text.split()[0].decode() for text in engine.asked] == [f"{h}/{k}" for h, k in PLACES]
            for each in told:  # and nobody hears pieces of an answer somebody else was given
                assert set(words(each)) == set(ends(each))

    run(work())


def test_a_host_that_is_cut_in_the_middle_has_every_piece() -> None:
    async def work() -> None:
        async with cell() as at, at.host() as host:
            spoken = []
            async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN)):
                spoken.append(say)
                if isinstance(say, Piece) and len(spoken) % 3 == 0:
                    host.cut()
            assert host.cuts > 0
            assert ends(spoken) == PLACES
            async with cell() as whole, whole.host() as calm:
                assert spoken == [say async for say in feed(calm, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN))]

    run(work())


def test_a_host_that_is_gone_for_good_leaves_a_block_that_runs() -> None:
    """window.md N7: supplied is run; another host goes on behind it."""

    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with cell(engine) as at, at.host() as other:
            async with at.host() as host:
                await propose(host, CHAIN.proof(1, 4, NOW + 9))
                await host.submit(encode_ask(Supply(CHAIN.body(1))))
                await asyncio.to_thread(engine.began.wait)
            engine.gate.set()
            spoken = [say async for say in feed(other, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN, 2, 3, 4))]
            assert ends(spoken) == PLACES[2:]
            assert len(engine.asked) == len(PLACES)

    run(work())


def test_a_cancelled_supply_gives_up_answers_and_not_order() -> None:
    """window.md N11"""

    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with cell(engine) as at, at.host() as host:
            await propose(host, CHAIN.proof(1, 4, NOW + 9))
            exchange = await host.submit(encode_ask(Supply(CHAIN.body(1))))
            await asyncio.to_thread(engine.began.wait)
            exchange.cancel()
            assert await exchange.read() == b""
            assert exchange.outcome is Mark.CANCELLED
            assert (await standing(host)).height == 1
            engine.gate.set()
            assert ends(await heard(host, Supply(CHAIN.body(2)))) == PLACES[2:5]
            assert len(engine.asked) == 5
            assert at.device._backlogs.unread_bytes == 0

    run(work())


def test_a_cancelled_supply_is_reported_as_such_by_the_library() -> None:
    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with cell(engine) as at, at.host() as host:
            await propose(host, CHAIN.proof(1, 4, NOW + 9))
            asking = asyncio.create_task(heard(host, Supply(CHAIN.body(1))))
            await asyncio.to_thread(engine.began.wait)
            next(iter(host._exchanges.values())).cancel()
            with pytest.raises(CellDeclined) as declined:
                await asking
            assert (declined.value.code, declined.value.got) == ("ended-early", "cancelled")
            engine.gate.set()

    run(work())


def test_answers_dropped_unread_end_as_failed_and_the_next_block_is_whole() -> None:
    """window.md N10: what had been said before is still heard, then the word why there is no more."""

    async def work() -> None:
        engine = GatedEngine()
        async with cell(engine, backlog_bytes_max=64) as at, at.host() as host:
            await propose(host, CHAIN.proof(1, 4, NOW + 9))
            with pytest.raises(CellDeclined) as declined:
                await heard(host, Supply(CHAIN.body(1)))
            assert declined.value.got == "unread-too-long"
            assert (await standing(host)).height == 1
            await until(lambda: len(engine.asked) == 2)

    run(work())
