"""A cell that really answered: chat requests in the clear and sealed, run by the cell's own code, and its bundle."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from appliance.config import MeasuredConfig, config_digest
from appliance.engine.protocol import EngineRequest, Step
from appliance.engine.scripted import ScriptedEngine
from appliance.engine.trace import Trace
from appliance.model_runtime import NO_PROFILE, ByteScript, ModelRuntime
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece
from attestation.auditor.audit_bundle import Answer, AuditBundle, audit_nonce
from attestation.auditor.bundle_builder import CellSource, assemble
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import ChatRequest, Sampling, UserMessage
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import ServedBy
from attestation.sealed.request import Mode, Place, Unsealed, seal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.chain import Chain
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt, Secret
from tests.little_audit import MODEL_ROOT, NOW_NS, PRICE, SUBNET, evidence_of, granted, measured_config, ordered
from tests.little_receipts import receipt_key

NAME = "replayed"
PLACE = Place(GATEWAY, MODEL_ROOT)
BLOCK = 34  # three blocks: a little more than a hundred requests


def drawn(label: str, size: int) -> bytes:
    return (sha256(label.encode()).digest() * (size // 32 + 1))[:size]


@functools.cache
def ring() -> Ring:
    counter = iter(range(1000))
    return Ring.make(SuiteId.X25519, 1, 1000, 10, randomness=lambda size: drawn(f"ring {next(counter)}", size))


def chat(number: int) -> bytes:
    """Temperatures 0, 0.7 and 1; every seventh with a seed of the client's, every ninth cut short."""
    sampling = Sampling(
        temperature_micro=(0, 700_000, 1_000_000)[number % 3],
        seed=number if number % 7 == 0 else None,
        max_tokens=5 if number % 9 == 8 else None,
    )
    return ChatRequest("scripted-1", (UserMessage(Prompt(b"question %d" % number)),), sampling=sampling).encode()


def sealed(number: int) -> bytes:
    inside = Unsealed(Prompt(chat(number)), Secret(drawn(f"reply {number}", 32)), Mode(number % 2))
    return seal(inside, ring().keys[0].key.public, PLACE, 1000)


@functools.cache
def chain() -> Chain:
    of = Chain(SUBNET, GATEWAY, seed=b"replayed")
    of.seal([chat(number) if number % 11 else b"no chat" for number in range(BLOCK)], NOW_NS - 30)
    of.seal(
        [sealed(number) if number % 11 else b"not sealed" for number in range(BLOCK)], NOW_NS - 20, kind=Kind.SEALED
    )
    of.seal([chat(number) for number in range(BLOCK)], NOW_NS - 10)
    return of


def runtime(engine: ScriptedEngine | BentEngine | None = None) -> ModelRuntime:
    return ModelRuntime(engine or ScriptedEngine(), ByteScript())


def config() -> MeasuredConfig:
    return MeasuredConfig.parse(measured_config())


@functools.cache
def bundle() -> AuditBundle:
    """Of a cell that answered all of it."""
    measured, of = measured_config(), chain()
    by = ServedBy(
        "little-1",
        bytes(32),
        config_digest(measured),
        MODEL_ROOT,
        bytes(32),
        bytes(32),
        NO_PROFILE,
        ScriptedEngine().fingerprint,
    )
    book = ReceiptBook(receipt_key(NAME), by, GATEWAY, PRICE)
    answering = Answering(runtime(), book, Terms(GATEWAY, RAISED, True, PLACE, config().names), Rings(ring()))
    signed, notes, said = [], [], {}
    for height in range(1, of.height + 1):
        for request in ordered(of, height):
            words = b""
            for say in answering.answer(request):
                match say:
                    case Piece(_, _, piece):
                        words += piece
                    case Answered(_, _, raw):
                        signed.append(raw)
            said[height, request.index] = Answer(words)
        notes.append(book.checkpoint())
    cell = CellSource(evidence_of(NAME, measured, audit_nonce(of.link(1))), signed, notes, granted(NAME, measured))
    return assemble(
        config=measured,
        proof=of.proof(1, of.height, NOW_NS),
        bodies=[of.body(height) for height in range(1, of.height + 1)],
        cells=[cell],
        answers=said,
        show_plain=True,
    )


@dataclass(frozen=True)
class BentEngine:
    """The scripted engine, except that from one token on it says something else, or only weighs it otherwise.

    It keeps the fingerprint: an engine that computes otherwise than it says it does.
    """

    number: int
    token: int | None = ord("#")
    weighs: float = 0.0

    @property
    def id(self) -> str:
        return ScriptedEngine().id

    @property
    def fingerprint(self) -> bytes:
        return ScriptedEngine().fingerprint

    def run(self, request: EngineRequest) -> Iterator[Step]:
        trace = Trace()
        for number, step in enumerate(ScriptedEngine().run(replace(request, stop_tokens=frozenset()))):
            bends = number == self.number and self.token is not None
            yield trace.step(
                self.token if bends and self.token is not None else step.token,
                [(0, self.weighs)] if self.weighs and number >= self.number else (),
            )


class WeighingEngine(BentEngine):
    """One that also says what it weighed."""

    def leaders(self, prompt: Sequence[int]) -> list[tuple[int, float]]:
        return [(self.token or 0, 2.5), (prompt[-1], 1.0), *((token, 2.25) for token in range(64, 127))]
