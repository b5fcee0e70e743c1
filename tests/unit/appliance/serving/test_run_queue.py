"""window.md N7 to N12: the order of requests, and what a reader can and cannot do to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, Self

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.engine.errors import EngineFault
from appliance.engine.protocol import Engine, Step
from appliance.ordering.sequencer import OrderedRequest
from appliance.serving import run_queue as device_module
from appliance.serving.run_queue import (
    MESSAGE_COST_BYTES,
    QUEUE_BYTES_MAX,
    REQUEST_COST_BYTES,
    Backlog,
    Backlogs,
    Device,
)
from appliance.serving.window import Answered, Checkpoint, Piece, Say, decode_say
from attestation.consensus.blocks import REQUESTS_MAX
from tests.event_loop import run
from tests.unit.appliance.orders import EngineBroke, GatedEngine, answering, ordered, until


class Running:
    """A device whose `run` is a task; leaving cancels it."""

    def __init__(self, engine: Engine, **options: int) -> None:
        self.device = Device(answering(engine), **options)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.device.run())
        return self

    async def __aexit__(self, *reason: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def block(height: int, *texts: str, first: int = 0) -> list[OrderedRequest]:
    return [ordered(text, height=height, index=k, number=first + k) for k, text in enumerate(texts)]


async def read(backlog: Backlog) -> list[Say]:
    says = []
    while (raw := await backlog.next()) is not None:
        says.append(decode_say(raw))
    return says


async def until_idle(device: Device, answered: int) -> None:
    """The queue has been worked off: the last request's `request_done` has been called."""
    await until(lambda: device.answered == answered)


def words(says: list[Say], index: int) -> bytes:
    return b"".join(say.words for say in says if isinstance(say, Piece) and say.index == index)


def test_order_is_kept_across_blocks_whoever_reads_first() -> None:
    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with Running(engine) as running:
            first = running.device.enqueue(1, block(1, "a", "b"))
            second = running.device.enqueue(2, block(2, "c", "d", "e"))
            later = asyncio.create_task(read(second))
            engine.gate.set()
            says = await read(first)
            assert [type(say) for say in says] == [Piece, Answered, Piece, Answered, Checkpoint]
            assert [say.index for say in await later if isinstance(say, Answered)] == [0, 1, 2]
            assert engine.asked == [b"a", b"b", b"c", b"d", b"e"]

    run(work())


def test_the_end_of_a_request_comes_after_its_last_piece() -> None:
    """window.md N8: a reader that waits at every moment never sees a backlog spent before its last message."""

    async def work() -> None:
        async with Running(GatedEngine()) as running:
            for height in range(1, 60):
                backlog = running.device.enqueue(height, block(height, "x" * 40))
                says = await read(backlog)
                assert words(says, 0) == b"x" * 40
                assert [type(say) for say in says[-2:]] == [Answered, Checkpoint]
                assert backlog.spent

    run(work())


def test_done_is_told_after_everything_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where it is made: `request_done` follows the last `put`, whatever thread is ahead."""
    told: list[str] = []
    put, done = Backlog.put, Backlog.request_done
    monkeypatch.setattr(Backlog, "put", lambda self, raw: (told.append("put"), put(self, raw))[1])
    monkeypatch.setattr(Backlog, "request_done", lambda self: (told.append("done"), done(self))[1])

    async def work() -> None:
        async with Running(GatedEngine()) as running:
            await read(running.device.enqueue(1, block(1, *["y" * 100] * 20)))

    run(work())
    pieces = -(-100 // 16)
    one = ["put"] * (pieces + 1) + ["done"]
    assert told == [*one * 19, *one[:-1], "put", "done"]  # the checkpoint is the last request's, too


def test_a_reader_that_never_reads_delays_nobody() -> None:
    """window.md N10"""

    async def work() -> None:
        async with Running(GatedEngine()) as running:
            unread = running.device.enqueue(1, block(1, "unread" * 50))
            says = await read(running.device.enqueue(2, block(2, "read")))
            assert words(says, 0) == b"read"
            assert unread.unread_bytes > 0
            assert words(await read(unread), 0) == b"unread" * 50

    run(work())


def test_too_much_unread_drops_the_oldest_and_runs_all() -> None:
    """window.md N10: block 1 loses its answers, block 2 keeps its own, both ran."""

    async def work() -> None:
        engine = GatedEngine()
        async with Running(engine, backlog_bytes_max=3000) as running:
            device = running.device
            oldest = device.enqueue(1, block(1, "1" * 100))
            newest = device.enqueue(2, block(2, "2" * 100))
            await until_idle(device, 2)
            assert oldest.dropped
            assert oldest.spent
            assert await oldest.next() is None
            assert not newest.dropped
            assert words(await read(newest), 0) == b"2" * 100
            assert len(engine.asked) == 2
            assert device._backlogs.unread_bytes == 0
            assert len(device._backlogs) == 0

    run(work())


def test_a_block_that_alone_exceeds_the_bound_is_dropped_and_still_run() -> None:
    async def work() -> None:
        engine = GatedEngine()
        async with Running(engine, backlog_bytes_max=500) as running:
            backlog = running.device.enqueue(1, block(1, "1" * 100, "2" * 100))
            await until_idle(running.device, 2)
            assert backlog.dropped
            assert len(engine.asked) == 2
            assert running.device._backlogs.unread_bytes == 0

    run(work())


def test_a_reader_that_goes_away_stops_nothing() -> None:
    """window.md N7, N11: what was released is run to its last request."""

    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with Running(engine) as running:
            backlog = running.device.enqueue(1, block(1, "a", "b", "c"))
            reading = asyncio.create_task(read(backlog))
            await asyncio.to_thread(engine.began.wait)
            reading.cancel()
            backlog.drop()
            engine.gate.set()
            await until_idle(running.device, 3)
            assert engine.asked == [b"a", b"b", b"c"]
            assert await backlog.next() is None
            assert running.device._backlogs.unread_bytes == 0
            assert len(running.device._backlogs) == 0

    run(work())


def test_one_reader_waiting_forever_does_not_make_the_others_stay() -> None:
    """window.md N10: what has been read leaves, though an older block has not."""

    async def work() -> None:
        async with Running(GatedEngine()) as running:
            running.device.enqueue(1, block(1, "never read"))
            for height in range(2, 50):
                await read(running.device.enqueue(height, block(height, "x")))
            assert len(running.device._backlogs) == 1

    run(work())


@pytest.mark.parametrize("each", [0, 1 << 20])
def test_the_queue_is_bounded_by_bytes_and_by_number(each: int) -> None:
    """window.md N12: empty payloads count too; room comes back as the queue is worked off."""

    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with Running(engine) as running:
            device = running.device
            needed = QUEUE_BYTES_MAX // (each + REQUEST_COST_BYTES) + 1
            device.enqueue(1, [ordered("first")])
            for height, left in enumerate(range(needed, 0, -REQUESTS_MAX), start=2):
                device.enqueue(
                    height,
                    [
                        ordered(payload=bytes(each), height=height, index=index)
                        for index in range(min(left, REQUESTS_MAX))
                    ],
                )
            waiting = asyncio.create_task(device.has_room())
            await asyncio.to_thread(engine.began.wait)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not waiting.done()
            engine.gate.set()
            await waiting
            await until_idle(device, needed + 1)
            assert device._queued_bytes == 0

    run(work())


def test_room_is_given_while_there_is_some() -> None:
    async def work() -> None:
        async with Running(GatedEngine(opened=False)) as running:
            running.device.enqueue(1, block(1, "one"))
            await running.device.has_room()

    run(work())


def test_an_engine_that_fails_ends_the_run_and_answers_nothing_after() -> None:
    """window.md N15"""

    async def work() -> None:
        engine = GatedEngine()
        async with Running(engine) as running:
            backlog = running.device.enqueue(1, block(1, "good", "will break", "never"))
            await asyncio.wait({running.task})
            assert isinstance(running.task.exception(), EngineBroke)
            assert engine.asked == [b"good", b"will break"]
            assert running.device.answered == 1
            said = [decode_say(raw) for raw in backlog._said]
            assert [type(say) for say in said] == [Piece, Answered]  # its half a piece never left the thread
            assert not backlog.spent

    run(work())


def test_a_token_that_is_none_ends_the_run() -> None:
    """window.md N15: an engine's nonsense is a failure, not an answer."""

    class Nonsense:
        id = "nonsense"
        fingerprint = bytes(32)

        def run(self, request: object) -> Iterator[Step]:
            yield Step(300, bytes(32))

    async def work() -> None:
        async with Running(Nonsense()) as running:
            running.device.enqueue(1, block(1, "x"))
            await asyncio.wait({running.task})
            assert isinstance(running.task.exception(), EngineFault)

    run(work())


def test_stopping_in_the_middle_of_an_answer_ends_the_thread() -> None:
    """Nothing waits for an engine that would go on for long: it is left at its next piece."""
    engine = GatedEngine()
    engine.more.set()

    async def work() -> None:
        async with Running(engine) as running:
            backlog = running.device.enqueue(1, block(1, "on and on"))
            assert await backlog.next() is not None
        assert await asyncio.to_thread(engine.ended.wait, 20)  # though the loop still runs and would take more

    run(work())


def test_an_unanswerable_request_takes_its_place_in_the_order() -> None:
    async def work() -> None:
        async with Running(GatedEngine()) as running:
            requests = [ordered("a", index=0), ordered(payload=b"not a chat", index=1), ordered("b", index=2)]
            says = await read(running.device.enqueue(1, requests))
            assert [type(say) for say in says] == [Piece, Answered, Answered, Piece, Answered, Checkpoint]

    run(work())


def test_waiting_readers_see_what_the_loop_hands_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a backlog is touched off the loop's thread."""
    threads: set[str] = set()
    put = device_module.Device._put

    def noted(self: Device, backlog: Backlog, raw: bytes) -> None:
        threads.add(threading.current_thread().name)
        put(self, backlog, raw)

    monkeypatch.setattr(device_module.Device, "_put", noted)

    async def work() -> None:
        async with Running(GatedEngine()) as running:
            await read(running.device.enqueue(1, block(1, "x" * 64)))

    run(work())
    assert threads == {"MainThread"}


# -- the accounting, for every order of events

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(1, 3)),
        st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 40)),
        st.tuples(st.just("read"), st.integers(0, 5)),
        st.tuples(st.just("done"), st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(0, 5)),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(STEPS, st.integers(0, 1200))
def test_counts_stay_exact_whatever_happens(steps: list[tuple[Any, ...]], bound: int) -> None:
    """window.md N10: the shared count is the sum of what is held, within the bound, and ends at nothing."""
    backlogs = Backlogs(bound)
    begun: list[Backlog] = []
    unfinished: dict[Backlog, int] = {}

    def check() -> None:
        held = {each: sum(len(raw) + MESSAGE_COST_BYTES for raw in each._said) for each in begun}
        assert all(each.unread_bytes == size for each, size in held.items())
        assert backlogs.unread_bytes == sum(held.values()) <= bound
        assert set(backlogs._open) == {each for each in begun if not each.spent}

    for what, which, *more in steps:
        if what == "begin":
            begun.append(backlogs.begin(len(begun), which))
            unfinished[begun[-1]] = which
        elif which < len(begun):
            backlog = begun[which]
            if what == "put" and unfinished[backlog]:
                backlog.put(bytes(more[0]))
                backlogs.keep_bounded()
            elif what == "done" and unfinished[backlog]:
                unfinished[backlog] -= 1
                backlog.request_done()
            elif what == "drop":
                backlog.drop()
            elif what == "read" and backlog._said:
                take_one(backlog)
        check()
    for backlog in begun:
        while backlog._said:
            take_one(backlog)
        for _ in range(unfinished[backlog]):
            backlog.request_done()
    assert backlogs.unread_bytes == 0
    assert len(backlogs) == 0


def take_one(backlog: Backlog) -> bytes:
    """What `next` gives when something is there: it does not wait, so no loop is needed."""
    waiting = backlog.next()
    with pytest.raises(StopIteration) as stopped:
        waiting.send(None)
    assert isinstance(stopped.value.value, bytes)
    return stopped.value.value
