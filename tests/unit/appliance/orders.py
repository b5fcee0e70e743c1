"""Ordered requests and engines for tests of what runs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.engine.protocol import Engine, EngineRequest, Step
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.run_queue import Device
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import ChatRequest, Sampling, UserMessage
from attestation.consensus.chat_limits import RAISED, ChatLimits
from attestation.receipts.body import Receipt, ServedBy
from attestation.receipts.price import FREE, PriceSchedule
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.request import Place
from attestation.sealed.ring import Ring
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt

BEACON = b"\x07" * 32
MODEL_ROOT = b"\x30" * 32
PLACE = Place(GATEWAY, MODEL_ROOT)
NAMES = frozenset({"scripted", "m"})
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
BY = ServedBy("r-1", bytes(32), b"\x01" * 32, MODEL_ROOT, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05" * 32)


def answering(
    engine: Engine,
    *,
    limits: ChatLimits = RAISED,
    plaintext: bool = True,
    ring: Ring | None = None,
    price: PriceSchedule = FREE,
    key: Ed25519PrivateKey = RECEIPT_KEY,
    by: ServedBy = BY,
) -> Answering:
    """Everything a cell answers with, around `engine`; sealed requests are run where there is a ring."""
    terms = Terms(GATEWAY, limits, plaintext, None if ring is None else PLACE, NAMES)
    return Answering(ModelRuntime(engine, ByteScript()), ReceiptBook(key, by, GATEWAY, price), terms, Rings(ring))


def receipt(raw: bytes, key: Ed25519PrivateKey = RECEIPT_KEY) -> Receipt:
    """Out of what the cell signed; raises if it did not."""
    signed = SignedReceipt.parse(raw)
    signed.verify(key.public_key().public_bytes_raw())
    return signed.receipt


def chat_payload(words: str, max_tokens: int | None = None, *, model: str = "scripted") -> bytes:
    sampling = None if max_tokens is None else Sampling(max_tokens=max_tokens)
    return ChatRequest(model, (UserMessage(Prompt(words.encode())),), sampling=sampling).encode()


def ordered(
    words: str = "hello",
    *,
    number: int | None = None,
    height: int = 1,
    index: int = 0,
    payload: bytes | None = None,
    kind: Kind = Kind.PLAIN,
    beacon: bytes = BEACON,
    max_tokens: int | None = None,
    caller: bytes = b"\x04",
) -> OrderedRequest:
    payload = chat_payload(words, max_tokens) if payload is None else payload
    return OrderedRequest(
        height=height,
        index=index,
        id=index if number is None else number,
        caller=caller,
        kind=kind,
        payload=Prompt(payload),
        beacon=beacon,
        link=bytes(32),
        request_digest=bytes(32),
        block_time_ns=1,
        certified_time_ns=2,
    )


class EngineBroke(RuntimeError):
    """What an engine of these tests raises, with text that must not show."""


class GatedEngine:
    """Says back the prompt's last line, but only once it is let; remembers what it was asked, in order.

    A prompt that ends in `break` makes it fail after its first tokens; one that ends in `on and on` has no end, and a
    token more only when there may be `more`.
    """

    id = "gated"
    fingerprint = bytes(32)

    def __init__(self, *, opened: bool = True) -> None:
        self.gate = threading.Event()
        self.began = threading.Event()
        self.asked: list[bytes] = []
        self.ended = threading.Event()
        self.more = threading.Event()
        if opened:
            self.gate.set()

    def run(self, request: EngineRequest) -> Iterator[Step]:
        words = bytes(request.prompt).splitlines()[-1].partition(b":")[2]
        self.asked.append(words)
        self.began.set()
        self.gate.wait()
        try:
            yield from (Step(token, bytes(32)) for token in words[: request.max_tokens])
            if words.endswith(b"break"):
                raise EngineBroke(f"it broke over {words!r}")
            while words.endswith(b"on and on"):
                yield Step(0x2E, bytes(32))
                self.more.wait()
        finally:
            self.ended.set()


def there(device: Device) -> asyncio.Future[Device]:
    """Of a cell that serves from the start."""
    serving: asyncio.Future[Device] = asyncio.get_running_loop().create_future()
    serving.set_result(device)
    return serving


async def until(condition: Callable[[], bool]) -> None:
    """For what nobody announces: give the loop its turn until it is so."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)
