"""A gateway alone on a stand-in replica, for tests and benchmarks: seeded randomness, a stepping clock, real-form
certificates, and the reports that a host would bring."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from anchorhold.host.answer_reports import Report
from attestation.consensus.blocks import Block, Kind
from attestation.receipts.body import EngineFingerprint, Receipt, ReceiptDigest, ServedBy
from attestation.receipts.outcome import NO_ANSWER, Finish, Outcome, OutcomeCommitment, answer_digest
from attestation.receipts.price import PriceSchedule
from attestation.receipts.seeds import SeedCommitment, SeedPolicy
from devnet.gateway import Gateway, gateway_wasm
from devnet.subnet import Subnet
from foundation.sized import digest32
from measurements.digests import (
    ConfigurationDigest,
    DecisionDigest,
    ModelRoot,
    ProfileDigest,
    TemplateDigest,
    TokenizerDigest,
)

OWNER: Final = b"\x01owner"
REPORTER: Final = b"\x02reporter"
SECOND_REPORTER: Final = b"\x02another reporter"
START_NS: Final = 1_700_000_000_000_000_000
PRICE: Final = PriceSchedule(request=1_000_000, token_in=2_000, token_out=10_000)
NOTHING: Final = digest32(bytes(32))
SERVED_BY: Final = ServedBy(
    release="devnet",
    adoption=DecisionDigest(digest32(bytes(32))),
    config=ConfigurationDigest(digest32(b"\xc0" * 32)),
    model_root=ModelRoot(digest32(b"\x30" * 32)),
    tokenizer=TokenizerDigest(digest32(b"\x31" * 32)),
    template=TemplateDigest(digest32(b"\x32" * 32)),
    profile=ProfileDigest(digest32(b"\xe0" * 32)),
    fingerprint=EngineFingerprint(digest32(b"\xe1" * 32)),
)


@dataclass
class Clock:
    now_ns: int = START_NS
    step_ns: int = 1_000_000

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@dataclass
class LoneGateway:
    """One installed gateway and everything about it that may be turned."""

    seed: int = 0
    clock: Clock = field(default_factory=Clock)
    module: bytes = field(default_factory=gateway_wasm, repr=False)

    def __post_init__(self) -> None:
        self.subnet = Subnet(b"gateway tests")
        self.random = Random(self.seed)  # noqa: S311  # the same for the same seed
        self.gateway = Gateway.on_subnet(
            self.subnet, clock=self.clock, randomness=lambda: self.random.randbytes(32), controllers=frozenset({OWNER})
        )
        self.replica = self.gateway.replica
        if self.module != gateway_wasm():
            self.replica.install(self.module)
        self.gateway.set_reporters(OWNER, [REPORTER, SECOND_REPORTER])


def person(number: int) -> bytes:
    """A principal in the form of a public key's."""
    return number.to_bytes(28, "big") + b"\x02"


def canister(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"\x01\x01"


def receipt_for(
    block: Block, index: int, answer: bytes, finish: Finish | str = Finish.STOP, *, engine: bytes = b"\xe1" * 32
) -> bytes:
    """The body of a receipt that says `answer` to a request of `block`; another `engine` makes it another receipt."""
    request, header = block.requests[index], block.header
    refused = isinstance(finish, str)
    if request.kind is Kind.SEALED and not refused:
        finish = Finish.SEALED
    outcome = Outcome.refusal(finish) if isinstance(finish, str) else None
    return Receipt(
        by=replace(SERVED_BY, fingerprint=EngineFingerprint(digest32(engine))),
        gateway=header.canister,
        height=header.height,
        index=index,
        id=request.id,
        kind=request.kind,
        request=request.digest(),
        seed_policy=SeedPolicy.BEACON,
        seed=SeedCommitment(NOTHING),
        answer=NO_ANSWER if refused else answer_digest((answer,)),
        outcome=OutcomeCommitment(NOTHING) if outcome is None else outcome.commitment(),
        finish=finish,
        tokens_in=0 if refused else 12,
        tokens_out=0 if refused else 7,
        price=PRICE.digest,
        cycles=0,
        previous=ReceiptDigest(NOTHING),
    ).encode()


def report_on(
    gateway: Gateway,
    height: int,
    index: int,
    answer: bytes = b"answer",
    *,
    finish: Finish | str = Finish.STOP,
    engine: bytes = b"\xe1" * 32,
    signature: bytes = b"signature",
) -> Report:
    """What a host would bring for that place: an answer and the receipt that fits it."""
    block = Block.decode(gateway.get_slice(height, 1).encoded[0])
    return Report(height, index, answer, receipt_for(block, index, answer, finish, engine=engine), signature)
