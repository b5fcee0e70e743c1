"""What a cell does beside the model, for a request and for a token, as a share of what the model takes.

    python -m bench.appliance

An engine that says tokens it has ready costs nothing, so what is measured around it is everything else: `answering` is
the pipeline alone (unseal, text, frames, receipt), `cell` the whole way through sequencer, device, window and bridge,
with the host in the same process, every request in a block of its own under its own certificate, logs written to
nowhere. Two lengths of answer give the cost for a request and for a token. The engine is the fixed one over made-up
weights of the little model's shape; a greater model's time is computed from the bytes it reads for each token and from
how fast one thread reads this machine's memory in the same run. Best of several rounds.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.client import Service, chat
from anchorhold.host.slice_feed import feed
from appliance.engine.fixed.architecture import Architecture
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import EngineRequest, Step
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.ordering.sequencer import OrderedRequest, Sequencer
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.run_queue import Device
from appliance.serving.services import StreamService
from appliance.serving.window import Answered
from attestation.consensus.blocks import Beacon, Kind, Link, Request
from attestation.consensus.chat import Sampling
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.delegation import DelegationCache
from attestation.receipts.body import EngineFingerprint, ServedBy
from attestation.receipts.price import PriceSchedule
from attestation.sealed.request import Mode, Place
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.chain import CALLER, Chain
from devnet.subnet import GATEWAY, Subnet
from foundation import logs
from foundation.secrecy import Prompt
from foundation.sized import digest32
from measurements.digests import (
    ConfigurationDigest,
    DecisionDigest,
    ModelRoot,
    ProfileDigest,
    TemplateDigest,
    TokenizerDigest,
)
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

NOW_NS: Final = 1_700_000_000_000_000_000
ROUNDS: Final = 5
BATCH: Final = 20
SHORT, LONG = 16, 1040
WORDS: Final = "What is an anchorhold, and who may look through its window? " * 8  # about 500 bytes
READ_BYTES: Final = 1 << 30
ANSWER_TOKENS: Final = 256  # of the answer that shares are stated for
BYTES_A_TOKEN: Final = {"1b": 2.06e9, "8b": 15.0e9}  # bf16 weights read for each token: 1.1B, and Llama 8B
LITTLE: Final = Architecture(
    layers=4,
    width=128,
    heads=4,
    kv_heads=2,
    head_width=32,
    hidden=384,
    vocabulary=1024,
    positions_max=512,
    epsilon=1e-5,
    rotary_width=32,
    tied=True,
)
PLACE: Final = Place(GATEWAY, ModelRoot(digest32(b"\x30" * 32)))
BY: Final = ServedBy(
    release="bench",
    adoption=DecisionDigest(digest32(bytes(32))),
    config=ConfigurationDigest(digest32(bytes(32))),
    model_root=PLACE.model_root,
    tokenizer=TokenizerDigest(digest32(bytes(32))),
    template=TemplateDigest(digest32(bytes(32))),
    profile=ProfileDigest(digest32(bytes(32))),
    fingerprint=EngineFingerprint(digest32(bytes(32))),
)


class ReadyEngine:
    """Says so many tokens as it is asked for, at no cost to speak of."""

    id = "ready"
    fingerprint = bytes(32)

    def __init__(self) -> None:
        self._steps: Final = [Step(0x61 + k % 26, bytes(32)) for k in range(LONG)]

    def run(self, request: EngineRequest) -> Iterator[Step]:
        return iter(self._steps[: request.max_tokens])


@dataclass(frozen=True, slots=True)
class Cost:
    """In microseconds."""

    request: float
    token: float

    @classmethod
    def between(cls, short: float, long: float) -> Cost:
        token = (long - short) / (LONG - SHORT)
        return cls(short - SHORT * token, token)

    def of(self, tokens: int) -> float:
        return self.request + tokens * self.token


def main() -> dict[str, float]:
    """Prints the table and returns its figures."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        logs.set_up()
        figures = _figures()
    for name, figure in figures.items():
        print(f"{name:42} {figure:12.4f}")
    return figures


def _figures() -> dict[str, float]:
    ring = Ring.make(SuiteId.MLKEM768_X25519, 1, 10**6, 10**3, randomness=os.urandom)
    kinds = {"plain": Kind.PLAIN, "sealed": Kind.SEALED}
    costs = {f"answering_{name}": _answering(kind, ring) for name, kind in kinds.items()}
    costs |= {f"cell_{name}": _cell(kind, ring) for name, kind in kinds.items()}
    figures: dict[str, float] = {}
    for name, cost in costs.items():
        figures |= {f"{name}_us_per_request": cost.request, f"{name}_us_per_token": cost.token}
    figures["memory_read_gb_per_s"] = _memory_gb_per_s()
    engine_us = {"little": _engine_us_per_token()}
    engine_us |= {model: size / figures["memory_read_gb_per_s"] / 1e3 for model, size in BYTES_A_TOKEN.items()}
    for model, token_us in engine_us.items():
        figures[f"{model}_engine_ms_per_token"] = token_us / 1e3
        for name, cost in costs.items():
            share = cost.of(ANSWER_TOKENS) / (ANSWER_TOKENS * token_us)
            figures[f"{model}_{name}_percent"] = 100 * share
    return figures


def _best(job: Callable[[], float]) -> float:
    return min(job() for _ in range(ROUNDS))


# -- the pipeline alone


def _answering(kind: Kind, ring: Ring) -> Cost:
    return Cost.between(*(_best(partial(_answered, kind, ring, tokens)) for tokens in (SHORT, LONG)))


def _answered(kind: Kind, ring: Ring, tokens: int) -> float:
    """Of one request, behind each other in blocks of one."""
    requests = [_placed(height, kind, payload) for height, payload in enumerate(_payloads(kind, ring, tokens), start=1)]
    answering = _make(ring)
    began = perf_counter()
    for request in requests:
        for _ in answering.answer(request):
            pass
        answering.close(request.height)
    return 1e6 * (perf_counter() - began) / len(requests)


def _placed(height: int, kind: Kind, payload: bytes) -> OrderedRequest:
    request = Request(height, CALLER, kind, Prompt(payload))
    return OrderedRequest(
        height=height,
        index=0,
        id=height,
        caller=CALLER,
        kind=kind,
        payload=request.payload,
        beacon=Beacon(digest32(bytes(32))),
        link=Link(digest32(bytes(32))),
        request_digest=request.digest(),
        block_time_ns=1,
        certified_time_ns=1,
    )


def _make(ring: Ring) -> Answering:
    book = ReceiptBook(Ed25519PrivateKey.generate(), BY, GATEWAY, PriceSchedule(1, 1, 1))
    terms = Terms(GATEWAY, RAISED, True, PLACE, frozenset({"any"}))
    return Answering(ModelRuntime(ReadyEngine(), ByteScript()), book, terms, Rings(ring))


def _payloads(kind: Kind, ring: Ring, tokens: int) -> list[bytes]:
    asked = chat("any", WORDS, sampling=Sampling(max_tokens=tokens))
    if kind is Kind.PLAIN:
        return [asked.encode()] * BATCH
    service = Service(ring.keys[0].key.public, 1, 10**6, PLACE)
    return [service.ask(asked, expiry=1000, mode=Mode.STREAM).payload for _ in range(BATCH)]


# -- the whole cell

_names = itertools.count()


def _cell(kind: Kind, ring: Ring) -> Cost:
    return Cost.between(*(_best(partial(_served, kind, ring, tokens)) for tokens in (SHORT, LONG)))


def _served(kind: Kind, ring: Ring, tokens: int) -> float:
    subnet = Subnet(b"bench appliance", delegated=False)
    chain = Chain(subnet, GATEWAY, seed=b"bench")
    for payload in _payloads(kind, ring, tokens):
        chain.seal([payload], NOW_NS + chain.height, kind=kind)
    proofs = [chain.proof(height, height, NOW_NS + 10**6 + height) for height in range(1, chain.height + 1)]
    return asyncio.run(_fed(subnet, chain, proofs, ring)) / chain.height


async def _fed(subnet: Subnet, chain: Chain, proofs: list[bytes], ring: Ring) -> float:
    device = Device(_make(ring))
    serving: asyncio.Future[Device] = asyncio.get_running_loop().create_future()
    serving.set_result(device)
    sequencer = Sequencer(root_key=subnet.root_key, canister=GATEWAY, cache=DelegationCache())
    stream = StreamService(sequencer, serving, Rings(ring))
    address = Address.parse(f"memory:bench-{next(_names)}")
    running = asyncio.create_task(device.run())
    async with CellServer({Port.STREAM: stream}) as server:
        await server.start(address)
        async with Host(address, Port.STREAM) as host:
            began, answered = perf_counter(), 0
            for height, proof in enumerate(proofs, start=1):
                async for say in feed(host, proof, {height: chain.body(height)}):
                    answered += isinstance(say, Answered)
            spent = perf_counter() - began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    if answered != chain.height:
        raise AssertionError(f"{answered} answers to {chain.height} requests")
    return 1e6 * spent


# -- the model


def _engine_us_per_token() -> float:
    """Decoding of the fixed engine, one thread, no guesses: the shape of the little model, other numbers."""
    engine = FixedEngine(MadeWeights(LITTLE), speculate=False)
    request = EngineRequest(tuple(range(1, 33)), ANSWER_TOKENS, bytes(32))

    def decode() -> float:
        steps = engine.run(request)
        next(steps)
        began = perf_counter()
        count = sum(1 for _ in steps)
        return 1e6 * (perf_counter() - began) / count

    return _best(decode)


def _memory_gb_per_s() -> float:
    """How fast one thread reads memory: a search for a byte that is not there."""
    block = bytearray(READ_BYTES)

    def read() -> float:
        began = perf_counter()
        if block.find(b"\x01") != -1:
            raise AssertionError("zeros")
        return perf_counter() - began

    return READ_BYTES / _best(read) / 1e9


if __name__ == "__main__":
    main()
