"""What stands behind the three ports. Thin: they join the sequencer and the device to the bridge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, assert_never

import structlog

from appliance.identity import Identity
from appliance.key_release import Declined as ReleaseDeclined
from appliance.key_release import Held, Releaser
from appliance.key_release import Standing as ReleaseStanding
from appliance.key_release import decode_ask as decode_release_ask
from appliance.key_release import encode_say as encode_release_say
from appliance.model_pack import ModelGate
from appliance.ordering.refusals import Forked
from appliance.ordering.sequencer import Sequencer
from appliance.service_keys import Rings
from appliance.serving.run_queue import Backlog, Device
from appliance.serving.window import (
    Ask,
    Declined,
    Judged,
    Propose,
    Say,
    Standing,
    Supply,
    WhereAreYou,
    decode_ask,
    encode_say,
)
from foundation.limits import DECLINED_CHARACTERS_MAX
from foundation.refusal import Refused
from measurements.release.heights import Heights
from vsock_bridge.server import Answer, CellServer, Failed

IDENTITY: Final = b"identity:"

S = TypeVar("S")

_log = structlog.get_logger()


class NotReady(Refused):
    """A proof or a body for a cell that has no model yet, or a body for one whose service keys do not reach it."""

    stage = "cell"


class StreamService:
    """`stream`: proofs and bodies in, answers out. Hosts come and go; the sequencer is one."""

    def __init__(self, sequencer: Sequencer, device: Device, gate: ModelGate, rings: Rings | None = None) -> None:
        self._sequencer: Final = sequencer
        self._device: Final = device
        self._gate: Final = gate
        self._rings: Final = rings or Rings()
        self.refused = 0
        self.forks = 0

    async def serve(self, item: bytes, answer: Answer) -> None:
        try:
            await self._serve(decode_ask(item), answer)
        except Refused as refusal:
            self.refused += 1
            self.forks += isinstance(refusal, Forked)
            _log.warning("refused", exc_info=refusal)
            await answer.end(encode_say(Declined(refusal.code, str(refusal)[:DECLINED_CHARACTERS_MAX])))

    async def _serve(self, ask: Ask, answer: Answer) -> None:
        match ask:
            case WhereAreYou():
                await answer.end(encode_say(self.standing()))
            case _ if not self._gate.is_open:  # window.md N16: nothing is ordered for a model that is not there
                raise NotReady("cell.not-ready", expected="a released key and the model it opens", got="no model yet")
            case Propose(proof):
                verdict = self._sequencer.propose(proof)
                _log.info("proof", step=verdict.step, wants=verdict.wants, through=verdict.through)
                await answer.end(encode_say(Judged.of(verdict)))
            case Supply(body):
                await self._device.has_room()
                await self._run(body, answer)
            case _:
                assert_never(ask)

    async def _run(self, body: bytes, answer: Answer) -> None:
        wants = self._sequencer.wants
        if wants is not None and not self._rings.covers(wants):  # window.md N17
            raise NotReady("cell.service-keys", expected=f"service keys for block {wants}", got="none that reach it")
        released = self._sequencer.supply(body)  # from here on the block is run, whatever becomes of this host
        if released:
            height = released[0].height
            _log.info("released", height=height, requests=len(released))
            self._rings.hold(height)
            backlog = self._device.enqueue(height, released)
            try:
                await self._tell(backlog, answer)
            finally:
                if not backlog.spent:
                    backlog.drop()  # the host asked to stop, or is gone for good: it gives up these answers
        await answer.end(encode_say(self.standing()))

    @staticmethod
    async def _tell(backlog: Backlog, answer: Answer) -> None:
        while (raw := await backlog.next()) is not None:
            await answer.send(raw)
        if backlog.dropped:
            raise Failed("unread-too-long")

    def standing(self) -> Say:
        position = self._sequencer.position
        if position is None:
            return Standing(0, None, self._sequencer.wants, self._sequencer.certified_time_ns)
        return Standing(position.height, position.link, self._sequencer.wants, self._sequencer.certified_time_ns)


class ReleaseService:
    """`release`: the host carries the broker's messages; the releaser believes the broker's key alone.

    The TEE is asked on a thread, one message at a time whoever brings it; `has_key` is set once there is a key, and
    the newest service keys are in `rings` from then on, and `granted` is told of the blocks; `gave_up` once
    ATTEMPTS_MAX attempts have failed: each costs a quote, and a host with no key to bring has no use for a cell
    (boot.md J12). `height` says where the cell stands.
    """

    ATTEMPTS_MAX: Final = 16

    def __init__(
        self,
        releaser: Releaser | None = None,
        rings: Rings | None = None,
        height: Callable[[], int] = lambda: 0,
        granted: Callable[[Heights], None] = lambda _: None,
    ) -> None:
        self._releaser: Final = releaser
        self._granted: Final = granted
        self._seen: Held | None = None
        self._rings: Final = rings or Rings()
        self._height: Final = height
        self._turn: Final = asyncio.Lock()
        self._failed = 0
        self.has_key: Final = asyncio.Event()
        self.gave_up: Final = asyncio.Event()

    async def serve(self, item: bytes, answer: Answer) -> None:
        if self._releaser is None:
            raise Failed("no-broker")
        try:
            ask = decode_release_ask(item)
        except Refused as refusal:
            await answer.end(encode_release_say(ReleaseDeclined(refusal.code)))
            return
        async with self._turn:
            before = self._releaser.standing
            say = await _finished(asyncio.to_thread(self._releaser.hear, ask, height=self._height()))
            after = self._releaser.standing
            if after != before:
                _log.info("release", state=after.state, failure=after.failure)
                self._count(before, after)
            if (held := self._releaser.held) is not None and held is not self._seen:
                self._seen = held
                if held.ring is not None:
                    self._rings.renew(held.ring)
                self._granted(Heights(held.heights.first, held.heights.last))
                self.has_key.set()
        await answer.end(encode_release_say(say))

    def _count(self, before: ReleaseStanding, after: ReleaseStanding) -> None:
        if after.failure is not None and before.failure is None:
            self._failed += 1
            if self._failed == self.ATTEMPTS_MAX:
                self.gave_up.set()


class ObserveService:
    """`observe`: health and counts, as JSON, numbers and words of ours only; and evidence of who this is."""

    def __init__(
        self,
        sequencer: Sequencer,
        device: Device,
        stream: StreamService,
        gate: ModelGate,
        engine_id: str,
        identity: Identity | None = None,
        rings: Rings | None = None,
        releaser: Releaser | None = None,
    ) -> None:
        self._sequencer: Final = sequencer
        self._releaser: Final = releaser
        self._device: Final = device
        self._stream: Final = stream
        self._gate: Final = gate
        self._engine_id: Final = engine_id
        self._identity: Final = identity
        self._rings: Final = rings or Rings()
        self._turn: Final = asyncio.Lock()
        self.server: CellServer | None = None

    async def serve(self, item: bytes, answer: Answer) -> None:
        match item:
            case b"health":
                await answer.end(_json(self._health()))
            case b"metrics":
                await answer.end(_json(self._metrics()))
            case _ if item.startswith(IDENTITY):
                await answer.end(await self._evidence(item.removeprefix(IDENTITY)))
            case _:
                raise Failed("health-or-metrics")

    async def _evidence(self, nonce: bytes) -> bytes:
        """N18: one quote at a time, over the caller's nonce; the TEE is asked on a thread."""
        if self._identity is None or not self._identity.can_be_shown:
            raise Failed("no-tee")
        async with self._turn:
            try:
                return await _finished(asyncio.to_thread(self._identity.evidence, nonce))
            except Refused as refusal:
                raise Failed(refusal.code) from refusal

    def _health(self) -> dict[str, object]:
        position = self._sequencer.position
        ready = "serving" if position else "waiting for a first proof"
        ring = self._rings.newest
        return {
            "state": ready if self._gate.is_open else "waiting for its model",
            "engine": self._engine_id,
            "height": position.height if position else None,
            "link": position.link.hex() if position else None,
            "wants": self._sequencer.wants,
            "certified_time_ns": self._sequencer.certified_time_ns,
            "service_keys": None if ring is None else {"renew": ring.renew, "through": ring.through},
            "release": self._release(),
        }

    def _release(self) -> dict[str, object] | None:
        """For which blocks this cell was granted its keys, and from which on it may ask again."""
        held = None if self._releaser is None else self._releaser.held
        if held is None:
            return None
        heights = held.heights
        return {"name": held.context.release, "first": heights.first, "renew": heights.renew, "last": heights.last}

    def _metrics(self) -> dict[str, object]:
        ports = self.server.ports if self.server else {}
        return {
            "requests_answered": self._device.answered,
            "requests_queued": self._device.queued,
            "refused": self._stream.refused,
            "forks": self._stream.forks,
            "ports": {
                port.name.lower(): {
                    "open": server.open_connections,
                    "connections": server.counters.connections,
                    "refused": server.counters.refused,
                    "items": server.counters.items,
                    "failed": server.counters.failed,
                    "cancelled": server.counters.cancelled,
                    "evicted": server.counters.evicted,
                }
                for port, server in ports.items()
            },
        }


async def _finished(work: Coroutine[Any, Any, S]) -> S:
    """The result of `work`, which runs to its end even if whoever waits is cancelled: a thread cannot be stopped."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
