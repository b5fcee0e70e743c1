"""What a replica host does with a slice: propose its proof, then supply the bodies the cell asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from appliance.serving.services import IDENTITY
from appliance.serving.window import (
    Ask,
    Declined,
    Judged,
    PositionQuery,
    Propose,
    Say,
    Standing,
    Supply,
    decode_say,
    encode_ask,
)
from foundation.refusal import Refused
from vsock_bridge.host import Exchange, Host
from vsock_bridge.messages import Mark

T = TypeVar("T", Standing, Judged)


class CellDeclined(Refused):
    """The cell refused what it was given, or ended an answer early; the code is the cell's own."""

    stage = "cell"


async def says(host: Host, ask: Ask) -> AsyncIterator[Say]:
    """Everything the cell says to one ask, as it comes."""
    exchange = await _submitted(host, ask)
    rest: list[bytes] = []  # of a failed answer: what came before the end was known, and last the code
    async for raw in exchange:
        if exchange.outcome is Mark.FAILED:
            rest.append(raw)
        else:
            yield decode_say(raw)
    for raw in rest[:-1]:
        yield decode_say(raw)
    if exchange.outcome is not Mark.END:
        got = rest[-1].decode("ascii", "replace") if rest else "cancelled"
        raise CellDeclined("ended-early", expected="a complete answer", got=got)


async def _submitted(host: Host, ask: Ask) -> Exchange:
    item = encode_ask(ask)
    try:
        return await host.submit(item)
    except ValueError:
        raise CellDeclined("too-large", expected="an item that the window carries", got=f"{len(item)} bytes") from None


async def standing(host: Host) -> Standing:
    """Where the cell stands."""
    said = [say async for say in says(host, PositionQuery())]
    return _only(said, Standing)


async def propose(host: Host, proof: bytes) -> Judged:
    """What the proof did; raises `CellDeclined` with the cell's code if it was refused."""
    said = [say async for say in says(host, Propose(proof))]
    return _only(said, Judged)


async def feed(host: Host, proof: bytes, bodies: Mapping[int, bytes]) -> AsyncIterator[Say]:
    """Propose, then supply every body wanted, yielding what the cell says on the way."""
    judged = await propose(host, proof)
    yield judged
    wants = judged.wants
    while wants is not None and wants in bodies:
        height, wants = wants, None
        async for say in says(host, Supply(bodies[height])):
            if isinstance(say, Declined):
                raise CellDeclined(say.code, expected=f"block {height} to be run", got=say.text)
            if isinstance(say, Standing):
                wants = say.wants
            yield say


async def evidence(host: Host, nonce: bytes) -> bytes:
    """Who the cell is, over a nonce of ours: a bundle, which proves nothing until it is verified. Port `observe`."""
    raw: bytes = await host.ask(IDENTITY + nonce)
    return raw


def _only(said: list[Say], kind: type[T]) -> T:
    match said:
        case [Declined(code, text)]:
            raise CellDeclined(code, expected="to be accepted", got=text)
        case [one] if isinstance(one, kind):
            return one
        case _:
            raise CellDeclined("shape", expected=kind.__name__, got=[type(say).__name__ for say in said])
