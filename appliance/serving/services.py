"""The services of the three ports. Thin: they join the sequencer and the device to the bridge.

The window opens before there is a device: a future has it, from the moment on at which the cell serves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar, assert_never

import structlog

from appliance.identity import Identity
from appliance.key_release import Declined as ReleaseDeclined
from appliance.key_release import Held, Releaser
from appliance.key_release import Standing as ReleaseStanding
from appliance.key_release import decode_ask as decode_release_ask
from appliance.key_release import encode_say as encode_release_say
from appliance.ordering.refusals import Forked
from appliance.ordering.sequencer import Sequencer
from appliance.service_keys import Rings
from appliance.serving.run_queue import Backlog, Device
from appliance.serving.window import (
    Ask,
    Declined,
    Judged,
    PositionQuery,
    Propose,
    Say,
    Standing,
    Supply,
    decode_ask,
    encode_say,
)
from attestation.rcar.errors import GrantRefused
from foundation.limits import DECLINED_CHARACTERS_MAX
from foundation.refusal import Refused
from foundation.secrecy import Secret
from measurements.release.heights import Heights
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, Failed, PortServer

IDENTITY: Final = b"identity:"

S = TypeVar("S")

_log = structlog.get_logger()


class NotReady(Refused):
    """A proof or a body for a cell that has no model yet, or a body for one whose service keys do not reach it."""

    stage = "cell"


class StreamService:
    """`stream`: proofs and bodies in, answers out. Hosts come and go; the sequencer is one."""

    def __init__(self, sequencer: Sequencer, device: asyncio.Future[Device], rings: Rings | None = None) -> None:
        self._sequencer: Final = sequencer
        self._device: Final = device
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
            case PositionQuery():
                await answer.end(encode_say(self.standing()))
            case _ if not self._device.done():  # window.md N16: nothing is ordered for a model that is not there
                raise NotReady("cell.not-ready", expected="a released key and the model it opens", got="no model yet")
            case Propose(proof):
                verdict = self._sequencer.propose(proof)
                _log.info("proof", step=verdict.step, wants=verdict.wants, through=verdict.through)
                await answer.end(encode_say(Judged.of(verdict)))
            case Supply(body):
                device = self._device.result()
                await device.has_room()
                await self._run(device, body, answer)
            case _:
                assert_never(ask)

    async def _run(self, device: Device, body: bytes, answer: Answer) -> None:
        wants = self._sequencer.wants
        if wants is not None and not self._rings.covers(wants):  # window.md N17
            raise NotReady("cell.service-keys", expected=f"service keys for block {wants}", got="none that reach it")
        released = self._sequencer.supply(body)  # from here on the block is run, whatever becomes of this host
        if released:
            height = released[0].height
            _log.info("released", height=height, requests=len(released))
            self._rings.hold(height)
            backlog = device.enqueue(height, released)
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

    The TEE is asked on a thread, one message at a time whoever brings it. With the first grant `first_grant` is done;
    the newest service keys are in `rings` from then on, and `granted` is told of the blocks. `gave_up` is set once
    ATTEMPTS_MAX attempts have failed: each costs a quote, and a host with no key to bring has no use for a cell
    (boot.md J12). `height` says where the cell stands.
    """

    ATTEMPTS_MAX: Final = 16

    def __init__(
        self,
        releaser: Releaser,
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
        self.first_grant: Final[asyncio.Future[Held]] = asyncio.get_running_loop().create_future()
        self.gave_up: Final = asyncio.Event()

    async def serve(self, item: bytes, answer: Answer) -> None:
        try:
            ask = decode_release_ask(item)
        except Refused as refusal:
            await answer.end(encode_release_say(ReleaseDeclined(refusal.code)))
            return
        async with self._turn:
            before = self._releaser.standing
            say = await _finished(asyncio.to_thread(self._releaser.respond, ask, height=self._height()))
            after = self._releaser.standing
            if after != before:
                _log.info("release", state=after.state, failure=after.failure)
                self._count(before, after)
            if (held := self._releaser.held) is not None and held is not self._seen:
                self._seen = held
                if held.ring is not None:
                    self._rings.renew(held.ring)
                self._granted(Heights(held.heights.first, held.heights.last))
                if not self.first_grant.done():
                    self.first_grant.set_result(held)
        await answer.end(encode_release_say(say))

    async def first_key(self) -> tuple[Held, Secret]:
        """The first grant, and the model key that came with it: whoever asks a second time is refused."""
        held = await self.first_grant
        key = self._releaser.take_key()
        if key is None:
            raise GrantRefused("grant.key", expected="a model key that nobody took", got="none")
        return held, key

    def _count(self, before: ReleaseStanding, after: ReleaseStanding) -> None:
        if after.failure is not None and before.failure is None:
            self._failed += 1
            if self._failed == self.ATTEMPTS_MAX:
                self.gave_up.set()


class NoBroker:
    """`release` of a cell that asks for no key."""

    async def serve(self, item: bytes, answer: Answer) -> None:  # noqa: ARG002  # whatever was asked
        raise Failed("no-broker")


class ObserveService:
    """`observe`: health and counts, as JSON, numbers and words of ours only; and evidence of who this is."""

    def __init__(
        self,
        sequencer: Sequencer,
        stream: StreamService,
        device: asyncio.Future[Device],
        engine_id: str,
        *,
        ports: Callable[[], Mapping[Port, PortServer]] = dict,
        identity: Identity | None = None,
        rings: Rings | None = None,
        releaser: Releaser | None = None,
    ) -> None:
        self._sequencer: Final = sequencer
        self._releaser: Final = releaser
        self._device: Final = device
        self._stream: Final = stream
        self._engine_id: Final = engine_id
        self._ports: Final = ports
        self._identity: Final = identity
        self._rings: Final = rings or Rings()
        self._turn: Final = asyncio.Lock()

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
            "state": ready if self._device.done() else "waiting for its model",
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
        device = self._device.result() if self._device.done() else None
        return {
            "requests_answered": 0 if device is None else device.answered,
            "requests_queued": 0 if device is None else device.queued,
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
                for port, server in self._ports().items()
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
